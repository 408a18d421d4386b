"""A real API server in this process: TLS, tokens, watches, over a memory store or the one that is given.

with apiserver() as server:
    server.url                                   # https://127.0.0.1:PORT
    server.kubeconfig                            # a file: token; context felixlite-certificate: client certificate
    server.ask("GET", "/apis/projectcalico.org/v3/ippools")          # code, body
    server.store                                 # behind it: to put in what no API would take
    server.audited                               # every request: user, verb, group, resource, code
"""

import http.client
import json
import shutil
import ssl
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from felixlite.apiserver.running import Running, Settings, running
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Store


@dataclass
class ApiServer:
    running: Running
    store: Store
    folder: Path
    audited: list[dict[str, Any]] = field(default_factory=list)

    @property
    def url(self) -> str:
        return self.running.url

    @property
    def token(self) -> str:
        return self.running.identity.token_file.read_text()

    @property
    def ca(self) -> Path:
        return self.running.identity.ca

    @property
    def kubeconfig(self) -> Path:
        path = self.folder / "kubeconfig"
        self.running.identity.write_kubeconfig(path, self.url)
        return path

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        """By the standard library's client: code and what the body says."""
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        context = ssl.create_default_context(cafile=str(self.ca))
        host, _, port = self.url.removeprefix("https://").rpartition(":")
        connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=20)
        with closing(connection):
            connection.request(method, path, data, given)
            answer = connection.getresponse()
            return answer.status, _read(answer.read())


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


@contextmanager
def apiserver(store: Store | None = None, **settings: Any) -> Iterator[ApiServer]:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-apiserver-"))
    store = store or MemoryStore()
    audited: list[dict[str, Any]] = []
    try:
        with running(store, Settings(folder / "state", audit=audited.append, **settings)) as one:
            yield ApiServer(one, store, folder, audited)
    finally:
        shutil.rmtree(folder)
