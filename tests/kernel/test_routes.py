"""The routes table against the real kernel."""

import os
from contextlib import suppress
from ipaddress import ip_address as ip

import pytest

from felixlite.addresses import Prefix
from felixlite.kernel import messages
from felixlite.kernel.host import Host
from felixlite.kernel.netlink import Socket, each
from felixlite.kernel.routes import Routes
from felixlite.rows import NextHop, Route, RouteKey, blackhole, on, via
from tests.support.netns import namespace


@pytest.fixture
def net():
    with namespace("fk-rt") as space:
        space.ip("link add b0 type bridge")
        space.ip("link set b0 up")
        space.ip("address add 192.0.2.1/24 dev b0")
        space.ip("address add fd00::1/64 dev b0 nodad", family=6)
        yield space


@pytest.fixture
def routes(net):
    with Host(net.fd) as host:
        yield Routes(host)


def key(prefix: str, **rest: int) -> RouteKey:
    return RouteKey(Prefix.parse(prefix), **rest)


ROUTE_GROUPS = 0x40 | 0x400  # RTMGRP_IPV4_ROUTE, RTMGRP_IPV6_ROUTE


def kinds_heard(listener: Socket) -> list[int]:
    """The kinds of all notifications that wait in a socket."""
    os.set_blocking(listener.fileno(), False)
    kinds = []
    with suppress(BlockingIOError):
        while True:
            kinds += [kind for kind, *_ in each(listener.receive())]
    return kinds


HOPS4 = (NextHop(ip("192.0.2.7"), "b0", weight=2), NextHop(ip("192.0.2.8"), None))
HOPS6 = (NextHop(ip("fd00::8"), "b0"), NextHop(ip("fd00::7"), "b0"))
EVERY_FORM = {
    "10.1.0.0/26": (blackhole(), "blackhole 10.1.0.0/26 proto 80"),
    "10.1.0.5/32": (on("b0"), "10.1.0.5 dev b0 proto 80 scope link"),
    "10.2.0.0/26": (via(ip("192.0.2.7"), "b0"), "10.2.0.0/26 via 192.0.2.7 dev b0 proto 80"),
    "10.3.0.0/26": (via(ip("192.0.2.7"), mtu=1480), "10.3.0.0/26 via 192.0.2.7 dev b0 proto 80 mtu 1480"),
    "10.3.1.0/26": (
        via(ip("198.51.100.1"), "b0", onlink=True),
        "10.3.1.0/26 via 198.51.100.1 dev b0 proto 80 onlink",
    ),
    "10.4.0.0/26": (
        Route(hops=HOPS4),
        "10.4.0.0/26 proto 80 nexthop via 192.0.2.7 dev b0 weight 2 nexthop via 192.0.2.8 dev b0 weight 1",
    ),
    "10.5.0.0/26": (via(ip("fd00::7"), "b0"), "10.5.0.0/26 via inet6 fd00::7 dev b0 proto 80"),
    "10.6.0.0/26": (
        Route(hops=(NextHop(ip("192.0.2.7"), "b0"),), source=ip("192.0.2.1"), mtu=1400, advmss=1360),
        "10.6.0.0/26 via 192.0.2.7 dev b0 proto 80 src 192.0.2.1 mtu 1400 advmss 1360",
    ),
    "0.0.0.0/0": (via(ip("192.0.2.7")), "default via 192.0.2.7 dev b0 proto 80"),
    "fd10::/122": (blackhole(), "blackhole fd10::/122 dev lo proto 80 metric 1024 pref medium"),
    "fd11::/122": (via(ip("fd00::7"), "b0"), "fd11::/122 via fd00::7 dev b0 proto 80 metric 1024 pref medium"),
    "fd13::5/128": (on("b0"), "fd13::5 dev b0 proto 80 metric 1024 pref medium"),
    "fd14::/64": (
        Route(hops=HOPS6),
        "fd14::/64 proto 80 metric 1024 pref medium nexthop via fd00::8 dev b0 weight 1 nexthop via fd00::7 dev b0 weight 1",
    ),
    "fd15::/64": (
        via(ip("fd99::8"), "b0", onlink=True),
        "fd15::/64 via fd99::8 dev b0 proto 80 metric 1024 onlink pref medium",
    ),
    "::/0": (via(ip("fd00::7"), "b0"), "default via fd00::7 dev b0 proto 80 metric 1024 pref medium"),
}


