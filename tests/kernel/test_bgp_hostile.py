"""Malformed and hostile messages (RFC 7606), from a peer that says whatever we want: never a crash, never a wrong route."""

import os
import random
import signal
import struct
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from felixlite.addresses import Prefix
from tests.support.hostile import AS_PATH, KEEPALIVE, ORIGIN, UPDATE, Hostile, hostile
from tests.support.speaking import Rack, address, agent, rack

GOOD, TOO = bytes.fromhex("18ac1409"), bytes.fromhex("18ac140a")  # 172.20.9.0/24, 172.20.10.0/24
FAULTY = {
    "no ORIGIN": AS_PATH + bytes.fromhex("4003040a630065"),
    "ORIGIN 9": bytes.fromhex("40010109") + AS_PATH + bytes.fromhex("4003040a630065"),
    "an AS_PATH that is cut off": ORIGIN + bytes.fromhex("400203020500 4003040a630065".replace(" ", "")),
    "AS 0 in the path": ORIGIN + bytes.fromhex("4002060201000000004003040a630065"),
    "no NEXT_HOP": ORIGIN + AS_PATH,
    "a multicast next hop": ORIGIN + AS_PATH + bytes.fromhex("400304e0000001"),
    "a next hop of three bytes": ORIGIN + AS_PATH + bytes.fromhex("4003030a6300"),
    "communities of five bytes": ORIGIN + AS_PATH + bytes.fromhex("4003040a630065c008050000000000"),
    "an attribute longer than the message": ORIGIN + AS_PATH + bytes.fromhex("4003ff0a630065"),
    "wrong flags": bytes.fromhex("c0010100") + AS_PATH + bytes.fromhex("4003040a630065"),
    "an unknown well-known attribute": ORIGIN + AS_PATH + bytes.fromhex("4003040a6300654063020102"),
}


@pytest.fixture(scope="module")
def it() -> Iterator[Rack]:
    with rack("fb-h", routers=2) as made, agent(made):
        made.speaker.planned()
        made.until(lambda: "bgp" in made.snapshot.in_sync)
        yield made


@pytest.fixture
def peer(it: Rack) -> Iterator[Hostile]:
    with hostile(it, 1) as made:
        it.peer(made.address, hold_time=90)
        made.meet()
        it.up(made.address)
        yield made
        it.speaker.peers.delete(list(it.speaker.peers.rows))
        it.until(lambda: not it.snapshot.sessions)
        it.until(lambda: not kernel(it))


def kernel(it: Rack) -> set[str]:
    return {route["dst"] for route in it.node.show("route show proto 80")}


@pytest.mark.parametrize("what", FAULTY)
def test_a_faulty_attribute_makes_its_routes_withdrawn_and_the_session_stays(
    it: Rack, peer: Hostile, what: str
) -> None:
    peer.update(GOOD + TOO)
    it.until(lambda: kernel(it) == {"172.20.9.0/24", "172.20.10.0/24"})
    peer.update(GOOD, attributes=FAULTY[what])
    it.until(lambda: kernel(it) == {"172.20.10.0/24"})
    assert it.state(peer.address) == "Established"
    assert "treated as withdrawn" in it.error(peer.address)


def test_a_prefix_that_cannot_be_one_ends_the_session_with_a_notification(it: Rack, peer: Hostile) -> None:
    peer.update(GOOD)
    it.until(lambda: kernel(it) == {"172.20.9.0/24"})
    peer.update(bytes.fromhex("21ac140a0001"))
    assert peer.until_refused() == (3, 10)
    it.until(lambda: kernel(it) == set())
    it.until(lambda: "33 bits" in it.error(peer.address))
    peer.close()
    peer.meet()
    peer.update(TOO)
    it.until(lambda: kernel(it) == {"172.20.10.0/24"})


def test_a_thousand_mutilated_messages_kill_nobody_and_put_no_wrong_route_into_the_kernel(
    it: Rack, peer: Hostile
) -> None:
    chance = random.Random(11)
    children = it.speaker.restarts
    with hostile(it, 2) as other:
        it.peer(other.address, hold_time=90)
        other.meet()
        other.update(TOO)
        it.until(lambda: "172.20.10.0/24" in kernel(it))
        size = len(peer.attributes)
        sent = 0
        while sent < 1000:
            blob = bytearray(peer.attributes)
            for _ in range(chance.randrange(1, 4)):
                blob[chance.randrange(size)] = chance.randrange(256)
            if not {14, 15} & set(blob):  # these hold prefixes; one that cannot be told apart ends the session
                peer.update(GOOD, attributes=bytes(blob))
                sent += 1
        it.until(lambda: it.speaker.sessions.sessions[peer.address].updates == 1000)
        assert it.snapshot.sessions[other.address].flaps == 0
        assert it.speaker.restarts == children
        it.until(lambda: kernel(it) == {str(p) for p in it.snapshot.learned})
        for prefix in kernel(it):
            assert Prefix.parse(prefix).length, "no default route from a peer"
        other.update(GOOD)
        it.until(lambda: "172.20.9.0/24" in kernel(it))


