"""The fast path with a whole agent: killed under traffic, policy that is tightened, switched off and on again.

A node with two pods, a store of files, and the agent in a process of its own, as on a machine.
"""

import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from felixlite.datastore.file import FileStore
from felixlite.datastore.store import Key
from felixlite.lab.probe import Place
from felixlite.lab.traffic import DATAGRAMS, MESSAGES, Traffic
from felixlite.policy.fastpath import TABLE
from tests.support.agent import RunningAgent
from tests.support.cni import eventually
from tests.support.netns import connect, namespace
from tests.support.offloading import PODS, SOMEBODYS, hooks_saw, past_the_hooks
from tests.support.policylab import plug
from tests.unit.policy.world import pod

API = "projectcalico.org/v3"
ADDRESSES = {"a": "10.65.0.1", "b": "10.65.0.2"}
PATIENCE = 300.0  # the processor is emulated


class Node:
    """A machine with two pods, what is configured, and the agent that makes it so."""

    def __init__(self, stack: ExitStack, folder: Path) -> None:
        self.space = stack.enter_context(namespace("ff-n1"))
        self.pods = {name: stack.enter_context(namespace(f"ff-{name}")) for name in ADDRESSES}
        connect(self.space, "eth0", stack.enter_context(namespace("ff-out")), "eth0")
        self.space.ip("address add 192.0.2.1/24 dev eth0")
        self.space.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
        self.space.command("nft", "-f", "-", stdin=SOMEBODYS)
        self.store = FileStore(folder / "store")
        stack.callback(self.store.close)
        for name, address in ADDRESSES.items():
            plug(self.space, self.pods[name], pod(name, f"{address}/32"))
            self.space.ip(f"route delete {address}/32")  # the agent's now
            self.put("WorkloadEndpoint", f"n1-k8s-{name}-eth0", endpoint(name, address), "default")
        self.put("IPPool", "pool", {"cidr": PODS})
        self.fast_path("All")
        self.allow(DATAGRAMS, MESSAGES)
        self.agent = RunningAgent(self.store.address, folder, "n1")
        stack.callback(self.agent.stop)
        self.start()

    def start(self) -> None:
        self.space.run(self.agent.start)
        self.agent.wait_until_ready(PATIENCE)

    def put(self, kind: str, name: str, spec: dict[str, Any], where: str = "") -> None:
        metadata = {"name": name, **({"namespace": where} if where else {})}
        key, document = Key(kind, name, where), {"apiVersion": API, "kind": kind, "metadata": metadata, "spec": spec}
        there = self.store.get(key)
        self.store.update(key, document, there.revision) if there else self.store.create(key, document)

    def fast_path(self, setting: str) -> None:
        self.put("FelixConfiguration", "default", {"nftablesFlowTableOffload": setting, "nftablesMode": "Enabled"})

    def allow(self, *ports: int) -> None:
        rules = [
            {"action": "Allow", "protocol": protocol, "destination": {"ports": [*ports]}} for protocol in ("TCP", "UDP")
        ]
        self.put("NetworkPolicy", "known", {"ingress": rules, "egress": [{"action": "Allow"}]}, "default")

    def rules(self) -> list[str]:
        """Each with its handle, which another rule of the same text would not have."""
        return [self.listed("ip felixlite"), self.listed("ip6 felixlite"), self.listed(f"inet {TABLE}")]

    def listed(self, table: str) -> str:
        return self.space.command("nft", "-a", "-s", "list", "table", *table.split())

    def has_fast_path(self) -> bool:
        return TABLE in self.space.command("nft", "list", "tables")


def endpoint(name: str, address: str) -> dict[str, Any]:
    where = {"node": "n1", "orchestrator": "k8s", "pod": name, "endpoint": "eth0"}
    return {**where, "interfaceName": f"cali{name}", "ipNetworks": [f"{address}/32"]}


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    with ExitStack() as stack:
        yield Node(stack, tmp_path_factory.mktemp("node"))


@contextmanager
def traffic(node: Node) -> Iterator[None]:
    """Datagrams and a held connection, both ways; afterwards nothing may be missing."""
    places = [Place(name, space.name, ADDRESSES[name], "n1") for name, space in node.pods.items()]
    with Traffic(places, hold=True, rate=50, patience=10.0) as flowing:
        yield
    assert flowing.sent > 50
    assert (flowing.missing, flowing.broken) == ([], [])


def test_an_agent_that_is_killed_leaves_the_fast_path_and_the_next_one_rewrites_nothing(node: Node) -> None:
    past = partial(past_the_hooks, node.space)
    node.fast_path("All")
    with traffic(node):
        eventually(past, PATIENCE)
        before = node.rules()
        node.agent.kill()
        assert past()
        node.start()
        assert node.rules() == before
        eventually(past, PATIENCE)
        node.fast_path("Disabled")
        eventually(lambda: not node.has_fast_path(), PATIENCE)
        assert not past()
        node.fast_path("All")
        eventually(past, PATIENCE)


class Talk:
    """A TCP connection from a to b and what it carries."""

    def __init__(self, node: Node) -> None:
        listening = node.pods["b"].run(socket.create_server, (ADDRESSES["b"], PORT))
        with listening:
            self.client = node.pods["a"].run(socket.create_connection, (ADDRESSES["b"], PORT), 10)
            self.server, _ = listening.accept()

    def exchange(self, patience: float = 10.0) -> bool:
        for one, other in ((self.client, self.server), (self.server, self.client)):
            other.settimeout(patience)
            one.send(b"x")
            try:
                other.recv(1)
            except TimeoutError:
                return False
        return True

    def close(self) -> None:
        self.client.close()
        self.server.close()


PORT = MESSAGES + 1


def went_past_the_hooks(node: Node, talk: Talk) -> bool:
    """What was sent, and it did arrive."""
    hooks_saw(node.space)
    assert talk.exchange()
    return hooks_saw(node.space) == 0


def answers(node: Node) -> bool:
    """Whether b can be spoken to anew."""
    with node.pods["b"].run(socket.create_server, (ADDRESSES["b"], PORT)):
        try:
            node.pods["a"].run(socket.create_connection, (ADDRESSES["b"], PORT), 1).close()
        except TimeoutError:
            return False
    return True


@pytest.mark.parametrize("setting", ["All", "Disabled"])
def test_a_policy_that_is_tightened_denies_new_connections_with_the_fast_path_as_without(
    node: Node, setting: str
) -> None:
    """Those that run go on in both cases, until connection tracking is told to forget them."""
    node.fast_path(setting)
    eventually(lambda: node.has_fast_path() == (setting == "All"), PATIENCE)
    node.allow(PORT)
    eventually(lambda: answers(node), PATIENCE)
    talk = Talk(node)
    try:
        eventually(lambda: went_past_the_hooks(node, talk) is (setting == "All"), PATIENCE)
        node.allow(DATAGRAMS, MESSAGES)
        eventually(lambda: f"dport {PORT} " not in node.listed("ip felixlite"), PATIENCE)
        assert not answers(node)
        eventually(lambda: went_past_the_hooks(node, talk) is (setting == "All"), PATIENCE)
        node.space.command("conntrack", "-D", "-p", "tcp", "--dport", str(PORT))
        assert not talk.exchange(2.0)
    finally:
        talk.close()
