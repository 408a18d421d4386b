"""IPAM's garbage collection as a controller: reads the facts, lets ipam/collect.py decide, carries it out. IO.

Suspicions live in this process alone: a new holder of the lease starts them afresh, which delays a release and never
hastens one.  Each fix asks the store once more before it writes (ipam/repair.py).
"""

import time
from collections.abc import Callable, Iterator, Sequence

from felixlite.config import duration
from felixlite.controllers.runner import Event
from felixlite.datastore.store import Key, Store
from felixlite.errors import FelixliteError
from felixlite.health import Sample
from felixlite.ipam.check import GRACE
from felixlite.ipam.collect import Decision, Memory, candidates, collect
from felixlite.ipam.facts import Facts
from felixlite.ipam.metrics import samples
from felixlite.ipam.repair import Repair, read_facts

SETTINGS = Key("KubeControllersConfiguration", "default")


class AddressCollection:
    name = "addresses"

    def __init__(
        self,
        store: Store,
        grace: float | None = None,
        clock: Callable[[], float] = time.time,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self._grace, self._monotonic = store, grace, monotonic
        self._repair = Repair(store, clock)
        self._memory: Memory = {}
        self.every = self.pace(grace if grace is not None else GRACE)
        self.reclaimed = 0
        self._facts = Facts()

    @staticmethod
    def pace(grace: float) -> float:
        """Half of the grace period; without one the collection still tidies up after deleted nodes (reference 5)."""
        return grace / 2 if grace > 0 else 300.0

    def samples(self) -> list[Sample]:
        """As of the last round."""
        return samples(self._facts, candidates(self._memory), self.reclaimed)

    def once(self, may_go_on: Callable[[], bool]) -> Sequence[Event]:
        grace = self._grace if self._grace is not None else self._configured_grace()
        self.every = self.pace(grace)
        self._facts = read_facts(self.store)
        self._memory, decisions = collect(self._facts, self._memory, self._monotonic(), grace)
        return list(self._carry_out(decisions, may_go_on))

    def _carry_out(self, decisions: Sequence[Decision], may_go_on: Callable[[], bool]) -> Iterator[Event]:
        for decision in decisions:
            if not may_go_on():
                return
            try:
                done = self._repair.apply(decision.fix)
            except FelixliteError as error:
                yield Event(self.name, decision.code, str(decision.fix), str(error), failed=True)
                continue
            if done:
                self.reclaimed += decision.code == "address-leaked"
                yield Event(self.name, decision.code, str(decision.fix), decision.reason)

    def _configured_grace(self) -> float:
        """KubeControllersConfiguration controllers.node.leakGracePeriod; 0 turns the collection of leaks off."""
        entry = self.store.get(SETTINGS)
        spec = (entry.document.get("spec") or {}) if entry else {}
        try:
            given = spec["controllers"]["node"]["leakGracePeriod"]
            return duration(given)
        except (KeyError, TypeError, ValueError):
            return GRACE
