"""Every crash point: the process dies at the n-th write, before or after it took effect, for every n.

Whoever comes next (the same request again, another node, the collection) must find nothing handed out twice and, in the
end, nothing lost: every address is either free or held by somebody who lives.
"""

import contextlib

import pytest

from felixlite.addresses import Prefix
from felixlite.datastore.store import Key, Write
from felixlite.ipam import blocks
from felixlite.ipam.assign import Config, Exhausted, View
from felixlite.ipam.check import check
from felixlite.ipam.claims import release_block
from felixlite.ipam.collect import collect
from felixlite.ipam.repair import Repair, read_facts
from felixlite.ipam.store import Ipam
from felixlite.model.inside import Pool
from tests.unit.ipam.world import CountingStore, World, wants

GRACE = 900.0
POOL = Pool("p", Prefix.parse("10.0.0.0/29"), block_size=30)  # two blocks: claims, loans and take-overs all happen
POOL6 = Pool("q", Prefix.parse("fd00::/125"), block_size=126)


class Killed(BaseException):
    """kill -9: nothing in between may catch it."""


class DyingStore(CountingStore):
    """Dies at the write number `dies_at`; `late`: after it took effect, its answer lost."""

    dies_at = 10**9
    late = False
    writes = 0

    def _tick(self, write):
        self.writes += 1
        if self.writes == self.dies_at and not self.late:
            raise Killed
        answer = write()
        if self.writes == self.dies_at:
            raise Killed
        return answer

    def create(self, key, document):
        return self._tick(lambda: super(DyingStore, self).create(key, document))

    def update(self, key, document, revision):
        return self._tick(lambda: super(DyingStore, self).update(key, document, revision))

    def delete(self, key, revision=None):
        return self._tick(lambda: super(DyingStore, self).delete(key, revision))

    def commit(self, writes, meanwhile=None):
        if self.atomic:
            return self._tick(lambda: super(DyingStore, self).commit(writes, meanwhile))
        return [done for write in writes for done in self._one(write)]

    def _one(self, write):
        return self._tick(lambda: super(DyingStore, self).commit([write]))


class Scene(World):
    def __init__(self, atomic):
        super().__init__(atomic=atomic)
        self.store = DyingStore(atomic)
        self.view = View((POOL, POOL6), Config())
        for node in ("n1", "n2"):
            self.store.create(Key("Node", node), {"metadata": {"name": node}, "spec": {}})
        for pool in (POOL, POOL6):
            document = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": pool.name}}
            spec = {"cidr": str(pool.cidr), "blockSize": pool.block_size}
            self.store.create(Key("IPPool", pool.name), {**document, "spec": spec})

    def add(self, pod, node="n1", v6=0, count=1):
        """What a CNI ADD does: the endpoint in the same transaction, or last."""
        key = Key("WorkloadEndpoint", f"{node}-k8s-{pod}-eth0", "ns")

        def endpoint(addresses):
            there = self.store.get(key)
            spec = {"node": node, "pod": pod, "containerID": pod, "ipNetworks": [str(a) for a in addresses]}
            return [Write(key, {"metadata": {"name": key.name}, "spec": spec}, there.revision if there else None)]

        return self.node(node).assign(wants(f"k8s.{pod}", v4=count, v6=v6, node=node, pod=pod, reuse=True), endpoint)

    def remove(self, pod, node="n1"):
        key = Key("WorkloadEndpoint", f"{node}-k8s-{pod}-eth0", "ns")
        there = self.store.get(key)
        also = [Write(key, None, there.revision)] if there else []
        return self.node(node).release_handle(f"k8s.{pod}", also)

    def collect(self):
        memory = {}
        for number in range(4):
            memory, decisions = collect(read_facts(self.store), memory, number * GRACE, GRACE)
            for decision in decisions:
                Repair(self.store, lambda: self.now).apply(decision.fix)

    def holders(self):
        return {
            ledger.prefix(ordinal): blocks.handle_of(attribute)
            for ledger in self.ledgers()
            for ordinal, attribute in blocks.in_use(ledger)
        }

    def endpoints(self):
        found = {}
        for entry in self.store.list("WorkloadEndpoint").entries:
            for text in entry.document["spec"]["ipNetworks"]:
                assert Prefix.parse(text) not in found, f"{text} was handed out twice"
                found[Prefix.parse(text)] = "k8s." + entry.document["spec"]["pod"]
        return found


