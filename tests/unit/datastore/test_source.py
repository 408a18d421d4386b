import queue
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import pytest

from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.source import NAME, Source
from felixlite.datastore.store import Event, Key, Listing, Watch
from felixlite.errors import Away, Denied, StoreError, Unreachable
from felixlite.intake import READERS, Intake
from felixlite.model.inside import Mode
from felixlite.model.kinds import KINDS
from felixlite.model.parse import parse
from felixlite.snapshot import Change, Gone, InSync, Put, Snapshot, fold

KINDS_READ = ("IPPool", "Tier")
PATIENCE = 10


def pool(name: str, **spec: Any) -> tuple[Key, dict[str, Any]]:
    frame = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": name}}
    return Key("IPPool", name), {**frame, "spec": {"cidr": "10.0.0.0/16", **spec}}


class Flaky(MemoryStore):
    """A store that is sometimes away."""

    def __init__(self) -> None:
        super().__init__()
        self.away = False
        self.why: StoreError = Unreachable("nobody answers")
        self.lists = 0

    def list(self, kind: str, *, namespace: str = "", node: str = "") -> Listing:
        self.lists += 1
        if self.away:
            raise self.why
        return super().list(kind, namespace=namespace, node=node)


class Inbox:
    """What a source told, and the Snapshot that follows."""

    def __init__(self) -> None:
        self.told: queue.SimpleQueue[Sequence[Change]] = queue.SimpleQueue()
        self.snapshot = Snapshot("n1")
        self.changes: list[Change] = []

    def next(self) -> Sequence[Change]:
        changes = self.told.get(timeout=PATIENCE)
        self.changes += changes
        self.snapshot = fold(self.snapshot, changes)
        return changes

    def until_in_sync(self) -> None:
        while InSync(NAME) not in self.next():
            pass


@contextmanager
def running(
    store: MemoryStore, kinds: Sequence[str] = KINDS_READ, *, spread: float = -0.5, stop: threading.Event | None = None
) -> Iterator[tuple[Source, Inbox]]:
    inbox = Inbox()
    source = Source(store, kinds, Intake("n1"), inbox.told.put, spread=lambda: spread)
    source._stop = stop or source._stop
    thread = threading.Thread(target=source.run)
    thread.start()
    try:
        yield source, inbox
    finally:
        source.stop()
        thread.join(PATIENCE)
        assert not thread.is_alive()


def test_what_is_there_is_told_before_the_source_is_in_sync() -> None:
    store = MemoryStore()
    store.create(*pool("a"))
    with running(store) as (_, inbox):
        inbox.until_in_sync()
        assert set(inbox.snapshot.pools) == {"a"}
        assert inbox.snapshot.in_sync == {NAME}


def test_what_changes_later_is_told() -> None:
    store = MemoryStore()
    first = store.create(*pool("a"))
    with running(store) as (_, inbox):
        inbox.until_in_sync()
        store.update(*pool("a", ipipMode="Always"), first.revision)
        inbox.next()
        assert inbox.snapshot.pools["a"].ipip is Mode.ALWAYS
        store.delete(first.key)
        inbox.next()
        assert not inbox.snapshot.pools


def test_a_second_list_tells_what_vanished_and_what_is_new_and_nothing_else() -> None:
    store = MemoryStore()
    for name in "abc":
        store.create(*pool(name))
    with running(store) as (source, inbox):
        inbox.until_in_sync()
        inbox.changes.clear()
        with store._lock:  # nothing is heard between the end of the watch and the next list
            source.list_again()
            store._history._listeners.clear()
            store.delete(Key("IPPool", "b"))
            store.create(*pool("d"))
        inbox.until_in_sync()
        told = [change for change in inbox.changes if not isinstance(change, InSync)]
        assert [type(change) for change in sorted(told, key=lambda c: str(c.key))] == [Gone, Put]
        assert set(inbox.snapshot.pools) == {"a", "c", "d"}


def test_a_store_that_is_away_takes_nothing_from_the_snapshot() -> None:
    store = Flaky()
    store.create(*pool("a"))
    with running(store) as (source, inbox):
        inbox.until_in_sync()
        store.away = True
        source.list_again()
        while source.health.errors < 3:
            source._stop.wait(0.001)
        assert not source.health.is_well
        assert source.health.last_error == "nobody answers"
        assert inbox.told.empty()
        store.away = False
        inbox.until_in_sync()
        assert set(inbox.snapshot.pools) == {"a"}
        assert not [change for change in inbox.changes if isinstance(change, Gone)]


