"""Requests to the API servers of one cluster: kept connections, the next server when one fails, patience, and our identity.

http.client, because it is there, and as fast and as small as httpx (docs/adr/0012).  A request is repeated only if it
was certainly not done: no connection, 429, 503, or it only reads.  Otherwise the caller is told Unreachable, and reads.
Who we are is read from the disk again once a minute, and when a server refuses us.
"""

import http.client
import random
import select
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, TypeVar
from urllib.parse import urlencode

import orjson

from felixlite import __version__
from felixlite.backoff import pause
from felixlite.datastore.kube_status import BUSY, SHAKEN, error_of, retry_after, status_of
from felixlite.datastore.kubeconfig import Access, KubernetesAddress, Server
from felixlite.errors import Denied, Misconfigured, StoreError, Unreachable

T = TypeVar("T")
JSON = "application/json"
MERGE_PATCH = "application/merge-patch+json"
STRATEGIC_PATCH = "application/strategic-merge-patch+json"  # lists of conditions are merged by their type
READ_AGAIN = 60.0  # seconds between two looks at our token
CONNECT = 5.0  # seconds
MOST_IDLE = 8  # kept connections
AGENT = f"felixlite/{__version__}"


class Pace:
    """At most `rate` a second in the long run, `burst` at once."""

    def __init__(self, rate: float, burst: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._rate, self._burst, self._clock = rate, burst, clock
        self._tokens, self._then = float(burst), clock()
        self._lock = threading.Lock()

    def delay(self) -> float:
        """Takes a turn; answers how long to wait for it."""
        with self._lock:
            now = self._clock()
            self._tokens = min(self._burst, self._tokens + (now - self._then) * self._rate) - 1
            self._then = now
            return max(0.0, -self._tokens / self._rate)


class Broken(Exception):
    """A connection failed. Never leaves this package."""

    def __init__(self, server: Server, why: str, *, was_sent: bool) -> None:
        super().__init__(f"the API server at {server}: {why}")
        self.was_sent = was_sent


@dataclass(frozen=True, slots=True)
class Answer:
    server: Server
    code: int
    body: bytes
    retry_after: str | None


class Api:
    """Safe to use from several threads."""

    def __init__(self, address: KubernetesAddress, spread: Callable[[], float] = random.random) -> None:
        self._address, self._spread = address, spread
        self._access = address.access()
        self._context = self._access.context()
        self._read_at = time.monotonic()
        self._first = int(spread() * len(self._access.servers))  # the nodes of a cluster spread over its servers
        self._idle: list[tuple[Access, Server, http.client.HTTPConnection]] = []
        self._lock = threading.Lock()
        self._pace = Pace(address.qps, address.burst)
        self._closed = threading.Event()

    @property
    def where(self) -> str:
        return ",".join(str(server) for server in self._access.servers)

    @property
    def access(self) -> Access:
        return self._access

    def request(self, method: str, path: str, what: str, query: Mapping[str, str] | None = None, body: object = None,
                content_type: str = JSON) -> Any:  # fmt: skip
        """The answer's JSON, or a StoreError. `what` is for people: `update IPPool a`."""
        target = f"{path}?{urlencode(query)}" if query else path
        data = None if body is None else self._encoded(body, what)
        until = time.monotonic() + self._address.timeout
        attempts = 0
        while True:
            self._rest(self._pace.delay())
            used = self._access
            answer = self._answer(method, target, data, content_type)
            if answer.code < 300:
                return self._decoded(answer, what)
            status = status_of(answer.code, answer.body)
            if answer.code == 401 and not attempts and self.identify_again(used):
                attempts += 1
                continue
            attempts += 1
            told = retry_after(status, answer.retry_after)
            wait = max(told or 0.0, min(pause(attempts), 2.0)) * (0.5 + self._spread())
            may_repeat = answer.code in BUSY or (answer.code in SHAKEN and method == "GET")
            if not may_repeat or time.monotonic() + wait > until or self._closed.is_set():
                raise error_of(status, what, str(answer.server))
            self._rest(wait)

    def connect(self) -> tuple[Server, socket.socket]:
        """A connection of the caller's own, for a watch."""
        self._rest(self._pace.delay())
        self._look_again()
        return self._over_servers(lambda access, server: (server, self._dial(access, server)))

    def head(self, server: Server, target: str) -> bytes:
        """The request for a watch, as it goes over the wire."""
        lines = [f"GET {server.base}{target} HTTP/1.1", f"Host: {server}"]
        lines += [f"{name}: {value}" for name, value in self._headers().items()]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    def identify_again(self, used: Access) -> bool:
        """Read again who we are; whether that is somebody else than `used`, which another thread may have seen to already."""
        try:
            now = self._address.access()
            context = now.context()
        except Misconfigured:
            return False  # just being replaced: what we have is as good as it gets
        finally:
            self._read_at = time.monotonic()
        with self._lock:
            if now != self._access:
                self._access, self._context = now, context
            return self._access != used

    def avoid(self, server: Server) -> None:
        """The next request goes to another one first, if there is another."""
        with self._lock:
            servers = self._access.servers
            if servers[self._first % len(servers)] == server:
                self._first += 1

    def close(self) -> None:
        self._closed.set()
        with self._lock:
            idle, self._idle = self._idle, []
        for _, _, connection in idle:
            connection.close()

    # -- one exchange

    def _answer(self, method: str, target: str, data: bytes | None, content_type: str) -> Answer:
        self._look_again()
        for _ in range(MOST_IDLE):
            kept = self._kept()
            if kept is None:
                break
            try:
                return self._exchange(*kept, method, target, data, content_type)
            except Broken as broken:
                if broken.was_sent and method != "GET":
                    raise Unreachable(f"{broken}; whether it was done is not known") from None

        def ask(access: Access, server: Server) -> Answer:
            connection = self._fresh(access, server)
            return self._exchange(access, server, connection, method, target, data, content_type)

        return self._over_servers(ask, is_read=method == "GET")

    def _over_servers(self, ask: Callable[[Access, Server], T], *, is_read: bool = True) -> T:
        """What the first server answers that can be reached."""
        with self._lock:
            access, first = self._access, self._first
        servers = access.servers
        failed: Broken | None = None
        for step in range(len(servers)):
            server = servers[(first + step) % len(servers)]
            try:
                return ask(access, server)
            except Broken as broken:
                if broken.was_sent and not is_read:
                    raise Unreachable(f"{broken}; whether it was done is not known") from None
                failed = broken
                self.avoid(server)
        raise Unreachable(str(failed))

    def _exchange(self, access: Access, server: Server, connection: http.client.HTTPConnection, method: str,
                  target: str, data: bytes | None, content_type: str) -> Answer:  # fmt: skip
        headers = self._headers() | ({"Content-Type": content_type} if data is not None else {})
        try:
            connection.request(method, server.base + target, body=data, headers=headers)
            response = connection.getresponse()
            body = response.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise Broken(server, reason(error), was_sent=True) from None
        if response.will_close or self._closed.is_set():
            connection.close()
        else:
            with self._lock:
                self._idle.append((access, server, connection))
        return Answer(server, response.status, body, response.headers.get("Retry-After"))

    def _kept(self) -> tuple[Access, Server, http.client.HTTPConnection] | None:
        """A connection that is still open, and was opened as who we are now."""
        while True:
            with self._lock:
                if not self._idle:
                    return None
                access, server, connection = self._idle.pop()
                is_spare = len(self._idle) >= MOST_IDLE
            if access == self._access and not is_spare and not _is_readable(connection):
                return access, server, connection
            connection.close()

    def _fresh(self, access: Access, server: Server) -> http.client.HTTPConnection:
        made = http.client.HTTPConnection(server.host, server.port)
        made.auto_open = 0  # never again in plain text by itself
        made.sock = self._dial(access, server)
        made.sock.settimeout(self._address.timeout)
        return made

    def _dial(self, access: Access, server: Server) -> socket.socket:
        try:
            plain = socket.create_connection((server.host, server.port), timeout=min(CONNECT, self._address.timeout))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            _keep_alive(plain)
            if not server.is_tls:
                return plain
            return self._context.wrap_socket(plain, server_hostname=access.server_name or server.host)
        except ssl.SSLCertVerificationError as error:
            raise Denied(
                f"the certificate of the API server at {server} is not accepted: {error.verify_message}; "
                "signed by another CA than the kubeconfig's?"
            ) from None
        except OSError as error:
            raise Broken(server, reason(error), was_sent=False) from None

    def _headers(self) -> dict[str, str]:
        token = self._access.token
        said = {"User-Agent": AGENT, "Accept": JSON}
        return said | ({"Authorization": f"Bearer {token}"} if token else {})

    # -- identity and patience

    def _look_again(self) -> None:
        if time.monotonic() - self._read_at > READ_AGAIN:
            self.identify_again(self._access)

    def _rest(self, seconds: float) -> None:
        if seconds > 0:
            self._closed.wait(seconds)
        if self._closed.is_set():
            raise Unreachable("the store is closed")

    def _encoded(self, body: object, what: str) -> bytes:
        try:
            return orjson.dumps(body)
        except TypeError as error:
            raise StoreError(f"{what}: cannot be written as JSON: {error}") from None

    def _decoded(self, answer: Answer, what: str) -> Any:
        try:
            return orjson.loads(answer.body)
        except orjson.JSONDecodeError:
            raise StoreError(f"the API server at {answer.server} answers {what} with no JSON") from None


def reason(error: Exception) -> str:
    if isinstance(error, TimeoutError):
        return "no answer in time"
    if isinstance(error, ssl.SSLError):
        return f"TLS: {(error.reason or str(error)).lower().replace('_', ' ')}"
    if isinstance(error, OSError):
        return (error.strerror or str(error)).lower()
    return str(error).lower() or type(error).__name__


def _is_readable(connection: http.client.HTTPConnection) -> bool:
    """Nobody asked, so what is there to read is the end of it."""
    return connection.sock is None or bool(select.select([connection.sock], [], [], 0)[0])


def _keep_alive(plain: socket.socket) -> None:
    """A server that vanished without a word is noticed by the kernel within half a minute."""
    plain.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for option, value in ((socket.TCP_KEEPIDLE, 10), (socket.TCP_KEEPINTVL, 5), (socket.TCP_KEEPCNT, 4)):
        plain.setsockopt(socket.IPPROTO_TCP, option, value)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 30_000)