def test_a_held_peer_is_called_no_more_and_a_refused_one_not_often(it: Rack) -> None:
    """A peer that leaks is left alone; one whose port is closed hears a few SYNs, not a hundred a second."""
    with hostile(it, 1) as peer:
        it.peer(peer.address, hold_time=90, max_prefixes=1)
        peer.meet()
        peer.update(GOOD + TOO)
        assert peer.until_refused() == (6, 1)
        peer.close()
        peer.listening.settimeout(3)
        with pytest.raises(TimeoutError):
            peer.listening.accept()
    router = it.others[1]
    router.command("nft", "add table ip count; add chain ip count in { type filter hook input priority 0; };"
                   " add rule ip count in tcp dport 179 counter")  # fmt: skip
    it.peer(address(2))
    it.until(lambda: "Connection refused" in it.error(address(2)))
    time.sleep(2)
    counted = next(w for w in router.command("nft", "list table ip count").split("packets ")[1:]).split()[0]
    router.command("nft", "delete table ip count")
    it.speaker.peers.delete(list(it.speaker.peers.rows))
    assert 1 <= int(counted) < 20


def test_a_peer_that_leaks_a_million_prefixes_is_shut_and_the_others_live(it: Rack) -> None:
    with hostile(it, 1) as leaking, hostile(it, 2) as other:
        it.peer(leaking.address, hold_time=90, max_prefixes=10_000)
        it.peer(other.address, hold_time=90)
        for each in (leaking, other):
            each.meet()
        other.update(GOOD)
        it.until(lambda: "172.20.9.0/24" in kernel(it))
        with suppress(ConnectionError):  # it is cut off in the middle of a word
            for block in range(1000):
                leaking.update(b"".join(struct.pack("!BI", 32, (20 << 24) + block * 1000 + i) for i in range(800)))
                leaking.update(
                    b"".join(struct.pack("!BI", 32, (20 << 24) + block * 1000 + i) for i in range(800, 1000))
                )
        it.until(lambda: "more than 10000 prefixes" in it.error(leaking.address))
        it.until(lambda: it.state(leaking.address) != "Established")
        leaking.close()
        it.until(lambda: kernel(it) == {"172.20.9.0/24"})
        other.update(TOO)
        it.until(lambda: kernel(it) == {"172.20.9.0/24", "172.20.10.0/24"})
        assert it.snapshot.sessions[other.address].flaps == 0
        assert it.snapshot.sessions[leaking.address].flaps == 1
    it.speaker.peers.delete(list(it.speaker.peers.rows))
    it.until(lambda: not it.snapshot.sessions)
    it.until(lambda: not kernel(it))


def test_an_agent_that_does_not_listen_costs_no_session(it: Rack, peer: Hostile) -> None:
    """The child's events pile up, and its keepalives go out all the same."""
    it.change(peer.address, hold_time=3)
    it.until(lambda: it.snapshot.sessions[peer.address].flaps == 1)
    peer.close()
    peer.meet()
    it.up(peer.address)
    with it.speaker.lock:  # the thread that reads the child is stuck with the first lines of it
        for number in range(1500):
            peer.update(b"".join(bytes([24, 20, number % 25, last]) for last in range(200)))
        silent_after = time.monotonic() + 4
        while time.monotonic() < silent_after:
            assert peer.hear()[0] in (UPDATE, KEEPALIVE), "our End-of-RIB may be among them"
            peer.say(KEEPALIVE)
    it.until(lambda: len(it.snapshot.learned) == 25 * 200)
    assert it.snapshot.sessions[peer.address].flaps == 1, "the one of the other hold time"


def test_of_two_changes_of_a_prefix_the_later_one_holds(it: Rack, peer: Hostile) -> None:
    """Many attributes change hands before the child may send: what goes out last for a prefix is what was said last."""
    child = it.speaker.child
    assert child is not None
    chance = random.Random(5)
    last = {}
    os.kill(child.process.pid, signal.SIGSTOP)
    lines = []
    for _ in range(400):
        prefix, med = f"10.42.{chance.randrange(20)}.0/24", chance.randrange(1, 5)
        lines.append(
            f"neighbor {peer.address} announce attributes next-hop self origin igp med {med} nlri {prefix}\n".encode()
        )
        last[prefix] = med
    child.send(lines)
    os.kill(child.process.pid, signal.SIGCONT)
    assert child.ask("sync")["refused"] == []
    said: dict[str, int] = {}
    peer.link.settimeout(2)
    try:
        while said != last:
            kind, body = peer.hear()
            if kind == UPDATE and len(body) > 4:
                size = int.from_bytes(body[2:4], "big")
                blob, nlri = body[4 : 4 + size], body[4 + size :]
                med = int.from_bytes(blob[blob.index(b"\x80\x04\x04") + 3 :][:4], "big")
                for at in range(0, len(nlri), 4):
                    said[f"10.42.{nlri[at + 3]}.0/24"] = med
    except TimeoutError:
        assert said == last
