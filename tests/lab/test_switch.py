"""An IPPool's encapsulation changed under traffic, with real agents: nothing is lost, in any direction."""

import json
import os
import re
import signal
from contextlib import closing, contextmanager
from ipaddress import ip_network

import pytest

from felixlite.datastore import connect
from felixlite.datastore.store import Key
from felixlite.errors import FelixliteError
from felixlite.lab import world
from felixlite.lab.traffic import Traffic
from felixlite.lab.world import within

IPIP, CROSS = {"ipipMode": "Always", "vxlanMode": "Never"}, {"ipipMode": "CrossSubnet", "vxlanMode": "Never"}
NATIVE, VXLAN = {"ipipMode": "Never", "vxlanMode": "Never"}, {"ipipMode": "Never", "vxlanMode": "Always"}
VXLAN_CROSS = {"ipipMode": "Never", "vxlanMode": "CrossSubnet"}
RING = [IPIP, CROSS, NATIVE, VXLAN]
NODES = ("n1", "n2", "n3")


def to_blocks(lab, node):
    """The routes of a node to the blocks that the others' pods are in; whatever else BGP tells is no matter here."""
    table = world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine(node).namespace)
    blocks = {block_of(pod) for pod in lab.pods() if pod.node != node}
    return [line for line in table.splitlines() if line.split()[0] in blocks and " via " in line]


def edit(lab, mode):
    """What `felixlite patch` writes; starting a process for it takes longer than the whole switch."""

    def write():
        with closing(connect(lab.store_url)) as store:
            entry = store.get(Key("IPPool", "default-ipv4-ippool"))
            store.update(entry.key, {**entry.document, "spec": {**entry.document["spec"], **mode}}, entry.revision)

    within(lab.topology.switch, write)


def has_moved(lab, node, mode):
    """To each of the others as the mode says, and not merely in one of the ways that it has."""
    through = {line.split()[0]: line for line in to_blocks(lab, node)}
    wanted = {block_of(pod): way(lab, node, pod.node, mode) for pod in lab.pods() if pod.node != node}
    return through.keys() == wanted.keys() and all(f" dev {wanted[block]} " in f"{through[block]} " for block in wanted)


def way(lab, here, there, mode):
    """The link that leads to another node's pods."""
    near = lab.machine(here).ports[0].bridge == lab.machine(there).ports[0].bridge
    through = {"tunl0": mode["ipipMode"], "vxlan.calico": mode["vxlanMode"]}
    return next(
        (link for link, when in through.items() if when == "Always" or (when == "CrossSubnet" and not near)), "eth0"
    )


def block_of(pod):
    return str(ip_network(f"{pod.address}/26", strict=False))


def switched(lab, mode):
    edit(lab, mode)
    try:
        for node in NODES:
            world.wait_for(lambda node=node: has_moved(lab, node, mode), f"{node} to move to {mode}", 60.0)
    except FelixliteError as error:
        pytest.fail(f"{error}\n{each_nodes_account(lab)}")


def each_nodes_account(lab):
    """What there is to know when a switch does not come about."""
    return "\n\n".join(account(lab, node) for node in NODES)


def account(lab, node):
    routes = world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine(node).namespace)
    log = (lab.directory / f"{node}.log").read_text().splitlines()[-30:]
    try:
        known = lab.status(node)
        status = {part: known[part] for part in ("pid", "degraded", "notes", "sources", "rounds")}
        said = json.loads(lab.felixlite("get", "node", node, "-o", "json"))
        told = {"spec": said["spec"], "status": said.get("status")}
    except (FelixliteError, OSError) as error:
        status = told = str(error)
    return "\n".join([f"--- {node}", f"status: {status}", f"Node: {told}", routes, *log])


@pytest.fixture
def crossing(lab):
    """CrossSubnet before and afterwards."""
    yield lab
    switched(lab, CROSS)


@contextmanager
def nothing_lost(lab):
    """Datagrams and held TCP connections between all pods, and none of them may suffer."""
    with Traffic(lab.pod_places(), hold=True, patience=10.0) as flowing:
        yield
    assert [str(missing) for missing in flowing.missing] == []
    assert flowing.broken == []
    assert flowing.sent > 1000


def test_twenty_switches_around_the_ring_lose_nothing(crossing):
    with nothing_lost(crossing):
        for number in range(20):
            switched(crossing, RING[number % 4])


def test_a_switch_with_an_agent_killed_in_the_middle_loses_nothing(crossing):
    with nothing_lost(crossing):
        switched(crossing, VXLAN)
        edit(crossing, IPIP)
        world.signal_and_wait(int(crossing.status("n2")["pid"]), signal.SIGKILL)
        crossing.start_agent(crossing.machine("n2"))
        crossing.wait_for_agent(crossing.machine("n2"))
        switched(crossing, IPIP)


def test_a_node_that_is_slow_by_five_seconds_is_waited_for_and_nothing_is_lost(crossing):
    """Its agent stands still: it neither hears of the edit nor says what it accepts."""
    switched(crossing, IPIP)
    world.wait_for(lambda: "vxlan" not in accepted_by(crossing, "n3"), "n3 to accept no VXLAN", 30.0)
    slow = int(crossing.status("n3")["pid"])
    with nothing_lost(crossing):
        os.kill(slow, signal.SIGSTOP)
        try:
            edit(crossing, VXLAN)
            for node in ("n1", "n2"):
                world.wait_for(lambda node=node: waits_for_n3(crossing, node) >= 5, f"{node} to wait for n3", 40.0)
        finally:
            os.kill(slow, signal.SIGCONT)
        switched(crossing, VXLAN)


def accepted_by(lab, node):
    found = json.loads(lab.felixlite("get", "node", node, "-o", "json"))
    return found["status"]["accepts"]


def waits_for_n3(lab, node):
    """Since how many seconds, by its own account."""
    notes = "\n".join(lab.status(node)["notes"])
    told = re.search(r"to n3 until it says .* \((\d+) of \d+ s\)", notes)
    return int(told[1]) if told else 0
