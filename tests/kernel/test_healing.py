"""The loop, the tables and the event source together: what others do to our routes does not last."""

import threading
import time
from ipaddress import ip_address as ip

import pytest

from felixlite.addresses import Prefix
from felixlite.kernel.events import SOURCE, Events
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links
from felixlite.kernel.neighbours import Neighbours
from felixlite.kernel.routes import Routes
from felixlite.loop import Loop, Planned
from felixlite.reconcile import Reconciler
from felixlite.rows import Link, Neighbour, NeighbourKey, RouteKey, Vxlan, blackhole, on, via
from felixlite.snapshot import Snapshot
from tests.support.netns import namespace

WANTED = {
    "links": {"vxlan.calico": Link("vxlan", mtu=1400, vxlan=Vxlan(4096, 4789, ip("192.0.2.1"), "eth0"))},
    "routes": {
        RouteKey(Prefix.parse("10.1.0.0/26")): blackhole(),
        RouteKey(Prefix.parse("10.2.0.0/26")): via(ip("192.0.2.2"), "eth0"),
        RouteKey(Prefix.parse("10.3.0.0/26")): via(ip("10.3.0.0"), "vxlan.calico", onlink=True),
        RouteKey(Prefix.parse("10.1.0.5/32")): on("cali1"),
    },
}
ALL = {"10.1.0.0/26", "10.2.0.0/26", "10.3.0.0/26", "10.1.0.5"}


class Node:
    """A running core in a namespace."""

    def __init__(self, net):
        self.net, self.host = net, Host(net.fd)
        routes = Routes(self.host)
        tables = [Links(self.host), routes]
        plan = Planned({name: (rows,) for name, rows in WANTED.items()})
        self.rounds = []
        self.loop = Loop(
            Snapshot("n1"),
            lambda _snapshot, _now: plan,
            Reconciler(tables),
            needs=[SOURCE],
            resync_every=3600,
            report=lambda told, _: self.rounds.append(told),
        )
        self.events = Events(self.host, self.loop.put, self.loop.touched, routes.owns)
        self.threads = [threading.Thread(target=target) for target in (self.loop.run, self.events.run)]
        for thread in self.threads:
            thread.start()

    def stop(self):
        self.events.stop()
        self.loop.stop()
        for thread in self.threads:
            thread.join(5)
        self.events.close()
        self.host.close()

    def ours(self):
        return {route["dst"] for route in self.net.show("route show proto 80")}

    def wait_for(self, routes):
        """Bounded; how long it takes is measured elsewhere."""
        deadline = time.monotonic() + 10
        while (there := self.ours()) != routes:
            assert time.monotonic() < deadline, (there, self.rounds[-1])
            time.sleep(0.02)


@pytest.fixture
def net():
    with namespace("fk-hl") as space:
        space.ip("link add eth0 type bridge")
        space.ip("link set eth0 up")
        space.ip("address add 192.0.2.1/24 dev eth0")
        space.ip("link add cali1 type bridge")
        space.ip("link set cali1 up")
        yield space


@pytest.fixture
def node(net):
    node = Node(net)
    node.wait_for(ALL)
    yield node
    node.stop()


def test_a_route_that_somebody_removes_is_back(net, node):
    net.ip("route del 10.2.0.0/26")

    node.wait_for(ALL)


def test_a_stray_with_our_protocol_is_swept_and_a_foreign_route_is_not(net, node):
    net.ip("route add 10.8.0.0/24 dev eth0 proto static")
    net.ip("route add 10.9.0.0/24 dev eth0 proto 80")

    node.wait_for(ALL)

    assert net.show("route show 10.8.0.0/24")


def test_a_tunnel_that_somebody_removes_is_back_with_its_routes(net, node):
    net.ip("link del vxlan.calico")

    node.wait_for(ALL)


def test_a_link_that_somebody_sets_down_and_up_has_its_routes_again(net, node):
    net.ip("link set eth0 down")
    net.ip("link set eth0 up")

    node.wait_for(ALL)


def test_a_route_waits_for_its_link_and_comes_with_it(net, node):
    net.ip("link del cali1")
    node.loop.touched("routes")
    node.wait_for(ALL - {"10.1.0.5"})

    net.ip("link add cali1 type bridge")
    net.ip("link set cali1 up")

    node.wait_for(ALL)


def test_a_route_that_somebody_replaced_by_one_of_his_own_is_left_to_him_and_said(net, node):
    net.ip("route replace 10.2.0.0/26 dev cali1 proto static")

    node.wait_for(ALL - {"10.2.0.0/26"})
    deadline = time.monotonic() + 10
    while not any(
        "another program's route" in str(f.error) for f in node.rounds[-1].failures.get("routes", {}).values()
    ):
        assert time.monotonic() < deadline
        time.sleep(0.02)

    net.ip("route del 10.2.0.0/26 proto static")
    node.wait_for(ALL)


def test_once_converged_the_core_is_quiet(net, node):
    time.sleep(0.3)  # echoes of our own writes would come now
    rounds = len(node.rounds)

    time.sleep(0.3)

    assert len(node.rounds) == rounds


@pytest.mark.parametrize("mac", ["ee:ee:ee:ee:ee:ee", "02:00:00:00:00:77"])
def test_neighbours_outlive_a_link_that_is_set_again_and_come_back_after_another_mac(net, mac):
    net.ip(f"link set cali1 address {mac}")
    neighbours = {NeighbourKey("cali1", ip("10.1.0.5")): Neighbour("02:00:00:00:00:05")}
    with Host(net.fd) as host:
        reconciler = Reconciler([Links(host), Neighbours(host)])
        reconciler.converge({"neighbours": (neighbours,)}, 0.0, may_delete=True)
        wanted = {"cali1": Link("adopt", mtu=1400, mac="ee:ee:ee:ee:ee:ee")}
        reconciler.converge({"links": (wanted,), "neighbours": (neighbours,)}, 1.0, may_delete=True)
        assert "PERMANENT" in net.ip("neigh show dev cali1")
        assert Links(host).read_for(wanted) == wanted
