"""Which pool may be assigned from, and how a deleted one ends."""

from datetime import UTC, datetime
from typing import Any

import pytest

from felixlite.controllers.allocatable import DISABLED, OK, TERMINATING, judged, verdicts
from felixlite.controllers.pools import FINALIZER, OFTEN, SELDOM, Pools
from felixlite.datastore.store import Document
from felixlite.model.parse import parse
from tests.unit.ipam.cluster import Cluster
from tests.unit.ipam.world import wants

NOW = 1_800_000_000.0


def pool(name: str, cidr: str, *, born: str = "1", status: str = "", gone: bool = False, **spec: Any) -> Document:
    metadata = {"name": name, "creationTimestamp": f"2026-01-0{born}T00:00:00Z"}
    found: Document = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "IPPool",
        "metadata": metadata | ({"deletionTimestamp": "2026-02-01T00:00:00Z"} if gone else {}),
        "spec": {"cidr": cidr, **spec},
    }
    if status:
        found["status"] = {"conditions": [{"type": "Allocatable", "status": status}]}
    return found


def reasons(*pools: Document) -> dict[str, str]:
    return {name: verdict.reason for name, verdict in verdicts(pools).items()}


WIDE, NARROW = "10.0.0.0/16", "10.0.1.0/24"


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (pool("b", WIDE, born="1"), pool("a", NARROW, born="2")),  # the older one
        (pool("a", NARROW), pool("b", WIDE)),  # by name
        (pool("b", WIDE, born="2", status="True"), pool("a", NARROW, born="1")),  # in use before new
        (pool("b", WIDE, born="2", gone=True), pool("a", NARROW, born="1")),  # ending before new
        (pool("b", WIDE, born="2", disabled=True), pool("a", NARROW, born="1")),  # disabled before new
        (pool("b", WIDE, gone=True, born="2"), pool("a", NARROW, disabled=True)),  # ending before disabled
        (pool("b", WIDE, born="2", status="True"), pool("a", NARROW, gone=True)),  # in use before ending
    ],
)
def test_of_two_that_overlap_the_one_that_was_there_first_wins(first: Document, second: Document) -> None:
    for pools in ((first, second), (second, first)):
        found = reasons(*pools)
        assert found[second["metadata"]["name"]] == "CIDROverlap"
        assert found[first["metadata"]["name"]] != "CIDROverlap"


def test_one_that_stands_alone_is_judged_by_itself() -> None:
    assert verdicts([pool("a", WIDE)]) == {"a": OK}
    assert verdicts([pool("a", WIDE, disabled=True)]) == {"a": DISABLED}
    assert verdicts([pool("a", WIDE, disabled=True, gone=True)]) == {"a": TERMINATING}
    apart = reasons(pool("a", WIDE), pool("b", "fd00::/64"), pool("c", "10.1.0.0/16"))
    assert apart == {"a": "OK", "b": "OK", "c": "OK"}


def test_what_cannot_be_read_is_no_pool_and_spoils_no_other() -> None:
    assert reasons(pool("a", "rubbish"), {"metadata": {"name": "b"}, "spec": 3}, pool("c", WIDE)) == {"c": "OK"}


def test_the_moment_of_a_condition_is_that_of_its_last_change() -> None:
    first = judged(pool("a", WIDE), OK, "t1")
    assert first["status"]["conditions"][0]["lastTransitionTime"] == "t1"
    assert judged(first, OK, "t2") == first
    last = judged(first, DISABLED, "t3")["status"]["conditions"]
    assert [one["lastTransitionTime"] for one in last] == ["t3"]
    assert (
        judged(judged(first, DISABLED, "t3"), TERMINATING, "t4")["status"]["conditions"][0]["lastTransitionTime"]
        == "t3"
    )


def test_a_pool_that_is_judged_not_allocatable_is_not_assigned_from() -> None:
    document = judged(pool("a", WIDE), verdicts([pool("b", WIDE, status="True"), pool("a", WIDE)])["a"], "t")
    assert parse(document).inside().allocatable is False


