"""BGP at BIRD's pace: from the router's session to the last route in the kernel, ours against BIRD as the receiver.

Both receivers get the same routes from the same BIRD over the same wire, one after the other.  Ours is everything that
the agent does: the exabgp child, the RIB, the planner, the routes table.  Time runs from the moment in which the router
says its session was established; it ends with the last route in the kernel's trie.
"""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from datetime import datetime
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from felixlite.addresses import Prefix
from felixlite.bgp import announcing, plan
from felixlite.bgp.rows import Announcement, AnnouncementKey
from felixlite.lab import routers
from felixlite.model.effective import DEFAULTS
from felixlite.model.inside import Affinity, AffinityState, Node, Pool
from tests.support.netns import Namespace, namespace
from tests.support.speaking import AS, HERE, Rack, agent, rack

SIZES = (10_000, 50_000, 200_000)
ANNOUNCED = 10_000
ROUTER, RECEIVER = "10.99.0.101", "10.99.0.102"


def prefixes(count: int) -> list[Prefix]:
    return [Prefix.from_int((20 << 24) + (i << 6), 26, 4) for i in range(count)]


def announcer(count: int, peers: tuple[str, ...]) -> str:
    statics = "\n".join(f"route {prefix} blackhole;" for prefix in prefixes(count))
    sessions = "\n".join(
        f"""protocol bgp p{i} {{ disabled; local {ROUTER} as {AS}; neighbor {peer} as {AS}; hold time 90;
        connect retry time 1; connect delay time 1; ipv4 {{ import all; export where source = RTS_STATIC; }}; }}"""
        for i, peer in enumerate(peers)
    )
    return f"router id {ROUTER};\nprotocol device {{}}\nprotocol static s1 {{ ipv4; {statics} }}\n{sessions}\n"


def receiver() -> str:
    return f"""router id {RECEIVER};
protocol device {{}}
protocol direct {{ ipv4; }}
protocol kernel {{ ipv4 {{ import none; export where source = RTS_BGP; }}; }}
protocol bgp r1 {{ passive; local {RECEIVER} as {AS}; neighbor {ROUTER} as {AS}; hold time 90;
  ipv4 {{ import all; export none; }}; }}
"""


def in_kernel(space: Namespace) -> int:
    """How many prefixes the main table holds."""
    text = space.run(Path("/proc/thread-self/net/fib_triestat").read_text)
    found = re.search(r"Main:.*?Prefixes:\s+(\d+)", text, re.DOTALL)
    return int(found[1]) if found else 0


def established(router: routers.Router, protocol: str) -> float:
    """The moment at which the router says its session came up; it tells milliseconds."""
    while True:
        line = next(
            line for line in router.ask("show", "protocols", protocol).splitlines() if line.startswith(protocol)
        )
        if "Established" in line:
            told = re.search(r"\d\d:\d\d:\d\d\.\d+", line)
            assert told, line
            today = datetime.now().astimezone()
            return datetime.combine(
                today.date(), datetime.strptime(told[0], "%H:%M:%S.%f").astimezone().time()
            ).timestamp()
        time.sleep(0.005)


