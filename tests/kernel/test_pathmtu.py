"""Who drops large packets on the way: a | r | b, three namespaces, with the bottleneck at different places."""

from contextlib import ExitStack
from ipaddress import IPv4Address

import pytest

from felixlite.pathmtu import Echoes, Kind, examine
from tests.support.netns import connect, namespace, switch

FAR, NOBODY = IPv4Address("10.9.2.2"), IPv4Address("10.9.1.77")


@pytest.fixture
def path():
    """a -- r -- (a bridge) -- b"""
    with ExitStack() as stack:
        a, r, sw, b = (stack.enter_context(namespace(f"fo-{name}")) for name in ("a", "r", "sw", "b"))
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
        r.command("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.icmp_ratelimit=0")
        yield a, r, sw, b


def examined(space, target=FAR, size=1500):
    def inside():
        with Echoes(patience=0.3) as echoes:
            return examine(echoes, target, size)

    return space.run(inside)


def test_a_path_without_a_bottleneck_lets_everything_through(path):
    assert examined(path[0]).passes


def test_a_router_that_says_too_big_is_named_with_its_mtu(path):
    path[1].ip("link set right mtu 1400")

    verdict = examined(path[0])

    assert (verdict.largest, verdict.why) == (1400, "10.9.1.1 says that they are too big for its MTU 1400")


def test_packets_that_vanish_without_a_word_are_followed_to_the_hop_behind_which_they_do(path):
    path[2].ip("link set to-b mtu 1300")  # a bridge drops what is too large and tells nobody

    verdict = examined(path[0])

    assert verdict.largest == 1300
    assert "vanish without a word between 10.9.1.1 and 10.9.2.2" in verdict.why


def test_a_node_that_does_not_answer_at_all_is_not_called_a_matter_of_size(path):
    verdict = examined(path[0], NOBODY)

    assert verdict.largest == 0
    assert verdict.why.startswith("not even small packets are answered")


def test_a_packet_larger_than_the_own_link_does_not_leave(path):
    def inside():
        with Echoes(patience=0.3) as echoes:
            return echoes(FAR, 1501)

    assert path[0].run(inside).kind is Kind.TOO_BIG
