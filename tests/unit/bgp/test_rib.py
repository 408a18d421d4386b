"""Which path wins: RFC 4271 9.1, guards, graceful restart, and that nothing depends on the order of messages."""

import random
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.addresses import Prefix
from felixlite.bgp.decision import best_paths, why
from felixlite.bgp.rib import Rib
from felixlite.model.inside import FilterOperation, FilterRule
from felixlite.snapshot import Path
from tests.support.talks import EXTERNAL, INTERNAL, PEERS, PREFIXES, path, play, rib, talks

P = Prefix.parse("172.20.0.0/24")


def chosen(made: Rib, prefix: Prefix = P) -> list[str]:
    return [candidate.peer for candidate in why(made.routes.get(prefix, ())) if candidate.chosen]


def hops(made: Rib, prefix: Prefix = P) -> list[str]:
    made.changes()
    found = made.best.get(prefix)
    return [str(hop) for hop in found.hops] if found else []


@pytest.mark.parametrize(
    ("better", "worse", "rule"),
    [
        (path(local_preference=200), path(local_preference=100, as_path=()), "local preference"),
        (path(), path(local_preference=99), "local preference"),
        (path(as_path=(1,)), path(as_path=(1, 2)), "length of the AS path"),
        (path(as_path=(1, frozenset((2, 3)))), path(as_path=(1, 2, 3)), "length of the AS path"),
        (path(origin=0), path(origin=2), "origin"),
        (path(as_path=(1,), med=5), path(as_path=(1,), med=6), "MED"),
        (path(as_path=(1,)), path(as_path=(1,), med=1), "MED"),
    ],
)
def test_each_step_decides_before_the_next(better: Path, worse: Path, rule: str) -> None:
    made = rib(a=INTERNAL, b=INTERNAL)
    made.announce("a", worse, [P])
    made.announce("b", better, [P])
    first, second = why(made.routes[P])
    assert (first.peer, first.chosen, second.chosen) == ("b", True, False)
    assert second.reason == f"lost by {rule}"
    assert first.reason == f"won by {rule}"


def test_meds_of_different_neighbours_are_not_compared() -> None:
    made = rib(a=EXTERNAL, b=EXTERNAL)
    made.announce("a", path("10.0.0.7", as_path=(1,), med=50), [P])
    made.announce("b", path("10.0.0.8", as_path=(2,), med=1), [P])
    assert hops(made) == ["10.0.0.7", "10.0.0.8"]


def test_ebgp_beats_ibgp() -> None:
    made = rib(a=INTERNAL, b=EXTERNAL)
    made.announce("a", path(as_path=(1,)), [P])
    made.announce("b", path("10.0.0.8", as_path=(1,)), [P])
    assert hops(made) == ["10.0.0.8"]


def test_equal_paths_share_the_traffic_up_to_sixty_four() -> None:
    names = {f"p{i:03}": INTERNAL for i in range(70)}
    made = rib(**names)
    for i, name in enumerate(names):
        made.announce(name, path(f"10.0.1.{i}"), [P])
    assert len(hops(made)) == 64


def test_one_next_hop_from_two_peers_is_one_hop() -> None:
    made = rib(a=INTERNAL, b=INTERNAL)
    made.announce("a", path(), [P])
    made.announce("b", path(), [P])
    assert hops(made) == ["10.0.0.9"]


def test_a_loop_is_refused_and_says_why() -> None:
    made = rib(a=EXTERNAL)
    made.announce("a", path(as_path=(65000, 64512)), [P])
    assert hops(made) == []
    assert "our own AS 64512" in why(made.routes[P])[0].reason


def test_the_own_as_may_be_allowed_and_that_is_judged_again() -> None:
    made = rib(a=EXTERNAL)
    made.announce("a", path(as_path=(65000, 64512)), [P])
    made.adjust("a", replace(EXTERNAL, allowed_own_as=1))
    assert hops(made) == ["10.0.0.9"]


def test_reflected_loops_are_refused() -> None:
    row = replace(INTERNAL, cluster_id=IPv4Address("9.9.9.9"))
    made = rib(a=row)
    made.announce("a", path(originator=IPv4Address("10.0.0.1")), [P])
    assert "reflected back" in why(made.routes[P])[0].reason
    made.announce("a", path(cluster_list=(IPv4Address("9.9.9.9"),)), [P])
    assert "our cluster 9.9.9.9" in why(made.routes[P])[0].reason


@pytest.mark.parametrize("prefix", ["0.0.0.0/0", "127.0.0.0/8", "224.0.0.0/4", "169.254.1.1/32", "::/0", "ff00::/8"])
def test_some_prefixes_are_believed_from_nobody(prefix: str) -> None:
    made = rib(a=INTERNAL)
    made.announce("a", path(), [Prefix.parse(prefix)])
    assert hops(made, Prefix.parse(prefix)) == []


def test_a_default_route_comes_in_when_somebody_says_so() -> None:
    made = rib(a=INTERNAL)
    default = Prefix.parse("0.0.0.0/0")
    made.announce("a", path(), [default, P])
    assert (hops(made, default), hops(made)) == ([], ["10.0.0.9"])
    made.adjust("a", replace(INTERNAL, accept_default=True))
    assert hops(made, default) == ["10.0.0.9"]


