"""What a session's fate means: graceful restarts in both roles, leaks, flaps, and when we have heard everything."""

import struct
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

from felixlite.addresses import Prefix
from felixlite.bgp.messages import Open, Restart
from felixlite.bgp.rows import Peer
from felixlite.bgp.sessions import Sessions
from felixlite.bgp.wire import Down, Negotiated, Notified, Opened, Received, Trouble, Up
from felixlite.snapshot import Gone, InSync, Many, Put

A, B = "10.0.0.11", "10.0.0.12"
ROW = Peer(local_as=64512, peer_as=64512, local_address=ip_address("10.0.0.1"), router_id=IPv4Address("10.0.0.1"))
GRACEFUL = Restart(60, restarting=False, forwarding=frozenset([4]), families=frozenset([4]))
P, Q = Prefix.parse("172.20.0.0/24"), Prefix.parse("172.20.1.0/24")
END_OF_RIB = bytes(4)


def update(*prefixes: Prefix) -> bytes:
    attributes = bytes.fromhex("40010100 400200 4003040a000002".replace(" ", ""))
    nlri = b"".join(bytes([p.length]) + p.packed[:3] for p in prefixes)
    return b"\0\0" + struct.pack("!H", len(attributes)) + attributes + nlri


def opened(restart: Restart | None = GRACEFUL) -> Open:
    return Open(64512, 90, IPv4Address("1.1.1.1"), restart)


def come_up(it: Sessions, peer: str = A, now: float = 0.0, restart: Restart | None = GRACEFUL) -> None:
    for event in (Opened(peer, opened(restart)), Negotiated(peer, (4,), True, 90), Up(peer, 64512)):
        it.heard(event, now)


def started(**fields: Any) -> Sessions:
    it = Sessions()
    it.want({A: replace(ROW, **fields)}, 0.0)
    come_up(it)
    it.heard(Received(A, update(P, Q)), 0.0)
    it.changes()
    return it


def learned(it: Sessions) -> set[Prefix]:
    it.changes()
    return set(it.rib.best)


def test_a_lost_connection_of_a_graceful_peer_keeps_its_routes_for_its_restart_time() -> None:
    it = started()
    it.heard(Down(A, "the TCP connection was closed"), 10.0)
    it.tick(69.0)
    assert learned(it) == {P, Q}
    it.tick(70.0)
    assert learned(it) == set()


def test_what_it_does_not_tell_again_goes_with_its_end_of_rib() -> None:
    it = started()
    it.heard(Down(A, "the TCP connection was closed"), 10.0)
    come_up(it, now=20.0)
    it.heard(Received(A, update(Q)), 20.0)
    assert learned(it) == {P, Q}
    it.heard(Received(A, END_OF_RIB), 20.0)
    assert learned(it) == {Q}
    assert it.sessions[A].stale_until is None


def test_a_router_that_starts_and_says_end_of_rib_before_its_routes_is_believed_when_it_is_silent() -> None:
    it = started()
    it.heard(Down(A, "the TCP connection was closed"), 10.0)
    come_up(it, now=20.0, restart=replace(GRACEFUL, restarting=True))
    it.heard(Received(A, END_OF_RIB), 21.0)
    it.tick(25.0)
    assert learned(it) == {P, Q}
    it.heard(Received(A, update(Q)), 25.0)
    it.tick(40.0)
    assert learned(it) == {P, Q}
    it.tick(40.1)
    assert learned(it) == {Q}
    assert it.sessions[A].stale_until is None


def test_an_empty_end_of_rib_of_a_router_that_did_not_restart_is_believed_at_once() -> None:
    it = started()
    it.child_gone(10.0)
    come_up(it, now=11.0)
    it.heard(Received(A, END_OF_RIB), 11.0)
    assert learned(it) == set()


def test_a_peer_that_comes_back_without_its_forwarding_state_is_forgotten_at_once() -> None:
    it = started()
    it.heard(Down(A, "the TCP connection was closed"), 10.0)
    come_up(it, now=20.0, restart=replace(GRACEFUL, forwarding=frozenset()))
    assert learned(it) == set()


def test_a_notification_is_no_graceful_restart() -> None:
    for event in (Notified(A, "cease: administrative shutdown"),):
        it = started()
        it.heard(event, 10.0)
        it.heard(Down(A, "notification received"), 10.0)
        assert learned(it) == set()
        assert it.sessions[A].error == "received: cease: administrative shutdown"


def test_our_own_hold_timer_forgets_as_well() -> None:
    it = started()
    it.heard(Down(A, "sent: hold timer expired"), 10.0)
    assert learned(it) == set()


def test_a_peer_without_graceful_restart_is_forgotten() -> None:
    it = Sessions()
    it.want({A: ROW}, 0.0)
    come_up(it, restart=None)
    it.heard(Received(A, update(P)), 0.0)
    it.heard(Down(A, "closed"), 1.0)
    assert learned(it) == set()


