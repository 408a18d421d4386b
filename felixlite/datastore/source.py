"""The store as a source of Changes: list every kind, say in-sync, watch; list again after whatever breaks the watch.

Before this is a Store, after it the inbox of the loop.  A list tells what is new or different and what has vanished;
what stayed as it was is not told again, so that an hour without a store and its return move nothing.  Documents become
Changes in felixlite/intake.py, and only those whose content differs from what was last seen: validation is the
expensive part of a list.

Who writes an object in this process may tell the core himself, without waiting for the watch (`ahead`: a pod's endpoint).
What the watch still says of the time before is kept back then: a pod that was deleted and made again under the same
name must not lose its new rows to the old deletion.  Whether a word about such an object is old is asked of the store.

The agent's one thread of this reads all kinds from one watch.  It knows nothing of what the Changes mean.
"""

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import orjson

from felixlite.backoff import pause
from felixlite.datastore.store import Bookmark, Changed, Deleted, Document, Entry, Event, Key, Store, Watch
from felixlite.errors import Away, Compacted, Denied, StoreError
from felixlite.intake import Intake
from felixlite.snapshot import Change, InSync

NAME = "store"
LONGEST_AWAY = 1.0  # seconds; a store that is back is followed again within half as much more
LONGEST_PAUSE = 5.0  # the same where somebody answers, but cannot: what makes it worse is that all nodes ask
LONGEST_DENIED = 10.0  # ... and where it refuses, which somebody has to see to
LASTS = 10.0  # seconds; a watch that ends sooner was none


T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class _News:
    """What follows from an object's being at this revision now; None: from its being gone."""

    key: Key
    revision: str | None
    changes: Sequence[Change]


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
    watching_since: float = 0.0
    doubted: bool = False  # the last watch was refused at once: one kind may be listed but not watched

    @property
    def is_well(self) -> bool:
        return self.is_well_at(time.time())

    def is_well_at(self, now: float) -> bool:
        return self.state == "watching" and not (self.doubted and now - self.watching_since < LASTS)


