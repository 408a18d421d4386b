"""What every Store does, whatever it is made of. A subclass names its store by a fixture `store`.

The suite speaks of kinds that every store has a place for, and of one whose spec may say anything, also to an API server
that knows its schemas; what is particular to one store is in that store's tests.
Watches are read in a thread with a bounded wait, so that a watch that says nothing fails instead of hanging.
"""

import queue
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext, suppress
from typing import Any

import pytest

from felixlite.datastore.store import Changed, Deleted, Document, Entry, Event, Key, Store, Write
from felixlite.errors import AlreadyExists, Conflict, NotFound, StoreError
from felixlite.model.kinds import KINDS

POOL = Key("IPPool", "a")  # for the tests of single stores
FREE = Key("FelixConfiguration", "a")
PATIENCE = 10.0
QUIET = 0.2


def document(key: Key, **spec: Any) -> Document:
    where = {"namespace": key.namespace} if key.namespace else {}
    kind = KINDS[key.kind]
    return {
        "apiVersion": kind.api_version,
        "kind": kind.document_kind,
        "metadata": {"name": key.name, **where},
        "spec": spec,
    }


def affinity(node: str, cidr: str, state: str = "confirmed") -> tuple[Key, Document]:
    key = Key("BlockAffinity", f"{node}-{cidr.replace('.', '-').replace('/', '-')}")
    return key, document(key, state=state, node=node, cidr=cidr, type="host", deleted="false")


def without_birth(found: Entry | None) -> Document:
    """A document without what a store may fill in."""
    assert found
    metadata = {k: v for k, v in found.document["metadata"].items() if k not in ("uid", "creationTimestamp")}
    return {**found.document, "metadata": metadata}


class Heard:
    """The events of a watch, taken out by a thread."""

    def __init__(self) -> None:
        self.events: queue.SimpleQueue[Event | Exception | None] = queue.SimpleQueue()

    def run(self, watch: Any) -> None:
        try:
            for event in watch:
                self.events.put(event)
            self.events.put(None)
        except Exception as error:  # noqa: BLE001  the test's own thread raises it again
            self.events.put(error)

    def next(self, patience: float = PATIENCE) -> Event | None:
        found = self.events.get(timeout=patience)
        if isinstance(found, Exception):
            raise found
        return found

    def nothing_until_one_is_written(self, store: Store) -> bool:
        """Of a watch of FelixConfigurations, or of these too."""
        last = FREE._replace(name="last")
        written = store.create(last, document(last))
        return self.next() == Changed(written)

    def is_quiet(self) -> bool:
        try:
            self.events.get(timeout=QUIET)
        except queue.Empty:
            return True
        return False


@contextmanager
def listening(store: Store, since: Mapping[str, str]) -> Iterator[Heard]:
    heard = Heard()
    with store.watch_many(since) as watch:
        reader = threading.Thread(target=heard.run, args=(watch,))
        reader.start()
        try:
            yield heard
        finally:
            watch.close()
            reader.join(PATIENCE)
            assert not reader.is_alive(), "a closed watch must end"


