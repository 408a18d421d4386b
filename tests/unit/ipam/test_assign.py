from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.addresses import Prefix
from felixlite.ipam import assign, blocks
from felixlite.ipam.assign import NoPool, Occupied, Request, View, fnv1a, pools_for, unclaimed
from felixlite.model.inside import Pool, Use
from felixlite.model.selector import parse

A = Pool("a", Prefix.parse("10.0.0.0/16"))
B = Pool("b", Prefix.parse("10.1.0.0/16"))


def chosen(*pools, request=None, **view):
    return [pool.name for pool in pools_for(request or Request("h", {}), 4, View(pools, **view), "n1")]


def test_pools_are_used_in_the_order_of_their_names():
    assert chosen(B, A) == ["a", "b"]


def test_selectors_choose_by_node_and_namespace():
    racks = replace(A, node_selector=parse("rack == 'x'"))
    teams = replace(B, namespace_selector=parse("team == 'red'"))

    assert chosen(racks, teams, node_labels={"rack": "x"}) == ["a"]
    assert chosen(racks, teams, request=Request("h", {}, namespace_labels={"team": "red"})) == ["b"]


@pytest.mark.parametrize(
    "pool",
    [
        replace(A, disabled=True),
        replace(A, allocatable=False),
        replace(A, automatic=False),
        replace(A, allowed_uses=frozenset({Use.TUNNEL})),
        replace(A, node_selector=parse("has(never)")),
        replace(A, namespace_selector=parse("has(never)")),
    ],
)
def test_the_error_names_each_pool_and_why_it_is_not_used(pool):
    with pytest.raises(NoPool, match=r"no IPv4 pool may be used on node n1: pool a "):
        chosen(pool)


def test_a_pool_that_is_asked_for_is_used_whatever_it_selects():
    manual = replace(B, automatic=False, node_selector=parse("has(never)"))

    assert chosen(A, manual, request=Request("h", {}, pools=("b",))) == ["b"]
    assert chosen(A, manual, request=Request("h", {}, pools=("10.1.0.0/16",))) == ["b"]


@pytest.mark.parametrize("name", ["c", "10.9.0.0/16"])
def test_a_pool_that_does_not_exist_cannot_be_asked_for(name):
    with pytest.raises(NoPool, match=f"there is no pool '{name}'"):
        chosen(A, request=Request("h", {}, pools=(name,)))


def test_a_pool_that_is_asked_for_as_one_of_the_other_family_is_refused():
    six = replace(B, name="six", cidr=Prefix.parse("fd00:10::/48"))
    assert chosen(A, B, six, request=Request("h", {}, pools_of={4: ("b",), 6: ("six",)})) == ["b"]
    for named in ({4: ("six",)}, {6: ("b",)}, {4: ("b",), 6: ("fd00::/64", "a")}):
        with pytest.raises(NoPool, match=r"asked for as an IPv. pool, is an IPv. pool"):
            chosen(A, B, six, request=Request("h", {}, pools_of=named))
    with pytest.raises(NoPool, match="there is no pool 'nowhere'"):
        chosen(A, six, request=Request("h", {}, pools_of={6: ("nowhere",)}))


def test_of_two_overlapping_pools_only_one_hands_out():
    assert chosen(A, Pool("z", Prefix.parse("10.0.128.0/17"))) == ["a"]


def test_the_start_is_fnv_1a_of_the_nodes_name():
    assert fnv1a("") == 0x811C9DC5
    assert fnv1a("a") == 0xE40C292C
    assert fnv1a("foobar") == 0xBF9CF968


prefixes = st.builds(
    lambda value, length: Prefix((0x0A000000 | value).to_bytes(4, "big"), length).masked(),
    st.integers(0, 0x3FF),
    st.integers(20, 32),
)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(prefixes, max_size=12), st.integers(24, 30), st.lists(prefixes, max_size=3), st.text("n-0é", max_size=3)
)
def test_the_next_block_is_the_first_free_one_from_the_nodes_own_place(existing, size, reserved, node):
    pool = Pool("p", Prefix.parse("10.0.0.0/22"), block_size=size)
    every = [Prefix.from_int(int(pool.cidr) + (n << (32 - size)), size, 4) for n in range(1 << (size - 22))]
    start = fnv1a(node) % len(every)

    def usable(block):
        addresses = [Prefix.host(block.address(n)) for n in range(block.size)]
        return not any(b.overlaps(block) for b in existing) and any(
            not any(r.covers(a) for r in reserved) for a in addresses
        )

    naive = next(filter(usable, every[start:] + every[:start]), None)

    assert unclaimed([pool], Occupied(existing), reserved, node, 0.0) == naive


@settings(max_examples=50, deadline=None)
@given(st.lists(prefixes, min_size=1, max_size=8))
def test_blocks_that_are_learned_one_by_one_count_like_those_known_at_first(existing):
    pool = Pool("p", Prefix.parse("10.0.0.0/22"))
    grown = Occupied([])
    grown.numbers(pool.cidr, 26)
    for block in existing:
        grown.add(block)

    assert grown.numbers(pool.cidr, 26) == Occupied(existing).numbers(pool.cidr, 26)


def test_blocks_of_one_address_are_not_always_handed_out_from_the_same_place():
    pool = Pool("p", Prefix.parse("10.0.0.0/24"), block_size=32)

    assert unclaimed([pool], Occupied([]), [], "n1", 1.0) != unclaimed([pool], Occupied([]), [], "n1", 1.000001)


def test_an_idle_block_has_been_empty_for_a_minute_whatever_the_clocks_say():
    ledger = blocks.empty(Prefix.parse("10.0.0.0/26"), "host:n2", 1000.0)

    assert not assign.is_idle(ledger, 1060.0)
    assert assign.is_idle(ledger, 1061.0)
    assert assign.is_idle(ledger, 900.0)


def test_a_huge_ipv6_pool_is_not_walked_to_its_end():
    pool = Pool("p", Prefix.parse("fd00::/48"), block_size=122)

    assert unclaimed([pool], Occupied([Prefix.parse("fd00::/122")]), [], "n1", 0.0)
