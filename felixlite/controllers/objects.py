"""Objects that somebody wrote past the schema: their authors hear of it by an Event. IO.

Agents keep such an object out, go on with what it was before, and say so in their status; but whoever wrote it looks at the
object (`kubectl describe`).  IPPools have a condition and are judged in pools.py; the kinds here have no status to put
one into.  What was told is not told again by the same process; after a change of the leader it may be, once.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from felixlite.controllers.runner import Controller, Event
from felixlite.datastore import Announces
from felixlite.datastore.source import Source
from felixlite.datastore.store import Key, Store
from felixlite.errors import FelixliteError
from felixlite.intake import Entries, Intake
from felixlite.model.parse import parse
from felixlite.snapshot import Change, Gone, Put

KINDS = (
    "BGPConfiguration",
    "BGPFilter",
    "BGPPeer",
    "FelixConfiguration",
    "GlobalNetworkPolicy",
    "GlobalNetworkSet",
    "IPAMConfiguration",
    "IPReservation",
    "KubeControllersConfiguration",
    "NetworkPolicy",
    "NetworkSet",
    "Tier",
)
REASON = "Invalid"


class Objects:
    name = "objects"
    every = 60.0

    def __init__(self, store: Store, public: Announces, hurry: Callable[[Controller], None]) -> None:
        self.store, self._public, self._hurry = store, public, hurry
        self._wrong: dict[Key, str] = {}  # by the thread that follows the store
        self._told: dict[Key, str] = {}  # by the runner's
        self.source = Source(store, KINDS, Intake("", dict.fromkeys(KINDS, _judged)), self._put)

    def _put(self, changes: Sequence[Change]) -> None:
        wrong = dict(self._wrong)
        for change in changes:
            match change:
                case Put("rejected", key, why):
                    wrong[_key(key)] = str(why)
                case Gone("rejected", key):
                    wrong.pop(_key(key), None)
        if wrong != self._wrong:
            self._wrong = wrong  # replaced, not changed: the other thread reads it
            self._hurry(self)

    def once(self, may_go_on: Callable[[], bool]) -> Sequence[Event]:
        wrong = self._wrong
        self._told = {key: why for key, why in self._told.items() if wrong.get(key) == why}
        fresh = [(key, why) for key, why in wrong.items() if key not in self._told]
        return [event for key, why in fresh if may_go_on() for event in self._one(key, why)]

    def _one(self, key: Key, why: str) -> Iterator[Event]:
        try:
            entry = self.store.get(key)
            if entry is None:
                return  # it is gone; the source will say so
            self._public.warn(entry, REASON, why)
        except FelixliteError as error:
            yield Event(self.name, "event-failed", str(key), str(error), failed=True)
            return
        self._told[key] = why
        yield Event(self.name, "invalid", str(key), why)


def _judged(document: Mapping[str, Any], *_: object) -> Entries:
    parse(document)
    return {}


def _key(listed: Any) -> Key:
    """As the intake names it: kind, namespace/name."""
    kind, name = listed
    namespace, _, own = name.rpartition("/")
    return Key(kind, own, namespace)
