import contextlib
from dataclasses import replace
from ipaddress import ip_address
from itertools import pairwise

import pytest

from felixlite.addresses import Prefix
from felixlite.datastore.store import Key, Write
from felixlite.errors import Conflict
from felixlite.ipam import blocks, documents
from felixlite.ipam.assign import Config, Exhausted, NoPool, Taken, View
from felixlite.ipam.store import Ipam, Release
from felixlite.model.inside import Pool
from felixlite.model.selector import parse
from tests.unit.ipam.world import POOL, POOL6, World, wants


@pytest.fixture(params=[True, False], ids=["atomic", "in-steps"])
def world(request) -> World:
    return World(atomic=request.param)


def test_the_first_assignment_claims_a_block_and_confirms_it(world):
    assigned = world.node().assign(wants())

    (block,) = assigned.blocks
    assert assigned.addresses[0].length == 32
    assert block.covers(assigned.addresses[0])
    assert world.ledger(block).owner == "host:n1"
    (affinity,) = world.store.list(documents.AFFINITY).entries
    assert affinity.document["spec"]["state"] == "confirmed"
    assert world.counts("k8s.c1") == {block: 1}


def test_an_assignment_from_an_own_block_is_one_round_trip():
    world = World()
    world.node().assign(wants("a"))
    world.store.trips = 0

    world.node().assign(wants("b"))

    assert world.store.trips == 1


def test_256_addresses_take_fewer_than_five_round_trips_per_block():
    world = World(Pool("wide", Prefix.parse("10.0.0.0/16")))

    assigned = world.node().assign(wants(v4=256))

    assert len(set(assigned.addresses)) == 256
    assert world.store.trips < 5 * len(set(assigned.blocks))


class Overtaken:
    """A store on which somebody else is faster, `times` times."""

    def __init__(self, store, meanwhile):
        self._store, self._meanwhile, self.times = store, meanwhile, 0

    def __getattr__(self, name):
        return getattr(self._store, name)

    def commit(self, writes, meanwhile=None):
        if self.times and any(write.key.kind == documents.BLOCK for write in writes):
            self.times -= 1
            self._meanwhile(self.times)
        return self._store.commit(writes, meanwhile)


def test_of_two_agents_of_one_node_each_takes_from_blocks_of_its_own_once_they_met(world):
    other = world.node()
    store = Overtaken(world.store, lambda n: other.assign(wants(f"other{n}")))
    mine = Ipam(store, "n1", lambda: world.view, lambda: world.now)
    (block,) = other.assign(wants("other")).blocks
    assert mine.assign(wants("first")).blocks == (block,)
    store.times = 2
    (own,) = mine.assign(wants("second")).blocks

    assert store.times == 0
    assert own != block
    assert {b for n in range(20) for b in mine.assign(wants(f"m{n}")).blocks} == {own}
    assert {b for n in range(20) for b in other.assign(wants(f"o{n}")).blocks} == {block}


def test_two_agents_of_one_node_never_hand_out_the_same_address(world):
    mine, other = world.node(), Ipam(world.store, "n1", lambda: world.view, lambda: world.now)

    given = [(mine, other)[n % 2].assign(wants(f"h{n}")).addresses[0] for n in range(40)]

    assert len(set(given)) == 40
    assert len(world.ledgers()) == 1


def test_a_released_address_goes_to_the_end_of_the_queue(world):
    first = world.node().assign(wants("a")).addresses
    assert world.node().release_handle("a") == first

    assert world.node().assign(wants("b")).addresses != first
    assert world.counts("a") is None


def test_dual_stack_is_all_or_nothing(world):
    world.view = View((POOL,))

    with pytest.raises(NoPool, match="no IPv6 pool"):
        world.node().assign(wants(v4=1, v6=1))

    assert not any(list(blocks.in_use(ledger)) for ledger in world.ledgers())
    assert world.counts("k8s.c1") is None


def test_dual_stack_gives_one_of_each(world):
    world.view = View((POOL, POOL6))

    four, six = world.node().assign(wants(v4=1, v6=1)).addresses

    assert (four.family, six.family) == (4, 6)
    assert len(world.counts("k8s.c1")) == 2


def test_what_the_caller_adds_is_written_with_it(world):
    key = Key("WorkloadEndpoint", "w", "ns")

    def endpoint(addresses):
        return [Write(key, {"spec": {"ipNetworks": [str(a) for a in addresses]}}, None)]

    assigned = world.node().assign(wants(), endpoint)

    assert world.store.get(key).document["spec"]["ipNetworks"] == [str(assigned.addresses[0])]