def test_the_death_of_our_child_keeps_everything_even_of_peers_that_cannot_restart() -> None:
    it = Sessions()
    it.want({A: ROW}, 0.0)
    come_up(it, restart=None)
    it.heard(Received(A, update(P, Q)), 0.0)
    it.child_gone(10.0)
    assert learned(it) == {P, Q}
    come_up(it, now=11.0, restart=None)
    it.heard(Received(A, update(Q)), 11.0)
    it.heard(Received(A, END_OF_RIB), 11.0)
    it.tick(16.0)
    assert learned(it) == {Q}


def test_a_leaking_peer_is_shut_and_the_others_live() -> None:
    it = started(max_prefixes=1)
    assert learned(it) == set()
    assert [(o.do, o.members["subcode"]) for o in it.orders] == [("hold", 1)]
    assert "more than 1 prefixes" in it.sessions[A].error


def test_a_flapping_peer_is_held_longer_and_longer() -> None:
    it = started()
    for at in (1.0, 2.0, 3.0, 4.0):
        it.heard(Down(A, "reset"), at)
        come_up(it, now=at)
    assert [o.members["seconds"] for o in it.orders if o.do == "hold"] == [5.0, 10.0]


def test_an_external_peer_with_our_own_as_is_refused() -> None:
    it = Sessions()
    it.want({A: replace(ROW, peer_as=None)}, 0.0)
    come_up(it)
    assert [o.do for o in it.orders] == ["teardown"]
    assert "our own AS" in it.sessions[A].error


def test_a_malformed_update_ends_the_session_with_the_right_code() -> None:
    it = started()
    it.heard(Received(A, b"\xff\xff\0\0"), 1.0)
    assert [(o.do, o.members["code"]) for o in it.orders] == [("teardown", 3)]


def test_a_faulty_attribute_withdraws_and_is_told() -> None:
    it = started()
    it.heard(Received(A, b"\0\0\0\4" + bytes.fromhex("40010100") + b"\x18" + P.packed[:3]), 1.0)
    assert learned(it) == {Q}
    assert "treated as withdrawn: AS_PATH is missing" in it.sessions[A].error


def in_sync(it: Sessions) -> bool:
    return InSync("bgp") in it.changes()


def test_in_sync_when_all_peers_told_everything() -> None:
    it = Sessions()
    it.tick(1000.0)
    assert not in_sync(it)
    it.want({A: ROW, B: ROW}, 0.0)
    come_up(it, A)
    come_up(it, B)
    it.heard(Received(A, END_OF_RIB), 1.0)
    it.tick(1.0)
    assert not in_sync(it)
    it.heard(Received(B, END_OF_RIB), 2.0)
    it.tick(2.0)
    assert in_sync(it)


def test_a_peer_that_does_not_come_is_not_waited_for_long_and_one_without_end_of_rib_by_its_silence() -> None:
    it = Sessions()
    it.want({A: ROW, B: ROW}, 0.0)
    come_up(it, A, restart=None)
    it.tick(14.0)
    assert not in_sync(it)
    it.tick(15.0)
    assert in_sync(it)


def test_a_peer_that_never_ends_is_not_waited_for_for_ever() -> None:
    it = Sessions()
    it.want({A: ROW}, 0.0)
    come_up(it, A)
    it.tick(119.0)
    assert not in_sync(it)
    it.tick(120.0)
    assert in_sync(it)


def test_without_peers_it_is_in_sync_as_soon_as_that_is_known() -> None:
    it = Sessions()
    it.planned(0.0)
    it.tick(0.0)
    assert in_sync(it)


def test_our_end_of_rib_waits_for_our_announcements() -> None:
    it = started()
    it.tick(1.0)
    assert it.orders == []
    it.announced = True
    it.tick(1.0)
    it.tick(2.0)
    assert [o.do for o in it.orders] == ["eor"]


def test_a_burst_is_one_change_and_a_dropped_peer_is_gone() -> None:
    it = started()
    it.heard(Received(A, update(Prefix.parse("172.20.2.0/24"))), 0.0)
    assert [type(change) for change in it.changes()] == [Many]
    it.drop([A])
    changes = it.changes()
    assert isinstance(changes[0], Many)
    assert set(changes[0].gone) == {P, Q, Prefix.parse("172.20.2.0/24")}
    assert changes[1:] == [Gone("sessions", A)]


def test_sessions_of_a_range_are_known_by_their_own_address() -> None:
    it = Sessions()
    it.want({"10.0.0.0/24": ROW}, 0.0)
    come_up(it, "10.0.0.77")
    it.heard(Received("10.0.0.77", update(P)), 0.0)
    changes = it.changes()
    assert [c.key for c in changes if isinstance(c, Put)] == ["10.0.0.77"]
    assert set(it.rib.best) == {P}
    it.heard(Up("10.9.9.9", 1), 0.0)
    assert "10.9.9.9" not in it.sessions


def test_what_goes_wrong_later_does_not_hide_why_the_session_was_lost() -> None:
    it = started()
    it.heard(Notified(A, "cease: administrative reset"), 10.0)
    it.heard(Down(A, "received: cease: administrative reset"), 10.0)
    it.heard(Trouble(A, "cannot connect to port 179: Connection refused"), 11.0)
    assert it.sessions[A].error == (
        "received: cease: administrative reset; since then: cannot connect to port 179: Connection refused"
    )
    come_up(it, now=12.0)
    assert it.sessions[A].error == ""