def first_claim(scene):
    scene.add("x")


def dual_stack(scene):
    scene.add("x", v6=1)


def two_blocks(scene):
    scene.add("x", count=6)


def from_own_block(scene):
    scene.add("x")


def lent(scene):
    scene.add("x", node="n2")


def taken_over(scene):
    scene.now += 61
    scene.add("x", node="n2")


def given_back(scene):
    scene.remove("old")


def given_up(scene):
    for ledger in scene.ledgers():
        release_block(scene.store, "n1", ledger.cidr)


def prepared(name, atomic):
    scene = Scene(atomic)
    if name in ("from_own_block", "given_back"):
        scene.add("old", v6=1)
    elif name == "lent":
        scene.add("old", count=5)
    elif name in ("taken_over", "given_up"):
        scene.add("old", count=5)
        scene.remove("old")
    return scene


ACTS = (first_claim, dual_stack, two_blocks, from_own_block, lent, taken_over, given_back, given_up)


def crash(act, atomic, n, late):
    """The scene after the act died at its n-th write; None when it has fewer."""
    scene = prepared(act.__name__, atomic)
    scene.store.writes, scene.store.dies_at, scene.store.late = 0, n, late
    try:
        act(scene)
        return None
    except Killed:
        scene.store.dies_at = 10**9
        scene.nodes.clear()  # the process is gone, and what it remembered
        return scene


def every_crash(act, atomic):
    number = 0
    while True:
        number += 1
        for late in (False, True):
            scene = crash(act, atomic, number, late)
            if scene is None:
                assert number > 1
                return
            yield scene, f"died {'after' if late else 'before'} write {number}"


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in-steps"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_the_next_process_repeats_what_was_cut_off(act, atomic):
    for scene, where in every_crash(act, atomic):
        act(scene)
        scene.add("later")
        scene.add("elsewhere", node="n2")

        assert scene.endpoints().items() <= scene.holders().items(), where
        scene.collect()
        assert scene.endpoints() == scene.holders(), where


@pytest.mark.parametrize("atomic", [True, False], ids=["atomic", "in-steps"])
@pytest.mark.parametrize("act", ACTS, ids=lambda act: act.__name__)
def test_if_nobody_repeats_it_nothing_is_lost_and_nothing_handed_out_twice(act, atomic):
    for scene, where in every_crash(act, atomic):
        scene.collect()

        assert scene.endpoints() == scene.holders(), where
        everything = fill(scene)
        assert len(everything) == 8, where
        scene.collect()
        assert check(read_facts(scene.store), scene.now) == [], where


def fill(scene):
    """Every IPv4 address of the pool that can still be had, and those that are held."""
    with contextlib.suppress(Exhausted):
        for number in range(9):
            scene.add(f"fill{number}", node=f"n{1 + number % 2}")
    return [address for address in scene.endpoints() if address.family == 4]


def test_a_lost_answer_does_not_lose_the_address():
    """The commit took effect but the process, still alive, heard of it as an error."""
    scene = Scene(atomic=True)
    scene.store.writes, scene.store.dies_at, scene.store.late = 0, 1, True
    with pytest.raises(Killed):
        scene.add("x")
    scene.store.dies_at = 10**9

    again = scene.add("x")

    assert again.existed
    assert scene.endpoints() == scene.holders()


def test_two_nodes_with_one_name_never_share_an_address():
    world = World()
    twin = Ipam(world.store, "n1", lambda: world.view, lambda: world.now)

    given = [world.node().assign(wants(f"a{i}")).addresses + twin.assign(wants(f"b{i}")).addresses for i in range(20)]

    assert len({address for pair in given for address in pair}) == 40
