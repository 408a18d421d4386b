"""A deleted tier stays while a policy is in it."""

from typing import Any

import pytest

from felixlite.controllers.tiers import FINALIZER, Tiers
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Document, Key

TIER = Key("Tier", "security")


def document(key: Key, **more: Any) -> Document:
    where = {"namespace": key.namespace} if key.namespace else {}
    metadata = {"name": key.name, **where, **more.pop("metadata", {})}
    return {"apiVersion": "projectcalico.org/v3", "kind": key.kind, "metadata": metadata, "spec": more}


def one_round(store: MemoryStore) -> list[str]:
    return [event.code for event in Tiers(store).once(lambda: True)]


def finalizers(store: MemoryStore) -> list[str]:
    entry = store.get(TIER)
    assert entry
    return list(entry.document["metadata"].get("finalizers", ()))


def deleted(store: MemoryStore) -> None:
    entry = store.get(TIER)
    assert entry
    metadata = {**entry.document["metadata"], "deletionTimestamp": "2026-02-01T00:00:00Z"}
    store.update(TIER, {**entry.document, "metadata": metadata}, entry.revision)


@pytest.fixture
def store() -> MemoryStore:
    found = MemoryStore()
    found.create(TIER, document(TIER, metadata={"finalizers": ["somebody.else/waits"]}))
    return found


def test_a_tier_is_guarded_and_other_guards_stay(store: MemoryStore) -> None:
    one_round(store)
    assert finalizers(store) == ["somebody.else/waits", FINALIZER]
    entry = store.get(TIER)
    one_round(store)
    assert store.get(TIER) == entry


@pytest.mark.parametrize(
    "policy",
    [Key("GlobalNetworkPolicy", "p"), Key("NetworkPolicy", "p", "ns"), Key("StagedGlobalNetworkPolicy", "p")],
    ids=lambda key: key.kind,
)
def test_a_deleted_tier_waits_for_its_policies(store: MemoryStore, policy: Key) -> None:
    one_round(store)
    store.create(policy, document(policy, tier="security"))
    deleted(store)
    assert one_round(store) == []
    assert FINALIZER in finalizers(store)
    store.delete(policy)
    assert one_round(store) == ["tier-gone"]
    assert finalizers(store) == ["somebody.else/waits"]


def test_a_tier_that_was_never_guarded_is_not_guarded_when_it_ends(store: MemoryStore) -> None:
    deleted(store)
    assert one_round(store) == []
    assert finalizers(store) == ["somebody.else/waits"]
