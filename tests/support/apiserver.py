"""A real API server in this process: TLS, tokens, watches, over a memory store or the one that is given.

with apiserver() as server:
    server.url                                   # https://127.0.0.1:PORT
    server.kubeconfig                            # a file: token; context felixlite-certificate: client certificate
    server.ask("GET", "/apis/projectcalico.org/v3/ippools")          # code, body
    server.store                                 # behind it: to put in what no API would take
    server.audited                               # every request: user, verb, group, resource, code
    server.close(); server.open()                # away, and back at the same place with no memory of what was
"""

import http.client
import json
import os
import shutil
import ssl
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from felixlite.apiserver.running import Running, Settings, running
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Store

PATIENCE = 30.0
KUBECTL_PATIENCE = 90.0
_OLDER = Path(__file__).parents[2] / ".cache" / "kubectl" / "usr" / "bin" / "kubectl"
# the one on PATH; and Debian's, which is years older, where that is another one and ./run could fetch it (it says so if not)
KUBECTLS = {"current": "kubectl", **({"older": str(_OLDER)} if _OLDER.exists() else {})}


@dataclass
class ApiServer:
    store: Store
    folder: Path
    settings: Settings
    audited: list[dict[str, Any]] = field(default_factory=list)

    def open(self) -> None:
        self.settings = replace(self.settings, audit=self.audited.append)
        self._life = running(self.store, self.settings)
        self.running: Running = self._life.__enter__()
        self.settings = replace(self.settings, port=self.running.server.port)

    def close(self) -> None:
        self._life.__exit__(None, None, None)

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
        return self.ask_with(self._context(), method, path, body, **headers)

    def ask_with(
        self, context: ssl.SSLContext, method: str, path: str, body: Any = None, **headers: str
    ) -> tuple[int, Any]:
        with closing(self._connection(context)) as connection:
            answer = self._asked(connection, method, path, body, headers)
            return answer.status, _read(answer.read())

    @contextmanager
    def watch(self, path: str) -> "Iterator[Frames]":
        with closing(self._connection(self._context())) as connection:
            yield Frames(self._asked(connection, "GET", path, None, {}))

    def _context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.ca))

    def _connection(self, context: ssl.SSLContext) -> http.client.HTTPSConnection:
        host, _, port = self.url.removeprefix("https://").rpartition(":")
        return http.client.HTTPSConnection(host, int(port), context=context, timeout=PATIENCE)

    def _asked(
        self, connection: http.client.HTTPSConnection, method: str, path: str, body: Any, headers: dict[str, str]
    ) -> http.client.HTTPResponse:
        data = None if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        given = {name: value for name, value in given.items() if value}
        connection.request(method, path, data, given)
        return connection.getresponse()


class Frames:
    """What a watch says, a line at a time."""

    def __init__(self, answer: http.client.HTTPResponse) -> None:
        self.code, self._answer = answer.status, answer

    def next(self) -> tuple[str, Any]:
        """Type and object; ("", None): it has ended."""
        line = self._answer.readline()
        if not line:
            return "", None
        found = json.loads(line)
        return found["type"], found["object"]

    def names(self, count: int) -> list[tuple[str, str]]:
        found = [self.next() for _ in range(count)]
        return [(type_, told["metadata"]["name"]) for type_, told in found]


def _read(text: bytes) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text.decode()


@contextmanager
def apiserver(store: Store | None = None, **settings: Any) -> Iterator[ApiServer]:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-apiserver-"))
    store = store or MemoryStore()
    server = ApiServer(store, folder, Settings(folder / "state", **settings))
    try:
        server.open()
        try:
            yield server
        finally:
            server.close()
    finally:
        shutil.rmtree(folder)


class Kubectl:
    """The real one, with a home of its own: kubectl("get", "ippools"); kubectl.fails(...) is what it said on stderr."""

    def __init__(self, kubeconfig: Path, home: Path, *inside: str, program: str = "kubectl") -> None:
        self.environment = {**os.environ, "KUBECONFIG": str(kubeconfig), "HOME": str(home), "TMPDIR": str(home)}
        self.command = (*inside, program)  # ("ip", "netns", "exec", "n1", "kubectl")

    def start(self, *words: str) -> "subprocess.Popen[str]":
        return subprocess.Popen(
            [*self.command, *words], env=self.environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def fails(self, *words: str, stdin: str = "", editor: str = "") -> str:
        done = self.run(words, stdin, editor)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def __call__(self, *words: str, stdin: str = "", editor: str = "") -> str:
        done = self.run(words, stdin, editor)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def run(self, words: tuple[str, ...], stdin: str, editor: str) -> "subprocess.CompletedProcess[str]":
        environment = {**self.environment, "KUBE_EDITOR": editor}
        return subprocess.run(
            [*self.command, *words],
            input=stdin,
            env=environment,
            text=True,
            capture_output=True,
            check=False,
            timeout=KUBECTL_PATIENCE,
        )


# -- what tests write

V3, CRD = "/apis/projectcalico.org/v3", "/apis/crd.projectcalico.org/v1"
MERGE = "application/merge-patch+json"
SETS = f"{V3}/globalnetworksets"


def a_set(name: str, *nets: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkSet",
        "metadata": {"name": name, **metadata},
        "spec": {"nets": list(nets)},
    }


def made(server: ApiServer, path: str, document: Any) -> dict[str, Any]:
    code, found = server.ask("POST", path, document)
    assert code == 201, found
    assert isinstance(found, dict)
    return found
