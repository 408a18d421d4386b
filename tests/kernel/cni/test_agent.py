"""The plugin against a real agent with etcd: what must be the same before and after a thousand pods, or two hundred kills.

FELIXLITE_CYCLES and FELIXLITE_KILLS make the runs longer; the numbers of the issue are 1000 and 200.
"""

import json
import os
import random
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from felixlite import control
from felixlite.datastore import connect
from felixlite.errors import FelixliteError
from felixlite.ipam.check import check
from felixlite.ipam.repair import read_facts
from felixlite.kernel.namespaces import visiting
from tests.support.agent import RunningAgent, agent
from tests.support.cni import eventually, pod
from tests.support.etcd import Etcd, etcd
from tests.support.netns import Namespace, namespace

CYCLES = int(os.environ.get("FELIXLITE_CYCLES", "30"))
KILLS = int(os.environ.get("FELIXLITE_KILLS", "3"))


@dataclass
class RealNode:
    net: Namespace
    folder: Path
    agent: RunningAgent
    etcd: Etcd
    plugin: Path

    def run(
        self, command: str, space: Namespace, container: str, pod: str = "", kill_after: float | None = None
    ) -> dict[str, Any]:
        """What the plugin answers; `kill_after` so many seconds it is killed, unless it is done."""
        config = {"cniVersion": "1.1.0", "name": "net", "type": "felixlite", "socket": str(self.folder / "cni.sock")}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(space.path),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={pod or container}",
        }
        pipe = subprocess.PIPE
        with subprocess.Popen([str(self.plugin)], env=environment, stdin=pipe, stdout=pipe, text=True) as plugin:
            try:
                said, _ = plugin.communicate(json.dumps(config), timeout=kill_after)
            except subprocess.TimeoutExpired:
                plugin.kill()
                return {}
        answer: dict[str, Any] = json.loads(said) if said.strip() else {}
        assert (plugin.returncode != 0) == ("code" in answer), said
        return answer

    def kill_and_start(self, victim: str) -> None:
        """The plugins are killed by whoever starts them."""
        if victim == "agent":
            self.agent.kill()
            with visiting(self.net.fd):
                self.agent.start()
            with suppress(TimeoutError):
                self.agent.wait_until_ready()
        elif victim == "etcd":
            self.etcd.kill()
            with visiting(self.net.fd):
                self.etcd.start()

    def differences(self) -> list[str]:
        """Between the kernel and what the agent wants, and within the store."""
        try:
            kernel: list[str] = control.ask(self.folder / "agent.sock", "diff")
        except FelixliteError as error:
            return [str(error)]
        with visiting(self.net.fd):
            store = connect(self.etcd.url)
            found = check(read_facts(store), time.time())
            store.close()
        return [*kernel, *map(str, found)]

    def stored(self, prefix: str) -> int:
        words = ["etcdctl", f"--endpoints=http://{self.etcd.endpoint}", "get", prefix, "--prefix", "--keys-only"]
        return len(self.net.command(*words).split())

    def facts(self) -> dict[str, int]:
        """All that an attachment leaves somewhere, counted."""
        return {
            "links": sum(1 for link in self.net.show("link") if link["ifname"].startswith("cali")),
            "routes": len(self.net.show("route show table all proto 80")),  # the kernel's own come late (IPv6's DAD)
            "neighbours": sum(1 for n in self.net.show("neigh") if "PERMANENT" in n["state"]),
            "rules and sets": len(self.net.command("nft", "list", "ruleset").splitlines()),
            "endpoints": self.stored("/calico/resources/v3/projectcalico.org/workloadendpoints/"),
            "addresses": self.stored("/calico/ipam/v2/handle/net."),
            "notes": sum(1 for _ in (self.folder / "cni-notes").iterdir()),
        }

    def descriptors(self) -> int:
        return sum(1 for _ in Path(f"/proc/{self.agent.pid}/fd").iterdir())


