"""What a session with a router can be asked to do, each against BIRD, FRR and GoBGP (tests/support/fleet.py)."""

import os
import random
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import replace
from ipaddress import IPv4Address, ip_address

import pytest

from felixlite.addresses import Prefix
from felixlite.model.inside import BgpConfiguration, FilterRule, PrefixAdvertisement
from tests.support import fleet as support
from tests.support.fleet import BLOCK, OTHER_AS, ROUTERS_AS, SHARED, End, Fleet, node
from tests.support.speakers import COMMUNITY, KINDS

REJECT, ACCEPT = FilterRule(accept=False), FilterRule(accept=True)
Scenario = Callable[[Fleet, str], None]


@pytest.fixture(scope="module")
def routers() -> Iterator[Fleet]:
    with support.fleet("fb-f") as it:
        yield it


@pytest.fixture
def fleet(routers: Fleet) -> Iterator[Fleet]:
    yield routers
    routers.hang_up()


def words(text: str) -> str:
    """Communities as a router writes them, as we do."""
    return text.replace("(", "").replace(")", "").replace(", ", ":").replace(",", ":")


def announce(fleet: Fleet, end: End, *prefixes: str, **fields: object) -> None:
    assert fleet.rack.announce(end.address, *prefixes, **fields) == {}


def internal_session_with_a_password_and_communities_both_ways(fleet: Fleet, kind: str) -> None:
    end = fleet.at(kind, "ibgp")
    fleet.call(end)
    announce(fleet, end, BLOCK, local_preference=222, communities=("65000:1", "65000:1:2"))
    fleet.until(lambda: fleet.hops(end.route) == [end.address])
    found = fleet.learned(end.route)
    assert found
    assert found.path
    assert (found.ibgp, found.path.communities) == (True, (COMMUNITY,))
    fleet.until(lambda: end.heard(BLOCK))
    told = words(end.heard(BLOCK))
    assert "65000:1:2" in told
    assert "65000:1" in told.replace("65000:1:2", "")
    assert "222" in told


def external_session_with_as_numbers_of_four_bytes(fleet: Fleet, kind: str) -> None:
    end = fleet.at(kind, "ebgp")
    fleet.call(end)
    announce(fleet, end, BLOCK)
    fleet.until(lambda: fleet.hops(end.route) == [end.address])
    found = fleet.learned(end.route)
    assert found
    assert found.path
    assert (found.ibgp, found.path.as_path, found.path.local_preference) == (False, (ROUTERS_AS,), None)
    fleet.until(lambda: str(OTHER_AS) in end.heard(BLOCK))


def ipv6(fleet: Fleet, kind: str) -> None:
    end = fleet.at(kind, "v6")
    fleet.call(end)
    announce(fleet, end, "fd42::/122")
    fleet.until(lambda: fleet.hops(end.route) == [end.address])
    fleet.until(lambda: end.here in end.heard("fd42::/122"))


def ipv4_over_an_ipv6_next_hop(fleet: Fleet, kind: str) -> None:
    end = fleet.at(kind, "over6")
    fleet.call(end)
    hop = f"fd99:{end.wire.number}::{100 + end.number}"
    if kind == "gobgp":
        end.router.ask("global", "rib", "add", "172.29.0.0/24", "nexthop", hop, "-a", "ipv4")
        route = "172.29.0.0/24"
    else:
        route = end.route
    announce(fleet, end, "10.42.7.0/26", next_hop=ip_address(end.here))
    fleet.until(lambda: fleet.hops(route) == [hop])
    fleet.until(lambda: end.here in end.heard("10.42.7.0/26"))
    fleet.until(lambda: f"via inet6 {hop}" in fleet.rack.node.ip(f"route show {route}"))


