"""The ways between two pods on two nodes, each next to the same wired by hand with `ip`; and a whole pool switched.

iperf3 runs over the one topology in turn, ours and the yardstick paired in each round, so that the noise of a shared
machine meets both; the figure is the median of the paired ratios.
"""

import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import replace
from ipaddress import IPv4Address
from pathlib import Path
from typing import Any

from felixlite.addresses import Prefix
from felixlite.ipip.plan import Carrier
from felixlite.kernel.host import Host
from felixlite.kernel.routes import Routes
from felixlite.model.inside import Block
from felixlite.plan import NodePlanner, Surroundings
from felixlite.reconcile import Reconciler
from felixlite.snapshot import LinkState, Put, Snapshot, fold
from tests.support.netns import Namespace, namespace
from tests.support.overlays import node, pool
from tests.support.stations import Lan, stations
from tests.vm import guest

PAIRS = 5
SECONDS = "1"
GUEST_PAIRS, GUEST_PATIENCE = 10, 170.0
BLOCKS = 5_000
OTHERS = 20  # nodes that the blocks are spread over


def modes(**more: str) -> Any:
    return pool("10.65.0.0/16", **more)


@contextmanager
def listening(lan: Lan) -> Iterator[None]:
    """iperf3 waits for one client in the second node's pod."""
    with lan.pods["n2"].process("iperf3", "-s", "-1", stdout=-3) as server:
        for _ in range(50):
            if ":5201" in lan.pods["n2"].command("ss", "-ltn"):
                break
            time.sleep(0.05)
        yield
        server.wait(10)


def gigabits(lan: Lan) -> float:
    """One TCP stream from pod to pod."""
    with listening(lan):
        sent = ("iperf3", "-J", "-A", "0,1", "-t", SECONDS, "-c", lan.pod_address("n2"))  # a core for each end
        told = json.loads(lan.pods["n1"].command(*sent))
    return float(told["end"]["sum_received"]["bits_per_second"]) / 1e9


@contextmanager
def by_hand(lan: Lan, way: str = "native") -> Any:
    """The same path as an administrator would wire it; ours is moved out of the way meanwhile."""
    ends = [("n1", 1, 2), ("n2", 2, 1)]
    for name, own, other in ends:
        ip = lan.spaces[name].ip
        via = f"via 192.168.50.{other} dev eth0"
        if way == "ipip":  # to any node, by the route: one device, as ours
            ip(f"link add ip0 type ipip local 192.168.50.{own}")
            ip("link set ip0 mtu 1480 up")
            via = f"via 192.168.50.{other} dev ip0 onlink"
        if way == "ipip to one":
            ip(f"link add ip0 type ipip local 192.168.50.{own} remote 192.168.50.{other}")
            ip("link set ip0 mtu 1480 up")
            via = "dev ip0"
        if way == "vxlan":
            ip(f"link add vx0 type vxlan id 77 dstport 4788 local 192.168.50.{own} dev eth0 nolearning")
            ip(f"link set vx0 address 66:00:00:00:77:0{own} mtu 1450 up")
            ip(f"neighbour add 10.66.0.{other} dev vx0 lladdr 66:00:00:00:77:0{other} nud permanent")
            lan.spaces[name].command(
                "bridge", "fdb", "add", f"66:00:00:00:77:0{other}", "dev", "vx0", "dst", f"192.168.50.{other}"
            )
            via = f"via 10.66.0.{other} dev vx0 onlink"
        ip(f"route add 10.65.{other}.10/32 {via}")
    try:
        yield
    finally:
        for name, _, other in ends:
            lan.spaces[name].ip(f"route delete 10.65.{other}.10/32")
            if link := {"ipip": "ip0", "ipip to one": "ip0", "vxlan": "vx0"}.get(way):
                lan.spaces[name].ip(f"link delete {link}")


def paired(
    lan: Lan,
    name: str,
    ours: dict[str, str],
    yardstick: Callable[[], AbstractContextManager[Any]],
    count: int = PAIRS,
) -> dict[str, Any]:
    """`yardstick` opens the other path; nullcontext with another mode set before is a path as well.

    Who comes first takes turns, and the first pair only warms up.
    """

    def mine() -> float:
        lan.pool = modes(**ours)
        lan.converge()
        return gigabits(lan)

    def other() -> float:
        with yardstick():
            return gigabits(lan)

    figures = []
    for turn in range(count + 1):
        if turn % 2:
            figures.append((mine(), other()))
        else:
            theirs = other()
            figures.append((mine(), theirs))
    return row(name, figures[1:])


def row(name: str, figures: list[tuple[float, float]]) -> dict[str, Any]:
    mine, other = (statistics.median(column) for column in zip(*figures, strict=True))
    ratio = statistics.median(a / b for a, b in figures)
    return {"name": name, "ours": mine, "yardstick": other, "ratio": ratio, "unit": "Gbit/s"}


