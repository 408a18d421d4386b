"""Seeded corruptions of a small cluster: each is found, named, and repaired without touching a live address."""

import pytest

from felixlite.addresses import Prefix
from felixlite.ipam import blocks, documents
from felixlite.ipam.store import Release
from tests.unit.ipam.cluster import OLD, Cluster
from tests.unit.ipam.world import wants


def ordinal_of(cluster, pod):
    return cluster.block().cidr.ordinal(cluster.address_of(pod).first)


def free_twice(c):
    c.edit_block(lambda spec: spec["unallocated"].append(spec["unallocated"][0]))


def free_and_allocated(c):
    taken = ordinal_of(c, "a")
    c.edit_block(lambda spec: spec["unallocated"].insert(0, taken))


def lost_ordinal(c):
    c.edit_block(lambda spec: spec["unallocated"].pop())


def dangling_attribute(c):
    taken = ordinal_of(c, "a")
    c.edit_block(lambda spec: spec["allocations"].__setitem__(taken, 77))


def short_allocations(c):
    c.edit_block(lambda spec: spec.update(allocations=spec["allocations"][:10]))


def unreadable_block(c):
    c.edit_block(lambda spec: spec.update(cidr="garbage"))


def foreign_cidr(c):
    c.edit_block(lambda spec: spec.update(cidr="10.0.9.0/26"))


def handle_lost(c):
    c.store.delete(documents.handle_key("k8s-pod-network.aa"))


def handle_over(c):
    c.edit(
        documents.handle_key("k8s-pod-network.aa"), lambda s: s.update(block={k: v + 3 for k, v in s["block"].items()})
    )


def handle_under(c):
    c.edit(documents.handle_key("k8s-pod-network.aa"), lambda spec: spec.update(block={}))


def handle_to_nowhere(c):
    c.put(
        documents.handle_key("k8s-pod-network.zz"),
        {"spec": {"handleID": "k8s-pod-network.zz", "block": {"10.0.0.0/26": 1}}},
    )


def affinity_lost(c):
    c.store.delete(documents.affinity_key("host:n1", c.block().cidr))


def affinity_pending(c):
    c.edit(documents.affinity_key("host:n1", c.block().cidr), lambda spec: spec.update(state="pending"))


def two_affinities(c):
    cidr = c.block().cidr
    c.store.create(documents.affinity_key("host:n2", cidr), documents.affinity_document("host:n2", cidr, "confirmed"))


def affinity_without_block(c):
    cidr = next(x for x in map(Prefix.parse, ("10.0.0.0/26", "10.0.0.64/26", "10.0.0.128/26"))
                if x not in [ledger.cidr for ledger in c.ledgers()])  # fmt: skip
    c.store.create(documents.affinity_key("host:n2", cidr), documents.affinity_document("host:n2", cidr, "pending"))


def block_lost(c):
    c.store.delete(documents.block_key(c.block("n2").cidr))


def allocation_lost(c):
    c.node().release_handle("k8s-pod-network.aa")


def allocation_of_a_stranger(c):
    def change(spec):
        for attribute in spec["attributes"]:
            if attribute["handle_id"] == "k8s-pod-network.aa":
                attribute.update(
                    handle_id="k8s-pod-network.other", secondary={"pod": "o", "namespace": "x", "node": "n1"}
                )

    c.edit_block(change)


def leak(c):
    c.now -= OLD
    c.node().assign(wants("k8s-pod-network.gone", pod="gone"))
    c.now += OLD


def node_deleted(c):
    c.node("n3").assign(wants("k8s-pod-network.n3", node="n3", pod="p3"))


def ownerless(c):
    cidr = c.node("n3").assign(wants("k8s-pod-network.x", node="n3", pod="x")).blocks[0]
    c.node("n3").release_handle("k8s-pod-network.x")
    c.store.delete(documents.affinity_key("host:n3", cidr))
    c.edit(documents.block_key(cidr), lambda spec: spec.update(affinity=None))


def tunnel_lost(c):
    c.node().release_handle("ipip-tunnel-addr-n1")


