"""A node for tests of the plugin: its server and a core with real tables, in threads that live in a namespace.

with node("fc", store) as here:                       # a namespace, a run directory, server and core
    here.install("compiled")                          # or "python": the plugin, as `felixlite cni install` does it
    with pod("fc") as space:
        ran = here.run("ADD", space, container="c1")   # exec of the plugin: ran.code, ran.answer
"""

import json
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from felixlite import control
from felixlite.cni.attachments import Attachments
from felixlite.cni.core import Core
from felixlite.cni.install import How, install_plugin
from felixlite.cni.notes import Notes
from felixlite.cni.plan import plan
from felixlite.cni.podmtus import PodMtus
from felixlite.cni.server import Server
from felixlite.datastore.store import Store
from felixlite.ipam.store import Ipam
from felixlite.kernel.expected import Expected
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links, every_link
from felixlite.kernel.namespaces import setns
from felixlite.kernel.neighbours import Neighbours
from felixlite.kernel.routes import Routes
from felixlite.kernel.sysctls import Sysctls
from felixlite.loop import Loop, Planned
from felixlite.model.parse import parse
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Change, Replace, Snapshot
from tests.support.netns import Namespace, namespace

POOL = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "IPPool",
    "metadata": {"name": "pool"},
    "spec": {"cidr": "10.244.0.0/16", "blockSize": 26},
}


@dataclass
class Chains:
    """Stands for the policy tables: a guard whose row says that a workload is behind its policy. May be made to fail."""

    name: str = "chains"
    guard: bool = True
    rows: dict[str, str] = field(default_factory=dict)
    broken: bool = False

    def read(self) -> dict[str, str]:
        return dict(self.rows)

    def upsert(self, items: Mapping[str, str]) -> dict[str, Exception]:
        if self.broken:
            return {key: OSError("the chains do not take it") for key in items}
        self.rows.update(items)
        return {}

    def delete(self, keys: Collection[str]) -> dict[str, Exception]:
        for key in keys:
            self.rows.pop(key, None)
        return {}