def throughput() -> list[dict[str, Any]]:
    with stations([Carrier.EBPF, Carrier.EBPF], modes()) as lan:
        lan.converge()

        def kernel_vxlan() -> AbstractContextManager[Any]:
            lan.pool = modes(vxlan="Always")
            lan.converge()
            return nullcontext()

        rows = [
            paired(lan, "native, against ip route", {}, lambda: by_hand(lan)),
            paired(lan, "VXLAN, against ip link add type vxlan", {"vxlan": "Always"}, lambda: by_hand(lan, "vxlan")),
            paired(lan, "IPIP by eBPF, against our VXLAN", {"ipip": "Always"}, kernel_vxlan),
        ]
    with stations([Carrier.USER_SPACE, Carrier.USER_SPACE], modes(ipip="Always")) as lan:
        lan.converge()
        figures = [(gigabits(lan), 0.5) for _ in range(PAIRS)]
    return [*rows, row("IPIP in user space, against the goal", figures)]


# -- in the guest, whose kernel has ipip ------------------------------------------------------------------------------


def kernels_ipip() -> list[dict[str, Any]]:
    """Guests are noisy: many short pairs."""
    with tempfile.TemporaryDirectory(prefix="guest-") as folder:
        job = Path(folder)
        done = guest.run([sys.executable, "-m", "bench.overlay"], job, {"PYTHONDONTWRITEBYTECODE": "1"}, GUEST_PATIENCE)
        assert done.code == 0, done.output
        found: list[dict[str, Any]] = json.loads((job / "rows").read_text())
        return found


def in_guest() -> None:
    subprocess.run(["modprobe", "ipip"], check=True)
    with stations([Carrier.KERNEL, Carrier.KERNEL], modes(ipip="Always")) as lan:
        lan.converge()
        rows = [
            paired(lan, f"the kernel's ipip in a guest, against {name}", {"ipip": "Always"}, path, GUEST_PAIRS)
            for name, path in (
                ("a device to any node", lambda: by_hand(lan, "ipip")),
                ("a device to that node", lambda: by_hand(lan, "ipip to one")),
            )
        ]
    (guest.JOB / "rows").write_text(json.dumps(rows))


# -- a pool switched -------------------------------------------------------------------------------------------------


def crowd() -> Snapshot:
    """This node, and 5,000 blocks of others."""
    accepts = frozenset({"native", "ipip"})
    here = node("n1", "192.168.50.1/24", ipip_address=IPv4Address("10.65.0.1"), accepts=accepts, sends=frozenset())
    others = [replace(here, name=f"n{i}", ipv4=None) for i in range(2, OTHERS + 2)]
    nodes = {"n1": here}
    for i, other in enumerate(others, 2):
        nodes[other.name] = replace(other, ipv4=node("x", f"192.168.50.{i}/24").ipv4)
    names = sorted(nodes.keys() - {"n1"})
    cidrs = [Prefix.from_int((10 << 24) + (i << 6), 26, 4) for i in range(BLOCKS)]
    blocks = {cidr: Block(cidr, names[i % len(names)]) for i, cidr in enumerate(cidrs)}
    cluster = pool("10.0.0.0/8")
    links = {"eth0": LinkState("eth0", 2, "", True, 1500, ""), "tunl0": LinkState("tunl0", 3, "tun", True, 1480, "")}
    subnet = Prefix.parse("192.168.50.0/24")
    return Snapshot(
        "n1",
        pools={"p": cluster},
        nodes=nodes,
        blocks=blocks,
        links=links,
        link_addresses={("eth0", "192.168.50.1/24"): subnet},
    )


def prepared(net: Namespace) -> None:
    net.ip("link add eth0 type bridge")
    net.ip("link set eth0 up")
    net.ip("address add 192.168.50.1/24 dev eth0")
    net.ip("link add tunl0 type bridge")  # the routes' cost does not depend on what carries them
    net.ip("link set tunl0 up")


def switched() -> dict[str, Any]:
    """From the edit's arrival to the last route in the kernel: fold, plan, write."""
    took = []
    with namespace("fo-bench") as net:
        prepared(net)
        with Host(net.fd) as host:
            planner, reconciler = NodePlanner(Surroundings()), Reconciler([Routes(host)])
            known = crowd()
            reconciler.converge(planner(known, 0.0).tables, 0.0, may_delete=True)
            for number, mode in enumerate([{"ipip": "Always"}, {}] * PAIRS):
                began = time.perf_counter()
                known = fold(known, [Put("pools", "p", pool("10.0.0.0/8", **mode))])
                outcome = reconciler.converge(planner(known, float(number)).tables, float(number), may_delete=True)
                took.append(time.perf_counter() - began)
                assert (outcome["routes"].written, outcome["routes"].removed) == (BLOCKS, 0), outcome["routes"]
    mine = statistics.median(took)
    return {
        "name": f"{BLOCKS} routes switched in one round",
        "ours": mine,
        "yardstick": 0.5,
        "ratio": 0.5 / mine,
        "unit": "s",
    }


def main() -> list[dict[str, Any]]:
    rows = [switched(), *throughput(), *kernels_ipip()]
    for found in rows:
        print(
            f"{found['name']:42} {found['ours']:8.3f} {found['yardstick']:8.3f} {found['unit']:6} x{found['ratio']:.2f}"
        )
    return rows


if __name__ == "__main__":
    in_guest()
