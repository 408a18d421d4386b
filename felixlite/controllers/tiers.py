"""Tiers: a deleted one stays until no policy is in it any more. IO."""

from collections.abc import Callable, Iterator, Sequence

from felixlite.controllers import finalizers
from felixlite.controllers.allocatable import is_terminating
from felixlite.controllers.runner import Event
from felixlite.datastore.store import Entry, Store
from felixlite.errors import Conflict, FelixliteError, NotFound
from felixlite.model.crossrules import POLICIES
from felixlite.model.policy import DEFAULT_TIER

FINALIZER = "projectcalico.org/tier-controller"
OFTEN, SELDOM = 5.0, 60.0  # seconds between two looks: while a tier ends, else


class Tiers:
    name = "tiers"

    def __init__(self, store: Store) -> None:
        self.store = store
        self.every = SELDOM

    def once(self, may_go_on: Callable[[], bool]) -> Sequence[Event]:
        entries = self.store.list("Tier").entries
        ends = any(is_terminating(entry.document) for entry in entries)
        self.every = OFTEN if ends else SELDOM
        used = self._used() if ends else set()
        return [event for entry in entries if may_go_on() for event in self._one(entry, used)]

    def _one(self, entry: Entry, used: set[str]) -> Iterator[Event]:
        document, guarded = entry.document, finalizers.has(entry.document, FINALIZER)
        try:
            if not is_terminating(document):
                if not guarded:
                    self.store.update(entry.key, finalizers.guarded(document, FINALIZER), entry.revision)
            elif guarded and entry.key.name not in used:
                self.store.update(entry.key, finalizers.released(document, FINALIZER), entry.revision)
                yield Event(self.name, "tier-gone", str(entry.key), "no policy is in it any more")
        except (Conflict, NotFound):
            return  # somebody wrote it meanwhile: the next round sees it
        except FelixliteError as error:
            yield Event(self.name, "tier-failed", str(entry.key), str(error), failed=True)

    def _used(self) -> set[str]:
        """Also by policies that are only staged: they would lose their meaning as well."""
        specs = (entry.document.get("spec") for kind in POLICIES for entry in self.store.list(kind).entries)
        return {str((spec if isinstance(spec, dict) else {}).get("tier") or DEFAULT_TIER) for spec in specs}
