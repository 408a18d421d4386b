"""The plugin against a real agent with etcd: what must be the same before and after a thousand pods, or two hundred kills.

FELIXLITE_CYCLES and FELIXLITE_KILLS make the runs longer; the numbers of the issue are 1000 and 200.
"""

import json
import os
import random
import shutil
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from felixlite.kernel.namespaces import visiting
from tests.support.agent import RunningAgent, agent
from tests.support.cni import eventually, pod
from tests.support.etcd import Etcd, etcd
from tests.support.netns import Namespace, namespace

CYCLES = int(os.environ.get("FELIXLITE_CYCLES", "30"))
KILLS = int(os.environ.get("FELIXLITE_KILLS", "6"))


@dataclass
class RealNode:
    net: Namespace
    folder: Path
    agent: RunningAgent
    etcd: Etcd
    plugin: Path

    def run(self, command: str, space: Namespace, container: str) -> dict[str, Any]:
        config = {"cniVersion": "1.1.0", "name": "net", "type": "felixlite", "socket": str(self.folder / "cni.sock")}
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(space.path),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={container}",
        }
        done = subprocess.run(
            [str(self.plugin)], input=json.dumps(config), env=environment, capture_output=True, text=True, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        assert (done.returncode != 0) == ("code" in answer), done
        return answer

    def stored(self, prefix: str) -> int:
        words = ["etcdctl", f"--endpoints=http://{self.etcd.endpoint}", "get", prefix, "--prefix", "--keys-only"]
        return len(self.net.command(*words).split())

    def facts(self) -> dict[str, int]:
        """All that an attachment leaves somewhere, counted."""
        return {
            "links": sum(1 for link in self.net.show("link") if link["ifname"].startswith("cali")),
            "routes": len(self.net.show("route show table all")),
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


def test_an_agent_that_is_killed_at_any_moment_loses_nothing(real: RealNode) -> None:
    before = real.facts()
    stopped = threading.Event()
    failures: list[str] = []

    def churn(number: int) -> None:
        """As a kubelet does it: an ADD that fails is followed by a DEL, and by another sandbox."""
        rounds = 0
        while not stopped.is_set():
            rounds += 1
            with pod("fc") as space:
                container = f"p{number}r{rounds}"
                added = real.run("ADD", space, container)
                stopped.wait(0.2 if "code" in added else random.random() * 0.05)
                deleted = real.run("DEL", space, container)
                if deleted:
                    failures.append(json.dumps(deleted))

    threads = [threading.Thread(target=churn, args=(number,)) for number in range(3)]
    for thread in threads:
        thread.start()
    for _ in range(KILLS):
        time.sleep(random.random() * 0.6)
        real.agent.kill()
        with visiting(real.net.fd):
            real.agent.start()
        with suppress(TimeoutError):
            real.agent.wait_until_ready()
    stopped.set()
    for thread in threads:
        thread.join()
    assert failures == []
    real.agent.wait_until_ready()
    eventually(lambda: _without_routes(real.facts()) == _without_routes(before), 40)


def _without_routes(facts: dict[str, int]) -> dict[str, int]:
    """Blocks that were claimed meanwhile stay the node's, with their blackholes."""
    return {name: count for name, count in facts.items() if name not in ("routes", "rules and sets")}