@dataclass(frozen=True)
class Ran:
    """One exec of the plugin."""

    code: int
    printed: str
    stderr: str
    seconds: float

    @property
    def answer(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads(self.printed) if self.printed.strip() else {}
        return found

    @property
    def address(self) -> str:
        text: str = self.answer["ips"][-1]["address"]
        return text.partition("/")[0]


class PluginNode:
    def __init__(self, net: Namespace, run: Path, store: Store, name: str = "n1") -> None:
        self.net, self.run_directory, self.store, self.name = net, run, store, name
        self.state: tuple[int, str] = (0, "")
        self.mtu: int | None = 1500
        self.most_mtu: int | None = 1500
        self.uplink: str | None = None
        self.chains = Chains()
        self.plugin = run / "bin" / "felixlite"
        self.host = Host(net.fd)
        self.ipam = Ipam(store, name)
        self.threads: list[threading.Thread] = []
        self.start()

    def _plan(self, snapshot: Snapshot, _now: float) -> Planned:
        found = plan(snapshot.local_workloads.values(), snapshot.links, mtu=self.mtu, uplink=self.uplink)
        chains = {w.interface: "behind its policy" for w in snapshot.local_workloads.values()}
        return Planned(
            {
                "chains": (chains,),
                "links": (found.links,),
                "sysctls": (found.sysctls,),
                "neighbours": (found.neighbours,),
                "routes": (found.routes,),
                "pod mtus": (found.pod_mtus,),
            }
        )

    def _put(self, changes: Sequence[Change]) -> None:
        self.loop.put(changes)

    def start(self) -> None:
        """An agent that remembers nothing: what it knows is what the store and the kernel say."""
        self.expected = Expected(self._put)
        tables = (
            self.chains,
            Links(self.host, as_made=self.expected.as_made),
            Sysctls(self.host),
            Neighbours(self.host),
            Routes(self.host),
            PodMtus(self.host, self.expected.as_made),
        )
        workloads = {w.name: w for w in (parse(document).inside() for document in self.endpoints())}
        snapshot = Snapshot(
            self.name,
            local_workloads={(w.namespace, w.name): w for w in workloads.values() if w.node == self.name},
            links={name: link.state for name, link in every_link(self.host).items()},
        )
        self.loop = Loop(snapshot, self._plan, Reconciler(tables))
        self.loop.put([])
        core = Core(
            self.loop.submit,
            lambda: self.state,
            lambda: self.mtu,
            self._differences,
            most_mtu=lambda: self.most_mtu,
            making=self.expected.making,
            made=self.expected.made,
        )
        self.attachments = Attachments(self.store, self.ipam, core, self.name, Notes(self.run_directory))
        self.server = Server(control.bound(self.run_directory / "cni.sock"), self.attachments)
        self._thread("core", self.loop.run)
        for title, function in self.server.threads():
            self._thread(title, function)

    def _differences(self) -> Mapping[str, Any]:
        return self.loop.ask(lambda loop: loop.reconciler.differences(loop.planned.tables))

    def hear_of_links(self) -> None:
        """What the kernel's monitor tells a real agent by itself."""
        with Host(self.net.fd) as host:
            now = {name: link.state for name, link in every_link(host).items()}
        self.loop.submit([Replace("links", now)]).result(10)

    def _thread(self, title: str, function: Callable[[], None]) -> None:
        def inside() -> None:
            setns(self.net.fd)
            function()

        thread = threading.Thread(target=inside, name=title, daemon=True)
        thread.start()
        self.threads.append(thread)

    def stop(self) -> None:
        """The server is gone, as after a kill: nobody answers at the socket."""
        self.server.stop()
        self.loop.stop()
        for thread in self.threads:
            thread.join(10)
            assert not thread.is_alive(), thread.name
        self.threads.clear()

    def close(self) -> None:
        self.stop()
        self.host.close()

    # -- the plugin

    def install(self, how: How) -> None:
        install_plugin(self.plugin.parent, how)

    def config(self, **more: Any) -> dict[str, Any]:
        socket = str(self.run_directory / "cni.sock")
        return {"cniVersion": "1.1.0", "name": "net", "type": "felixlite", "socket": socket, **more}

    def run(
        self,
        command: str,
        space: Namespace | None = None,
        *,
        container: str = "c1",
        interface: str = "eth0",
        stdin: str | None = None,
        environment: Mapping[str, str | None] | None = None,
        **config: Any,
    ) -> Ran:
        given: dict[str, str | None] = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(space.path) if space else None,
            "CNI_IFNAME": interface,
            "CNI_PATH": str(self.plugin.parent),
            **(environment or {}),
        }
        began = time.monotonic()
        done = subprocess.run(
            [str(self.plugin)],
            input=json.dumps(self.config(**config)) if stdin is None else stdin,
            env={name: value for name, value in given.items() if value is not None},
            capture_output=True,
            text=True,
            check=False,
            timeout=90,
        )
        return Ran(done.returncode, done.stdout, done.stderr, time.monotonic() - began)

    # -- what is there

    def addresses(self) -> int:
        """How many the store says are assigned."""
        blocks = self.store.list("IPAMBlock").entries
        return sum(1 for b in blocks for a in b.document["spec"]["allocations"] if a is not None)

    def endpoints(self) -> list[dict[str, Any]]:
        return [entry.document for entry in self.store.list("WorkloadEndpoint").entries]

    def host_links(self) -> set[str]:
        return {link["ifname"] for link in self.net.show("link") if link["ifname"].startswith("cali")}

    def routes(self) -> set[str]:
        return {route["dst"] for route in self.net.show("route") if route.get("dev", "").startswith("cali")}

    def notes(self) -> list[str]:
        return sorted(entry.name for entry in (self.run_directory / "cni-notes").iterdir())


def eventually(what: Callable[[], object], seconds: float = 10.0) -> None:
    deadline = time.monotonic() + seconds
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)


@contextmanager
def node(prefix: str, store: Store, name: str = "n1") -> Iterator[PluginNode]:
    run = Path(tempfile.mkdtemp(prefix="felixlite-cni-"))
    with namespace(f"{prefix}-{name}") as net:
        net.ip("addr add 192.0.2.77/32 dev lo")  # whom the host is when it speaks to its pods
        here = PluginNode(net, run, store, name)
        try:
            yield here
        finally:
            here.close()
            shutil.rmtree(run)


def pod(prefix: str) -> Any:
    return namespace(f"{prefix}-pod")


def open_descriptors() -> int:
    return sum(1 for _ in Path("/proc/self/fd").iterdir())


def gone(path: Path) -> bool:
    with suppress(FileNotFoundError):
        path.stat()
        return False
    return True


# -- answers

VERSIONS = ("0.3.1", "0.4.0", "1.0.0", "1.1.0")


def refused(ran: Ran, code: int, *words: str) -> None:
    """Section "Error": a non-zero exit code and an error object on stdout."""
    assert ran.code != 0, ran.printed
    answer = ran.answer
    assert answer["code"] == code, answer
    assert answer["cniVersion"] in VERSIONS
    assert isinstance(answer["msg"], str)
    assert answer["msg"]
    for word in words:
        assert word in answer["msg"] + answer.get("details", ""), answer


def ok(ran: Ran) -> dict[str, Any]:
    assert ran.code == 0, ran.printed
    return ran.answer


def nothing_is_left(here: PluginNode) -> bool:
    return (here.addresses(), here.endpoints(), here.host_links(), here.routes()) == (0, [], set(), set())
