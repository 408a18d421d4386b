"""An agent replaced under traffic: its router helps it through (RFC 4724), so that nothing is lost in either direction.

The pool goes without tunnels here, so what crosses the subnets goes through the router, by routes that BGP told it.
"""

import json
import signal
from contextlib import contextmanager

import pytest

from felixlite.lab import world
from felixlite.lab.routers import Router
from felixlite.lab.traffic import Traffic

RATE = 1000.0  # datagrams a second in each direction: a gap of a millisecond shows
HELPS = "Neighbor graceful restart active"  # BIRD of a session that is down and whose routes it keeps


@pytest.fixture
def native(lab):
    """CrossSubnet before and afterwards."""
    encapsulated(lab, "Never", "eth0")
    yield lab
    encapsulated(lab, "CrossSubnet", "tunl0")


def encapsulated(lab, mode, link):
    change = json.dumps({"spec": {"ipipMode": mode}})
    lab.felixlite("patch", "ippool", "default-ipv4-ippool", "-p", change)
    here, there = pods(lab)
    for one, other in ((here, there), (there, here)):
        world.wait_for(lambda one=one, other=other: link == way(lab, one.node, other)["dev"], f"{one.node}: {link}", 60)


def pods(lab):
    """One of the node that is upgraded, and one of the other subnet."""
    return next(pod for pod in lab.pods() if pod.node == "n1"), next(pod for pod in lab.pods() if pod.node == "n2")


def way(lab, machine, pod):
    (found,) = json.loads(
        world.run(["ip", "-j", "route", "get", pod.address], namespace=lab.machine(machine).namespace)
    )
    return found


@contextmanager
def nothing_lost(lab):
    both = {pod.name for pod in pods(lab)}
    with Traffic([place for place in lab.pod_places() if place.name in both], patience=10.0, rate=RATE) as flowing:
        yield
    assert [str(missing) for missing in flowing.missing] == []
    assert flowing.sent > 1000


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_an_agent_replaced_under_a_thousand_packets_a_second_loses_none(native, number):
    n1, router = native.machine("n1"), Router("bird", native.machine("r1").namespace, native.directory / "r1")
    assert way(native, "r1", pods(native)[0])["gateway"] == str(n1.address)
    with nothing_lost(native):
        world.signal_and_wait(int(native.status("n1")["pid"]), number)
        world.wait_for(lambda: HELPS in router.ask("show", "protocols", "all"), "the router's help", 60)
        native.start_agent(n1)
        native.wait_for_agent(n1)
        world.wait_for(lambda: HELPS not in router.ask("show", "protocols", "all"), "the end of the router's help", 60)
        world.wait_for(lambda: is_established(native), "the session with the router", 60)


def is_established(lab):
    return lab.status("n1")["sessions"].get("10.0.1.1", {}).get("state") == "Established"
