from dataclasses import replace

from felixlite.addresses import Prefix
from felixlite.datastore.store import Key
from felixlite.health import metrics_text
from felixlite.ipam import blocks
from felixlite.ipam.metrics import Timings, of_node, samples
from felixlite.ipam.reading import blocks_of_node, read_pools
from felixlite.ipam.repair import read_facts
from felixlite.ipam.usage import block_usages, reserved_size
from felixlite.model.blocks import block
from felixlite.snapshot import Snapshot
from tests.unit.ipam.cluster import Cluster
from tests.unit.ipam.world import wants


def values(found, name):
    return {tuple(value for _, value in s.labels): s.value for s in found if s.name == name}


def test_the_metrics_count_by_pool_and_node():
    cluster = Cluster()
    cluster.node("n2").assign_address(wants("k8s.lent", node="n2"), cluster.block("n1").cidr.address(40))

    cluster.put(Key("IPReservation", "r"), {"spec": {"reservedCIDRs": ["10.0.0.0/28"]}}, api="projectcalico.org/v3")
    lost = cluster.address_of("c").first

    found = samples(read_facts(cluster.store), waiting={lost})
    assert 'ipam_allocations_in_use{ippool="default",node="n1"} 3.0' in metrics_text(found)

    assert values(found, "ipam_allocations_in_use") == {("default", "n1"): 3, ("default", "n2"): 2}
    assert values(found, "ipam_allocations_borrowed") == {("default", "n1"): 0, ("default", "n2"): 1}
    assert values(found, "ipam_blocks") == {("default", "n1"): 1, ("default", "n2"): 1}
    assert values(found, "ipam_ippool_size") == {("default",): 256}
    assert values(found, "ipam_ippool_reserved") == {("default",): 16}
    assert values(found, "ipam_allocations_gc_candidates") == {("default", "n1"): 0, ("default", "n2"): 1}


def test_a_node_tells_of_its_own_blocks_and_of_what_it_borrows():
    cluster = Cluster()
    cluster.node("n2").assign_address(wants("k8s.lent", node="n2"), cluster.block("n1").cidr.address(40))
    pools = {pool.name: pool for pool in read_pools(cluster.store)}
    known = {ledger.cidr: block(blocks.document(ledger)) for ledger in cluster.ledgers()}
    told = {}
    for node in ("n1", "n2"):
        found = list(of_node(Snapshot(node, pools=pools, blocks=known), blocks_of_node(cluster.store, node)))
        told |= {(s.name, node): s.value for s in found}

    whole = samples(read_facts(cluster.store))
    for name in ("ipam_allocations_in_use", "ipam_blocks"):
        for node in ("n1", "n2"):
            assert told[name, node] == values(whole, name)["default", node]
    assert [told["ipam_allocations_borrowed", node] for node in ("n1", "n2")] == [0, 1]
    assert told["ipam_ippool_size", "n1"] == 256


def test_reserved_addresses_are_counted_once():
    pool = Prefix.parse("10.0.0.0/24")
    reserved = [Prefix.parse(text) for text in ("10.0.0.0/28", "10.0.0.0/30", "10.0.0.64/32", "10.1.0.0/16")]

    assert reserved_size(pool, reserved) == 17
    assert reserved_size(pool, [Prefix.parse("10.0.0.0/8")]) == 256


def test_a_block_draws_each_of_its_addresses():
    cluster = Cluster()
    first = cluster.block("n1").cidr
    reserved = [Prefix.host(first.address(63))]

    marks = {b.cidr: b.marks for b in block_usages(replace(read_facts(cluster.store), reservations=reserved))}

    assert marks[first] == "###" + "." * 60 + "r"


def test_assignments_are_timed_in_buckets():
    timings = Timings()
    for seconds, retries in ((0.0008, 0), (0.003, 2), (60.0, 1)):
        timings(seconds, retries)

    buckets = {dict(s.labels)["le"]: s.value for s in timings.samples() if s.name.endswith("_bucket")}
    assert (buckets["0.001"], buckets["0.005"], buckets["5.0"], buckets["+Inf"]) == (1, 2, 2, 3)
    assert [s.value for s in timings.samples() if s.name.endswith("retries")] == [3]
    text = metrics_text(timings.samples())
    assert "# TYPE ipam_assignment_seconds histogram" in text
    assert 'ipam_assignment_seconds_bucket{le="+Inf"} 3.0' in text
    assert "ipam_compare_and_swap_retries_total 3.0" in text