def import_filter_that_changes_asks_nobody(fleet: Fleet, kind: str) -> None:
    end = fleet.at(kind, "plain")
    fleet.call(end, imports=(replace(REJECT, cidr=Prefix.parse("172.20.0.0/16"), operator="In"),))
    fleet.until(lambda: fleet.hops(SHARED) == [end.address])
    source = fleet.rack.speaker.sessions.rib.sources[end.address]
    fleet.until(lambda: Prefix.parse(end.route) in source.prefixes)
    assert fleet.hops(end.route) == []
    fleet.change(end, imports=(replace(REJECT, community=COMMUNITY),))
    assert (fleet.hops(SHARED), fleet.hops(end.route)) == ([end.address], [])
    fleet.change(end, imports=())
    assert fleet.hops(end.route) == [end.address]
    assert fleet.rack.snapshot.sessions[end.address].flaps == 0


def export_filter_and_communities_of_a_prefix(fleet: Fleet, kind: str) -> None:
    end = fleet.at(kind, "plain")
    advertised = BgpConfiguration(advertisements=(PrefixAdvertisement(Prefix.parse("10.42.0.0/16"), ("65000:9",)),))
    fleet.call(end, exports=(replace(REJECT, cidr=Prefix.parse("10.42.0.0/16"), operator="In"),))
    assert fleet.tell(node(end.wire)) == {}
    fleet.change(end, exports=())
    fleet.tell(node(end.wire), advertised)
    fleet.until(lambda: "65000:9" in words(end.heard(BLOCK)))
    fleet.change(end, exports=(REJECT,))
    assert fleet.tell(node(end.wire), advertised) == {}
    fleet.until(lambda: not end.heard(BLOCK))


def next_hop_modes_of_what_is_passed_on(fleet: Fleet, kind: str) -> None:
    """A border: told by a router of another AS, passed on inside ours."""
    outside, inside = fleet.at(kind, "border"), fleet.at(kind, "plain", second=True)
    fleet.call(outside)
    fleet.until(lambda: fleet.hops(outside.route) == [outside.address])
    for mode, hop in (("Keep", outside.address), ("Self", inside.here), ("Auto", outside.address)):
        fleet.call(inside, next_hop_mode=mode)
        fleet.tell(node(inside.wire))
        fleet.until(lambda hop=hop: f"{hop} " in inside.heard(outside.route).replace(",", " ").replace("\n", " "))


def router_as_reflector(fleet: Fleet, kind: str) -> None:
    """Two clients of it, both of them us: what one says comes back to the other with its originator."""
    one, other = fleet.at(kind, "client"), fleet.at(kind, "client2")
    fleet.call(one, other)
    announce(fleet, one, BLOCK)
    fleet.until(lambda: fleet.learned(BLOCK))
    found = fleet.learned(BLOCK)
    assert found
    assert found.path
    assert (found.best, found.path.originator) == (other.address, IPv4Address(f"10.99.{one.wire.number}.1"))
    assert found.path.cluster_list
    assert found.hops == (IPv4Address(one.here),)


def node_as_reflector(fleet: Fleet, kind: str) -> None:
    """Two routers that do not know each other, clients of ours."""
    one, other = fleet.at(kind, "plain"), fleet.at(kind, "plain", second=True)
    cluster = IPv4Address("10.99.88.88")
    fleet.call(one, other, cluster_id=cluster, client=True)
    fleet.until(lambda: fleet.hops(one.route) == [one.address])
    fleet.tell(node(one.wire, cluster_id=cluster))
    fleet.until(lambda: str(cluster) in other.heard(one.route))
    told = other.heard(one.route)
    assert one.router_id in told, "who says it first"
    assert one.address in told, "the way to it does not lead through us"


def routers_refresh(fleet: Fleet, kind: str) -> None:
    """The router asks for everything again (RFC 2918)."""
    end = fleet.at(kind, "plain")
    fleet.call(end)
    announce(fleet, end, BLOCK)
    fleet.until(lambda: end.heard(BLOCK))
    before = updates(end)
    match kind:
        case "bird":
            end.router.ask("reload", "in", end.protocol)
        case "frr":
            end.router.ask(f"clear bgp {end.here} soft in")
    fleet.until(lambda: updates(end) > before)
    assert end.heard(BLOCK)
    assert fleet.rack.snapshot.sessions[end.address].flaps == 0