@pytest.fixture(scope="session")
def outside() -> Iterator[int]:
    """The namespace that the tests run in."""
    descriptor = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    yield descriptor
    os.close(descriptor)


@pytest.fixture
def real(plugins: dict[str, bytes], outside: int) -> Iterator[RealNode]:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-cni-agent-"))
    plugin = folder / "felixlite"
    plugin.write_bytes(plugins["compiled"])
    plugin.chmod(0o755)
    with namespace("fc") as net:
        net.ip("link add eth0 type bridge")
        net.ip("addr add 192.0.2.1/24 dev eth0")
        net.ip("link set eth0 up")
        # children live in the namespace of the thread that starts them, and etcd dies with that thread
        with visiting(net.fd), etcd() as server, agent(server.url, folder) as running, visiting(outside):
            yield RealNode(net, folder, running, server, plugin)
    shutil.rmtree(folder)


def test_many_pods_come_and_go_and_leave_nothing(real: RealNode) -> None:
    with pod("fc") as space:
        for warm in range(2):
            real.run("ADD", space, f"warm{warm}")
            real.run("DEL", space, f"warm{warm}")
        eventually(lambda: real.facts()["notes"] == 0 and real.facts()["links"] == 0)
        before, descriptors = real.facts(), real.descriptors()
        for number in range(CYCLES):
            added = real.run("ADD", space, f"c{number}")
            assert "code" not in added, added
            assert real.run("DEL", space, f"c{number}") == {}
    eventually(lambda: real.facts() == before, 20)
    eventually(lambda: real.descriptors() <= descriptors)


def test_an_agent_that_waits_for_its_store_says_so(real: RealNode) -> None:
    with pod("fc") as space, pod("fc") as other:
        assert "code" not in real.run("ADD", space, "c1")
        real.agent.kill()
        real.etcd.kill()
        with visiting(real.net.fd):
            real.agent.start()
        eventually(lambda: "waits for" in real.run("STATUS", space, "c1").get("details", ""))
        assert real.run("STATUS", space, "c1")["code"] == 50
        refused = real.run("ADD", other, "c2")
        assert (refused["code"], "waits for" in refused["details"]) == (11, True)
        assert real.run("DEL", space, "c1") == {}
        with visiting(real.net.fd):
            real.etcd.start()
        real.agent.wait_until_ready()
        assert "code" not in real.run("ADD", other, "c2")
        eventually(lambda: real.facts()["endpoints"] == 1 and real.facts()["notes"] == 0)


@pytest.mark.parametrize("victim", ["agent", "plugin", "etcd"])
def test_who_is_killed_at_any_moment_loses_nothing(real: RealNode, victim: str) -> None:
    """Pods come and go while one of the three is killed again and again; two pods stay, and must not notice."""
    with pod("fc") as one, pod("fc") as two:
        stay = [real.run("ADD", space, f"stay{number}")["ips"][0]["address"] for number, space in enumerate((one, two))]
        before = real.facts()
        churning = Churn(real, kills=0.3 if victim == "plugin" else 0.0)
        with churning.running():
            for _ in range(KILLS):
                time.sleep(random.random() * 0.6)
                real.kill_and_start(victim)
        assert churning.wrong == []
        real.agent.wait_until_ready()
        wait_for_the_same(real, before)
        eventually(lambda: real.differences() == [], 60)
        assert {route["dst"] for route in real.net.show("route") if route.get("dev", "").startswith("cali")} == {
            address.removesuffix("/32") for address in stay
        }
        one.command("ping", "-c3", "-i0.2", "-W2", stay[1].removesuffix("/32"))


