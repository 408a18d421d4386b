"""One of several processes is the one that acts: a lease in the store, taken and renewed by compare-and-swap. IO.

The holder writes the lease again and again; who sees the same record unchanged for its whole duration, by the own
monotonic clock, may take it.  No two clocks are ever compared, so one that jumps or runs ahead takes nothing early.
A holder that could not renew in time knows by itself that it no longer holds (`held` asks the clock, not the store).
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from felixlite.datastore.store import Document, Entry, Key, Store
from felixlite.errors import AlreadyExists, Conflict, NotFound, StoreError

NAMESPACE = "kube-system"
DURATION = 15.0


@dataclass(slots=True)
class _Sighting:
    revision: str
    since: float  # monotonic: when this revision was seen first


class Lease:
    def __init__(
        self,
        store: Store,
        name: str,
        identity: str,
        duration: float = DURATION,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.store, self.identity, self.duration, self._clock = store, identity, duration, clock
        self.key = Key("Lease", name, NAMESPACE)
        self._sighting: _Sighting | None = None
        self._good_until = float("-inf")

    @property
    def held(self) -> bool:
        """Certainly ours at this moment. A margin is left for what is being written right now."""
        return self._clock() < self._good_until - self.duration / 3

    def renew(self) -> bool:
        """Take or renew it if that is possible; whether it is held afterwards. Call it every third of the duration."""
        began = self._clock()
        try:
            entry = self.store.get(self.key)
            if entry is not None and not self._may_take(entry, began):
                return False
            written = self._write(entry)
        except (Conflict, AlreadyExists, NotFound):
            self._good_until = float("-inf")
            return False
        except StoreError:
            return self.held
        self._sighting = _Sighting(written.revision, began)
        self._good_until = began + self.duration
        return True

    def release(self) -> None:
        """Let the next one have it at once."""
        self._good_until = float("-inf")
        try:
            entry = self.store.get(self.key)
            if entry and _spec(entry).get("holderIdentity") == self.identity:
                self.store.update(self.key, self._document(entry, ""), entry.revision)
        except StoreError:
            return  # somebody took it, or the store is away: it ends by itself

    def _may_take(self, entry: Entry, now: float) -> bool:
        holder = _spec(entry).get("holderIdentity")
        if holder == self.identity or not holder:
            return True
        if self._sighting is None or self._sighting.revision != entry.revision:
            self._sighting = _Sighting(entry.revision, now)
            return False
        patience = max(self.duration, float(_spec(entry).get("leaseDurationSeconds") or 0))
        return now - self._sighting.since >= patience

    def _write(self, entry: Entry | None) -> Entry:
        document = self._document(entry, self.identity)
        if entry is None:
            return self.store.create(self.key, document)
        return self.store.update(self.key, document, entry.revision)

    def _document(self, entry: Entry | None, holder: str) -> Document:
        before = _spec(entry) if entry else {}
        changes = before.get("holderIdentity") != holder
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
        spec = {
            **before,
            "holderIdentity": holder,
            "leaseDurationSeconds": int(self.duration),
            "renewTime": now,
            "acquireTime": now if changes else before.get("acquireTime", now),
            "leaseTransitions": int(before.get("leaseTransitions") or 0) + (1 if changes and entry and holder else 0),
        }
        frame = {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.key.name, "namespace": self.key.namespace},
        }
        return {**frame, **(entry.document if entry else {}), "spec": spec}


def _spec(entry: Entry) -> dict[str, Any]:
    found = entry.document.get("spec")
    return found if isinstance(found, dict) else {}
