"""Twenty switches of a pool's encapsulation under 1,000 datagrams a second between every pair of pods, with real agents.

Then with an agent killed in the middle of each, and with a node that is slow by five seconds.  What is to be lost is
nothing, no datagram in either direction and no connection; a row shows the rate that this machine kept up.
"""

import json
import os
import signal
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from felixlite.datastore import connect
from felixlite.datastore.store import Key
from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Machine, Topology
from felixlite.lab.traffic import Traffic
from felixlite.lab.world import within

RATE = 1000.0
IN_EACH = 500  # datagrams of every pair in each mode, once all nodes have moved
SLOW = 5.0
RING = [("Always", "Never"), ("CrossSubnet", "Never"), ("Never", "Never"), ("Never", "Always")]


def edit(lab: Lab, ipip: str, vxlan: str) -> None:
    def write() -> None:
        with closing(connect(lab.store_url)) as store:
            entry = store.get(Key("IPPool", "default-ipv4-ippool"))
            assert entry is not None
            spec = {**entry.document["spec"], "ipipMode": ipip, "vxlanMode": vxlan}
            store.update(entry.key, {**entry.document, "spec": spec}, entry.revision)

    within(lab.topology.switch, write)


def restarted(lab: Lab) -> None:
    """kill -9 in the middle of a switch, and another agent at once."""
    n2 = lab.machine("n2")
    world.signal_and_wait(int(lab.status("n2")["pid"]), signal.SIGKILL)
    lab.start_agent(n2)
    lab.wait_for_agent(n2)


def slow(lab: Lab) -> None:
    """An agent that stands still for five seconds: it hears of no edit and says nothing."""
    pid = int(lab.status("n3")["pid"])
    os.kill(pid, signal.SIGSTOP)
    time.sleep(SLOW)
    os.kill(pid, signal.SIGCONT)


def nothing(_: Lab) -> None:
    pass


def switches(lab: Lab, count: int, meanwhile: Callable[[Lab], None]) -> Traffic:
    """`meanwhile` happens right after each edit."""
    with Traffic(lab.pod_places(), hold=True, patience=10.0, rate=RATE) as flowing:
        for number in range(count):
            edit(lab, *RING[number % len(RING)])
            meanwhile(lab)
            world.wait_for(lambda number=number: has_moved(lab, *RING[number % len(RING)]), "the switch", 60.0)
            enough = flowing.rounds + IN_EACH
            world.wait_for(lambda enough=enough: flowing.rounds >= enough, "the traffic", 60.0)
    return flowing


def has_moved(lab: Lab, ipip: str, vxlan: str) -> bool:
    """From every node to the pods of every other."""
    nodes = {machine.name: machine for machine in lab.topology.node_machines()}
    return all(
        way(nodes[here].namespace, pod.address) == link(nodes[here], nodes[pod.node], ipip, vxlan)
        for pod in lab.pods()
        for here in nodes
        if here != pod.node
    )


def way(namespace: str, address: str) -> str:
    (told,) = json.loads(world.run(["ip", "-j", "route", "get", address], namespace=namespace))
    return str(told["dev"])


def link(here: Machine, there: Machine, ipip: str, vxlan: str) -> str:
    if here.ports[0].address.network == there.ports[0].address.network and "CrossSubnet" in (ipip, vxlan):
        return "eth0"
    return "vxlan.calico" if vxlan != "Never" else "tunl0" if ipip != "Never" else "eth0"


def rows(name: str, flowing: Traffic) -> list[dict[str, Any]]:
    rate = flowing.sent / flowing.seconds / len(flowing.pairs)
    print(f"{name}: {flowing.sent} datagrams, {rate:.0f} a second and pair; {len(flowing.pairs)} connections held")
    for missing in flowing.missing[:20]:
        print(f"lost: {missing}")
    for broken in flowing.broken:
        print(f"broken: {broken}")
    gone, broken = len(flowing.missing), len(flowing.broken)
    return [
        {"name": f"{name}: datagrams lost", "ours": gone, "yardstick": 0.0, "ratio": float(gone == 0), "unit": ""},
        {"name": f"{name}: connections broken", "ours": broken, "yardstick": 0.0, "ratio": float(broken == 0), "unit": ""},
        {"name": f"{name}: a second and pair", "ours": rate, "yardstick": RATE, "ratio": rate / RATE, "unit": "1/s"},
    ]  # fmt: skip


def main() -> list[dict[str, Any]]:
    lab = Lab(Topology(name=f"b{os.getpid() % 1_000_000}", pods=1, settings={"FELIXLITE_WAITFORACCEPTS": "60"}))
    try:
        lab.up()
        return [
            *rows("20 switches", switches(lab, 20, nothing)),
            *rows("4 switches, an agent killed in each", switches(lab, 4, restarted)),
            *rows("2 switches, a node slow by 5 s in each", switches(lab, 2, slow)),
        ]
    finally:
        lab.down()
