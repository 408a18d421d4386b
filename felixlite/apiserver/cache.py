"""What the store holds and how it came to that, kept at hand for lists and watches. One thread follows the store.

A Cache is of one kind: its objects now, and the last changes in order.  A watcher has a place in that order; one whose
place is no longer kept (Gone) lists again, as after a compaction.  Single objects are not read from here but from the
store, and who has written waits until this has heard of it (`Feed.heard`): so nobody misses what they did themselves.
"""

import logging
import threading
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from felixlite.backoff import pause
from felixlite.datastore.store import Bookmark, Changed, Deleted, Entry, Key, Store, Watch
from felixlite.errors import Compacted, StoreError

log = logging.getLogger("felixlite")
KEPT = 4096  # changes of a kind, at least
HEARD_WITHIN = 5.0
LONGEST_PAUSE = 5.0


@dataclass(slots=True)
class Change:
    entry: Entry | None  # None: it is gone
    before: Entry | None  # None: it is new
    revision: str
    encoded: dict[object, bytes] = field(default_factory=dict)  # how it was told to others (watching.py)


class Gone(Exception):
    """The changes since then are no longer known."""


class Cache:
    """Belongs to its Feed's lock."""

    def __init__(self) -> None:
        self.entries: dict[Key, Entry] = {}
        self.revision = "0"
        self.is_filled = False
        self._changes: list[Change] = []
        self._first = 0  # the place of _changes[0]
        self._floor = 0  # what happened up to here is not known as changes

    @property
    def end(self) -> int:
        return self._first + len(self._changes)

    def since(self, place: int) -> list[Change]:
        if place < self._first:
            raise Gone
        return self._changes[place - self._first :]

    def place(self, revision: str) -> int:
        """Where to go on after a revision."""
        number = int(revision)
        if number < self._floor:
            raise Gone
        later = (i for i, change in enumerate(self._changes) if int(change.revision) > number)
        return self._first + next(later, len(self._changes))

    def fill(self, entries: Iterable[Entry], revision: str) -> None:
        """With all that there is at a revision; the difference to what was known is told as changes."""
        there = {entry.key: entry for entry in entries}
        if not self.is_filled or int(revision) < int(self.revision):
            # at first; or the store was set back to an older state, whose revisions mean something else
            self._first, self._changes = self.end + 1, []
            self.entries, self._floor = there, int(revision)
        else:
            differing = [e for k, e in there.items() if k not in self.entries or self.entries[k].revision != e.revision]
            for entry in sorted(differing, key=lambda entry: int(entry.revision)):
                self.put(entry)
            for key in self.entries.keys() - there.keys():
                self.drop(key, revision)
        self.revision, self.is_filled = revision, True

    def put(self, entry: Entry) -> None:
        before = self.entries.get(entry.key)
        if before is not None and before.revision == entry.revision:
            return
        self.entries[entry.key] = entry
        self._add(Change(entry, before, entry.revision))

    def drop(self, key: Key, revision: str) -> None:
        before = self.entries.pop(key, None)
        if before is not None:
            self._add(Change(None, before, revision))

    def _add(self, change: Change) -> None:
        self._changes.append(change)
        self.revision = change.revision
        if len(self._changes) >= 2 * KEPT:
            self._floor = int(self._changes[KEPT - 1].revision)
            del self._changes[:KEPT]
            self._first += KEPT


class Feed:
    """The caches of some kinds of one store. `run` belongs to a thread; the rest may be called from any."""

    def __init__(self, store: Store, kinds: Iterable[str]) -> None:
        self.store = store
        self.caches = {kind: Cache() for kind in kinds}
        self.news = threading.Condition()  # notified after every change
        self.error = ""
        self.wake: Callable[[], None] = lambda: None  # who tells watchers
        self._stop = threading.Event()
        self._watch: Watch | None = None

    @property
    def is_well(self) -> bool:
        return not self.error and all(cache.is_filled for cache in self.caches.values())

    def run(self) -> None:
        failures = 0
        while not self._stop.is_set():
            try:
                since = self._list()
                failures, self.error = 0, ""
                self._follow(since)
            except StoreError as error:
                failures += 1
                if not isinstance(error, Compacted):
                    self.error = str(error)
                    log.warning("%s; trying again", error)
                self._stop.wait(min(pause(failures), LONGEST_PAUSE))

    def stop(self) -> None:
        self._stop.set()
        with self.news:
            if self._watch:
                self._watch.close()

    def filled(self, kind: str, seconds: float = HEARD_WITHIN) -> Cache:
        """The cache, once it knows what there is. Hold `news` while reading it."""
        cache = self.caches[kind]
        with self.news:
            self.news.wait_for(lambda: cache.is_filled, seconds)
        return cache

    def heard(self, written: Entry) -> None:
        """Wait until a write of ours is known here. Not for ever: the store may be away."""
        self._until(written.key, lambda known, cache: _is_past(known, cache, int(written.revision)))

    def forgot(self, deleted: Entry) -> None:
        """Wait until a deletion of ours is known here."""
        self._until(deleted.key, lambda known, _: known is None or known.revision != deleted.revision)

    def _until(self, key: Key, is_known: Callable[[Entry | None, Cache], bool]) -> None:
        cache = self.caches[key.kind]
        with self.news:
            self.news.wait_for(lambda: self._stop.is_set() or is_known(cache.entries.get(key), cache), HEARD_WITHIN)

    def _list(self) -> dict[str, str]:
        since = {}
        for kind, cache in self.caches.items():
            listing = self.store.list(kind)
            since[kind] = listing.revision
            with self.news:
                cache.fill(listing.entries, listing.revision)
                self.news.notify_all()
            self.wake()
            if self._stop.is_set():
                break
        return since

    def _follow(self, since: dict[str, str]) -> None:
        with self.store.watch_many(since) as watch:
            with self.news:
                self._watch = watch
            if self._stop.is_set():
                return
            for event in watch:
                with self.news:
                    match event:
                        case Changed(entry):
                            self.caches[entry.key.kind].put(entry)
                        case Deleted(key, revision):
                            self.caches[key.kind].drop(key, revision)
                        case Bookmark():
                            continue
                    self.news.notify_all()
                self.wake()


def _is_past(known: Entry | None, cache: Cache, revision: int) -> bool:
    return int(cache.revision) > revision or (known is not None and int(known.revision) >= revision)