class Here:
    def __init__(self) -> None:
        self.cluster = Cluster()
        self.pools = Pools(self.cluster.store, lambda: NOW)
        self.key = self.cluster.store.list("IPPool").entries[0].key

    def round(self) -> list[str]:
        return [event.code for event in self.pools.once(lambda: True)]

    @property
    def document(self) -> Document:
        entry = self.cluster.store.get(self.key)
        assert entry
        return entry.document

    def delete(self) -> None:
        """As the API of Kubernetes does it with an object that has a finalizer."""
        entry = self.cluster.store.get(self.key)
        assert entry
        metadata = {**entry.document["metadata"], "deletionTimestamp": "2026-02-01T00:00:00Z"}
        self.cluster.store.update(self.key, {**entry.document, "metadata": metadata}, entry.revision)


def test_a_pool_gets_its_condition_and_its_finalizer_once() -> None:
    here = Here()
    assert here.round() == ["pool-judged"]
    assert here.document["metadata"]["finalizers"] == [FINALIZER]
    moment = f"{datetime.fromtimestamp(NOW, UTC):%Y-%m-%dT%H:%M:%SZ}"
    assert here.document["status"]["conditions"] == [
        {"type": "Allocatable", **OK._asdict(), "lastTransitionTime": moment}
    ]
    assert here.round() == []
    assert here.pools.every == SELDOM


def test_a_deleted_pool_stays_while_one_of_its_addresses_is_in_use() -> None:
    here = Here()
    node = here.cluster.node()
    node.assign(wants("k8s-pod-network.c1"))
    here.round()
    here.delete()
    assert here.round() == ["pool-judged"]
    assert here.document["status"]["conditions"][0]["reason"] == "Terminating"
    assert (here.round(), here.pools.every) == ([], OFTEN)

    *others, last = [entry.key.name for entry in here.cluster.store.list("IPAMHandle").entries]
    for handle in others:
        node.release_handle(handle)
    assert "pool-gone" not in here.round()
    node.release_handle(last)
    assert here.round() == ["block-of-ending-pool", "pool-gone"]
    assert here.document["metadata"]["finalizers"] == []  # with the last one the API server deletes it
    assert here.cluster.store.list("IPAMBlock").entries == ()
    assert here.cluster.store.list("BlockAffinity").entries == ()


def test_a_pool_written_past_its_schema_says_what_is_wrong_with_it_and_is_judged_again_when_it_is_right() -> None:
    here = Here()
    here.round()
    for spec, reason, said in (
        ({"natOutgoing": "perhaps"}, "Invalid", "spec.natOutgoing: 'perhaps'"),
        ({"natOutgoing": True}, "OK", "may be assigned"),
    ):
        entry = here.cluster.store.get(here.key)
        assert entry
        changed = {**entry.document, "spec": {**entry.document["spec"], **spec}}
        here.cluster.store.update(here.key, changed, entry.revision)
        assert here.round() == ["pool-judged"]
        (condition,) = here.document["status"]["conditions"]
        assert condition["reason"] == reason
        assert said in condition["message"]
        assert here.round() == []


def test_without_the_lease_nothing_is_written() -> None:
    here = Here()
    assert here.pools.once(lambda: False) == []
    assert "finalizers" not in here.document["metadata"]


def test_a_pool_that_somebody_writes_at_the_same_time_is_left_to_the_next_round() -> None:
    here = Here()
    entries = here.cluster.store.list("IPPool")
    here.cluster.store.update(here.key, {**here.document, "spec": {**here.document["spec"], "natOutgoing": True}},
                              entries.entries[0].revision)  # fmt: skip
    stale = Pools(Stale(here.cluster.store, entries), lambda: NOW)  # type: ignore[arg-type]  # what it uses of a store
    assert list(stale.once(lambda: True)) == []
    assert here.round() == ["pool-judged"]


class Stale:
    """A store whose list is of an earlier moment."""

    atomic = True

    def __init__(self, store: Any, listed: Any) -> None:
        self._store, self._listed = store, listed

    def list(self, kind: str) -> Any:
        return self._listed if kind == "IPPool" else self._store.list(kind)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)
