"""The same scenarios against BIRD, FRR and GoBGP."""

import os
import signal
from collections.abc import Iterator

import pytest

from tests.support.speakers import KINDS, Wish, heard, start
from tests.support.speaking import Rack, rack

BLOCK = "10.42.0.0/26"
pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def one() -> Iterator[Rack]:
    with rack("fb-r1") as it:
        yield it


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


def test_the_routers_crash_and_return_costs_none_of_its_routes(one: Rack, kind: str) -> None:
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
    one.history.clear()
    one.speaker.planned()  # nothing to announce: our End-of-RIB, for which a router that restarts waits, is due
    start(one, wish, recovers=True)
    one.up(wish.address)
    one.until(lambda: one.speaker.sessions.sessions[wish.address].stale_until is None, 60)
    assert one.hops(wish.route) == [wish.address]
    assert not [change for change in one.history if getattr(change, "kind", "") == "learned"], (
        "never gone, not even once"
    )


def test_a_wrong_as_is_told_in_words(one: Rack, kind: str) -> None:
    wish = Wish(kind, asn=65000)
    start(one, wish)
    one.peer(wish.address, peer_as=65001)
    one.until(lambda: "wrong peer AS" in one.error(wish.address))