def updates(end: End) -> int:
    """How many UPDATEs (BIRD: routes) the router counted from us."""
    if end.router.kind == "bird":
        question, mark = ("show", "protocols", "all", end.protocol), "Import updates:"
    else:
        question, mark = (f"show bgp neighbors {end.here}",), "Updates:"
    return int(end.router.ask(*question).partition(mark)[2].split()[mark == "Updates:"])


def a_leaking_router_is_shut_out_and_others_stay(fleet: Fleet, kind: str) -> None:
    leaking, other = fleet.at(kind, "leak"), fleet.at(kind, "plain", second=True)
    fleet.call(other)
    fleet.until(lambda: fleet.hops(other.route) == [other.address])
    fleet.call(leaking, max_prefixes=10)
    fleet.until(lambda: fleet.hops(leaking.route) == [leaking.address])
    fleet.change(leaking, max_prefixes=1)
    fleet.until(lambda: fleet.rack.state(leaking.address) == "Idle")
    assert "more than 1 prefixes" in fleet.rack.error(leaking.address)
    assert fleet.hops(leaking.route) == []
    assert fleet.rack.snapshot.sessions[other.address].flaps == 0


def two_routers_share_the_traffic(fleet: Fleet, kind: str) -> None:
    both = [fleet.at(kind, "shared"), fleet.at(kind, "shared", second=True)]
    fleet.call(*both)
    addresses = sorted(end.address for end in both)
    fleet.until(lambda: fleet.kernel(SHARED).get(SHARED) == set(addresses))
    assert fleet.hops(SHARED) == addresses
    with ExitStack() as stack:
        sinks = [stack.enter_context(sink(fleet, end)) for end in both]
        with fleet.rack.node.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM) as sending:
            for last in range(1, 251):
                sending.sendto(b"x", (f"172.30.0.{last}", 9999))
        fleet.until(lambda: all(readable(each) for each in sinks))


def sink(fleet: Fleet, end: End) -> socket.socket:
    """Takes what arrives at the router for the shared prefix."""
    other = fleet.rack.others[end.number - 1]
    other.ip("link set lo up")
    other.ip(f"route replace local {SHARED} dev lo")
    made = other.run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("0.0.0.0", 9999))
    made.setblocking(False)
    return made


def readable(each: socket.socket) -> bool:
    try:
        return bool(each.recv(1, socket.MSG_PEEK))
    except BlockingIOError:
        return False


def a_thousand_random_events(fleet: Fleet, kind: str) -> None:
    """Routes come, go and flap on both sides, sessions are reset; in the end both tables are what they should be."""
    end, chance = fleet.at(kind, "events"), random.Random(7)
    fleet.call(end)
    theirs, ours = set[str](), set[str]()
    for turn in range(20):
        for _ in range(20):
            theirs ^= {f"172.21.{chance.randrange(60)}.0/24"}
        tell_at_router(end, theirs)
        for _ in range(30):
            ours ^= {f"10.43.{chance.randrange(60)}.0/24"}
        say(fleet, end, ours)
        if turn in (6, 13):
            reset(fleet, end)
    fleet.up(end.address)
    fleet.until(lambda: set(fleet.kernel("172.21.0.0/16")) == theirs)
    fleet.until(lambda: of_ours(end) == ours)
    assert {hop for hops in fleet.kernel("172.21.0.0/16").values() for hop in hops} == {end.address}
    tell_at_router(end, set())


def say(fleet: Fleet, end: End, prefixes: set[str]) -> None:
    """As the core does: the difference of what is wanted and what is there."""
    table = fleet.rack.speaker.announcements
    there = {str(key.prefix) for key in table.read() if key.peer == end.address}
    if more := prefixes - there:
        announce(fleet, end, *more)
    if less := there - prefixes:
        assert fleet.rack.withdraw(end.address, *less) == {}