class BrokenOnce(Flaky):
    """The first watch ends at once."""

    def watch_many(self, since: Mapping[str, str]) -> Watch:
        watch = super().watch_many(since)
        if self.lists <= len(KINDS_READ):
            raise self.why
        return watch


@pytest.mark.parametrize(("why", "is_well"), [(Unreachable("it was stopped"), True), (Denied("not you"), False)])
def test_a_watch_is_doubted_for_a_while_when_the_one_before_it_was_refused(why: StoreError, is_well: bool) -> None:
    """A store that is back is well at once: what the node knows is as good as ever."""
    store = BrokenOnce()
    store.why = why
    with running(store) as (source, inbox):
        inbox.until_in_sync()
        inbox.until_in_sync()
        while source.health.state != "watching":
            source._stop.wait(0.001)
        assert source.health.is_well_at(source.health.watching_since) is is_well
        assert source.health.is_well_at(source.health.watching_since + 60)


class Pauses(threading.Event):
    """Does not wait, and says for how long it should have."""

    def __init__(self) -> None:
        super().__init__()
        self.told: queue.SimpleQueue[float] = queue.SimpleQueue()

    def wait(self, timeout: float | None = None) -> bool:
        self.told.put(timeout or 0.0)
        return self.is_set()


@pytest.mark.parametrize(
    ("why", "longest"), [(Away("no connection"), 1.0), (Unreachable("too slow"), 5.0), (Denied("who are you"), 10.0)]
)
def test_how_long_a_store_is_left_alone_depends_on_what_it_is_that_is_wrong(why: StoreError, longest: float) -> None:
    store, pauses = Flaky(), Pauses()
    store.away, store.why = True, why
    with running(store, spread=0.5, stop=pauses) as _:
        said = [pauses.told.get(timeout=PATIENCE) for _ in range(20)]
    assert said == sorted(said)
    assert said[0] < 0.1
    assert said[-1] == longest


def test_a_store_that_is_back_but_slow_is_not_made_to_pay_for_the_time_that_it_was_away() -> None:
    store, pauses = Flaky(), Pauses()
    store.away, store.why = True, Away("no connection")
    with running(store, spread=0.5, stop=pauses) as _:
        while pauses.told.get(timeout=PATIENCE) < 1.0:
            pass
        store.why = Unreachable("no leader yet")
        while (pause := pauses.told.get(timeout=PATIENCE)) == 1.0:
            pass
        assert pause < 0.1


def test_a_write_that_changes_nothing_is_not_told() -> None:
    store = MemoryStore()
    first = store.create(*pool("a"))
    with running(store) as (_, inbox):
        inbox.until_in_sync()
        store.update(first.key, first.document, first.revision)
        store.create(*pool("b"))
        assert [change.key for change in inbox.next() if isinstance(change, Put)] == ["b"]


def test_an_object_that_turns_bad_stays_as_it_was_and_is_listed_over_a_second_list_too() -> None:
    store = MemoryStore()
    first = store.create(*pool("a", ipipMode="Always"))
    with running(store) as (source, inbox):
        inbox.until_in_sync()
        store.update(*pool("a", ipipMode="Sometimes"), first.revision)
        inbox.next()
        source.list_again()
        inbox.until_in_sync()
        assert inbox.snapshot.pools["a"].ipip is Mode.ALWAYS
        assert "Sometimes" in inbox.snapshot.rejected["IPPool", "a"]


def test_a_compacted_watch_is_answered_with_a_list() -> None:
    store = MemoryStore(history=1)
    with running(store) as (source, inbox):
        inbox.until_in_sync()
        with store._lock:
            source.list_again()
            for name in "abc":
                store.create(*pool(name))
            store.compact()
        while set(inbox.snapshot.pools) != set("abc"):
            inbox.next()