def test_when_the_callers_write_loses_nothing_is_assigned(world):
    key = Key("WorkloadEndpoint", "w", "ns")
    world.store.create(key, {})

    with pytest.raises(Conflict, match="changed meanwhile"):
        world.node().assign(wants(), [Write(key, {}, None)])

    assert not any(list(blocks.in_use(ledger)) for ledger in world.ledgers())
    assert world.counts("k8s.c1") is None


def test_a_repeated_request_gets_what_its_handle_holds(world):
    first = world.node().assign(wants(reuse=True))
    again = world.node().assign(wants(reuse=True))
    after_restart = Ipam(world.store, "n1", lambda: world.view, lambda: world.now).assign(wants(reuse=True))

    assert again.addresses == after_restart.addresses == first.addresses
    assert (first.existed, again.existed) == (False, True)


def test_one_handle_may_hold_several_addresses(world):
    one = world.node().assign(wants("h")).addresses
    two = world.node().assign(wants("h")).addresses

    assert set(world.node().held("h")) == {*one, *two}
    assert set(world.node().release_handle("h")) == {*one, *two}


def test_a_full_pool_says_what_to_do():
    world = World(Pool("tiny", Prefix.parse("10.0.0.0/26")), strict_affinity=True)
    world.node("n2").assign(wants("x", node="n2"))

    with pytest.raises(Exhausted) as error:
        world.node().assign(wants())

    assert "pool tiny is full: 0 of 1 blocks free" in str(error.value)
    assert "node n1 may not borrow because strictAffinity is on" in str(error.value)
    assert "add a pool" in str(error.value)


def test_an_address_that_became_free_just_now_is_found_before_saying_no(world):
    world.view = View((Pool("tiny", Prefix.parse("10.0.0.0/31"), block_size=32),), Config(max_blocks=1))
    world.node("n2").assign(wants("x", node="n2"))
    world.node().assign(wants("a"))
    with pytest.raises(Exhausted):
        world.node().assign(wants("b"))
    world.node("n2").release_handle("x")

    assert world.node().assign(wants("b")).addresses


def test_an_address_is_borrowed_when_every_block_is_anothers(world):
    world.view = View((Pool("tiny", Prefix.parse("10.0.0.0/26")),))
    world.node("n2").assign(wants("x", node="n2"))

    (address,) = world.node().assign(wants("y")).addresses

    (ledger,) = world.ledgers()
    assert ledger.owner == "host:n2"
    assert blocks.borrowed(ledger) == {address.first: "n1"}


def test_an_idle_empty_block_of_another_node_is_taken_over(world):
    world.view = View((Pool("tiny", Prefix.parse("10.0.0.0/26")),))
    world.node("n2").assign(wants("x", node="n2"))
    world.node("n2").release_handle("x")
    world.now += 61

    world.node().assign(wants("y"))

    (ledger,) = world.ledgers()
    assert ledger.owner == "host:n1"
    assert [e.document["spec"]["node"] for e in world.store.list(documents.AFFINITY).entries] == ["n1"]


def test_the_former_owner_of_a_taken_block_notices(world):
    test_an_idle_empty_block_of_another_node_is_taken_over(world)

    (address,) = world.node("n2").assign(wants("z", node="n2")).addresses

    assert blocks.borrowed(world.ledgers()[0]) == {address.first: "n2"}


def test_a_block_limit_stops_claims_but_not_loans(world):
    world.view = View((POOL,), Config(max_blocks=1))
    world.node("n2").assign(wants("x", node="n2"))
    assigned = world.node().assign(wants(v4=65))

    assert len(assigned.addresses) == 65
    assert len(world.store.list(documents.AFFINITY, node="n1").entries) == 1


def test_an_empty_block_of_a_pool_that_no_longer_selects_the_node_is_given_up_when_one_is_claimed(world):
    racks = replace(POOL, node_selector=parse("rack == 'a'"))
    other = Pool("other", Prefix.parse("10.1.0.0/24"))
    world.view = View((racks,), node_labels={"rack": "a"})
    world.node().assign(wants("x"))
    world.node().release_handle("x")
    world.view = View((racks, other), node_labels={"rack": "b"})

    world.node().assign(wants("y"))

    assert [str(ledger.cidr)[:4] for ledger in world.ledgers()] == ["10.1"]
    assert len(world.store.list(documents.AFFINITY).entries) == 1