class Source:
    """`run` belongs to a thread; the rest may be called from any."""

    def __init__(
        self,
        store: Store,
        kinds: Iterable[str],
        intake: Intake,
        put: Callable[[Sequence[Change]], None],
        *,
        first: Callable[[], None] = lambda: None,  # before every list: whether it is the right store at all
        spread: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.time,
        give_way: Callable[[], None] = lambda: None,
    ) -> None:
        self._give_way = give_way
        self.health = Health(store.address)
        self._store, self._kinds, self._intake, self._put = store, tuple(kinds), intake, put
        self._first, self._spread, self._clock = first, spread, clock
        self._seen: dict[str, dict[Key, int]] = {kind: {} for kind in self._kinds}  # fingerprints
        self._stop = threading.Event()
        self._watch: Watch | None = None
        self._lock = threading.Lock()
        self._ahead: dict[Key, str | None] = {}  # told by its writer: at which revision; None: deleted
        self._telling = threading.Lock()  # whoever is ahead is ahead of all that is put after that

    def run(self) -> None:
        """Until `stop`. Raises nothing that a store can cause; what `first` raises about another store ends it."""
        failures, last = 0, StoreError()
        while not self._stop.is_set():
            opened = None
            try:
                since = self._list()
                opened = self._clock()
                self._follow(since)
            except StoreError as error:
                lasted = opened is not None and self._clock() - opened > LASTS
                failures = failures + 1 if not lasted and type(error) is type(last) else 1
                last = error
                self._note(doubted=isinstance(error, Denied) and opened is not None and not lasted)
                self._wait(error, failures)

    def stop(self) -> None:
        self._stop.set()
        self.list_again()

    @property
    def epoch(self) -> int | None:
        """A number that changes when the watch was broken; None while there is none.

        Within one the revisions tell apart what they are of; a backup restored in between would use them again.
        """
        return self.health.lists if self.health.is_well else None

    def list_again(self) -> None:
        """Break the watch."""
        with self._lock:
            if self._watch:
                self._watch.close()

    def ahead(self, key: Key, revision: str | None, tell: Callable[[], T]) -> T:
        """`tell` puts into the inbox what this process has just written: `key` at this revision, or its deletion."""
        with self._telling:
            self._ahead[key] = revision
            return tell()

    def _list(self) -> dict[str, str]:
        """Tell what differs from what was told before. Answers from where to watch."""
        self._note(state="listing", lists=self.health.lists + 1)
        self._first()
        since = {}
        for kind in self._kinds:
            listing = self._store.list(kind)
            self._note(last_contact=self._clock())
            since[kind] = listing.revision
            there = {entry.key for entry in listing.entries}
            gone = self._seen[kind].keys() - there
            self._tell([*map(self._changed, listing.entries), *map(self._gone, gone)])
            if self._stop.is_set():
                return since
        self._put([InSync(NAME)])
        return since

    def _follow(self, since: dict[str, str]) -> None:
        with self._store.watch_many(since) as watch:
            with self._lock:
                self._watch = watch
            if self._stop.is_set():
                return
            self._note(state="watching", failing_since=None, watching_since=self._clock())
            for event in watch:
                self._give_way()
                self._note(last_contact=self._clock(), events=self.health.events + 1)
                self._tell(self._news(event))

    def _news(self, event: Event) -> "list[_News]":
        match event:
            case Changed(entry):
                return [self._changed(entry)]
            case Deleted(key, _):
                return [self._gone(key)]
            case Bookmark():
                return []

    def _changed(self, entry: Entry) -> "_News":
        key = entry.key
        seen, now = self._seen[key.kind], _fingerprint(entry.document)
        if seen.get(key) == now:
            return _News(key, entry.revision, ())
        seen[key] = now
        return _News(key, entry.revision, self._intake.changes(key, entry.document))

    def _gone(self, key: Key) -> "_News":
        if self._seen[key.kind].pop(key, None) is None:
            return _News(key, None, ())
        return _News(key, None, self._intake.changes(key, None))

    def _tell(self, news: "Sequence[_News]") -> None:
        with self._telling:
            old = [one for one in news if self._ahead.get(one.key, one.revision) != one.revision]
            self._put_news([one for one in news if one not in old] if old else news)
        for one in old:
            self._tell_if_so(one)

    def _put_news(self, news: "Sequence[_News]") -> None:
        for one in news if self._ahead else ():
            self._ahead.pop(one.key, None)
        if changes := [change for one in news for change in one.changes]:
            self._put(changes)

    def _tell_if_so(self, one: "_News") -> None:
        """About an object whose writer was ahead: what is no longer so is old; what is so instead is still to come."""
        overruled = one.revision  # what the writer said, when the store says otherwise by now
        while True:
            with self._telling:
                expected = self._ahead.get(one.key, one.revision)
                if expected in (one.revision, overruled):
                    self._put_news([one])
                    return
            now = self._store.get(one.key)
            if (now.revision if now else None) != one.revision:
                return
            overruled = expected

    def _wait(self, error: StoreError, failures: int) -> None:
        """Every node loses the same etcd at once: they must not come back at once."""
        if not isinstance(error, Compacted) or failures > 1:
            since = self.health.failing_since or self._clock()
            self._note(state="waiting", last_error=str(error), failing_since=since, errors=self.health.errors + 1)
        self._stop.wait(min(pause(failures), _longest(error)) * (0.5 + self._spread()))

    def _note(self, **now: Any) -> None:
        self.health = replace(self.health, **now)


def _longest(error: StoreError) -> float:
    match error:
        case Away():
            return LONGEST_AWAY
        case Denied():
            return LONGEST_DENIED
        case _:
            return LONGEST_PAUSE


def _fingerprint(document: Document) -> int:
    """Of what a document says. The store's revision would not do: a restored backup uses the same ones again."""
    return hash(orjson.dumps(document, option=orjson.OPT_NON_STR_KEYS))