told: dict[str, set[str]] = {}


def tell_at_router(end: End, prefixes: set[str]) -> None:
    before = told.get(end.router.kind, set())
    more, less = sorted(prefixes - before), sorted(before - prefixes)
    match end.router.kind:
        case "bird":
            end.router.configure(support.bird(end.number, tuple(sorted(prefixes))))
        case "frr":
            lines = [f"network {p}" for p in more] + [f"no network {p}" for p in less]
            end.router.ask("configure terminal", f"router bgp {ROUTERS_AS}", "address-family ipv4 unicast", *lines)
        case "gobgp":
            for word, some in (("add", more), ("del", less)):
                for prefix in some:
                    end.router.ask("global", "rib", word, prefix)
    told[end.router.kind] = set(prefixes)


def reset(fleet: Fleet, end: End) -> None:
    match end.router.kind:
        case "bird":
            end.router.ask("restart", end.protocol)
        case "frr":
            end.router.ask(f"clear bgp {end.here}")
        case "gobgp":  # it would stay away for half a minute after its own reset
            assert fleet.rack.speaker.running().ask("teardown", peer=end.address, code=6, subcode=4) is not None


def of_ours(end: End) -> set[str]:
    question = {"bird": ("show", "route"), "frr": ("show bgp ipv4 unicast",), "gobgp": ("global", "rib")}
    text = end.router.ask(*question[end.router.kind])
    return {word for word in text.split() if word.startswith("10.43.") and word.endswith("/24")}


SCENARIOS: list[Scenario] = [
    internal_session_with_a_password_and_communities_both_ways,
    external_session_with_as_numbers_of_four_bytes,
    ipv6,
    ipv4_over_an_ipv6_next_hop,
    import_filter_that_changes_asks_nobody,
    export_filter_and_communities_of_a_prefix,
    next_hop_modes_of_what_is_passed_on,
    router_as_reflector,
    node_as_reflector,
    routers_refresh,
    a_leaking_router_is_shut_out_and_others_stay,
    two_routers_share_the_traffic,
    a_thousand_random_events,
]

LACKING = {(routers_refresh, "gobgp")}  # GoBGP keeps all that it heard and judges that again: it never asks
TABLE = [(scenario, kind) for scenario in SCENARIOS for kind in KINDS if (scenario, kind) not in LACKING]


@pytest.mark.parametrize(("scenario", "kind"), TABLE, ids=[f"{kind}-{scenario.__name__}" for scenario, kind in TABLE])
def test_against_the_routers(fleet: Fleet, scenario: Scenario, kind: str) -> None:
    scenario(fleet, kind)


def test_a_hold_time_of_three_seconds_is_no_false_alarm_while_both_cores_are_busy(fleet: Fleet) -> None:
    ends = [fleet.at(kind, "fast") for kind in KINDS]
    fleet.call(*ends)
    busy = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(2)]
    try:
        for number in range(45):  # nine seconds, three times the hold time
            announce(fleet, ends[0], f"10.44.{number}.0/24")
            fleet.rack.thread.join(0.2)
    finally:
        for each in busy:
            each.kill()
            each.wait()
    assert [fleet.rack.snapshot.sessions[end.address].flaps for end in ends] == [0, 0, 0]
    assert [fleet.rack.state(end.address) for end in ends] == ["Established"] * 3


def test_who_falls_silent_is_dead_after_the_hold_time(fleet: Fleet) -> None:
    ends = [fleet.at(kind, "fast") for kind in KINDS]
    fleet.call(*ends)
    fleet.until(lambda: all(fleet.hops(end.route) == [end.address] for end in ends))
    pids = [pid for end in ends for pid in end.router.pids]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        fleet.until(lambda: not any(fleet.hops(end.route) for end in ends))
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    for end in ends:
        assert "hold timer expired" in fleet.rack.error(end.address)
