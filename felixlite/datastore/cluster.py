"""The connections to the members of an etcd cluster: one at a time, the next when it fails; logins; errors in words.

etcd3's client knows one endpoint, logs in once and hides what an error said, so its parts are used here one by one: its
constructor (channel, TLS, login) and its stubs.  This is the only module that imports it: with a current protobuf it
works only in protobuf's pure-Python mode, which has to be chosen before the import.

A request that only reads is tried on every endpoint.  A write is tried on the next one only if it was certainly not
sent; otherwise it may have happened, and the caller gets Unreachable and reads again.
"""

import os
import re
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from felixlite.datastore.address import EtcdAddress, split
from felixlite.datastore.store import Meanwhile
from felixlite.errors import Away, Compacted, Denied, StoreError, Unreachable

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"
os.environ.setdefault("GRPC_VERBOSITY", "NONE")  # what goes wrong is said once, by us
import etcd3
import grpc
from etcd3 import etcdrpc as rpc

__all__ = ["Cluster", "Connection", "is_token_refused", "rpc"]

T = TypeVar("T")
Metadata = tuple[tuple[str, str], ...]

_CHANNEL = {
    "grpc.max_receive_message_length": -1,  # a page of large objects, a burst of events
    "grpc.max_send_message_length": -1,
    "grpc.initial_reconnect_backoff_ms": 100,  # an etcd that is back is used again within a second
    "grpc.max_reconnect_backoff_ms": 1000,
    "grpc.enable_http_proxy": 0,
    "grpc.use_local_subchannel_pool": 1,  # one store's dead connection is no other's
}
_NEVER_SENT = ("failed to connect to all addresses", "DNS resolution failed", "Name resolution failure")
_STATUS = re.compile(r"http2 header with status: (\d+)")
_NOT_ETCD = ("Received http2 header with status", "http1.x server", "unknown service etcdserverpb")
_LOGIN_REFUSED = ("authentication failed", "user name not found", "password")
_TOKEN_REFUSED = ("invalid auth token", "revision of auth store is old")


class Connection:
    """To one endpoint, logged in."""

    def __init__(self, endpoint: str, address: EtcdAddress) -> None:
        self.endpoint = endpoint
        tls = address.tls
        host, port = endpoint.rsplit(":", 1)
        login = {"user": address.user, "password": address.password} if address.user else {}
        client = etcd3.Etcd3Client(
            host,
            int(port),
            ca_cert=tls.cacert if tls else None,
            cert_cert=tls.cert if tls else None,
            cert_key=tls.key if tls else None,
            timeout=address.timeout,
            grpc_options=list(_CHANNEL.items()),
        )
        self.client = client
        try:
            self.metadata: Metadata = _token(client, login, address.timeout)
        except grpc.RpcError:
            client.close()
            raise
        self._stream = client.channel.stream_stream(
            "/etcdserverpb.Watch/Watch",
            request_serializer=lambda request: request if isinstance(request, bytes) else request.SerializeToString(),
        )
        self.kv = client.kvstub
        self.transact = client.channel.unary_unary("/etcdserverpb.KV/Txn")  # bytes in, bytes out: etcd_wire.py

    def watch(self, requests: Iterator[Any]) -> Any:
        """A stream; it ends when this member loses its leader instead of hanging on in silence."""
        return self._stream(requests, metadata=(*self.metadata, ("hasleader", "true")))

    def close(self) -> None:
        self.client.close()


