"""What an assignment has to know, out of the agent's Snapshot: no round trip, and no older than the watch. Pure.

Until the store's first full list is in, `fallback` answers (reading.StoreView): an agent that has just started must not
say that there are no pools.
"""

from collections.abc import Callable

from felixlite.ipam.assign import View
from felixlite.ipam.documents import config_of
from felixlite.snapshot import Snapshot, here


class SnapshotView:
    def __init__(self, current: Callable[[], Snapshot], in_sync: str, fallback: Callable[[], View]) -> None:
        """`in_sync` is the name of the source that delivers the store's objects."""
        self.current, self.in_sync, self.fallback = current, in_sync, fallback
        self._seen: Snapshot | None = None
        self._view = View()

    def __call__(self) -> View:
        snapshot = self.current()
        if self.in_sync not in snapshot.in_sync:
            return self.fallback()
        if snapshot is not self._seen:
            self._view, self._seen = view_of(snapshot), snapshot
        return self._view


def view_of(snapshot: Snapshot) -> View:
    own = here(snapshot)
    return View(
        pools=tuple(snapshot.pools.values()),
        config=config_of({"spec": snapshot.ipam_configurations.get("default", {})}),
        reservations=tuple(cidr for cidrs in snapshot.reservations.values() for cidr in cidrs),
        node_labels=own.labels if own else {},
        blocks=snapshot.blocks,
    )
