"""Where the addresses of one assignment come from: blocks looked through in order, taken into a draft. IO: it reads.

The order is that of the reference (4.4): what the caller names, the node's own blocks, a block that nobody has, an idle
one, and, unless affinity is strict, somebody else's block.  What is remembered of the store is believed first; `Stale`
says that it does not suffice, and before anything new is claimed the node's own blocks are read again.  Nothing is
assigned here: attempt.py commits the draft and tells what turned out to be otherwise.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from felixlite.addresses import Address, Prefix
from felixlite.datastore.store import Entry, Store
from felixlite.errors import Conflict
from felixlite.ipam import assign, blocks
from felixlite.ipam.assign import Occupied, Request, Shortfall, Taken, View
from felixlite.ipam.blocks import Attribute, Ledger
from felixlite.ipam.claims import LOST, OwnBlocks, Seen, give_up
from felixlite.ipam.reading import Lenders, block_with
from felixlite.model.inside import Pool

LENDERS_GOOD_FOR = 5.0  # seconds that a full listing of the blocks is believed when looking for one to borrow from


@dataclass(slots=True)
class Draft:
    """What one attempt would write."""

    before: dict[Prefix, Seen] = field(default_factory=dict)
    after: dict[Prefix, Ledger] = field(default_factory=dict)
    addresses: list[tuple[Prefix, Prefix]] = field(default_factory=list)  # address, block

    def take(self, seen: Seen, count: int, attribute: Attribute, reservations: Sequence[Prefix]) -> int:
        """Up to `count` addresses of this block; answers how many."""
        cidr = seen.ledger.cidr
        ledger, ordinals = blocks.take(
            self.after.get(cidr, seen.ledger), count, attribute, assign.reserved_in(cidr, reservations)
        )
        if ordinals:
            self.put(seen, ledger, ordinals)
        return len(ordinals)

    def put(self, seen: Seen, ledger: Ledger, ordinals: Sequence[int]) -> None:
        cidr = ledger.cidr
        self.before.setdefault(cidr, seen)
        self.after[cidr] = ledger
        self.addresses += [(ledger.prefix(ordinal), cidr) for ordinal in ordinals]


class Stale(Exception):
    """What is remembered does not suffice: look again and draft again."""


class Search:
    """Of one call of assign, over its attempts."""

    def __init__(
        self, store: Store, own: OwnBlocks, lenders: Lenders, request: Request, view: View, clock: Callable[[], float]
    ) -> None:
        self.store, self.own, self.lenders = store, own, lenders
        self.request, self.view, self.now = request, view, clock()
        self.attribute = assign.stamped(request, self.now)
        self.draft = Draft()
        self.fresh = False  # the own blocks were read during this call
        self.thorough = False
        self.overtaken = False
        self.met: set[Prefix] = set()  # blocks that turned out to exist when we tried to claim them
        self.occupied: Occupied | None = None

    def drafted(self) -> Draft:
        """A draft of all that the request wants."""
        self.draft = Draft()
        for address in self.request.addresses:
            self._take_named(address)
        for family in (4, 6):
            if count := self.request.count(family):
                self._take_any(family, count)
        return self.draft

    # -- what the attempts learn

    def look_again(self) -> None:
        self.own.refresh()
        self.fresh = True

    def lost(self) -> None:
        """Somebody was faster: what was known of all the blocks is not believed any longer."""
        self.overtaken = True
        self.occupied = None

    def missed(self, cidr: Prefix, now: Entry | None, *, was_ours: bool) -> None:
        """A block is not as we took it to be; `now`: what it is instead. That somebody claimed the one that we wanted, too,
        says nothing about our own; that it is not there after all does."""
        self.fresh = self.fresh and not was_ours and now is not None
        self.lenders.entries.pop(cidr, None)
        if now:
            self.met.add(cidr)
            self.lenders.entries[cidr] = now

    # -- an address that is asked for by name

    def _take_named(self, address: Address) -> None:
        pool = assign.pool_of(address, self.request, self.view)
        seen = self._block_of(pool, address)
        ordinal = seen.ledger.cidr.ordinal(address)
        ledger = blocks.take_ordinal(self.draft.after.get(seen.ledger.cidr, seen.ledger), ordinal, self.attribute)
        if ledger is None:
            if not self.fresh:
                raise Stale
            raise _taken(seen.ledger, address)
        self.draft.put(seen, ledger, (ordinal,))

    def _block_of(self, pool: Pool, address: Address) -> Seen:
        for cidr, seen in (*self.draft.before.items(), *self.own.seen.items()):
            if cidr.holds(address):
                return self.own.secured(seen)
        if not self.fresh:
            raise Stale
        entry = block_with(self.store, address)
        if entry is None:
            return self._claim_around(address, pool)
        ledger = blocks.parse(entry.document)
        if self.view.config.strict_affinity:
            raise Taken(
                f"address {address} is in block {ledger.cidr} of {ledger.owner or 'nobody'} and node {self.own.node} "
                "may not borrow because strictAffinity is on; run the pod on that node or turn strictAffinity off"
            )
        return Seen(ledger, entry.revision)

    def _claim_around(self, address: Address, pool: Pool) -> Seen:
        family = pool.cidr.family
        limit = assign.block_limit(self.request, self.view.config)
        if self.own.count(family) >= limit or not self.view.config.auto_allocate:
            raise self._shortfall(family, 1, 0, (pool,)).error()
        self.lenders.refresh(at_most_old=0.0)
        cidr = assign.block_around(address, assign.block_length(pool), self.lenders.entries)
        seen = self.own.claim(cidr) if cidr else None
        if seen is None:
            raise Conflict(f"the block of {address} was claimed by another node just now")
        return seen

    # -- any address

    def _take_any(self, family: int, wanted: int) -> None:
        pools = assign.pools_for(self.request, family, self.view, self.own.node)
        need = wanted - self._take_from_own(pools, wanted, self.own.at_hand())
        if need and not self.fresh:
            raise Stale
        if need:
            need -= self._take_from_claims(pools, need)
        if need and self.own.shared:
            need -= self._take_from_own(pools, need, list(self.own.seen.items()))
        if need and not self.view.config.strict_affinity:
            need -= self._borrow(pools, need)
        if need and not self.thorough:
            self.thorough = True  # before saying no, look at all blocks as they are now
            self.lenders.distrust()
            raise Stale
        if need:
            raise self._shortfall(family, wanted, wanted - need, pools).error()

    def _take(self, seen: Seen, need: int) -> int:
        return self.draft.take(seen, need, self.attribute, self.view.reservations)

    def _take_from_own(self, pools: Sequence[Pool], need: int, blocks_of_ours: Sequence[tuple[Prefix, Seen]]) -> int:
        got = 0
        for cidr, seen in blocks_of_ours:
            if got == need:
                break
            if not seen.ledger.unallocated and not self.view.config.cooldown and not self.fresh:
                continue  # full, without looking closer: a node may own twenty of them
            settled = self._settled(seen)
            if assign.in_pools(cidr, pools) and assign.has_room(settled.ledger, self.view.reservations):
                got += self._take(self.own.secured(settled), need - got)
        return got

    def _settled(self, seen: Seen) -> Seen:
        ledger = blocks.settled(seen.ledger, self.now, self.view.config.cooldown)
        return seen if ledger is seen.ledger else Seen(ledger, seen.revision, seen.affinity, seen.along)

    def _take_from_claims(self, pools: Sequence[Pool], need: int) -> int:
        self._give_up_unselected()
        room = assign.block_limit(self.request, self.view.config) - self.own.count(pools[0].cidr.family)
        got = self._take_from_bare(pools, need)
        while got < need and room > 0 and self.view.config.auto_allocate:
            seen = self._next_block(pools)
            if seen is None:
                break
            got += self._take(seen, need - got)
            room -= 1
        return got

    def _take_from_bare(self, pools: Sequence[Pool], need: int) -> int:
        """Claims that were cut off go on, unless a block of another size has come into their way meanwhile."""
        bare = [cidr for cidr in self.own.bare if assign.in_pools(cidr, pools)]
        if bare:
            self.lenders.refresh(at_most_old=0.0)
        got = 0
        for cidr in bare:
            in_the_way = any(other != cidr and other.overlaps(cidr) for other in self.lenders.entries)
            if got < need and not in_the_way and (seen := self.own.claim(cidr)):
                got += self._take(seen, need - got)
        return got

    def _give_up_unselected(self) -> None:
        """Empty blocks in pools that no longer select this node are not worth one of its few (reference 4.4, step 3)."""
        labels = self.view.node_labels if self.request.node_labels is None else self.request.node_labels
        for cidr, seen in list(self.own.seen.items()):
            if cidr in self.draft.before or assign.is_selected(cidr, self.view.pools, labels):
                continue
            try:
                if give_up(self.store, self.own.owner, cidr, seen):
                    self.own.forget(cidr)
            except LOST:
                continue  # somebody uses it just now

    def _next_block(self, pools: Sequence[Pool]) -> Seen | None:
        """A block nobody has claimed yet; only when there is none the blocks are listed and an idle one taken over."""
        self.occupied = self.occupied or self._known_blocks()
        if seen := self._unclaimed_block(pools, self.occupied):
            return seen
        self.lenders.refresh(at_most_old=0.0 if self.overtaken else LENDERS_GOOD_FOR)
        self.occupied = Occupied({*self.lenders.entries, *self.own.seen, *self.draft.before})
        return self._unclaimed_block(pools, self.occupied) or self._idle_block(pools)

    def _unclaimed_block(self, pools: Sequence[Pool], occupied: Occupied) -> Seen | None:
        while cidr := assign.unclaimed(pools, occupied, self.view.reservations, self.own.node, self.now):
            occupied.add(cidr)
            if seen := self.own.claim(cidr):
                return seen
        return None

    def _known_blocks(self) -> Occupied:
        """All of them, not only the candidates: one of another size inside the pool may share addresses with several."""
        hint = self.view.blocks
        if hint is None:
            self.lenders.refresh(at_most_old=60.0)
            hint = self.lenders.entries.keys()
        return Occupied({*hint, *self.own.seen, *self.met})

    def _idle_block(self, pools: Sequence[Pool]) -> Seen | None:
        """Every block exists: take over one that its owner does not use, or ours that lost its affinity."""
        for entry, ledger in self._spacious(pools):
            known = ledger.cidr in self.draft.before or ledger.cidr in self.own.seen
            if not known and (ledger.owner == self.own.owner or assign.is_idle(ledger, self.now)):
                self.lenders.entries.pop(ledger.cidr, None)
                if seen := self.own.take_over(entry, ledger):
                    return seen
        return None

    def _spacious(self, pools: Sequence[Pool]) -> list[tuple[Entry, Ledger]]:
        self.lenders.refresh(at_most_old=LENDERS_GOOD_FOR)
        found = {ledger.cidr: (entry, ledger) for entry, ledger in self.lenders.spacious(pools[0].cidr.family)}
        order = assign.walk_order((ledger for _, ledger in found.values()), pools, self.own.node, self.now)
        return [found[ledger.cidr] for ledger in order]

    def _borrow(self, pools: Sequence[Pool], need: int) -> int:
        got = 0
        for entry, ledger in self._spacious(pools):
            if got == need:
                break
            if ledger.cidr not in self.draft.before:
                got += self._take(self._settled(Seen(ledger, entry.revision)), need - got)
        return got

    def _shortfall(self, family: int, wanted: int, found: int, pools: Sequence[Pool]) -> Shortfall:
        self.lenders.refresh(at_most_old=LENDERS_GOOD_FOR)
        config, owned = self.view.config, self.own.count(family)
        limit = assign.block_limit(self.request, config)
        return Shortfall(self.own.node, family, wanted, found, pools, self.lenders.entries.keys(), owned, limit, config)


def _taken(ledger: Ledger, address: Address) -> Taken:
    holder = ledger.attribute(ledger.cidr.ordinal(address)) or {}
    who = blocks.secondary(holder)
    name = f"{who['namespace']}/{who['pod']}" if {"namespace", "pod"} <= who.keys() else blocks.handle_of(holder)
    return Taken(
        f"address {address} is in use by {name or 'somebody unknown'}; ask for another, or release it "
        "(`felixlite ipam release`)"
    )