class Cluster:
    def __init__(self, address: EtcdAddress) -> None:
        self.address = address
        self._first = 0  # index of the endpoint to ask
        self._connections: dict[str, Connection] = {}
        self._lock = threading.Lock()
        self._closed = False

    def range(self, request: Any) -> Any:
        return self.call(lambda c: c.kv.Range(request, self.address.timeout, metadata=c.metadata), again=True)

    def txn(self, request: bytes, *, again: bool = False, meanwhile: Meanwhile = None) -> bytes:
        """`meanwhile` is called once, while the answer is awaited."""
        once = iter((meanwhile,) if meanwhile else ())

        def sent(connection: Connection) -> bytes:
            answer = connection.transact.future(request, self.address.timeout, metadata=connection.metadata)
            for work in once:
                work()
            found: bytes = answer.result()
            return found

        def asked(connection: Connection) -> bytes:
            found: bytes = connection.transact(request, self.address.timeout, metadata=connection.metadata)
            return found

        return self.call(sent if meanwhile else asked, again=again)

    def call(self, work: Callable[[Connection], T], *, again: bool) -> T:
        """`again`: doing it twice does no harm."""
        failed: grpc.RpcError | None = None
        logins = 1
        for _ in range(len(self.address.endpoints) + logins):
            endpoint, sent = self._endpoint(), False
            try:
                connection = self._connection(endpoint)
                sent = True
                return work(connection)
            except grpc.RpcError as error:
                failed = error
                if logins and self.address.user and is_token_refused(error):
                    logins -= 1
                    self.forget(endpoint)
                    continue
                if not _is_down(error):
                    break
                self.avoid(endpoint)
                if _is_never_sent(error):
                    self.forget(endpoint)  # gRPC would go on saying that for a second after etcd is back
                elif sent and not again:
                    break
        assert failed is not None  # noqa: S101  the loop ran
        raise self.explained(failed, endpoint) from None

    def connection(self) -> Connection:
        """To the endpoint that answered last; for what lives longer than a call."""
        return self.call(lambda connection: connection, again=True)

    def avoid(self, endpoint: str) -> None:
        """Ask another one from now on."""
        with self._lock:
            if self.address.endpoints[self._first] == endpoint:
                self._first = (self._first + 1) % len(self.address.endpoints)

    def forget(self, endpoint: str) -> None:
        """Connect, and log in, again at the next use. Calls under way on the old connection go on."""
        with self._lock:
            self._connections.pop(endpoint, None)

    def close(self) -> None:
        with self._lock:
            self._closed = True
            connections, self._connections = list(self._connections.values()), {}
        for connection in connections:
            connection.close()

    def explained(self, error: grpc.RpcError, endpoint: str) -> StoreError:
        code, said = error.code(), _sentence(error)
        if code is grpc.StatusCode.OUT_OF_RANGE and "compacted" in said:
            return Compacted(f"etcd at {endpoint}: the revision is gone: list again")
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return Unreachable(f"etcd at {endpoint} did not answer within {self.address.timeout:g} s")
        if _is_no_etcd(error):
            return Unreachable(
                f"what answers at {endpoint} is no etcd: {said}; is it the right address and port,"
                " and no proxy on the way from here?"
            )
        if code is grpc.StatusCode.UNAVAILABLE:
            return diagnosis(endpoint, self.address, said)
        return self._refusal(said, endpoint, code)

    def _endpoint(self) -> str:
        return self.address.endpoints[self._first]

    def _connection(self, endpoint: str) -> Connection:
        with self._lock:
            if self._closed:
                raise Unreachable(f"the connection to {self.address} was closed")
            found = self._connections.get(endpoint)
        if found:
            return found
        fresh = Connection(endpoint, self.address)
        with self._lock:
            used = self._connections.setdefault(endpoint, fresh)
        if used is not fresh:  # another thread was faster
            fresh.close()
        return used

    def _refusal(self, said: str, endpoint: str, code: grpc.StatusCode) -> StoreError:
        user = self.address.user
        if "user name is empty" in said:
            return Denied(f"etcd at {endpoint} wants a login: add ?user=NAME&passwordfile=FILE to the address")
        if any(words in said for words in _LOGIN_REFUSED):
            return Denied(f"etcd at {endpoint} refuses the login of user {user!r}: name or password is wrong")
        if code is grpc.StatusCode.PERMISSION_DENIED:
            return Denied(f"etcd at {endpoint}: user {user!r} has no right to do that: it needs a role for /calico/")
        if code is grpc.StatusCode.UNAUTHENTICATED:
            return Denied(f"etcd at {endpoint} refuses the session of user {user!r}: {said}")
        if "too large" in said or "larger than max" in said:
            return StoreError(f"etcd at {endpoint}: the document is too large for it: {said}; see --max-request-bytes")
        if "database space exceeded" in said:
            return StoreError(f"etcd at {endpoint} is full: compact, defragment, then `etcdctl alarm disarm`")
        return StoreError(f"etcd at {endpoint}: {said} ({code.name.lower()})")


def _token(client: Any, login: dict[str, str | None], timeout: float) -> Metadata:
    if not login:
        return ()
    request = rpc.AuthenticateRequest(name=login["user"], password=login["password"])
    try:
        answer = rpc.AuthStub(client.channel).Authenticate(request, timeout)
    except grpc.RpcError as error:
        if "authentication is not enabled" in _sentence(error):
            return ()
        raise
    return (("token", answer.token),)