CORRUPTIONS = {
    free_twice: "block-corrupt",
    free_and_allocated: "block-corrupt",
    lost_ordinal: "block-corrupt",
    dangling_attribute: "block-corrupt",
    short_allocations: "block-corrupt",
    unreadable_block: "block-unreadable",
    foreign_cidr: "block-misnamed",
    handle_lost: "handle-missing",
    handle_over: "handle-counts-too-much",
    handle_under: "handle-counts-too-little",
    handle_to_nowhere: "handle-counts-too-much",
    affinity_lost: "block-without-affinity",
    affinity_pending: "affinity-unconfirmed",
    two_affinities: "affinity-of-another",
    affinity_without_block: "affinity-without-block",
    block_lost: "affinity-without-block",
    allocation_lost: "address-not-allocated",
    allocation_of_a_stranger: "address-of-another",
    leak: "address-leaked",
    node_deleted: "block-of-deleted-node",
    ownerless: "block-ownerless",
    tunnel_lost: "tunnel-address-not-allocated",
}


def test_a_cluster_in_order_has_no_findings():
    assert Cluster().findings() == []


@pytest.mark.parametrize("corrupt", CORRUPTIONS, ids=lambda f: f.__name__)
def test_a_corruption_is_found_and_repaired_without_touching_a_live_address(corrupt):
    cluster = Cluster()
    before = cluster.live()
    corrupt(cluster)

    assert CORRUPTIONS[corrupt] in cluster.codes()
    cluster.fix()

    assert cluster.findings() == []
    assert cluster.live() == before


def test_nothing_is_assigned_from_a_corrupted_block():
    cluster = Cluster()
    corrupted = cluster.block().cidr
    free_and_allocated(cluster)

    before = cluster.node().assign(wants("k8s-pod-network.new1")).blocks
    cluster.nodes.clear()
    after = cluster.node().assign(wants("k8s-pod-network.new2")).blocks

    assert corrupted not in (*before, *after)


def test_two_endpoints_with_one_address_are_reported_and_left_to_a_person():
    cluster = Cluster()
    cluster.endpoint("twin", "n2", cluster.address_of("a"), "twin")

    (finding,) = [f for f in cluster.findings() if f.code == "address-used-twice"]

    assert finding.fix is None
    assert str(cluster.address_of("a").first) in finding.sentence


def test_overlapping_blocks_are_found():
    cluster = Cluster()
    inside = Prefix(cluster.block().cidr.packed, 28)
    ledger = blocks.empty(inside, "host:n2", cluster.now)
    cluster.store.create(documents.block_key(inside), blocks.document(ledger))

    assert "blocks-overlap" in cluster.codes()
    cluster.fix()
    assert cluster.findings() == []


def test_an_endpoint_whose_block_is_lost_gets_one_that_overlaps_no_other():
    cluster = Cluster()
    lost = cluster.block("n2").cidr
    cluster.store.delete(documents.block_key(lost))
    ordinal = lost.ordinal(cluster.address_of("c").first)
    beside = Prefix.containing(lost.address((ordinal + 32) % 64), 28)
    ledger = blocks.empty(beside, "host:n2", cluster.now)
    cluster.store.create(documents.block_key(beside), blocks.document(ledger))
    cluster.store.create(
        documents.affinity_key("host:n2", beside), documents.affinity_document("host:n2", beside, "confirmed")
    )
    before = {**cluster.live(), cluster.address_of("c"): "k8s-pod-network.cc"}

    cluster.fix()

    assert cluster.findings() == []
    assert cluster.live() == before
    assert {ledger.cidr.length for ledger in cluster.ledgers() if ledger.node == "n2"} == {27, 28}


def test_an_allocation_that_lost_its_holder_is_reported_and_left_to_a_person():
    cluster = Cluster()
    (address,) = cluster.node().assign(wants("k8s-pod-network.gone", pod="gone")).addresses
    ordinal = cluster.block().cidr.ordinal(address.first)
    cluster.edit_block(lambda spec: (spec["allocations"].__setitem__(ordinal, 77), spec["attributes"].pop()))

    cluster.fix()

    (finding,) = cluster.findings()
    assert (finding.code, finding.address, finding.fix) == ("address-unheld", address.first, None)
    assert f"felixlite ipam release --ip {address.first}" in finding.sentence
    cluster.node().release_addresses([Release(address.first)])
    assert cluster.findings() == []


def test_a_fresh_allocation_without_endpoint_is_reported_but_not_freed():
    cluster = Cluster()
    (address,) = cluster.node().assign(wants("k8s-pod-network.new", pod="new")).addresses

    (finding,) = cluster.findings()

    assert (finding.code, finding.address, finding.fix) == ("address-leaked", address.first, None)
