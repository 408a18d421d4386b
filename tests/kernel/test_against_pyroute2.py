"""Our own parsers against pyroute2, which knows rtnetlink independently of us: both must see the same kernel."""

from ipaddress import ip_address as ip

import pytest
from pyroute2 import IPRoute

from felixlite.addresses import Prefix
from felixlite.kernel.addresses import every_address
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links, every_link
from felixlite.kernel.neighbours import Neighbours
from felixlite.kernel.routes import Routes
from felixlite.rows import Link, Neighbour, NeighbourKey, NextHop, Route, RouteKey, Vxlan, blackhole, on, via
from tests.support.netns import namespace


@pytest.fixture
def net():
    with namespace("fk-py") as space:
        space.ip("link add eth0 type bridge")
        space.ip("link add v0 type veth peer name v1")
        space.ip("link set v0 master eth0")
        space.ip("link set eth0 up")
        space.ip("address add 192.0.2.1/24 dev eth0")
        space.ip("address add fd00::1/64 dev eth0 nodad", family=6)
        yield space


@pytest.fixture
def host(net):
    with Host(net.fd) as host:
        yield host


def theirs(net, read):
    """What pyroute2 answers inside the namespace."""

    def inside():
        with IPRoute() as ipr:
            return read(ipr)

    return net.run(inside)


def test_links(net, host):
    Links(host).upsert({"vxlan.calico": Link("vxlan", vxlan=Vxlan(4096, 4789, ip("192.0.2.1"), "eth0"))})
    seen = {
        (
            link.state.name,
            link.state.index,
            link.state.mtu,
            link.state.mac,
            link.state.kind,
            link.state.on,
            link.master,
        )
        for link in every_link(host).values()
    }

    def read(ipr):
        return {
            (
                link.get("ifname"),
                link["index"],
                link.get("mtu"),
                link.get("address"),
                link.get(("linkinfo", "kind")) or "",
                bool(link["flags"] & 1),
                link.get("master") or 0,
            )
            for link in ipr.get_links()
        }

    assert seen == theirs(net, read)


def test_addresses(net, host):
    seen = {(a.link, str(a.address)) for a in every_address(host)}

    def read(ipr):
        return {(a["index"], f"{a.get('local') or a.get('address')}/{a['prefixlen']}") for a in ipr.get_addr()}

    assert seen == theirs(net, read)


def test_permanent_neighbours(net, host):
    ours = {NeighbourKey("eth0", ip("192.0.2.9")): Neighbour("02:00:00:00:00:09")}
    Neighbours(host).upsert(ours)

    def read(ipr):
        return {(n.get("dst"), n.get("lladdr")) for n in ipr.get_neighbours(family=2) if n["state"] & 0x80}

    assert theirs(net, read) == {("192.0.2.9", "02:00:00:00:00:09")}


def test_routes(net, host):
    wanted = {
        RouteKey(Prefix.parse("10.1.0.0/26")): blackhole(),
        RouteKey(Prefix.parse("10.1.0.5/32")): on("eth0"),
        RouteKey(Prefix.parse("10.2.0.0/26"), metric=7): via(ip("192.0.2.2"), "eth0", mtu=1400),
        RouteKey(Prefix.parse("10.3.0.0/26"), table=1000): via(ip("198.51.100.1"), "eth0", onlink=True),
        RouteKey(Prefix.parse("10.4.0.0/26")): Route(
            hops=(NextHop(ip("192.0.2.2"), "eth0"), NextHop(ip("192.0.2.3"), "eth0", weight=3))
        ),
        RouteKey(Prefix.parse("fd10::/64")): via(ip("fd00::2"), "eth0"),
    }
    assert Routes(host).upsert(wanted) == {}

    def read(ipr):
        return {_told(route) for family in (2, 10) for route in ipr.get_routes(family=family) if route["proto"] == 80}

    index = host.index("eth0")
    assert theirs(net, read) == {
        ("10.1.0.0/26", 254, None, "blackhole", ()),
        ("10.1.0.5/32", 254, None, "unicast", ((None, index, 1),)),
        ("10.2.0.0/26", 254, 7, "unicast", (("192.0.2.2", index, 1),)),
        ("10.3.0.0/26", 1000, None, "unicast", (("198.51.100.1", index, 1),)),
        ("10.4.0.0/26", 254, None, "unicast", (("192.0.2.2", index, 1), ("192.0.2.3", index, 3))),
        ("fd10::/64", 254, 1024, "unicast", (("fd00::2", index, 1),)),
    }


def _told(route):
    kind = {1: "unicast", 6: "blackhole"}[route["type"]]
    hops = route.get("multipath") or ([route] if kind == "unicast" else [])
    return (
        f"{route.get('dst')}/{route['dst_len']}",
        route.get("table"),
        route.get("priority"),
        kind,
        tuple(
            (hop.get("gateway"), hop.get("oif") or hop["oif"], (hop["hops"] if hop is not route else 0) + 1)
            for hop in hops
        ),
    )
