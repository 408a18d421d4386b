"""Who drops large packets on the way: a | r | b, three namespaces, with the bottleneck at different places."""

from contextlib import ExitStack
from ipaddress import IPv4Address, IPv6Address

import pytest

from felixlite.pathmtu import WIRES, Echoes, Kind, examine, meaning
from tests.support.netns import connect, namespace, switch

FAR, NOBODY = IPv4Address("10.9.2.2"), IPv4Address("10.9.1.77")
FAR6, NOBODY6 = IPv6Address("fd09:2::2"), IPv6Address("fd09:1::77")


@pytest.fixture
def path():
    """a -- r -- (a bridge) -- b"""
    with ExitStack() as stack:
        a, r, sw, b = (stack.enter_context(namespace(f"fo-{name}")) for name in ("a", "r", "sw", "b"))
        for space in (a, r, b):  # nobody has these addresses, and making sure of that would take seconds
            space.command("sysctl", "-qw", "net.ipv6.conf.default.accept_dad=0")
        connect(a, "eth0", r, "left")
        switch("br0", sw)
        connect(r, "right", sw, "to-r")
        connect(b, "eth0", sw, "to-b")
        sw.ip("link set to-r master br0")
        sw.ip("link set to-b master br0")
        a.ip("address add 10.9.1.2/24 dev eth0")
        r.ip("address add 10.9.1.1/24 dev left")
        r.ip("address add 10.9.2.1/24 dev right")
        b.ip("address add 10.9.2.2/24 dev eth0")
        a.ip("route add default via 10.9.1.1")
        b.ip("route add default via 10.9.2.1")
        for space, address in ((a, "1::2"), (r, "1::1"), (r, "2::1"), (b, "2::2")):
            link = {"1::1": "left", "2::1": "right"}.get(address, "eth0")
            space.ip(f"-6 address add fd09:{address}/64 dev {link} nodad")
        a.ip("-6 route add default via fd09:1::1")
        b.ip("-6 route add default via fd09:2::1")
        limits = ("net.ipv4.icmp_ratelimit=0", "net.ipv6.icmp.ratelimit=0")
        r.command("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", *limits)
        a.command("ping", "-q", "-c", "1", "-w", "30", str(FAR6))  # the links may take a moment
        yield a, r, sw, b


def examined(space, target=FAR, size=1500):
    def inside():
        with Echoes(patience=0.3, family=target.version) as echoes:
            return examine(echoes, target, size)

    return space.run(inside)


@pytest.mark.parametrize("target", [FAR, FAR6])
def test_a_path_without_a_bottleneck_lets_everything_through(path, target):
    assert examined(path[0], target).passes


@pytest.mark.parametrize(("target", "router"), [(FAR, "10.9.1.1"), (FAR6, "fd09:1::1")])
def test_a_router_that_says_too_big_is_named_with_its_mtu(path, target, router):
    path[1].ip("link set right mtu 1400")

    verdict = examined(path[0], target)

    assert (verdict.largest, verdict.why) == (1400, f"{router} says that they are too big for its MTU 1400")


@pytest.mark.parametrize(("target", "router"), [(FAR, "10.9.1.1"), (FAR6, "fd09:1::1")])
def test_packets_that_vanish_without_a_word_are_followed_to_the_hop_behind_which_they_do(path, target, router):
    path[2].ip("link set to-b mtu 1300")  # a bridge drops what is too large and tells nobody

    verdict = examined(path[0], target)

    assert verdict.largest == 1300
    assert f"vanish without a word between {router} and {target}" in verdict.why


@pytest.mark.parametrize("target", [NOBODY, NOBODY6])
def test_a_node_that_does_not_answer_at_all_is_not_called_a_matter_of_size(path, target):
    verdict = examined(path[0], target)

    assert verdict.largest == 0
    assert verdict.why.startswith("not even small packets are answered")


@pytest.mark.parametrize("target", [FAR, FAR6])
def test_a_packet_larger_than_the_own_link_does_not_leave(path, target):
    def inside():
        with Echoes(patience=0.3, family=target.version) as echoes:
            return echoes(target, 1501)

    assert path[0].run(inside).kind is Kind.TOO_BIG


@pytest.mark.parametrize("family", [4, 6])
def test_what_is_no_icmp_or_not_about_the_echo_means_nothing(family):
    wire = WIRES[family]
    head = bytes([0x45, *bytes(19)]) if family == 4 else b""

    for rest in (b"", bytes(3), bytes(8), bytes([wire.too_big[0], wire.too_big[1], *bytes(6)]), bytes(90)):
        assert meaning(wire, head + rest, "10.0.0.1", 1, 1) is None