@contextmanager
def counting(space: Namespace, wanted: int, *knock: routers.Router) -> Iterator[Callable[[], float]]:
    """Answers when the kernel had (at least, or for 0 at most a few) so many prefixes; it is watched from now on."""
    sockets = [str(router.directory / "bird.ctl") for router in knock]
    words = [sys.executable, str(Path(__file__).with_name("_counting.py")), str(wanted), *sockets]
    with space.process(*words, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"ready\n"
        yield lambda: float(process.stdout.readline())


def measured(router: routers.Router, protocol: str, space: Namespace, count: int) -> tuple[float, float]:
    """Seconds until all routes are in, and, after the router goes away, until all are out."""
    with counting(space, count, router) as reached:
        router.ask("enable", protocol)
        came = reached() - established(router, protocol)
    time.sleep(1)
    with counting(space, 0) as reached:
        began = time.time()
        router.ask("disable", protocol)
        return came, reached() - began


def learned(count: int) -> list[dict[str, Any]]:
    with rack("fb-bench", routers=2) as it:
        router = it.router(1, "bird", announcer(count, (str(HERE), RECEIVER)))
        it.router(2, "bird", receiver())
        theirs = measured(router, "p1", it.others[1], count)
        with agent(it):
            it.peer(ROUTER, passive=True, hold_time=90)
            ours = measured(router, "p0", it.node, count)
    return [
        row(f"{count:,} routes learned, to the last in the kernel", ours[0], theirs[0], "s"),
        row(f"{count:,} routes lost, to the last out of the kernel", ours[1], theirs[1], "s"),
    ]


def one_more(count: int) -> list[dict[str, Any]]:
    """One more prefix on top of many: until it is in the kernel, and our CPU for it."""
    with rack("fb-bench", routers=1) as it:
        router = it.router(
            1,
            "bird",
            announcer(count, (str(HERE),)) + "protocol static s2 { disabled; ipv4; route 99.0.0.0/24 blackhole; }",
        )
        with agent(it):
            it.peer(ROUTER, passive=True, hold_time=90)
            with counting(it.node, count, router) as reached:
                router.ask("enable", "p0")
                reached()
            time.sleep(2)
            with counting(it.node, in_kernel(it.node) + 1, router) as reached:
                cpu, began = time.process_time(), time.time()
                router.ask("enable", "s2")
                came = reached() - began
            used = time.process_time() - cpu
    return [
        row(f"one more on top of {count:,}", came * 1e3, 50.0, "ms (yardstick: the goal)"),
        row("... CPU of the agent, with the measuring", used * 1e3, 10.0, "ms (yardstick: the goal)"),
    ]


def announced() -> list[dict[str, Any]]:
    with rack("fb-bench", routers=1) as it:
        router = it.router(
            1, "bird", announcer(0, (str(HERE),)).replace("disabled;", "", 1).replace("s1 {", "s1 { disabled;")
        )
        it.peer(ROUTER)
        it.up(ROUTER)
        rows = {AnnouncementKey(ROUTER, prefix): Announcement(local_preference=100) for prefix in prefixes(ANNOUNCED)}
        began = time.time()
        assert not it.speaker.announcements.upsert(rows)
        told = time.time() - began
        while f"{ANNOUNCED} of {ANNOUNCED}" not in router.ask("show", "route", "count"):
            time.sleep(0.01)
        took = time.time() - began
        print(f"   (the child took the commands in {told:.2f} s)")
    return [row(f"{ANNOUNCED:,} announcements to a router", took, 1.0, "s (yardstick: the goal)")]


def memory() -> list[dict[str, Any]]:
    count = 50_000
    with rack("fb-bench", routers=2) as it:
        for number, address in ((1, ROUTER), (2, RECEIVER)):
            text = announcer(count, (str(HERE),)).replace(ROUTER, address).replace("disabled;", "", 1)
            it.router(number, "bird", text)
        with agent(it):
            with counting(it.node, count) as reached:
                it.peer(ROUTER, RECEIVER)
                reached()
            time.sleep(2)
            child = it.speaker.child
            assert child is not None
            used = resident(os.getpid()) + resident(child.process.pid)
    return [
        row(
            f"{count:,} routes from 2 peers, resident memory of agent and exabgp",
            used,
            250.0,
            "MB (yardstick: the goal)",
        )
    ]


def mesh(count: int) -> list[dict[str, Any]]:
    """So many nodes on one wire, each with the sessions that the planner of the mesh wants and a block to tell."""
    nodes = {
        name: Node(name, ipv4=IPv4Interface(f"10.99.0.{number}/24"))
        for number in range(1, count + 1)
        for name in [f"n{number}"]
    }
    pool = Pool("p", Prefix.parse("20.0.0.0/8"))
    blocks = dict(zip(nodes, prefixes(count), strict=True))
    with ExitStack() as stack:
        switch = stack.enter_context(namespace("fb-mesh-s"))
        switch.ip("link add br0 type bridge")
        switch.ip("link set br0 up")
        speaking: list[Rack] = []
        for number, (name, node) in enumerate(nodes.items()):
            space = stack.enter_context(namespace(f"fb-mesh-{name}"))
            switch.ip(f"link add v{number} type veth peer name eth0 netns {space.name}")
            switch.ip(f"link set v{number} up master br0")
            space.ip("link set eth0 up")
            space.ip(f"addr add {node.ipv4} dev eth0")
            began = time.time()
            it = Rack(space, [], Path(stack.enter_context(TemporaryDirectory(prefix="fb-"))), stack)
            stack.callback(it.stop)
            rows = plan.peers(node, nodes, {}, DEFAULTS, {}, {}).rows
            assert not it.speaker.peers.upsert(rows)
            own = {(name, blocks[name]): Affinity(name, blocks[name], AffinityState.CONFIRMED)}
            said = announcing.announcements(node, rows, own, {}, {"p": pool}, DEFAULTS, {})
            assert not it.speaker.announcements.upsert(said)
            speaking.append(it)
        for it in speaking:
            it.until(lambda it=it: len(it.snapshot.learned) == count - 1, 120)  # type: ignore[misc]  # bound now
        took = time.time() - began
    return [
        row(
            f"mesh of {count} nodes, from the last one's start until all know all",
            took,
            20.0,
            "s (yardstick: the goal)",
        )
    ]


def many_peers(count: int) -> list[dict[str, Any]]:
    """A reload of exabgp with so many neighbours, none of whom is there."""
    with rack("fb-bench", routers=0) as it:
        assert not it.peer(*(str(IPv4Address("10.99.16.0") + number) for number in range(count)))
        began = time.time()
        assert not it.peer(ROUTER)
        took = time.time() - began
    return [row(f"one more peer on top of {count:,}", took, 1.0, "s (yardstick: our own limit)")]


def resident(pid: int) -> float:
    found = re.search(r"VmRSS:\s+(\d+)", Path(f"/proc/{pid}/status").read_text())
    return int(found[1]) / 1024 if found else 0.0


def row(name: str, ours: float, yardstick: float, unit: str) -> dict[str, Any]:
    return {"name": name, "ours": ours, "yardstick": yardstick, "ratio": ours / yardstick, "unit": unit}


def main() -> list[dict[str, Any]]:
    found = announced()
    found += memory()
    found += one_more(50_000)
    found += many_peers(1_000)
    found += mesh(30)
    for size in SIZES:
        found += learned(size)
    for r in found:
        print(f"{r['name']:<70} {r['ours']:8.2f} {r['yardstick']:8.2f} {r['unit']:<4} {r['ratio']:5.2f} x")
    return found


if __name__ == "__main__":
    main()
