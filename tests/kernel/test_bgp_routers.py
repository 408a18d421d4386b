"""The same scenarios against BIRD, FRR and GoBGP."""

import os
import signal
from collections.abc import Iterator
from ipaddress import ip_address

import pytest

from tests.support.speakers import COMMUNITY, KINDS, Wish, heard, start
from tests.support.speaking import Rack, rack

BLOCK = "10.42.0.0/26"
pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def one() -> Iterator[Rack]:
    with rack("fb-r1") as it:
        yield it


def test_ibgp_with_a_password_and_communities_both_ways(one: Rack, kind: str) -> None:
    wish = Wish(kind, password="s3cret")
    router = start(one, wish)
    one.peer(wish.address, password="s3cret")
    one.announce(wish.address, BLOCK, local_preference=222, communities=("65000:1", "65000:1:2"))
    one.until(lambda: one.hops(wish.route) == [wish.address])
    found = one.learned(wish.route)
    assert found
    assert found.path
    assert found.path.communities == (COMMUNITY,)
    one.until(lambda: heard(router, BLOCK))
    told = heard(router, BLOCK).replace("(", "").replace(")", "").replace(", ", ":").replace(",", ":")
    assert "65000:1" in told
    assert "65000:1:2" in told
    assert "222" in told


def test_ebgp_with_as_numbers_of_four_bytes(one: Rack, kind: str) -> None:
    wish = Wish(kind, asn=4200000001, peer_as=4200000000)
    router = start(one, wish)
    one.peer(wish.address, local_as=4200000000, peer_as=4200000001)
    one.announce(wish.address, BLOCK)
    one.until(lambda: one.hops(wish.route) == [wish.address])
    found = one.learned(wish.route)
    assert found
    assert found.path
    assert found.path.as_path == (4200000001,)
    assert not found.ibgp
    one.until(lambda: "4200000000" in heard(router, BLOCK))


def test_ipv6(one: Rack, kind: str) -> None:
    wish = Wish(kind, six=True)
    router = start(one, wish)
    one.peer(wish.address, local_address=ip_address("fd99::1"), families=(6,))
    one.announce(wish.address, "fd42::/122")
    one.until(lambda: one.hops(wish.route) == [wish.address])
    one.until(lambda: "fd99::1" in heard(router, "fd42::/122"))


@pytest.mark.parametrize("passive", [False, True])
def test_ttl_security_whoever_dials(one: Rack, kind: str, passive: bool) -> None:
    wish = Wish(kind, asn=65000, gtsm=True)
    start(one, wish)
    one.peer(wish.address, peer_as=65000, ttl_security=1, passive=passive)
    one.up(wish.address)


def test_a_passive_range_takes_who_connects_with_its_password_and_outlives_a_reload(one: Rack, kind: str) -> None:
    wish = Wish(kind, password="s3cret")
    router = start(one, wish)
    one.peer("10.99.0.64/26", password="s3cret", passive=True)
    one.announce("10.99.0.64/26", BLOCK)
    one.until(lambda: one.hops(wish.route) == [wish.address])
    one.until(lambda: heard(router, BLOCK))
    since = one.snapshot.sessions[wish.address].since
    one.peer("10.99.0.250")
    one.announce("10.99.0.64/26", "10.42.1.0/26")
    one.until(lambda: heard(router, "10.42.1.0/26"))
    assert (one.snapshot.sessions[wish.address].since, one.snapshot.sessions[wish.address].flaps) == (since, 0)
    one.speaker.peers.delete(["10.99.0.64/26"])
    one.until(lambda: not heard(router, BLOCK))


def test_our_restart_leaves_our_routes_at_the_router(one: Rack, kind: str) -> None:
    wish = Wish(kind, graceful=True)
    router = start(one, wish)
    one.peer(wish.address)
    one.announce(wish.address, BLOCK)
    one.until(lambda: heard(router, BLOCK))
    one.until(lambda: one.hops(wish.route) == [wish.address])
    child = one.speaker.child
    assert child is not None
    one.touched.clear()
    one.history.clear()
    os.kill(child.process.pid, signal.SIGKILL)
    missing = 0
    one.until(lambda: "announcements" in one.touched)
    one.speaker.peers.read()
    one.peer(wish.address)
    one.announce(wish.address, BLOCK)

    def back() -> bool:
        nonlocal missing
        missing += not heard(router, BLOCK)
        return one.state(wish.address) == "Established"

    one.until(back)
    one.until(
        lambda: (
            wish.address in one.speaker.sessions.sessions
            and not one.speaker.sessions.sessions[wish.address].owes_end_of_rib
        )
    )
    assert heard(router, BLOCK)
    assert missing == 0, "the router forgot our route while we were away"
    one.until(lambda: one.speaker.sessions.sessions[wish.address].stale_until is None)
    assert one.hops(wish.route) == [wish.address]
    assert not [change for change in one.history if getattr(change, "kind", "") == "learned"], "never gone here either"


def test_the_routers_crash_keeps_its_routes_for_its_restart_time(one: Rack, kind: str) -> None:
    wish = Wish(kind, graceful=True)
    router = start(one, wish)
    one.peer(wish.address)
    one.until(lambda: one.hops(wish.route) == [wish.address])
    one.up(wish.address)
    for pid in reversed(router.pids):
        os.kill(pid, signal.SIGKILL)
    one.until(lambda: one.state(wish.address) != "Established")
    assert one.hops(wish.route) == [wish.address]
    assert one.speaker.sessions.sessions[wish.address].stale_until is not None


def test_a_wrong_as_is_told_in_words(one: Rack, kind: str) -> None:
    wish = Wish(kind, asn=65000)
    start(one, wish)
    one.peer(wish.address, peer_as=65001)
    one.until(lambda: "wrong peer AS" in one.error(wish.address))


def test_a_silent_peer_is_dead_after_the_hold_time_of_three_seconds(one: Rack, kind: str) -> None:
    wish = Wish(kind, hold=3)
    router = start(one, wish)
    one.peer(wish.address, hold_time=3)
    one.until(lambda: one.hops(wish.route) == [wish.address])
    one.up(wish.address)
    for pid in router.pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        took = one.until(lambda: one.hops(wish.route) == [], 10)
    finally:
        for pid in router.pids:
            os.kill(pid, signal.SIGCONT)
    assert 1 < took < 8
    assert "hold timer expired" in one.error(wish.address)
    one.up(wish.address)


def test_routes_of_two_routers_are_shared_by_the_traffic(kind: str) -> None:
    with rack("fb-r2", routers=2) as two:
        for number in (1, 2):
            wish = Wish(kind, number)
            router = start(two, wish)
            if kind == "gobgp":
                router.ask("global", "rib", "add", "172.30.0.0/24", "nexthop", wish.address)
        if kind == "gobgp":
            two.peer("10.99.0.101", "10.99.0.102")
            two.until(lambda: two.hops("172.30.0.0/24") == ["10.99.0.101", "10.99.0.102"])
        else:
            two.peer("10.99.0.101", "10.99.0.102")
            two.until(
                lambda: two.hops("172.20.1.0/26") == ["10.99.0.101"] and two.hops("172.20.2.0/26") == ["10.99.0.102"]
            )