class StoreContract:
    def test_there_is_nothing_at_first(self, store: Store) -> None:
        assert store.get(FREE) is None
        assert store.list("FelixConfiguration").entries == ()

    def test_what_was_created_is_read_back(self, store: Store) -> None:
        made = store.create(FREE, document(FREE, cidr="10.0.0.0/16"))
        found = store.get(FREE)
        assert found == made
        assert without_birth(found) == document(FREE, cidr="10.0.0.0/16")

    def test_documents_given_and_taken_are_the_callers_own(self, store: Store) -> None:
        given = document(FREE, cidr="10.0.0.0/16")
        store.create(FREE, given)
        given["spec"]["cidr"] = "changed"
        taken = store.get(FREE)
        assert taken
        taken.document["spec"]["cidr"] = "changed"
        assert without_birth(store.get(FREE)) == document(FREE, cidr="10.0.0.0/16")

    def test_the_revision_is_not_part_of_the_document(self, store: Store) -> None:
        given = document(FREE)
        given["metadata"]["resourceVersion"] = "7"
        made = store.create(FREE, given)
        changed = store.update(FREE, given, made.revision)
        for found in (made, changed, store.get(FREE)):
            assert found
            assert "resourceVersion" not in found.document["metadata"]

    def test_texts_survive_whatever_they_look_like(self, store: Store) -> None:
        spec = {
            "texts": ["yes", "1.0", "0x1f", "1e3", "null", "", "ünïcödé 🐈", "a: b\n# c\n", " x "],
            "n": [1, 2.5, True, None, {}],
        }
        store.create(FREE, document(FREE, **spec))
        assert without_birth(store.get(FREE))["spec"] == spec

    def test_a_second_create_is_refused(self, store: Store) -> None:
        store.create(FREE, document(FREE, n=1))
        with pytest.raises(AlreadyExists, match="FelixConfiguration a"):
            store.create(FREE, document(FREE, n=2))
        assert without_birth(store.get(FREE))["spec"] == {"n": 1}

    def test_an_update_needs_the_revision_that_it_is_based_on(self, store: Store) -> None:
        first = store.create(FREE, document(FREE, n=1))
        second = store.update(FREE, document(FREE, n=2), first.revision)
        assert second.revision != first.revision
        with pytest.raises(Conflict, match="FelixConfiguration a"):
            store.update(FREE, document(FREE, n=3), first.revision)
        assert without_birth(store.get(FREE))["spec"] == {"n": 2}

    def test_an_update_that_changes_nothing_is_a_new_revision(self, store: Store) -> None:
        first = store.create(FREE, document(FREE))
        assert store.update(FREE, first.document, first.revision).revision != first.revision

    def test_what_is_not_there_is_neither_updated_nor_deleted(self, store: Store) -> None:
        gone = store.create(FREE, document(FREE))
        store.delete(FREE)
        with pytest.raises(NotFound):
            store.update(FREE, document(FREE), gone.revision)
        with pytest.raises(NotFound):
            store.delete(FREE)
        with pytest.raises(NotFound):
            store.delete(FREE, gone.revision)

    def test_a_delete_with_a_revision_spares_what_changed(self, store: Store) -> None:
        first = store.create(FREE, document(FREE, n=1))
        second = store.update(FREE, document(FREE, n=2), first.revision)
        with pytest.raises(Conflict):
            store.delete(FREE, first.revision)
        store.delete(FREE, second.revision)
        assert store.get(FREE) is None

    def test_a_revision_is_never_used_again_for_an_object_made_anew(self, store: Store) -> None:
        first = store.create(FREE, document(FREE))
        store.delete(FREE)
        again = store.create(FREE, document(FREE))
        assert again.revision != first.revision

    def test_a_revision_of_nobody_is_a_conflict(self, store: Store) -> None:
        store.create(FREE, document(FREE))
        with pytest.raises(Conflict):
            store.update(FREE, document(FREE), "rubbish")

    def test_several_are_read_at_once_in_the_order_asked(self, store: Store) -> None:
        b = store.create(FREE._replace(name="b"), document(FREE._replace(name="b")))
        a = store.create(FREE, document(FREE))
        assert list(store.read([b.key, FREE._replace(name="none"), a.key])) == [b, None, a]
        assert list(store.read([])) == []

    def test_a_list_is_of_one_kind_by_namespace_and_name(self, store: Store) -> None:
        keys = [Key("NetworkPolicy", n, ns) for ns, n in (("a", "x"), ("a-b", "c"), ("a", "b"), ("b", "a"))]
        for key in [*keys, FREE, Key("NetworkSet", "x", "a")]:
            store.create(key, document(key))
        assert [e.key for e in store.list("NetworkPolicy").entries] == [keys[2], keys[0], keys[1], keys[3]]
        assert [e.key for e in store.list("NetworkPolicy", namespace="a").entries] == [keys[2], keys[0]]

    def test_objects_of_the_same_name_in_two_namespaces_are_two(self, store: Store) -> None:
        for namespace in ("a", "b"):
            key = Key("NetworkPolicy", "same", namespace)
            store.create(key, document(key, selector=f"x == '{namespace}'", types=["Ingress"]))
        store.delete(Key("NetworkPolicy", "same", "a"))
        assert [e.document["spec"]["selector"] for e in store.list("NetworkPolicy").entries] == ["x == 'b'"]

    def test_affinities_are_listed_by_node(self, store: Store) -> None:
        for node, cidr in (("n1", "10.0.0.0/26"), ("n1-1", "10.0.0.64/26"), ("n1", "10.0.0.128/26")):
            store.create(*affinity(node, cidr))
        found = [e.document["spec"]["cidr"] for e in store.list("BlockAffinity", node="n1").entries]
        assert found == ["10.0.0.0/26", "10.0.0.128/26"]

    def test_the_objects_of_ipam_come_back_as_they_were(self, store: Store) -> None:
        block = Key("IPAMBlock", "10-0-0-0-30")
        handle = Key("IPAMHandle", "k8s-pod-network.0a1b")
        made = [
            affinity("n-1", "10.0.0.0/30", "pending"),
            (block, document(block, cidr="10.0.0.0/30", affinity="host:n-1", allocations=[0, None, None, None],
                             unallocated=[1, 2, 3], attributes=[{"handle_id": "h", "secondary": {"node": "n-1"}}],
                             sequenceNumber=1760000000000000001, sequenceNumberForAllocation={"0": 1760000000000000001},
                             affinityClaimTime="2026-01-01T00:00:00Z", deleted=False)),
            (handle, document(handle, handleID="k8s-pod-network.0a1b", block={"10.0.0.0/30": 1}, deleted=False)),
        ]  # fmt: skip
        for key, given in made:
            store.create(key, given)
            assert without_birth(store.get(key)) == given

    # -- several writes at once

    def test_a_commit_creates_updates_and_deletes(self, store: Store) -> None:
        keys = [FREE._replace(name=name) for name in "abc"]
        b, c = (store.create(key, document(key, n=1)) for key in keys[1:])
        found = store.commit(
            [
                Write(keys[0], document(keys[0], n=2), None),
                Write(keys[1], document(keys[1], n=2), b.revision),
                Write(keys[2], None, c.revision),
            ]
        )
        assert list(found) == [store.get(keys[0]), store.get(keys[1]), None]
        assert [e.document["spec"] for e in store.list("FelixConfiguration").entries] == [{"n": 2}, {"n": 2}]

    @pytest.mark.parametrize("spoiled", [0, 1, 2])
    def test_a_commit_with_one_lost_comparison_writes_nothing(self, store: Store, spoiled: int) -> None:
        keys = [FREE._replace(name=name) for name in "abc"]
        b, c = (store.create(key, document(key, n=1)) for key in keys[1:])
        writes = [
            Write(keys[0], document(keys[0], n=2), None),
            Write(keys[1], document(keys[1], n=2), b.revision),
            Write(keys[2], None, c.revision),
        ]
        if spoiled == 0:
            store.create(keys[0], document(keys[0], n=1))
        else:
            store.update(keys[spoiled], document(keys[spoiled], n=3), (b, c)[spoiled - 1].revision)
        before = store.list("FelixConfiguration").entries
        with pytest.raises(Conflict, match=f"FelixConfiguration {'abc'[spoiled]}"):
            store.commit(writes)
        if store.atomic:
            assert store.list("FelixConfiguration").entries == before

    @pytest.mark.parametrize("is_lost", [False, True])
    def test_while_a_commit_is_under_way_its_caller_may_do_something_once(self, store: Store, is_lost: bool) -> None:
        if is_lost:
            store.create(FREE, document(FREE, n=1))
        done: list[str] = []
        with pytest.raises(Conflict) if is_lost else nullcontext():
            store.commit([Write(FREE, document(FREE, n=2), None)], lambda: done.append("once"))
        assert done == ["once"]

    def test_a_commit_may_only_ask_that_something_is_absent(self, store: Store) -> None:
        other = FREE._replace(name="b")
        assert store.commit([Write(FREE, None, None), Write(other, document(other), None)])[0] is None
        assert store.get(FREE) is None
        with pytest.raises(Conflict):
            store.commit([Write(other, None, None)])
        assert store.get(other)

    def test_of_many_who_swap_at_once_one_wins_each_round(self, store: Store) -> None:
        store.create(FREE, document(FREE, n=0))

        def add(times: int) -> None:
            while times:
                found = store.get(FREE)
                assert found
                try:
                    store.update(FREE, document(FREE, n=found.document["spec"]["n"] + 1), found.revision)
                except Conflict:
                    continue
                times -= 1

        threads = [threading.Thread(target=add, args=(10,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert without_birth(store.get(FREE))["spec"] == {"n": 40}

    # -- watches

    def test_a_watch_tells_each_change_after_its_revision_once_and_in_order(self, store: Store) -> None:
        first = store.create(FREE, document(FREE, n=1))
        listing = store.list("FelixConfiguration")
        second = store.update(FREE, document(FREE, n=2), first.revision)
        with listening(store, {"FelixConfiguration": listing.revision}) as heard:
            assert heard.next() == Changed(second)
            third = store.update(FREE, document(FREE, n=3), second.revision)
            assert heard.next() == Changed(third)
            store.delete(FREE)
            gone = heard.next()
            assert isinstance(gone, Deleted)
            assert gone.key == FREE
            assert heard.nothing_until_one_is_written(store)

    def test_a_watch_tells_of_its_own_kinds_only(self, store: Store) -> None:
        since = {kind: store.list(kind).revision for kind in ("FelixConfiguration", "NetworkPolicy")}
        policy = Key("NetworkPolicy", "p", "ns")
        with listening(store, since) as heard:
            for key in (Key("Tier", "t"), policy, Key("NetworkSet", "s", "ns"), FREE):
                store.create(key, document(key))
            told = [heard.next(), heard.next()]
            assert {event.entry.key for event in told if isinstance(event, Changed)} == {policy, FREE}
            assert heard.nothing_until_one_is_written(store)

    def test_each_kind_of_a_watch_has_its_own_revision(self, store: Store) -> None:
        free = store.list("FelixConfiguration")
        tier = Key("Tier", "t")
        store.create(tier, document(tier))
        store.create(FREE, document(FREE))
        with listening(store, {"FelixConfiguration": free.revision, "Tier": store.list("Tier").revision}) as heard:
            told = heard.next()
            assert isinstance(told, Changed)
            assert told.entry.key == FREE
            assert heard.nothing_until_one_is_written(store)

    def test_a_watch_of_one_kind_is_a_watch_of_several_with_one(self, store: Store) -> None:
        listing = store.list("FelixConfiguration")
        made = store.create(FREE, document(FREE))
        with store.watch("FelixConfiguration", listing.revision) as watch:
            assert next(iter(watch)) == Changed(made)

    def test_a_watch_hears_the_writes_of_a_commit(self, store: Store) -> None:
        since = {"IPAMBlock": store.list("IPAMBlock").revision, "BlockAffinity": store.list("BlockAffinity").revision}
        block = Key("IPAMBlock", "10-0-0-0-26")
        owned, said = affinity("n1", "10.0.0.0/26")
        empty = document(block, cidr="10.0.0.0/26", allocations=[None] * 64, unallocated=list(range(64)), attributes=[])
        with listening(store, since) as heard:
            store.commit([Write(owned, said, None), Write(block, empty, None)])
            told = [heard.next(), heard.next()]
            assert {event.entry.key for event in told if isinstance(event, Changed)} == {owned, block}

    def test_what_is_told_after_many_changes_is_what_is_there(self, store: Store) -> None:
        listing = store.list("FelixConfiguration")
        keys = [FREE._replace(name=f"p{i}") for i in range(20)]
        with listening(store, {"FelixConfiguration": listing.revision}) as heard:
            for key in keys:
                made = store.create(key, document(key, n=1))
                store.update(key, document(key, n=2), made.revision)
            for key in keys[::2]:
                store.delete(key)
            last = FREE._replace(name="last")
            store.create(last, document(last))
            known: dict[Key, Entry] = {}
            while last not in known:
                match heard.next():
                    case Changed(entry):
                        known[entry.key] = entry
                    case Deleted(key, _):
                        del known[key]
        assert known == {entry.key: entry for entry in store.list("FelixConfiguration").entries}

    def test_a_closed_store_answers_with_a_store_error_or_an_answer_but_does_not_hang(self, store: Store) -> None:
        listing = store.list("FelixConfiguration")
        heard = Heard()
        with store.watch("FelixConfiguration", listing.revision) as watch:
            reader = threading.Thread(target=heard.run, args=(watch,))
            reader.start()
            store.close()
            with suppress(StoreError):
                assert heard.next() is None
            reader.join(PATIENCE)
            assert not reader.is_alive()
