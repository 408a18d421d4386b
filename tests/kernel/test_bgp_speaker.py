"""The exabgp child against BIRD: sessions, routes both ways, and every trap of exabgp that we know with its way round."""

import os
import signal
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path

import pytest

from felixlite.snapshot import InSync
from tests.support.speaking import AS, HERE, Rack, rack

R1, R2 = "10.99.0.101", "10.99.0.102"


def bird(number: int = 1, options: str = "", routes: str = "172.20.2.0/26", asn: int = AS, bgp: str = "bgp n1") -> str:
    statics = " ".join(f"route {route} blackhole;" for route in routes.split())
    return f"""
router id 10.99.0.{100 + number};
protocol device {{}}
protocol direct {{ ipv4; }}
protocol static s1 {{ ipv4; {statics} }}
protocol {bgp} {{ local 10.99.0.{100 + number} as {asn}; neighbor 10.99.0.1 as {AS}; hold time 9;
  connect retry time 1; connect delay time 1; error wait time 1,2; {options}
  ipv4 {{ import all; export where source = RTS_STATIC; next hop self; import keep filtered on; }}; }}
"""


@pytest.fixture
def one() -> Iterator[Rack]:
    with rack("fb-s1") as it:
        yield it


@pytest.fixture
def two() -> Iterator[Rack]:
    with rack("fb-s2", routers=2) as it:
        yield it


def test_a_block_is_announced_and_a_route_is_learned(one: Rack) -> None:
    router = one.router(1, "bird", bird())
    assert one.peer(R1) == {}
    assert one.announce(R1, "10.42.0.0/26", local_preference=200, communities=("65000:1", "65000:1:2")) == {}
    one.until(lambda: one.hops("172.20.2.0/26") == [R1])
    one.until(lambda: "10.42.0.0/26" in router.ask("show", "route"))
    told = router.ask("show", "route", "all", "10.42.0.0/26")
    assert "BGP.local_pref: 200" in told
    assert "BGP.community: (65000,1)" in told
    assert "BGP.large_community: (65000, 1, 2)" in told
    assert one.withdraw(R1, "10.42.0.0/26") == {}
    one.until(lambda: "10.42.0.0/26" not in router.ask("show", "route"))


def test_the_source_is_in_sync_after_the_end_of_rib_of_its_peers(one: Rack) -> None:
    one.router(1, "bird", bird())
    one.peer(R1)
    one.until(lambda: "bgp" in one.snapshot.in_sync, 10)
    kinds = [change for change in one.history if isinstance(change, InSync) or getattr(change, "kind", "") == "learned"]
    assert getattr(kinds[0], "kind", "") == "learned"


def test_what_the_child_holds_is_read_back_as_it_was_told(one: Rack) -> None:
    one.peer(R1)
    one.announce(R1, "10.42.0.0/26", "10.42.1.0/26", med=5, communities=("1:2",))
    one.announce(R1, "10.43.0.0/26", local_preference=7)
    rows = one.speaker.announcements.read()
    assert {str(key.prefix): (row.med, row.local_preference) for key, row in rows.items()} == {
        "10.42.0.0/26": (5, None),
        "10.42.1.0/26": (5, None),
        "10.43.0.0/26": (None, 7),
    }


def test_a_killed_child_is_started_again_and_its_routes_stay(one: Rack) -> None:
    one.router(1, "bird", bird(options="graceful restart on;"))
    one.peer(R1)
    one.until(lambda: one.hops("172.20.2.0/26") == [R1])
    child = one.speaker.child
    assert child is not None
    one.history.clear()
    one.touched.clear()
    os.kill(child.process.pid, signal.SIGKILL)
    one.until(lambda: {"bgp peers", "announcements"} <= set(one.touched))
    assert one.speaker.peers.read() == {}
    one.peer(R1)
    one.up(R1)
    one.until(lambda: one.speaker.sessions.sessions[R1].stale_until is None)
    assert one.hops("172.20.2.0/26") == [R1]
    assert not [change for change in one.history if getattr(change, "kind", "") == "learned"], (
        "never gone, not even once"
    )


def test_a_password_that_does_not_fit_keeps_the_session_down_and_the_right_one_brings_it_up(one: Rack) -> None:
    one.router(1, "bird", bird(options='password "s3cr$t ;{}#";'))
    one.peer(R1, password="wrong")
    one.until(lambda: one.error(R1) != "" or one.state(R1) == "Connect")
    assert one.state(R1) != "Established"
    one.change(R1, password="s3cr$t ;{}#")
    one.up(R1)