JUNK: tuple[Any, ...] = (
    {},
    {"spec": "text"},
    {"spec": None},
    {"metadata": None, "spec": {}},
    {"metadata": {"name": 5, "labels": "x", "annotations": [1]}, "spec": []},
    {"spec": {"cidr": [], "selector": 5, "node": {}, "ingress": "x", "types": 3, "block": 1, "labels": [[]]}},
)


@pytest.mark.parametrize("kind", list(READERS))
def test_no_document_whatever_it_is_ends_a_source(kind: str) -> None:
    store = MemoryStore()
    known = KINDS[kind]
    for number, junk in enumerate(JUNK):
        name = f"junk{number}"
        frame = {"apiVersion": known.api_version, "kind": known.document_kind, "metadata": {"name": name}}
        store.create(Key(kind, name), {**frame, **junk})
    store.create(*pool("good"))
    with running(store, (kind, "IPPool") if kind != "IPPool" else ("IPPool",)) as (_, inbox):
        inbox.until_in_sync()
        assert "good" in inbox.snapshot.pools


# -- an object whose writer tells the core himself


class Told:
    """A source whose watch is in our hands, and what it and the writer put into the inbox, in order."""

    def __init__(self) -> None:
        self.store, self.changes = MemoryStore(), list[Change]()
        self.source = Source(self.store, KINDS_READ, Intake("n1"), self.changes.extend)
        self.source._list()
        self.watch = iter(self.store.watch_many(dict.fromkeys(KINDS_READ, "0")))

    def write(self, *nets: str | None) -> list[Event]:
        """The events of writing pool `a` with each of these CIDRs; None: deleting it."""
        events = []
        for net in nets:
            key, document = pool("a", cidr=net)
            entry = self.store.get(key)
            if net is None:
                self.store.delete(key)
            elif entry:
                self.store.update(key, document, entry.revision)
            else:
                self.store.create(key, document)
            events.append(next(self.watch))
        return events

    def writer_tells(self, net: str | None) -> None:
        entry = self.store.get(Key("IPPool", "a"))
        change = Put("pools", "a", parse(pool("a", cidr=net)[1]).inside()) if net else Gone("pools", "a")
        self.source.ahead(Key("IPPool", "a"), entry.revision if entry else None, lambda: self.changes.append(change))

    def hear(self, events: Sequence[Event]) -> list[str]:
        """What was put while the source heard of these events: the CIDRs of the pool, "gone"."""
        before = len(self.changes)
        for event in events:
            self.source._tell(self.source._news(event))
        return [str(c.value.cidr) if isinstance(c, Put) else "gone" for c in self.changes[before:]]


OLD, NEW, NEWER = "10.1.0.0/16", "10.2.0.0/16", "10.3.0.0/16"


@pytest.mark.parametrize("late", range(4))
def test_an_old_deletion_does_not_take_away_what_was_made_again(late: int) -> None:
    told = Told()
    events = told.write(OLD, None, NEW)
    told.hear(events[:late])
    told.writer_tells(NEW)

    assert told.hear(events[late:]) == ([NEW] if late < 3 else [])
    assert told.hear(told.write(NEWER)) == [NEWER]
    assert told.hear(told.write(None)) == ["gone"]


@pytest.mark.parametrize("late", range(3))
def test_an_old_version_does_not_bring_back_what_was_deleted(late: int) -> None:
    told = Told()
    events = told.write(OLD, None)
    told.hear(events[:late])
    told.writer_tells(None)

    assert OLD not in told.hear(events[late:])
    assert told.hear(told.write(NEW)) == [NEW]


def test_what_somebody_else_wrote_after_the_writer_is_told() -> None:
    told = Told()
    events = told.write(OLD)
    told.writer_tells(OLD)
    events += told.write(NEW)

    assert told.hear(events[1:]) == [NEW]


def test_a_list_that_is_older_than_the_writer_does_not_take_it_back(monkeypatch: pytest.MonkeyPatch) -> None:
    told = Told()
    told.hear(told.write(OLD))
    told.write(None)
    without = {kind: told.store.list(kind) for kind in KINDS_READ}
    events = told.write(NEW)
    told.writer_tells(NEW)
    before = len(told.changes)
    monkeypatch.setattr(told.store, "list", without.__getitem__)
    told.source._list()

    assert told.changes[before:] == [InSync(NAME)]
    assert told.hear(events) == [NEW]