def is_token_refused(error: grpc.RpcError) -> bool:
    return any(words in _sentence(error) for words in _TOKEN_REFUSED)


def _is_down(error: grpc.RpcError) -> bool:
    return error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED) or _is_no_etcd(error)


def _is_never_sent(error: grpc.RpcError) -> bool:
    is_unavailable = error.code() is grpc.StatusCode.UNAVAILABLE
    if _is_no_etcd(error):
        return not _was_passed_on(_sentence(error))
    return is_unavailable and any(words in _sentence(error) for words in _NEVER_SENT)


def _was_passed_on(said: str) -> bool:
    """Whether an etcd behind what answered may have got the request. Who refuses one (4xx) has not passed it on, but for
    those who waited for the answer (408, 499); a proxy's 502, 503 and 504 say nothing about what etcd has done."""
    status = _STATUS.search(said)
    return status is not None and (not 300 <= int(status[1]) < 500 or status[1] in ("408", "499"))


def _is_no_etcd(error: grpc.RpcError) -> bool:
    """A web server or a proxy: gRPC makes whatever code it likes of the status in its answer (404: unimplemented)."""
    return any(words in _sentence(error) for words in _NOT_ETCD)


def _sentence(error: grpc.RpcError) -> str:
    return (error.details() or "no reason given").removeprefix("etcdserver: ")


# -- why there is no connection


def diagnosis(endpoint: str, address: EtcdAddress, said: str) -> StoreError:
    """gRPC says 'failed to connect' for all that can be wrong; one more try without it tells what it is."""
    try:
        with socket.create_connection(split(endpoint), timeout=2) as plain:
            return _diagnosis_of_tls(plain, endpoint, address) or Unreachable(f"etcd at {endpoint}: {said}")
    except OSError as error:
        return Away(f"etcd at {endpoint}: {error.strerror or error}")


def _diagnosis_of_tls(plain: socket.socket, endpoint: str, address: EtcdAddress) -> Denied | None:
    if address.tls is None:
        return _speaks_tls(plain, endpoint)
    try:
        with address.tls.context().wrap_socket(plain, server_hostname=split(endpoint)[0]) as secure:
            secure.recv(1)  # TLS 1.3: that our certificate is refused is said only now
    except ssl.SSLCertVerificationError as error:
        why = f"is not accepted: {error.verify_message}; signed by another CA than cacert={address.tls.cacert}?"
        if "match" in error.verify_message or "not valid for" in error.verify_message:
            why = f"is for another host: {error.verify_message}"
        return Denied(f"the certificate of etcd at {endpoint} {why}")
    except OSError as error:  # no TLS in the answer, or the connection is reset before there is one
        if _speaks_plainly(endpoint):
            return Denied(f"etcd at {endpoint} does not speak TLS: leave cacert= out of the address")
        if isinstance(error, ssl.SSLError) and "ALERT" in (error.reason or ""):
            return Denied(f"etcd at {endpoint} {_tls_refusal(error, address)}")
    return None


def _tls_refusal(error: ssl.SSLError, address: EtcdAddress) -> str:
    reason = error.reason or str(error)
    if "CERTIFICATE" in reason and not (address.tls and address.tls.cert):
        return "wants a client certificate: add cert=FILE&key=FILE to the address"
    return f"refuses our certificate: {reason.lower().replace('_', ' ')}"


def _speaks_plainly(endpoint: str) -> bool:
    """An empty SETTINGS frame of HTTP/2 is answered with SETTINGS (RFC 9113 3.4)."""
    settings = b"\0\0\0\4\0\0\0\0\0"
    try:
        with socket.create_connection(split(endpoint), timeout=2) as plain:
            plain.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + settings)
            return plain.recv(9)[3:4] == settings[3:4]
    except OSError:
        return False


def _speaks_tls(plain: socket.socket, endpoint: str) -> Denied | None:
    """Only whether there is a handshake at all: nothing is sent over it, so nothing is trusted."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    try:
        context.wrap_socket(plain).close()
    except OSError:
        return None
    return Denied(f"etcd at {endpoint} speaks TLS: add cacert=FILE (the CA of its certificate) to the address")
