"""IPPools: says of each whether addresses may be assigned from it, and lets a deleted one go when its addresses are free. IO.

A pool that was deleted under living pods stays, Terminating, so that their addresses are still routed and announced; its
empty blocks are given back, and with the last one it goes.  allocatable.py decides, this writes.
"""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime

from felixlite.addresses import Prefix
from felixlite.controllers import finalizers
from felixlite.controllers.allocatable import Verdict, invalid, is_terminating, judged, says, verdicts
from felixlite.controllers.runner import Event
from felixlite.datastore import announcer
from felixlite.datastore.store import Document, Entry, Store
from felixlite.errors import Conflict, FelixliteError, NotFound, Rejected
from felixlite.ipam import fixes
from felixlite.ipam.documents import BLOCK
from felixlite.ipam.repair import Repair
from felixlite.model.parse import parse

FINALIZER = "projectcalico.org/ippool-finalizer"
BAD = ("Invalid", "CIDROverlap")  # what its author should hear of
OFTEN, SELDOM = 5.0, 60.0  # seconds between two looks: while a pool ends, else


class Pools:
    name = "pools"

    def __init__(self, store: Store, clock: Callable[[], float] = time.time) -> None:
        self.store, self._clock = store, clock
        self._repair = Repair(store, clock)
        self._public = announcer(store)
        self.every = SELDOM

    def once(self, may_go_on: Callable[[], bool]) -> Sequence[Event]:
        entries = self.store.list("IPPool").entries
        found = {**verdicts(entry.document for entry in entries), **_invalid(entries)}
        self.every = OFTEN if any(is_terminating(entry.document) for entry in entries) else SELDOM
        events: list[Event] = []
        for entry in entries:
            if may_go_on() and (verdict := found.get(entry.key.name)):
                events += self._one(entry, verdict)
        return events

    def _one(self, entry: Entry, verdict: Verdict) -> Iterator[Event]:
        try:
            if is_terminating(entry.document) and finalizers.has(entry.document, FINALIZER):
                yield from self._ending(entry)
            wanted = self._wanted(entry.document, verdict)
            if wanted != entry.document:
                written = self.store.update(entry.key, wanted, entry.revision)
                if self._public and verdict.reason in BAD and not says(entry.document, verdict):
                    self._public.warn(written, verdict.reason, verdict.message)
                yield Event(self.name, "pool-judged", str(entry.key), f"{verdict.reason}: {verdict.message}")
        except (Conflict, NotFound):
            return  # somebody wrote it meanwhile: the next round sees it
        except FelixliteError as error:
            yield Event(self.name, "pool-failed", str(entry.key), str(error), failed=True)

    def _wanted(self, document: Document, verdict: Verdict) -> Document:
        if not is_terminating(document) and not finalizers.has(document, FINALIZER):
            document = finalizers.guarded(document, FINALIZER)
        now = datetime.fromtimestamp(self._clock(), UTC)
        return document if says(document, verdict) else judged(document, verdict, f"{now:%Y-%m-%dT%H:%M:%SZ}")

    def _ending(self, entry: Entry) -> Iterator[Event]:
        """Give back what is empty; let the pool go when nothing is left. NotFound then ends this round for it."""
        pool = Prefix.parse(entry.document["spec"]["cidr"])
        inside = [cidr for cidr in self._blocks() if pool.covers(cidr)]
        for cidr in list(inside):
            if self._repair.apply(fixes.DropBlock(cidr)):
                inside.remove(cidr)
                yield Event(self.name, "block-of-ending-pool", str(cidr), f"it is empty, and {entry.key} was deleted")
        if not inside:
            self.store.update(entry.key, finalizers.released(entry.document, FINALIZER), entry.revision)
            yield Event(self.name, "pool-gone", str(entry.key), "no address of it is assigned any more")
            raise NotFound(f"{entry.key} is gone")

    def _blocks(self) -> Iterator[Prefix]:
        for entry in self.store.list(BLOCK).entries:
            try:
                yield Prefix.parse(str((entry.document.get("spec") or {}).get("cidr")))
            except ValueError:
                continue  # `ipam check` tells of it; a pool is not held for what nobody can read


def _invalid(entries: Sequence[Entry]) -> dict[str, Verdict]:
    found = {}
    for entry in entries:
        try:
            parse(entry.document)
        except Rejected as error:
            found[entry.key.name] = invalid("; ".join(map(str, error.problems)))
    return found
