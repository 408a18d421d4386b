"""The store as a source of Changes: list every kind, say in-sync, watch; list again after whatever breaks the watch.

Before this is a Store, after it the inbox of the loop.  A list tells what is new or different and what has vanished;
what stayed as it was is not told again, so that an hour without a store and its return move nothing.  Documents become
Changes in felixlite/intake.py, and only those whose content differs from what was last seen: validation is the
expensive part of a list.

The agent's one thread of this reads all kinds from one watch.  It knows nothing of what the Changes mean.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import orjson

from felixlite.datastore.store import Bookmark, Changed, Deleted, Document, Event, Key, Store, Watch
from felixlite.errors import Compacted, StoreError
from felixlite.intake import Intake
from felixlite.reconcile import pause
from felixlite.snapshot import Change, InSync

NAME = "store"
LONGEST_PAUSE = 5.0  # seconds; a store that is back is followed again within half as much more


@dataclass(frozen=True, slots=True)
class Health:
    """For status and metrics. Times are those of time.time()."""

    address: str
    state: str = "connecting"  # listing, watching, waiting
    last_contact: float | None = None  # when the store last answered
    last_error: str = ""  # the error in force, or the one that was overcome last
    failing_since: float | None = None
    lists: int = 0
    events: int = 0
    errors: int = 0

    @property
    def is_well(self) -> bool:
        return self.state == "watching"


class Source:
    """`run` belongs to a thread; the rest may be called from any."""

    def __init__(
        self,
        store: Store,
        kinds: Iterable[str],
        intake: Intake,
        put: Callable[[Sequence[Change]], None],
        *,
        spread: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.health = Health(store.address)
        self._store, self._kinds, self._intake, self._put = store, tuple(kinds), intake, put
        self._spread, self._clock = spread, clock
        self._seen: dict[str, dict[Key, int]] = {kind: {} for kind in self._kinds}  # fingerprints
        self._stop = threading.Event()
        self._watch: Watch | None = None
        self._lock = threading.Lock()

    def run(self) -> None:
        """Until `stop`. Raises nothing that a store can cause."""
        failures = 0
        while not self._stop.is_set():
            try:
                since = self._list()
                failures = 0
                self._follow(since)
            except StoreError as error:
                failures += 1
                self._wait(error, failures)

    def stop(self) -> None:
        self._stop.set()
        self.list_again()

    def list_again(self) -> None:
        """Break the watch."""
        with self._lock:
            if self._watch:
                self._watch.close()

    def _list(self) -> dict[str, str]:
        """Tell what differs from what was told before. Answers from where to watch."""
        self._note(state="listing", lists=self.health.lists + 1)
        since = {}
        for kind in self._kinds:
            listing = self._store.list(kind)
            self._note(last_contact=self._clock())
            since[kind] = listing.revision
            changes = [change for entry in listing.entries for change in self._changed(entry.key, entry.document)]
            there = {entry.key for entry in listing.entries}
            for key in self._seen[kind].keys() - there:
                changes += self._gone(key)
            self._tell(changes)
            if self._stop.is_set():
                return since
        self._tell([InSync(NAME)])
        return since

    def _follow(self, since: dict[str, str]) -> None:
        with self._store.watch_many(since) as watch:
            with self._lock:
                self._watch = watch
            if self._stop.is_set():
                return
            self._note(state="watching", failing_since=None)
            for event in watch:
                self._note(last_contact=self._clock(), events=self.health.events + 1)
                self._tell(self._changes(event))

    def _changes(self, event: Event) -> Sequence[Change]:
        match event:
            case Changed(entry):
                return self._changed(entry.key, entry.document)
            case Deleted(key, _):
                return self._gone(key)
            case Bookmark():
                return ()

    def _changed(self, key: Key, document: Document) -> Sequence[Change]:
        seen, now = self._seen[key.kind], _fingerprint(document)
        if seen.get(key) == now:
            return ()
        seen[key] = now
        return self._intake.changes(key, document)

    def _gone(self, key: Key) -> Sequence[Change]:
        if self._seen[key.kind].pop(key, None) is None:
            return ()
        return self._intake.changes(key, None)

    def _tell(self, changes: Sequence[Change]) -> None:
        if changes:
            self._put(changes)

    def _wait(self, error: StoreError, failures: int) -> None:
        """Every node loses the same etcd at once: they must not come back at once."""
        if not isinstance(error, Compacted) or failures > 1:
            since = self.health.failing_since or self._clock()
            self._note(state="waiting", last_error=str(error), failing_since=since, errors=self.health.errors + 1)
        self._stop.wait(min(pause(failures), LONGEST_PAUSE) * (0.5 + self._spread()))

    def _note(self, **now: Any) -> None:
        self.health = replace(self.health, **now)


def _fingerprint(document: Document) -> int:
    """Of what a document says. The store's revision would not do: a restored backup uses the same ones again."""
    return hash(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))