def test_a_named_address_may_be_had_while_it_cools_down(world):
    world.view = View((POOL,), Config(cooldown=600))
    (address,) = world.node().assign(wants("a")).addresses
    world.node().release_handle("a")

    assert world.node().assign_address(wants("b"), address.first).addresses == (address,)


def test_a_named_address_is_given_once(world):
    address = ip_address("10.0.0.77")

    assert world.node().assign_address(wants("a"), address).addresses == (Prefix.host(address),)
    with pytest.raises(Taken, match=r"10.0.0.77 is in use by ns/a"):
        world.node().assign_address(wants("b"), address)
    with pytest.raises(Taken, match="in use by ns/a"):
        world.node("n2").assign_address(wants("b", node="n2"), address)


def test_a_named_address_outside_of_every_pool_is_refused(world):
    with pytest.raises(NoPool, match=r"192.0.2.1 is in no enabled pool"):
        world.node().assign_address(wants(), ip_address("192.0.2.1"))


def test_a_single_address_is_released_only_from_its_holder(world):
    (address,) = world.node().assign(wants("a")).addresses

    wrong = world.node().release_addresses([Release(address.first, handle="b")])
    right = world.node().release_addresses([Release(address.first, handle="a")])
    again = world.node().release_addresses([Release(address.first)])

    assert (wrong.not_ours, right.freed, again.already_free) == ((address.first,),) * 3
    assert world.counts("a") is None


def test_a_cooling_address_is_not_given_again_until_it_is_time(world):
    world.view = View((Pool("one", Prefix.parse("10.0.0.0/32"), block_size=32),), Config(cooldown=30))
    world.node().assign(wants("a"))
    world.node().release_handle("a")

    with pytest.raises(Exhausted):
        world.node().assign(wants("b"))
    world.now += 31
    assert world.node().assign(wants("b")).addresses == (Prefix.parse("10.0.0.0/32"),)


def test_reserved_addresses_are_passed_over(world):
    world.view = View((POOL,), reservations=[Prefix.parse("10.0.0.0/25"), Prefix.parse("10.0.0.128/27")])

    given = world.node().assign(wants(v4=96)).addresses

    assert min(given) == Prefix.parse("10.0.0.160/32")


def test_blocks_of_another_size_are_never_overlapped(world):
    world.view = View((Pool("p", Prefix.parse("10.0.0.0/24"), block_size=28),))
    first = {a for n in range(4) for a in world.node(f"n{n}").assign(wants(f"h{n}", node=f"n{n}")).addresses}
    world.view = View((Pool("p", Prefix.parse("10.0.0.0/24"), block_size=26),), Config(strict_affinity=True))
    world.nodes.clear()

    later = set()
    for n in range(200 - 64):
        with contextlib.suppress(Exhausted):
            later |= set(world.node(f"n{n % 8}").assign(wants(f"l{n}", node=f"n{n % 8}")).addresses)

    cidrs = sorted(ledger.cidr for ledger in world.ledgers())
    assert later
    assert not first & later
    assert not any(a.overlaps(b) for a, b in pairwise(cidrs))


def test_a_named_address_beside_a_block_of_another_size_gets_a_block_that_fits_in(world):
    world.view = View((Pool("p", Prefix.parse("10.0.0.0/26"), block_size=28),))
    (old,) = world.node().assign(wants("a")).blocks
    world.view = View((Pool("p", Prefix.parse("10.0.0.0/26"), block_size=26),))
    beside = next(a for a in map(ip_address, ("10.0.0.5", "10.0.0.60")) if not old.holds(a))

    (made,) = world.node("n2").assign_address(wants("b", node="n2"), beside).blocks

    assert made.length == 27
    assert not made.overlaps(old)


def test_a_claim_that_was_cut_off_does_not_go_on_when_a_block_of_another_size_is_in_its_way(world):
    small = Prefix.parse("10.0.0.16/28")
    world.store.create(
        documents.affinity_key("host:n1", small), documents.affinity_document("host:n1", small, "pending")
    )
    world.view = View((Pool("p", Prefix.parse("10.0.0.0/26"), block_size=26),))
    (whole,) = world.node("n2").assign(wants("a", node="n2")).blocks

    (block,) = world.node().assign(wants("b")).blocks

    assert block == whole  # borrowed
    assert [ledger.cidr for ledger in world.ledgers()] == [whole]