class Churn:
    """As a kubelet does it: an ADD that fails is followed by a DEL, and by another sandbox of the same pod."""

    def __init__(self, real: RealNode, kills: float) -> None:
        self.real, self.kills = real, kills  # the share of ADDs whose plugin is killed
        self.stopped = threading.Event()
        self.wrong: list[str] = []

    def churn(self, number: int) -> None:
        rounds = 0
        while not self.stopped.is_set():
            rounds += 1
            with pod("fc") as space:
                container = f"p{number}r{rounds}"
                kill_after = random.random() * 0.02 if random.random() < self.kills else None
                added = self.real.run("ADD", space, container, pod=f"p{number}", kill_after=kill_after)
                self.stopped.wait(0.2 if "code" in added else random.random() * 0.05)
                if deleted := self.real.run("DEL", space, container, pod=f"p{number}"):
                    self.wrong.append(json.dumps(deleted))

    @contextmanager
    def running(self) -> Iterator[None]:
        threads = [threading.Thread(target=self.churn, args=(number,)) for number in range(3)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self.stopped.set()
            for thread in threads:
                thread.join()


def wait_for_the_same(real: RealNode, before: dict[str, int]) -> None:
    """Blocks that were claimed meanwhile stay the node's, with their blackholes."""
    deadline = time.monotonic() + 60
    while True:
        now = real.facts()
        changed = {n: (before[n], now[n]) for n in now if n not in ("routes", "rules and sets") and now[n] != before[n]}
        if not changed:
            return
        assert time.monotonic() < deadline, (changed, real.differences(), real.net.command("ip", "neigh"))
        time.sleep(0.2)


def test_an_add_that_was_killed_and_is_repeated_has_the_address_that_it_answers(real: RealNode) -> None:
    """The first is killed after the pair was made, before etcd knew of its address; another pod gets that meanwhile."""

    def addresses(space: Namespace) -> list[str]:
        links = space.show("addr")
        return [
            f"{a['local']}/32" for x in links if x["ifname"] == "eth0" for a in x["addr_info"] if a["scope"] == "global"
        ]

    with pod("fc") as space, pod("fc") as other, pod("fc") as warm:
        real.run("ADD", warm, "warm")  # so that the block is the node's already
        os.kill(real.etcd.pid, signal.SIGSTOP)
        adding = threading.Thread(target=real.run, args=("ADD", space, "twice"))
        adding.start()
        eventually(lambda: addresses(space), 30)
        drafted = addresses(space)
        real.agent.kill()
        real.etcd.kill()
        adding.join()
        with visiting(real.net.fd):
            real.etcd.start()
            real.agent.start()
        real.agent.wait_until_ready()
        assert [ip["address"] for ip in real.run("ADD", other, "other")["ips"]] == drafted
        again = real.run("ADD", space, "twice")
        assert [ip["address"] for ip in again["ips"]] == addresses(space) != drafted
        space.command("ping", "-c3", "-i0.2", "-W2", drafted[0].removesuffix("/32"))
        eventually(lambda: real.differences() == [], 30)


def test_an_etcd_that_was_lost_and_restored_from_a_snapshot_changes_no_address(real: RealNode, tmp_path: Path) -> None:
    with pod("fc") as one, pod("fc") as two, pod("fc") as three:
        kept = real.run("ADD", one, "kept")["ips"]
        real.run("ADD", two, "gone")
        snapshot = tmp_path / "snapshot.db"
        with visiting(real.net.fd):
            real.etcd.ctl("snapshot", "save", str(snapshot))
        assert real.run("DEL", two, "gone") == {}
        real.etcd.kill()
        with visiting(real.net.fd):
            real.etcd.restore(snapshot)
            real.etcd.start()
        eventually(lambda: real.stored("/calico/resources/v3/projectcalico.org/workloadendpoints/") == 2, 30)
        eventually(lambda: "code" not in (again := real.run("ADD", one, "kept")) and again["ips"] == kept, 30)
        later = real.run("ADD", three, "later")["ips"]
        assert later != kept
        assert real.run("DEL", two, "gone") == {}  # the backup knows it again; its runtime says so again
        eventually(lambda: real.differences() == [], 30)
        one.command("ping", "-c3", "-i0.2", "-W2", later[0]["address"].removesuffix("/32"))
