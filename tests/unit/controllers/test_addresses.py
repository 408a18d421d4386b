import queue

from felixlite.controllers.addresses import SETTINGS, AddressCollection
from felixlite.controllers.lease import Lease
from felixlite.controllers.runner import Event, Runner, Watching
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Deleted, Key
from felixlite.errors import Compacted, Unreachable
from tests.unit.ipam.cluster import Cluster
from tests.unit.ipam.world import wants


class Here:
    """A cluster with one leaked address, and its controllers on a clock that the test turns."""

    def __init__(self, grace=900.0):
        self.cluster, self.now, self.events = Cluster(), 0.0, []
        self.cluster.node().assign(wants("k8s-pod-network.gone", pod="gone"))
        self.collection = self.controller(grace)
        self.lease = Lease(self.cluster.store, "c", "me", clock=lambda: self.now)
        self.runner = Runner([self.collection], self.lease, self.events.append, clock=lambda: self.now)

    def controller(self, grace):
        return AddressCollection(self.cluster.store, grace, lambda: self.cluster.now, lambda: self.now)

    def waiting(self):
        told = (s for s in self.collection.samples() if s.name == "ipam_allocations_gc_candidates")
        return {dict(sample.labels)["node"]: sample.value for sample in told}

    def at(self, now):
        self.now = now
        self.lease.renew()
        self.runner.step()
        return [event.code for event in self.events]


def test_a_leak_is_collected_after_its_grace_period_and_told_with_the_reason():
    here = Here()

    assert here.at(0) == ["acquired"]
    assert here.waiting() == {"n1": 1, "n2": 0}
    assert here.at(450) == ["acquired"]
    assert here.at(900)[-1] == "address-leaked"
    assert "pod ns/gone" in str(here.events[-1])
    assert here.collection.reclaimed == 1
    assert here.at(1800) == ["acquired", "address-leaked"]


def test_without_the_lease_nothing_is_done():
    here = Here()
    other = Lease(here.cluster.store, "c", "other", clock=lambda: here.now)
    other.renew()
    for now in (0, 5, 10):
        other.renew()
        assert here.at(now) == []


def test_a_lease_lost_in_the_middle_of_a_round_stops_it():
    here = Here()
    here.collection.once(lambda: True)
    here.now = 900

    assert here.collection.once(lambda: False) == []
    assert len(here.collection.once(lambda: True)) == 1


def test_a_new_holder_starts_its_suspicions_afresh():
    here = Here()
    here.at(0)
    here.now = 900
    successor = here.controller(900)

    assert successor.once(lambda: True) == []


def test_the_grace_period_comes_from_the_configuration():
    here = Here(grace=None)
    spec = {"controllers": {"node": {"leakGracePeriod": "1m"}}}
    here.cluster.put(SETTINGS, {"spec": spec})
    here.collection.once(lambda: True)
    here.now = 60

    assert [event.code for event in here.collection.once(lambda: True)] == ["address-leaked"]
    assert here.collection.every == 30


def test_a_failing_round_is_told_and_the_next_one_comes():
    class Failing:
        name, every, rounds = "failing", 10.0, 0

        def once(self, _):
            self.rounds += 1
            raise Unreachable("nobody answers")

    here, failing = Here(), Failing()
    runner = Runner([failing], here.lease, here.events.append, clock=lambda: here.now)
    for now in (0, 5, 10):
        here.now = now
        here.lease.renew()
        runner.step()

    assert failing.rounds == 2
    assert Event("failing", "failed", "failing", "nobody answers", failed=True) in here.events


def test_a_controller_that_is_told_to_hurry_runs_after_a_second():
    here = Here()
    here.at(0)
    here.cluster.node("n9").assign(wants("k8s-pod-network.n9", node="n9", pod="p9"))

    assert here.at(10) == ["acquired"]
    here.runner.hurry("addresses")
    assert here.at(10.5) == ["acquired"]
    assert here.at(11) == ["acquired", "address-leaked", "block-of-deleted-node"]


def test_a_deletion_is_told_and_a_watch_that_breaks_is_opened_again():
    class Breaking(MemoryStore):
        breaks = 1

        def watch(self, kind, revision):
            if self.breaks:
                self.breaks -= 1
                raise Compacted("list again")
            return super().watch(kind, revision)

    store, told = Breaking(), queue.SimpleQueue()
    store.create(Key("Node", "n1"), {})
    deletions = Watching(store, "Node", (Deleted,), lambda: told.put(store.get(Key("Node", "n1")) is None), patience=0)
    deletions.start()
    assert told.get(timeout=10) is False  # the watch broke: look
    store.delete(Key("Node", "n1"))

    assert told.get(timeout=10) is True
    deletions.stop()


def test_a_deleted_node_is_cleaned_up_in_one_round():
    here = Here()
    here.cluster.node("n9").assign(wants("k8s-pod-network.n9", node="n9", pod="p9"))
    here.cluster.store.create(Key("Node", "n8"), {"metadata": {"name": "n8"}, "spec": {}})

    assert here.at(0) == ["acquired", "address-leaked", "block-of-deleted-node"]