@pytest.mark.parametrize("prefix", EVERY_FORM)
def test_every_form_of_route_is_what_ip_route_shows_and_reads_back_as_it_was_wanted(net, routes, prefix):
    row, shown = EVERY_FORM[prefix]
    wanted = {key(prefix): row}

    assert routes.upsert(wanted) == {}

    listed = net.ip(f"route show {prefix}", family=key(prefix).prefix.family)
    assert " ".join(listed.split()) == shown
    assert routes.read_for(wanted) == wanted


def test_a_route_keeps_its_table_and_metric(net, routes):
    wanted = {key("10.1.0.0/24", table=1000, metric=7): on("b0"), key("fd10::/64", table=30, metric=1024): on("b0")}

    assert routes.upsert(wanted) == {}

    assert routes.read_for(wanted) == wanted
    assert "10.1.0.0/24" in net.ip("route show table 1000")


@pytest.mark.parametrize("prefix", ["10.1.0.0/24", "fd10::/64"])
def test_any_form_replaces_any_other_without_a_moment_of_absence(net, routes, prefix):
    family = key(prefix).prefix.family
    forms = [row for other, (row, _) in EVERY_FORM.items() if key(other).prefix.family == family]
    forms.append(forms[0])

    with Socket(net.fd) as listener:
        listener.join(ROUTE_GROUPS)
        for row in forms:
            assert routes.upsert({key(prefix): row}) == {}
            assert routes.read_for({key(prefix): row}) == {key(prefix): row}

        heard = kinds_heard(listener)

    assert messages.NEW_ROUTE in heard
    assert messages.DELETE_ROUTE not in heard


def test_a_route_of_somebody_else_is_neither_read_nor_replaced_nor_removed(net, routes):
    net.ip("route add 10.1.0.0/24 via 192.0.2.9 proto static")
    foreign = net.ip("route show 10.1.0.0/24")

    refused = routes.upsert({key("10.1.0.0/24"): blackhole(), key("10.2.0.0/24"): blackhole()})
    removed = routes.delete([key("10.1.0.0/24")])

    assert [key("10.1.0.0/24")] == list(refused)
    assert "another program's route" in str(refused[key("10.1.0.0/24")])
    assert removed == {}
    assert net.ip("route show 10.1.0.0/24") == foreign
    assert routes.read() == {key("10.2.0.0/24"): blackhole()}


def test_a_route_of_an_earlier_agent_is_taken_over_though_it_was_never_read(net, routes):
    net.ip("route add blackhole 10.1.0.0/24 proto 80")

    assert routes.upsert({key("10.1.0.0/24"): on("b0")}) == {}

    assert routes.read() == {key("10.1.0.0/24"): on("b0")}


def test_refused_routes_do_not_spoil_the_others_and_say_why(routes):
    wanted = {
        key("10.1.0.0/24"): via(ip("203.0.113.1")),
        key("10.2.0.0/24"): on("absent0"),
        key("10.3.0.0/24"): on("b0"),
    }

    refused = routes.upsert(wanted)

    assert {str(error) for error in refused.values()} == {
        "Network is unreachable (Nexthop has invalid gateway)",
        "No such device (there is no link absent0)",
    }
    assert routes.read() == {key("10.3.0.0/24"): on("b0")}


def test_a_link_that_is_down_refuses_its_routes_until_it_is_up(net, routes):
    net.ip("link set b0 down")
    assert "down" in str(routes.upsert({key("10.3.0.0/24"): on("b0")})[key("10.3.0.0/24")]).lower()

    net.ip("link set b0 up")

    assert routes.upsert({key("10.3.0.0/24"): on("b0")}) == {}


def test_removing_what_is_gone_is_a_success(routes):
    assert routes.delete([key("10.1.0.0/24"), key("fd10::/64"), key("10.1.0.0/24", table=77)]) == {}


def test_removing_a_route_without_metric_leaves_the_one_with_a_metric(net, routes):
    routes.upsert({key("10.1.0.0/24"): on("b0"), key("10.1.0.0/24", metric=9): blackhole()})
    net.ip("route del 10.1.0.0/24 dev b0 metric 0")

    assert routes.delete([key("10.1.0.0/24")]) == {}

    assert routes.read() == {key("10.1.0.0/24", metric=9): blackhole()}
