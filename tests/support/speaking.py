"""A Speaker with its exabgp child in a namespace, and routers in others on the same wire.

with rack("fb-up", routers=1) as rack:
    rack.router(1, "bird", TEXT)              # at 10.99.0.101, in a namespace of its own
    rack.peer("10.99.0.101")                  # rows for the Speaker at 10.99.0.1
    rack.until(lambda: rack.state("10.99.0.101") == "Established")
"""

import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, ip_address
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from felixlite.addresses import Prefix
from felixlite.bgp.exabgp import Speaker
from felixlite.bgp.rows import Announcement, AnnouncementKey, Peer
from felixlite.kernel.host import Host
from felixlite.kernel.routes import Routes
from felixlite.lab import routers
from felixlite.loop import Loop
from felixlite.model.inside import Node
from felixlite.plan import NodePlanner, Surroundings
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Change, Learned, LinkState, Snapshot, fold
from tests.support.netns import Namespace, namespace

HERE = IPv4Address("10.99.0.1")
AS = 64512


class Rack:
    def __init__(self, node: Namespace, others: Sequence[Namespace], directory: Path, stack: ExitStack) -> None:
        self.node, self.others, self.directory, self.stack = node, others, directory, stack
        self.snapshot = Snapshot("n1")
        self.history: list[Change] = []
        self.touched: list[str] = []
        self.news = threading.Condition()
        self.forward: Callable[[Sequence[Change]], None] | None = None
        self.start()

    # -- the speaker

    def start(self) -> None:
        self.speaker = Speaker(self.directory / "run", self._hear, self.touched.append)
        self.thread = threading.Thread(target=self.node.run, args=(self.speaker.run,))
        self.thread.start()
        self.until(lambda: self.speaker.child is not None)

    def stop(self) -> None:
        self.speaker.stop()
        self.thread.join()

    def _hear(self, changes: Sequence[Change]) -> None:
        with self.news:
            self.history += changes
            self.snapshot = fold(self.snapshot, changes)
            if self.forward is not None:
                self.forward(changes)
            self.news.notify_all()

    def until(self, condition: Callable[[], Any], seconds: float = 30.0) -> float:
        began = time.monotonic()
        while not condition():
            assert time.monotonic() - began < seconds, f"not within {seconds} s: {self.snapshot.sessions}"
            with self.news:
                self.news.wait(0.05)
        return time.monotonic() - began

    def peer(self, *addresses: str, **fields: Any) -> dict[str, Exception]:
        given = {"local_as": AS, "peer_as": AS, "local_address": HERE, "router_id": HERE, "hold_time": 9, **fields}
        return dict(self.speaker.peers.upsert({address: Peer(**given) for address in addresses}))

    def change(self, address: str, **fields: Any) -> Mapping[str, Exception]:
        return self.speaker.peers.upsert({address: replace(self.speaker.peers.rows[address], **fields)})

    def announce(self, peer: str, *prefixes: str, **fields: Any) -> Mapping[AnnouncementKey, Exception]:
        row = Announcement(**fields)
        return self.speaker.announcements.upsert({AnnouncementKey(peer, Prefix.parse(p)): row for p in prefixes})

    def withdraw(self, peer: str, *prefixes: str) -> Mapping[AnnouncementKey, Exception]:
        return self.speaker.announcements.delete([AnnouncementKey(peer, Prefix.parse(p)) for p in prefixes])

    def state(self, peer: str) -> str:
        session = self.snapshot.sessions.get(peer)
        return session.state if session else ""

    def error(self, peer: str) -> str:
        session = self.snapshot.sessions.get(peer)
        return session.error if session else ""

    def up(self, *peers: str, seconds: float = 30.0) -> float:
        return self.until(lambda: all(self.state(p) == "Established" for p in peers), seconds)

    def learned(self, prefix: str) -> Learned | None:
        return self.snapshot.learned.get(Prefix.parse(prefix))

    def hops(self, prefix: str) -> list[str]:
        found = self.learned(prefix)
        return [str(hop) for hop in found.hops] if found else []

    # -- the routers

    def router(self, number: int, kind: Any, text: str, recovers: bool = False) -> routers.Router:
        """Router `number` (from 1) is at 10.99.0.100 + number and fd99::64 + number."""
        directory = self.directory / f"router{number}"
        router = routers.start(kind, self.others[number - 1].name, directory, text, recovers=recovers)
        self.stack.callback(router.stop)
        return router


@contextmanager
def rack(name: str, routers: int = 1) -> Iterator[Rack]:
    with ExitStack() as stack:
        directory = Path(stack.enter_context(TemporaryDirectory(prefix="fb-", ignore_cleanup_errors=True)))
        directory.chmod(0o711)
        node = stack.enter_context(namespace(f"{name}-n"))
        node.ip("link add br0 type bridge")
        node.ip("link set br0 up")
        node.ip(f"addr add {HERE}/24 dev br0")
        node.ip("addr add fd99::1/64 dev br0 nodad", family=6)
        others = [stack.enter_context(namespace(f"{name}-r")) for _ in range(routers)]
        for number, other in enumerate(others, 1):
            node.ip(f"link add v{number} type veth peer name eth0 netns {other.name}")
            node.ip(f"link set v{number} up master br0")
            other.ip("link set eth0 up")
            other.ip(f"addr add 10.99.0.{100 + number}/24 dev eth0")
            other.ip(f"addr add fd99::{100 + number:x}/64 dev eth0 nodad", family=6)
        it = Rack(node, others, directory, stack)
        stack.callback(it.stop)
        yield it


@contextmanager
def agent(it: Rack, *more: str) -> Iterator[Loop]:
    """The core with the routes table in the node's namespace, fed by the Speaker. `more`: its other subnets, as `10.99.1.` or `fd99:1::`."""
    here = Node("n1", ipv4=IPv4Interface(f"{HERE}/24"))
    snapshot = Snapshot(
        "n1",
        nodes={"n1": here},
        links={"br0": LinkState("br0", 2, "bridge", True, 1500, "")},
        link_addresses={
            ("br0", f"{net}1/{length}"): Prefix.parse(f"{net}{'0' if length == 24 else ''}/{length}")
            for net in ("10.99.0.", *more)
            for length in [64 if ":" in net else 24]
        },
    )
    with Host(it.node.fd) as host:
        loop = Loop(snapshot, NodePlanner(Surroundings()), Reconciler([Routes(host)]), needs=("bgp",))
        it.forward = loop.put
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            yield loop
        finally:
            it.forward = None
            loop.stop()
            thread.join()


def address(number: int) -> str:
    return str(ip_address("10.99.0.100") + number)
