"""An API server that does to its clients what real ones do on bad days, as a script says; over HTTP on loopback.

with hostile_api() as server:
    server.on("GET", PATH, refusal(429, "TooManyRequests", after=0), listing([...], "7"))     # one after the other
    server.on("WATCH", PATH, stream(event("ADDED", pool), cut=True), stream(...))              # the last one repeats
    connect(server.store_url)
    server.asked                                                                                # what came in
"""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

PATIENCE = 20.0
POOLS = "/apis/crd.projectcalico.org/v1/ippools"
Answer = Callable[["Request"], None]


@dataclass(frozen=True)
class Asked:
    method: str  # WATCH is a GET that watches
    path: str
    query: dict[str, str]
    token: str
    body: Any


@dataclass
class Hostile:
    port: int
    scripts: dict[tuple[str, str], list[Answer]] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    released: threading.Event = field(default_factory=threading.Event)  # streams that hang end with it

    def on(self, method: str, path: str, *answers: Answer) -> None:
        self.scripts[method, path] = list(answers)

    def next_answer(self, method: str, path: str) -> Answer:
        script = self.scripts.get((method, path))
        if not script:
            return lambda request: request.send(404, b"404 page not found\n")
        return script.pop(0) if len(script) > 1 else script[0]

    def kubeconfig(self, folder: Path, credential: str = "first") -> Path:
        (folder / "token").write_text(credential)
        config = {
            "current-context": "c",
            "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u", "namespace": "here"}}],
            "clusters": [{"name": "c", "cluster": {"server": f"http://127.0.0.1:{self.port}"}}],
            "users": [{"name": "u", "user": {"tokenFile": str(folder / "token")}}],
        }
        path = folder / "kubeconfig"
        path.write_text(json.dumps(config))
        return path

    def times(self, method: str) -> int:
        return sum(1 for one in self.asked if one.method == method)


class Request(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: "_Server"

    def answer(self) -> None:
        parts = urlsplit(self.path)
        query = {name: values[0] for name, values in parse_qs(parts.query).items()}
        method = "WATCH" if query.get("watch") else self.command
        length = int(self.headers.get("Content-Length") or 0)
        body = json.loads(self.rfile.read(length)) if length else None
        token = self.headers.get("Authorization", "").removeprefix("Bearer ")
        self.asked = Asked(method, parts.path, query, token, body)
        self.server.hostile.asked.append(self.asked)
        self.server.hostile.next_answer(method, parts.path)(self)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = answer  # noqa: N815  http.server's names

    def send(self, code: int, body: bytes, **headers: str) -> None:
        self.send_response(code)
        for name, value in {"Content-Length": str(len(body)), **headers}.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def cut(self) -> None:
        """The connection ends in the middle of whatever it was."""
        self.close_connection = True

    def log_message(self, *_: Any) -> None:
        pass


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hostile: Hostile


@contextmanager
def hostile_api() -> Iterator[Hostile]:
    server = _Server(("127.0.0.1", 0), Request)
    server.hostile = Hostile(server.server_address[1])
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server.hostile
    finally:
        server.hostile.released.set()
        server.shutdown()
        server.server_close()
        thread.join(PATIENCE)


# -- answers


def gives(value: Any, code: int = 200) -> Answer:
    return lambda request: request.send(code, json.dumps(value).encode())


def refusal(code: int, reason: str, message: str = "no", after: int | None = None, **details: Any) -> Answer:
    said = {**details, **({"retryAfterSeconds": after} if after is not None else {})}
    return gives(status(code, reason, message, **said), code)


def status(code: int, reason: str, message: str = "no", **details: Any) -> dict[str, Any]:
    return {
        "kind": "Status",
        "status": "Failure",
        "code": code,
        "reason": reason,
        "message": message,
        "details": details,
    }


def hangs_up(request: Request) -> None:
    """Reads the request, and says nothing."""
    request.cut()


def listing(items: list[Any], revision: str, token: str = "") -> Answer:
    return gives({"kind": "List", "metadata": {"resourceVersion": revision, "continue": token}, "items": items})


def stream(*events: dict[str, Any], cut: bool = False, ends: bool = False, piece: int = 1 << 20) -> Answer:
    """A watch: these events, in pieces of so many bytes; then it is cut, ends as agreed, or stays open."""

    def answer(request: Request) -> None:
        request.send_response(200)
        request.send_header("Transfer-Encoding", "chunked")
        request.end_headers()
        for one in events:
            line = json.dumps(one).encode() + b"\n"
            frame = b"%x\r\n%b\r\n" % (len(line), line)
            for start in range(0, len(frame), piece):
                request.wfile.write(frame[start : start + piece])
                request.wfile.flush()
        if ends:
            request.wfile.write(b"0\r\n\r\n")
        elif not cut:
            request.server.hostile.released.wait(PATIENCE)
        request.cut()

    return answer


def event(word: str, found: dict[str, Any]) -> dict[str, Any]:
    return {"type": word, "object": found}


def bookmark(revision: str) -> dict[str, Any]:
    return event("BOOKMARK", {"kind": "IPPool", "metadata": {"resourceVersion": revision}})


def pool(name: str, revision: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "crd.projectcalico.org/v1",
        "kind": "IPPool",
        "metadata": {"name": name, "uid": f"uid-{name}", "resourceVersion": revision, **metadata},
        "spec": {"cidr": "10.0.0.0/16"},
    }
