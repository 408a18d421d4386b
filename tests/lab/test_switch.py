"""An IPPool's encapsulation changed under traffic, with real agents: nothing is lost, in any direction."""

import json
import os
import signal

import pytest

from felixlite.lab import world
from felixlite.lab.demo import Traffic
from felixlite.lab.lab import POOL

IPIP, CROSS = {"ipipMode": "Always", "vxlanMode": "Never"}, {"ipipMode": "CrossSubnet", "vxlanMode": "Never"}
NATIVE, VXLAN = {"ipipMode": "Never", "vxlanMode": "Never"}, {"ipipMode": "Never", "vxlanMode": "Always"}
RING = [IPIP, CROSS, NATIVE, VXLAN]


def to_blocks(lab, node):
    """The routes of a node to the blocks of others."""
    table = world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine(node).namespace)
    beginning = ".".join(POOL.split(".")[:2])
    return [line for line in table.splitlines() if line.startswith(beginning) and " via " in line]


def edit(lab, mode):
    lab.felixlite("patch", "ippool", "default-ipv4-ippool", "-p", json.dumps({"spec": mode}))


def has_moved(lab, node, mode):
    through = [next((d for d in ("tunl0", "vxlan.calico") if d in line), "native") for line in to_blocks(lab, node)]
    wanted = {"Always": {"tunl0"}, "CrossSubnet": {"tunl0", "native"}, "Never": {"native"}}[mode["ipipMode"]]
    if mode["vxlanMode"] == "Always":
        wanted = {"vxlan.calico"}
    return len(through) == 2 and set(through) <= wanted


def switched(lab, mode):
    edit(lab, mode)
    for node in ("n1", "n2", "n3"):
        world.wait_for(lambda node=node: has_moved(lab, node, mode), f"{node} to move to {mode}", 20.0)


@pytest.fixture
def crossing(lab):
    """CrossSubnet before and afterwards."""
    yield lab
    switched(lab, CROSS)


def test_twenty_switches_around_the_ring_lose_no_packet(crossing):
    with Traffic(crossing.pod_places()) as flowing:
        for number in range(20):
            switched(crossing, RING[number % 4])

    assert flowing.lost == 0


def test_a_switch_with_an_agent_killed_in_the_middle_loses_no_packet(crossing):
    with Traffic(crossing.pod_places()) as flowing:
        switched(crossing, VXLAN)
        edit(crossing, IPIP)
        world.signal_and_wait(int(crossing.status("n2")["pid"]), signal.SIGKILL)
        crossing.start_agent(crossing.machine("n2"))
        crossing.wait_for_agent(crossing.machine("n2"))
        switched(crossing, IPIP)

    assert flowing.lost == 0


def test_a_node_that_is_slow_is_waited_for_and_nothing_is_lost(crossing):
    """Its agent stands still for five seconds: it neither hears of the edit nor says what it accepts."""
    switched(crossing, IPIP)
    slow = int(crossing.status("n3")["pid"])
    with Traffic(crossing.pod_places()) as flowing:
        os.kill(slow, signal.SIGSTOP)
        try:
            edit(crossing, VXLAN)
            world.wait_for(
                lambda: "to n3 until it says" in str(crossing.status("n1")["notes"]), "n1 to say whom it waits for", 5.0
            )
        finally:
            os.kill(slow, signal.SIGCONT)
        switched(crossing, VXLAN)

    assert flowing.lost == 0
