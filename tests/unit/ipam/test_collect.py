from felixlite.datastore.store import Key
from felixlite.ipam import fixes
from felixlite.ipam.assign import Config, View
from felixlite.ipam.collect import candidates, collect
from felixlite.ipam.repair import Repair, read_facts
from tests.unit.ipam.cluster import Cluster
from tests.unit.ipam.world import wants

GRACE = 900.0


class Collector:
    """The passes of a collection over a cluster, at times that the test says."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster, self.memory = cluster, {}

    def decide(self, at):
        self.memory, decisions = collect(read_facts(self.cluster.store), self.memory, at, GRACE)
        return decisions

    def act(self, at):
        repair = Repair(self.cluster.store, lambda: self.cluster.now)
        return [decision for decision in self.decide(at) if repair.apply(decision.fix)]


def test_a_cluster_in_order_is_left_alone():
    assert Collector(Cluster()).decide(at=0) == []


def test_a_leaked_address_is_freed_after_the_grace_period_and_not_before():
    cluster = Cluster()
    (address,) = cluster.node().assign(wants("k8s-pod-network.gone", pod="gone")).addresses
    collector = Collector(cluster)

    assert collector.decide(at=0) == []
    assert candidates(collector.memory) == {address.first}
    assert collector.decide(at=GRACE - 1) == []
    (decision,) = collector.act(at=GRACE)

    assert decision.code == "address-leaked"
    assert "pod ns/gone" in decision.reason
    assert cluster.findings() == []
    assert address not in cluster.live()


def test_an_allocation_made_anew_is_a_new_suspicion():
    cluster = Cluster()
    collector = Collector(cluster)
    cluster.node().assign(wants("h", pod="gone", reuse=True))
    collector.decide(at=0)
    again = cluster.node().assign(wants("h", pod="gone", reuse=True))

    assert again.existed
    assert collector.decide(at=GRACE) == []
    assert collector.decide(at=2 * GRACE) != []


def test_a_pod_that_shows_up_between_decision_and_release_keeps_its_address():
    cluster = Cluster()
    (address,) = cluster.node().assign(wants("k8s-pod-network.late", pod="late")).addresses
    collector = Collector(cluster)
    collector.decide(at=0)
    (decision,) = collector.decide(at=GRACE)

    cluster.endpoint("late", "n1", address, "late")

    assert Repair(cluster.store, lambda: cluster.now).apply(decision.fix) is False
    assert cluster.findings() == []


def test_a_pod_with_the_same_name_and_a_new_allocation_keeps_its_address():
    cluster = Cluster()
    (address,) = cluster.node().assign(wants("k8s-pod-network.old", pod="p")).addresses
    collector = Collector(cluster)
    collector.decide(at=0)
    (decision,) = collector.decide(at=GRACE)
    cluster.node().release_handle("k8s-pod-network.old")
    cluster.node().assign_address(wants("k8s-pod-network.old", pod="p"), address.first)

    assert Repair(cluster.store, lambda: cluster.now).apply(decision.fix) is False


def test_the_addresses_of_one_handle_are_freed_together_or_not_at_all():
    cluster = Cluster()
    one, _two = cluster.node().assign(wants("k8s-pod-network.pair", v4=2, pod="pair")).addresses
    cluster.endpoint("pair", "n1", one, "pair")
    collector = Collector(cluster)
    collector.decide(at=0)

    assert collector.decide(at=GRACE) == []


def test_what_a_deleted_node_left_goes_at_once_addresses_first():
    cluster = Cluster()
    cluster.node("n3").assign(wants("k8s-pod-network.x", node="n3", pod="x"))

    done = Collector(cluster).act(at=0)

    assert [decision.code for decision in done] == ["address-leaked", "block-of-deleted-node"]
    assert cluster.findings() == []


def test_a_deleted_node_whose_pod_still_has_an_endpoint_keeps_its_block():
    cluster = Cluster()
    cluster.store.delete(Key("Node", "n2"))

    assert Collector(cluster).act(at=0) == []


def test_a_spare_block_goes_after_two_looks_but_never_the_last_one():
    cluster = Cluster()
    cluster.node().assign(wants("k8s-pod-network.many", v4=100, pod="many"))
    cluster.node().release_handle("k8s-pod-network.many")
    collector = Collector(cluster)

    assert collector.decide(at=0) == []
    done = collector.act(at=GRACE)

    assert {decision.code for decision in done} == {"block-spare"}
    assert len([ledger for ledger in cluster.ledgers() if ledger.node == "n1"]) == 1
    assert collector.act(at=3 * GRACE) == []


def test_an_idle_node_keeps_one_empty_block():
    cluster = Cluster()
    cluster.store.create(Key("Node", "n3"), {"metadata": {"name": "n3"}, "spec": {}})
    cluster.node("n3").assign(wants("h3", v4=65, node="n3"))
    cluster.node("n3").release_handle("h3")
    collector = Collector(cluster)
    collector.decide(at=0)
    collector.act(at=GRACE)

    assert len([ledger for ledger in cluster.ledgers() if ledger.node == "n3"]) == 1


def test_a_block_used_between_two_looks_is_no_longer_spare():
    cluster = Cluster()
    cluster.node().assign(wants("k8s-pod-network.many", v4=100, pod="many"))
    cluster.node().release_handle("k8s-pod-network.many")
    collector = Collector(cluster)
    collector.decide(at=0)
    decision = next(d for d in collector.decide(at=GRACE) if isinstance(d.fix, fixes.FreeBlock))
    cluster.node().assign(wants("k8s-pod-network.again", v4=100, pod="again"))

    assert Repair(cluster.store, lambda: cluster.now).apply(decision.fix) is False


def test_a_block_whose_last_addresses_rest_goes_when_they_have_rested():
    """Nobody writes to the block of a deleted node any more, so nobody else would end the rest."""
    cluster = Cluster()
    rest = {"spec": {"ipCooldownSeconds": 60}}
    cluster.put(Key("IPAMConfiguration", "default"), rest, api="projectcalico.org/v3")
    cluster.view = View(cluster.view.pools, Config(cooldown=60))
    cluster.node("n3").assign(wants("k8s-pod-network.x", node="n3"))
    cluster.node("n3").release_handle("k8s-pod-network.x")
    collector = Collector(cluster)

    assert collector.act(at=0) == []
    cluster.now += 61
    assert [decision.code for decision in collector.act(at=1)][:1] == ["addresses-rested"]
    collector.act(at=2)
    assert not [ledger for ledger in cluster.ledgers() if ledger.node == "n3"]


def test_a_handle_that_counts_too_much_is_corrected_after_the_grace_period():
    cluster = Cluster()
    key = Key("IPAMHandle", "k8s-pod-network.aa")
    cluster.edit(key, lambda spec: spec.update(block=dict.fromkeys(spec["block"], 5)))
    collector = Collector(cluster)

    assert collector.act(at=0) == []
    assert [d.code for d in collector.act(at=GRACE)] == ["handle-counts-too-much"]
    assert cluster.findings() == []


def test_without_a_grace_period_nothing_living_is_collected():
    cluster = Cluster()
    cluster.node().assign(wants("k8s-pod-network.gone", pod="gone"))

    memory, _ = collect(read_facts(cluster.store), {}, 0, grace=0)
    _, decisions = collect(read_facts(cluster.store), memory, 1e9, grace=0)

    assert decisions == []
