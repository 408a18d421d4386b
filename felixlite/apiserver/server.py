"""HTTP/1.1 over TLS: a thread for each connection, from bytes to a Request and from an Answer to bytes.

A connection that becomes a watch is handed to the pump, and its thread ends.  Whatever goes wrong inside one request is
the answer to that request and ends nothing else.
"""

import json
import logging
import socket
import ssl
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from felixlite.apiserver.answers import Answer, Stream
from felixlite.apiserver.api import Api
from felixlite.apiserver.identity import Identity, user_of_certificate
from felixlite.apiserver.requests import Request, User, target
from felixlite.apiserver.status import Refused
from felixlite.errors import Misconfigured

log = logging.getLogger("felixlite")
LARGEST_BODY = 3 << 20
HANDSHAKE = 10.0
IDLE = 300.0
ANONYMOUS = User("system:anonymous", ("system:unauthenticated",))
OPEN_PATHS = ("/healthz", "/livez", "/readyz", "/version")
Audit = Callable[[dict[str, Any]], None]


class Server(ThreadingHTTPServer):
    """`serve_forever` belongs to a thread."""

    daemon_threads = True
    request_queue_size = 1024

    def __init__(self, api: Api, identity: Identity, host: str, port: int, audit: Audit | None = None) -> None:
        self.api, self.identity, self.audit = api, identity, audit
        self.tls = identity.context()
        self.handed_over: set[int] = set()
        self.open: set[socket.socket] = set()
        if ":" in host:
            self.address_family = socket.AF_INET6
        try:
            super().__init__((host, port), Handler)
        except OSError as error:
            raise Misconfigured(
                f"cannot listen at {host}:{port}: {error.strerror}; choose another --port or --host"
            ) from None

    @property
    def port(self) -> int:
        return int(self.server_address[1])

    def get_request(self) -> tuple[socket.socket, Any]:
        connection, address = super().get_request()
        connection.settimeout(HANDSHAKE)
        return self.tls.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def server_close(self) -> None:
        """Nobody goes on being served over a connection that was kept."""
        super().server_close()
        for connection in list(self.open):
            with suppress(OSError):  # the other side was faster
                connection.shutdown(socket.SHUT_RDWR)

    def shutdown_request(self, request: Any) -> None:
        if id(request) in self.handed_over:
            self.handed_over.discard(id(request))
            return
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        log.exception("a connection from %s ended", client_address[0])


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    error_content_type = "application/json"
    error_message_format = (
        '{"kind":"Status","apiVersion":"v1","status":"Failure","message":"%(message)s","code":%(code)d}\n'
    )

    def setup(self) -> None:
        super().setup()
        self.user: User | None = None
        self.server.open.add(self.connection)

    def handle(self) -> None:
        try:
            self.connection.do_handshake()
            self.connection.settimeout(IDLE)
            self.user = user_of_certificate(self.connection.getpeercert())
            super().handle()
        except (ssl.SSLError, ConnectionError, TimeoutError) as error:
            log.debug("a connection from %s ended: %s", self.client_address[0], error)

    def finish(self) -> None:
        self.server.open.discard(self.connection)
        if id(self.request) in self.server.handed_over:
            return
        try:
            super().finish()
        except (ssl.SSLError, OSError):
            return  # the other side is gone

    def _answer(self) -> None:
        began = time.monotonic()
        request = self._request()
        try:
            answer = self._judged(request)
        except Refused as refused:
            answer = Answer(refused.code, json.dumps(refused.document()).encode())
        except Exception:
            log.exception("%s %s", self.command, self.path)
            failed = Refused(500, "an internal error; the server's log says which")
            answer = Answer(500, json.dumps(failed.document()).encode())
        self._note(request, answer, time.monotonic() - began)
        if isinstance(answer, Stream):
            self._hand_over(answer)
        else:
            self._send(answer)

    do_GET = do_HEAD = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815  http.server's names

    def _request(self) -> Request:
        headers = {name.lower(): value for name, value in self.headers.items()}
        return Request.of(self.command, self.path, headers, b"", self._who(headers))

    def _who(self, headers: dict[str, str]) -> User:
        """By token, else by certificate. A wrong token is never anonymous."""
        scheme, _, token = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self.server.identity.user_of_token(token.strip()) or User("")
        return self.user or ANONYMOUS

    def _judged(self, request: Request) -> Answer | Stream:
        body = self._body(request)
        if not request.user.name:
            raise Refused(401, "Unauthorized")
        if request.user is ANONYMOUS and not request.path.startswith(OPEN_PATHS):
            raise _forbidden(request)
        return self.server.api.answer(
            Request(request.method, request.path, request.query, request.headers, body, request.user)
        )

    def _body(self, request: Request) -> bytes:
        if request.headers.get("transfer-encoding"):
            self.close_connection = True
            raise Refused(411, "send the body with a Content-Length", "LengthRequired")
        text = request.headers.get("content-length", "0")
        if not text.isdecimal() or int(text) > LARGEST_BODY:
            self.close_connection = True
            raise Refused(413, f"the body has {text} bytes; at most {LARGEST_BODY} are read")
        return self.rfile.read(int(text)) if int(text) else b""

    def _send(self, answer: Answer) -> None:
        self.send_response(answer.code)
        self.send_header("Content-Type", answer.content_type)
        self.send_header("Content-Length", str(len(answer.body)))
        for name, value in answer.headers:
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    def _hand_over(self, answer: Stream) -> None:
        self.send_response(HTTPStatus.OK)
        self.send_header("Content-Type", "application/json")
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        self.wfile.write(answer.watcher.first)
        self.wfile.flush()
        answer.watcher.first = b""
        self.close_connection = True
        self.server.handed_over.add(id(self.request))
        self.server.api.pump.add(answer.watcher, self.connection)

    def _note(self, request: Request, answer: Answer | Stream, seconds: float) -> None:
        if self.server.audit is None:
            return
        code = 200 if isinstance(answer, Stream) else answer.code
        self.server.audit(audited(request, code, seconds))

    def version_string(self) -> str:
        return "felixlite"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002  http.server's signature
        log.debug(format, *args)


def audited(request: Request, code: int, seconds: float) -> dict[str, Any]:
    """One line about a request: who, what, how it ended. Never a body or a token."""
    wanted = target(request.path)
    found: dict[str, Any] = {"user": request.user.name, "method": request.method, "path": request.path}
    if wanted:
        try:
            verb = wanted.verb(request.method, watch=request.says("watch"))
        except Refused:
            verb = request.method.lower()
        found |= {"verb": verb, "group": wanted.served.group, "resource": wanted.served.plural}
        found |= {"subresource": wanted.subresource, "namespace": wanted.namespace, "name": wanted.name}
    return {**found, "code": code, "ms": round(seconds * 1000, 1)}


def _forbidden(request: Request) -> Refused:
    wanted = target(request.path)
    details = {"group": wanted.served.group, "kind": wanted.served.plural} if wanted else {}
    message = f'forbidden: User "{ANONYMOUS.name}" cannot {request.method.lower()} path "{request.path}"'
    return Refused(403, message, details=details)


def serving(server: Server) -> threading.Thread:
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.2}, name="http", daemon=True)
    thread.start()
    return thread