def test_nobody_takes_the_nodes_own_addresses_away() -> None:
    own = Prefix.parse("10.0.0.1/32")
    made = rib(a=replace(INTERNAL, protects=frozenset([own])))
    made.announce("a", path(), [own, P])
    assert (hops(made, own), hops(made)) == ([], ["10.0.0.9"])


def test_import_rules_reject_and_change() -> None:
    reject = FilterRule(False, Prefix.parse("172.20.0.0/24"), "Equal")
    change = FilterRule(True, operations=(FilterOperation(set_priority=7), FilterOperation(add_community="1:2")))
    made = rib(a=replace(INTERNAL, imports=(reject, change)))
    other = Prefix.parse("172.20.1.0/24")
    made.announce("a", path(), [P, other])
    assert hops(made) == []
    assert why(made.routes[P])[0].reason == "import rule 1 rejects it"
    assert (made.best[other].priority, made.best[other].path.communities) == (7, ("1:2",))  # type: ignore[union-attr]


def test_a_changed_filter_is_applied_to_what_was_told_before() -> None:
    made = rib(a=INTERNAL)
    made.announce("a", path(), [P])
    made.changes()
    made.adjust("a", replace(INTERNAL, imports=(FilterRule(False),)))
    assert made.changes() == ({}, [P])
    made.adjust("a", INTERNAL)
    assert hops(made) == ["10.0.0.9"]


def test_a_priority_of_a_calico_node_is_understood() -> None:
    made = rib(a=INTERNAL)
    made.announce("a", path(local_preference=2147483647 - 512), [P])
    made.changes()
    assert made.best[P].priority == 512


def test_stale_routes_stay_until_everything_was_told_again() -> None:
    made = rib(a=INTERNAL)
    other = Prefix.parse("172.20.1.0/24")
    made.announce("a", path(), [P, other])
    made.changes()
    made.retain("a", {4})
    assert made.changes() == ({}, [])
    made.announce("a", path(), [other])
    made.end_of_rib("a", 4)
    assert made.changes() == ({}, [P])


def test_a_second_restart_does_not_keep_what_the_first_left_stale() -> None:
    made = rib(a=INTERNAL)
    made.announce("a", path(), [P])
    made.retain("a", {4})
    made.retain("a", {4})
    assert hops(made) == []


def test_two_hundred_prefixes_of_one_update_are_one_object() -> None:
    made = rib(a=INTERNAL)
    made.announce("a", path(), [Prefix.from_int((20 << 24) + (i << 8), 24, 4) for i in range(200)])
    made.changes()
    assert len({id(learned) for learned in made.best.values()}) == 1


# -- properties


@settings(max_examples=60, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(PEERS, talks)))
def test_why_agrees_with_the_result(talk: Any) -> None:
    made = rib(**PEERS)
    for peer, said in talk.items():
        play(made, peer, said)
    made.changes()
    check_why(made)


def check_why(made: Rib) -> int:
    """How many prefixes were looked at."""
    for prefix in PREFIXES:
        told = why(made.routes.get(prefix, ()))
        result = made.best.get(prefix)
        assert {c.path.next_hop for c in told if c.chosen} == set(result.hops if result else ())
        assert all(c.reason for c in told)
        assert [e.peer for e in best_paths(made.routes.get(prefix, ()))] == [c.peer for c in told if c.chosen]
    return len(PREFIXES)


def any_path(dice: random.Random) -> Path:
    return path(
        dice.choice(["10.0.0.7", "10.0.0.8", "10.0.0.9"]),
        as_path=dice.choice([(65000,), (65000, 1), (65000, 2), (65001, 1), (65000, 64512)]),
        local_preference=dice.choice([None, 100, 200]),
        med=dice.choice([None, 0, 5]),
    )


def test_why_agrees_with_the_result_in_ten_thousand_cases_and_blocks_of_prefixes_are_as_one_by_one() -> None:
    dice, cases = random.Random(5), 0
    while cases < 10_000:
        blocks, single, told = rib(**PEERS), rib(**PEERS), {}
        for _ in range(dice.randrange(1, 7)):
            peer, some, said = dice.choice(sorted(PEERS)), dice.sample(PREFIXES, dice.randrange(1, 4)), any_path(dice)
            if dice.random() < 0.3:
                blocks.withdraw(peer, some)
                play(single, peer, [(prefix, None) for prefix in some])
            else:
                blocks.announce(peer, said, some)
                play(single, peer, [(prefix, said) for prefix in some])
            if dice.random() < 0.4:
                news, gone = blocks.changes()
                told = {k: v for k, v in {**told, **news}.items() if k not in gone}
        news, gone = blocks.changes()
        single.changes()
        assert {k: v for k, v in {**told, **news}.items() if k not in gone} == blocks.best == single.best
        cases += check_why(blocks)


@settings(max_examples=40, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(PEERS, talks)), st.sampled_from(sorted(PEERS)))
def test_a_lost_peer_leaves_nothing_behind(talk: Any, lost: str) -> None:
    made, without = rib(**PEERS), rib(**PEERS)
    for peer, said in talk.items():
        play(made, peer, said)
        if peer != lost:
            play(without, peer, said)
    made.changes()
    made.forget(lost)
    made.changes()
    without.changes()
    assert made.best == without.best
    assert lost not in made.sources
