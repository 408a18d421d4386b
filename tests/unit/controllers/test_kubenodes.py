"""The labels and the end of Kubernetes' Nodes, in a store beside it."""

import json
from typing import Any

import pytest

from felixlite.controllers.kubenodes import COPIED, KubernetesNodes
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Document, Key

NODE = Key("Node", "n1")


def node(labels: dict[str, str] | None = None, **spec: Any) -> Document:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Node",
        "metadata": {"name": "n1", "labels": labels or {}},
        "spec": spec,
    }


class Two:
    def __init__(self) -> None:
        self.etcd, self.kubernetes = MemoryStore(), MemoryStore()
        self.etcd.create(NODE, node({"own": "1"}))
        self.kubernetes.create(NODE, node({"rack": "a", "zone": "z"}))
        self.kubernetes.create(Key("Node", "other"), node())

    def round(self) -> list[str]:
        return [event.code for event in KubernetesNodes(self.etcd, self.kubernetes).once(lambda: True)]

    def relabel(self, labels: dict[str, str]) -> None:
        entry = self.kubernetes.get(NODE)
        assert entry
        self.kubernetes.update(NODE, node(labels), entry.revision)

    @property
    def copied(self) -> Document:
        entry = self.etcd.get(NODE)
        assert entry
        return entry.document


@pytest.fixture
def two() -> Two:
    return Two()


def test_labels_are_copied_and_own_ones_stay(two: Two) -> None:
    assert two.round() == ["labels-copied"]
    assert two.copied["metadata"]["labels"] == {"own": "1", "rack": "a", "zone": "z"}
    assert json.loads(two.copied["metadata"]["annotations"][COPIED]) == {"rack": "a", "zone": "z"}
    assert two.copied["spec"]["orchRefs"] == [{"orchestrator": "k8s", "nodeName": "n1"}]
    assert two.round() == []


def test_a_label_that_vanishes_there_vanishes_here(two: Two) -> None:
    two.round()
    two.relabel({"rack": "b"})
    assert two.round() == ["labels-copied"]
    assert two.copied["metadata"]["labels"] == {"own": "1", "rack": "b"}


def test_a_node_that_kubernetes_deleted_goes_and_one_that_was_never_its_stays(two: Two) -> None:
    two.kubernetes.delete(NODE)
    assert two.round() == []
    two.kubernetes.create(NODE, node())
    two.round()
    two.kubernetes.delete(NODE)
    assert two.round() == ["node-deleted"]
    assert two.etcd.get(NODE) is None


def test_a_kubernetes_without_any_node_is_not_believed(two: Two) -> None:
    two.round()
    for name in ("n1", "other"):
        two.kubernetes.delete(Key("Node", name))
    assert two.round() == ["no-nodes"]
    assert two.etcd.get(NODE)
