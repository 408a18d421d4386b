"""Ipam: one node's door to the addresses. Assigning and releasing are transactions: read, choose, compare-and-swap, again.

Together with attempt.py, search.py, claims.py, releasing.py and reading.py the only IO of IPAM on the way of a pod; what to choose
is decided in assign.py and blocks.py.  Where the store is atomic, handle, blocks, a block's claim and the caller's own
writes (`also`: the WorkloadEndpoint) are one commit: one round trip for an address from an own block.  Where it is not,
the handle is written first and the caller's writes last, so that a crash leaves at worst a handle that counts too much
or an address that the collection finds (reference 4.4).
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import replace

from felixlite.addresses import Address, Prefix
from felixlite.datastore.store import Meanwhile, Store
from felixlite.ipam import blocks
from felixlite.ipam.assign import Assigned, Config, Request, View
from felixlite.ipam.attempt import Assignment
from felixlite.ipam.claims import OwnBlocks
from felixlite.ipam.reading import Lenders, StoreView, blocks_of, held_in
from felixlite.ipam.releasing import Also, Release, Released, Releases
from felixlite.ipam.search import Search

__all__ = ["Also", "Ipam", "Release", "Released"]

Observe = Callable[[float, int], None]  # seconds, compare-and-swaps lost


class Ipam:
    """Safe to use from several threads. Without a `view` pools and configuration are read from the store."""

    def __init__(
        self,
        store: Store,
        node: str,
        view: Callable[[], View] | None = None,
        clock: Callable[[], float] = time.time,
        *,
        virtual: bool = False,
        observe: Observe = lambda _seconds, _retries: None,
        epoch: Callable[[], object] = lambda: 0,
    ) -> None:
        """`epoch` answers the same as long as the connection to the store is certainly unbroken, and None while it is not
        known.  Otherwise nothing that is remembered counts: a restored backup has the same revisions again, with other
        contents."""
        self.store, self.node, self.observe = store, node, observe
        self._clock, self._view = clock, view or StoreView(store, node, clock)
        self.own = OwnBlocks(store, (blocks.VIRTUAL if virtual else blocks.HOST) + node, clock)
        self._releases = Releases(store, self.own, self._view, clock)
        self._lenders = Lenders(store, clock)
        self._epoch = epoch
        self._remembered_in: object = None
        self._lock = threading.RLock()

    def assign(self, request: Request, also: Also = (), meanwhile: Meanwhile = None) -> Assigned:
        """All that the request wants, or an error that says why not; `also` is written in the same transaction.

        `meanwhile` may be called once for each attempt, while the store is at work.

        Conflict: one of the caller's own writes lost its comparison, and nothing is assigned.
        """
        with self._lock:
            began = time.monotonic()
            self._forget_another_epoch()
            search = Search(self.store, self.own, self._lenders, request, self._view(), self._clock)
            assignment = Assignment(self.store, self.own, self._releases, search, also, meanwhile)
            try:
                return assignment.run()
            finally:
                self.observe(time.monotonic() - began, assignment.lost)

    def _forget_another_epoch(self) -> None:
        now = self._epoch()
        if now is None or now != self._remembered_in:
            self.own.forget_all()
            self._lenders.distrust()
        self._remembered_in = now

    @property
    def config(self) -> Config:
        return self._view().config

    def assign_address(self, request: Request, address: Address, also: Also = ()) -> Assigned:
        """That very address; Taken when somebody has it."""
        return self.assign(replace(request, v4=0, v6=0, addresses=(address,)), also)

    def held(self, handle: str) -> tuple[Prefix, ...]:
        """The addresses that a handle holds."""
        with self._lock:
            return tuple(a for seen in blocks_of(self.store, self.own, handle)[1] for a in held_in(seen, handle))

    def release_handle(self, handle: str, also: Also = ()) -> tuple[Prefix, ...]:
        """Free all that the handle holds; answers what that was. An unknown handle is fine."""
        with self._lock:
            return self._releases.of_handle(handle, also)

    def release_addresses(self, releases: Iterable[Release]) -> Released:
        """Free single addresses; each only if it is what the Release says."""
        with self._lock:
            return self._releases.of_addresses(releases)
