"""Liveness, readiness and metrics over HTTP, for the kubelet and for Prometheus.

/liveness is 200 as long as the core thread takes part in life (it answered a question, or finished a round, lately);
/readiness is 200 once every table has converged with all sources in sync.  Both say what is wrong in their body.
/metrics is on a port of its own, so that the one can be closed and the other open.
"""

import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from socket import AF_INET, AF_INET6
from typing import Any, NamedTuple

from felixlite.errors import Misconfigured


class Sample(NamedTuple):
    """One measured value. Several with the same name and other labels make a metric."""

    name: str
    value: float
    meaning: str
    labels: tuple[tuple[str, str], ...] = ()
    kind: str = "gauge"  # or counter; or summary or histogram, of which each part is a sample: NAME_sum, NAME_count, NAME_bucket


Page = Callable[[], tuple[int, str]]


def metrics_text(samples: Iterable[Sample]) -> str:
    """The exposition format of Prometheus."""
    from prometheus_client import CollectorRegistry, generate_latest
    from prometheus_client.core import Metric

    families: dict[str, Metric] = {}
    for sample in samples:
        name = sample.name.rpartition("_")[0] if sample.kind in ("summary", "histogram") else sample.name
        family = families.setdefault(name, Metric(name, sample.meaning, sample.kind))
        family.add_sample(
            sample.name + ("_total" if sample.kind == "counter" else ""), dict(sample.labels), sample.value
        )

    class Collected:
        def collect(self) -> Iterable[Metric]:
            return families.values()

    registry = CollectorRegistry(auto_describe=False)
    registry.register(Collected())
    return generate_latest(registry).decode()


class HttpPages:
    """A small HTTP server with a fixed set of pages."""

    def __init__(self, host: str, port: int, pages: dict[str, Page], what: str) -> None:
        class Answer(BaseHTTPRequestHandler):
            timeout = 10

            def do_GET(self) -> None:
                page = pages.get(self.path.partition("?")[0])
                code, body = page() if page else (404, "pages: " + " ".join(pages) + "\n")
                encoded = body.encode()
                self.send_response(code)
                self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
                self.send_header("Content-Length", str(len(encoded)))
                self.end_headers()
                self.wfile.write(encoded)

            def log_message(self, *_: Any) -> None:
                """Probes every ten seconds are not events."""

        class Server(ThreadingHTTPServer):
            address_family = AF_INET6 if ":" in host else AF_INET
            daemon_threads = True

        try:
            self.server = Server((host, port), Answer)
        except OSError as error:
            raise Misconfigured(
                f"{what}: cannot listen on {host or '*'} port {port}: {error.strerror}; choose another port"
            ) from None
        except (ValueError, TypeError) as error:  # what no resolver is even asked for
            raise Misconfigured(f"{what}: cannot listen on {host!r}: {error}; give an address") from None
        self.port = self.server.server_address[1]

    def start(self) -> None:
        threading.Thread(target=self.server.serve_forever, name=f"http-{self.port}", daemon=True).start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@dataclass(frozen=True, slots=True)
class Wanted:
    """Where to serve, or nowhere."""

    host: str
    port: int


class Served:
    """One HTTP server that follows the configuration: opened, moved and closed while the process runs."""

    def __init__(self, what: str, pages: dict[str, Page]) -> None:
        self.what, self.pages = what, pages
        self.error = ""
        self._wanted: Wanted | None = None
        self._server: HttpPages | None = None

    def follow(self, wanted: Wanted | None) -> None:
        """Serve there. A port that is taken is an error to be shown, not a reason to stop routing."""
        if wanted == self._wanted:
            return
        self._wanted, self.error = wanted, ""
        if self._server:
            self._server.close()
            self._server = None
        if wanted:
            try:
                self._server = HttpPages(wanted.host, wanted.port, self.pages, self.what)
                self._server.start()
            except Misconfigured as error:
                self.error = str(error)