def test_no_secret_is_in_an_argument_or_a_readable_file(one: Rack) -> None:
    one.peer(R1, password="hunter2")
    child = one.speaker.child
    assert child is not None
    assert b"hunter2" not in Path(f"/proc/{child.process.pid}/cmdline").read_bytes()
    modes = {path.name: path.stat().st_mode & 0o777 for path in (one.directory / "run").iterdir()}
    assert set(modes.values()) == {0o600}
    assert (one.directory / "run").stat().st_mode & 0o777 == 0o700
    assert "hunter2" not in repr(one.speaker.peers.rows)


def test_another_peer_comes_and_goes_without_a_flap_of_the_first(two: Rack) -> None:
    two.router(1, "bird", bird())
    two.router(2, "bird", bird(2))
    two.peer(R1)
    two.up(R1)
    since = two.snapshot.sessions[R1].since
    two.peer(R2)
    two.up(R2)
    two.change(R2, hold_time=6)
    two.until(lambda: two.snapshot.sessions[R2].flaps == 1)
    two.up(R2)
    two.speaker.peers.delete([R2])
    two.until(lambda: R2 not in two.snapshot.sessions)
    assert two.snapshot.sessions[R1].since == since
    assert two.snapshot.sessions[R1].flaps == 0


def test_a_row_that_exabgp_refuses_is_named_and_does_not_spoil_later_reloads(two: Rack) -> None:
    two.router(1, "bird", bird())
    two.router(2, "bird", bird(2))
    errors = two.peer(R1, "10.99.0.0/33")
    assert list(errors) == ["10.99.0.0/33"]
    assert "exabgp refuses it" in str(errors["10.99.0.0/33"])
    two.up(R1)
    assert two.peer(R2) == {}
    two.up(R2)


def test_a_reload_right_after_announcements_is_not_swallowed(two: Rack) -> None:
    two.router(1, "bird", bird())
    two.router(2, "bird", bird(2))
    two.peer(R1)
    two.up(R1)
    for i in range(20):
        two.announce(R1, *(f"10.{i + 1}.{j}.0/24" for j in range(100)))
    two.peer(R2)
    assert set(two.speaker.peers.read()) == {R1, R2}
    two.up(R2)


def test_refused_announcements_are_named_one_by_one(one: Rack) -> None:
    one.peer(R1)
    errors = one.announce(R1, "fd00::/64")
    assert "not configured" in str(next(iter(errors.values())))
    assert one.announce("10.99.0.77", "10.42.0.0/26") != {}
    assert one.announce(R1, "10.42.0.0/26") == {}


def test_a_removed_peer_is_told_so_and_forgets_our_routes_at_once(one: Rack) -> None:
    router = one.router(1, "bird", bird(options="graceful restart on;"))
    one.peer(R1)
    one.announce(R1, "10.42.0.0/26")
    one.until(lambda: "10.42.0.0/26" in router.ask("show", "route"))
    one.speaker.peers.delete([R1])
    one.until(lambda: "10.42.0.0/26" not in router.ask("show", "route"), 5)
    assert "172.20.2.0/26" not in str(one.snapshot.learned)


def test_after_our_address_went_away_and_came_back_everything_is_told_again(one: Rack) -> None:
    other = "10.99.0.2"
    one.node.ip(f"addr add {other}/24 dev br0")
    second = bird().partition("protocol bgp")[2].replace("bgp n1", "bgp n2").replace("10.99.0.1 as", f"{other} as")
    router = one.router(1, "bird", bird() + "protocol bgp" + second.replace(" n1 {", " n2 {"))
    told = lambda: router.ask("show", "route", "all")  # noqa: E731  one word for what is asked five times
    one.peer(R1)
    one.announce(R1, "10.42.0.0/26")
    one.until(lambda: "via 10.99.0.1 " in told())
    for address in (other, str(HERE)):
        one.touched.clear()
        one.change(R1, local_address=ip_address(address))
        assert "announcements" in one.touched
        assert one.speaker.announcements.read() == {}, "a session of another address has said nothing yet"
        one.announce(R1, "10.42.0.0/26")
        one.until(lambda address=address: f"from {address}" in told() or f"via {address} " in told())
