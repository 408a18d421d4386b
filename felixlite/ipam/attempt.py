"""One assignment over its attempts: draft what would be written, commit it, learn from a lost comparison, again. IO.

The order of the search is that of the reference (4.4): what the caller names, the node's own blocks, a block that
nobody has, an idle one, and, unless affinity is strict, somebody else's block.  A draft may rest on what is remembered:
before anything new is claimed the node's own blocks are read again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

from felixlite.addresses import Address, Prefix
from felixlite.datastore.store import Entry, Key, Overtaken, Store, Write
from felixlite.errors import Conflict, StoreError
from felixlite.ipam import assign, blocks, documents
from felixlite.ipam.assign import Assigned, Exhausted, NoPool, Occupied, Request, Shortfall, Taken, View
from felixlite.ipam.blocks import Attribute, Ledger
from felixlite.ipam.claims import LOST, OwnBlocks, Seen, give_up, keys_of
from felixlite.ipam.reading import Lenders, block_with, block_write, blocks_of, held_in, readable
from felixlite.ipam.releasing import RETRIES, Also, Release, Releases
from felixlite.model.inside import Pool

LENDERS_GOOD_FOR = 5.0  # seconds that a full listing of the blocks is believed when looking for one to borrow from


@dataclass(frozen=True, slots=True)
class Ground:
    """What assignments of one node share."""

    store: Store
    node: str
    view: Callable[[], View]
    clock: Callable[[], float]
    own: OwnBlocks
    lenders: Lenders
    releases: Releases


@dataclass(slots=True)
class _Draft:
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


class _AlsoLost(Conflict):
    """One of the caller's own writes lost its comparison."""


class _Stale(Exception):
    """What is remembered does not suffice: read and draft again."""


class Assignment:
    """One call of assign, over its attempts."""

    def __init__(self, ground: Ground, request: Request, also: Also) -> None:
        self.ground, self.own, self.store = ground, ground.own, ground.store
        self.request, self.also = request, also
        self.now = ground.clock()
        self.attribute = assign.stamped(request, self.now)
        self.view = ground.view()
        self.handle: Entry | None = None  # assumed absent until a commit says otherwise
        self.fresh = False  # the own blocks were read during this call
        self.thorough = False
        self.lost = 0
        self.overtaken = 0  # on a block of ours, by a process of this node or by a borrower
        self.met: set[Prefix] = set()  # blocks that turned out to exist when we tried to claim them
        self.occupied: Occupied | None = None

    def run(self) -> Assigned:
        for _ in range(RETRIES):
            try:
                if self.handle and self.request.reuse and (held := self._already_held(self.handle)):
                    return held
                return self._commit(self._draft())
            except _Stale:
                self.own.refresh()
                self.fresh = True
            except _AlsoLost as lost:
                raise Conflict(str(lost)) from None
            except LOST:
                self.lost += 1
                self.occupied = None
            except (NoPool, Exhausted, Taken):
                if not self._may_hold_already():
                    raise
        raise Conflict(
            f"{RETRIES} attempts to assign to {self.request.handle} on node {self.ground.node} were all overtaken by "
            "others: too many writers on one block; try again"
        )

    def _may_hold_already(self) -> bool:
        """Nothing is left for a new request, but this one may be a repeated one."""
        if not self.request.reuse or self.handle:
            return False
        self.handle = self.store.get(documents.handle_key(self.request.handle))
        return self.handle is not None

    def _already_held(self, handle: Entry) -> Assigned | None:
        """What a repeated request holds; a half of it (a crash between two blocks) is given back first."""
        name = self.request.handle
        held = [seen for seen in blocks_of(self.store, self.own, name)[1] if blocks.held_by(seen.ledger, name)]
        addresses = [address for seen in held for address in held_in(seen, name)]
        wanted = {family: self.request.count(family) for family in (4, 6)}
        for address in self.request.addresses:
            wanted[address.version] += 1
        if all(sum(1 for found in addresses if found.family == family) >= wanted[family] for family in wanted):
            return self._renew(held)
        if held:
            self.ground.releases.of_handle(name, ())
            self.handle = self.store.get(handle.key)
        return None

    def _renew(self, held: Sequence[Seen]) -> Assigned:
        """Under new sequence numbers, so that a collection that just found them leaked leaves them alone."""
        draft = _Draft()
        for seen in held:
            ordinals = blocks.held_by(seen.ledger, self.request.handle)
            draft.put(seen, blocks.renewed(seen.ledger, ordinals, self.attribute), ordinals)
        return replace(self._commit(draft, existed=True), existed=True)

    # -- choosing

    def _draft(self) -> _Draft:
        draft = _Draft()
        for address in self.request.addresses:
            self._take_named(draft, address)
        for family in (4, 6):
            if count := self.request.count(family):
                self._take_any(draft, family, count)
        return draft

    def _take_named(self, draft: _Draft, address: Address) -> None:
        pool = assign.pool_of(address, self.request, self.view)
        seen = self._block_of(draft, pool, address)
        ordinal = seen.ledger.cidr.ordinal(address)
        ledger = blocks.take_ordinal(draft.after.get(seen.ledger.cidr, seen.ledger), ordinal, self.attribute)
        if ledger is None:
            if not self.fresh:
                raise _Stale
            self._refuse_taken(seen.ledger, address)
            return
        draft.put(seen, ledger, (ordinal,))

    def _refuse_taken(self, ledger: Ledger, address: Address) -> None:
        holder = ledger.attribute(ledger.cidr.ordinal(address)) or {}
        handle = blocks.handle_of(holder)
        who = blocks.secondary(holder)
        name = (
            f"{who['namespace']}/{who['pod']}" if {"namespace", "pod"} <= who.keys() else handle or "somebody unknown"
        )
        raise Taken(f"address {address} is in use by {name}; ask for another, or release it (`felixlite ipam release`)")

    def _block_of(self, draft: _Draft, pool: Pool, address: Address) -> Seen:
        for cidr, seen in (*draft.before.items(), *self.own.seen.items()):
            if cidr.holds(address):
                return self.own.secured(seen)
        if not self.fresh:
            raise _Stale
        entry = block_with(self.store, address)
        if entry is None:
            return self._claim_for(pool, address)
        ledger = blocks.parse(entry.document)
        if self.view.config.strict_affinity:
            raise Taken(
                f"address {address} is in block {ledger.cidr} of {ledger.owner or 'nobody'} and node {self.ground.node} "
                "may not borrow because strictAffinity is on; run the pod on that node or turn strictAffinity off"
            )
        return Seen(ledger, entry.revision)

    def _claim_for(self, pool: Pool, address: Address) -> Seen:
        cidr = Prefix.containing(address, max(pool.block_size, pool.cidr.length))
        family = cidr.family
        limit = assign.block_limit(self.request, self.view.config)
        if self.own.count(family) >= limit or not self.view.config.auto_allocate:
            raise self._shortfall(family, 1, 0, (pool,)).error()
        seen = self.own.claim(cidr)
        if seen is None:
            raise Conflict(f"block {cidr} was claimed by another node just now")
        return seen

    def _take_any(self, draft: _Draft, family: int, wanted: int) -> None:
        pools = assign.pools_for(self.request, family, self.view, self.ground.node)
        need = wanted - self._take_from_own(draft, pools, wanted, self.own.at_hand())
        if need and not self.fresh:
            raise _Stale
        if need:
            need -= self._take_from_claims(draft, pools, need)
        if need and self.own.shared:
            need -= self._take_from_own(draft, pools, need, list(self.own.seen.items()))
        if need and not self.view.config.strict_affinity:
            need -= self._borrow(draft, pools, need)
        if need and not self.thorough:
            self.thorough = True  # before saying no, look at all blocks as they are now
            self.ground.lenders.distrust()
            raise _Stale
        if need:
            raise self._shortfall(family, wanted, wanted - need, pools).error()

    def _take_from_own(
        self, draft: _Draft, pools: Sequence[Pool], need: int, blocks_of_ours: Sequence[tuple[Prefix, Seen]]
    ) -> int:
        got = 0
        for cidr, seen in blocks_of_ours:
            if got == need:
                break
            if not seen.ledger.unallocated and not self.view.config.cooldown and not self.fresh:
                continue  # full, without looking closer: a node may own twenty of them
            settled = self._settled(seen)
            if assign.in_pools(cidr, pools) and assign.has_room(settled.ledger, self._reserved):
                secured = self.own.secured(settled)
                got += draft.take(secured, need - got, self.attribute, self._reserved)
        return got

    @property
    def _reserved(self) -> Sequence[Prefix]:
        return self.view.reservations

    def _settled(self, seen: Seen) -> Seen:
        ledger = blocks.settled(seen.ledger, self.now, self.view.config.cooldown)
        return seen if ledger is seen.ledger else Seen(ledger, seen.revision, seen.affinity, seen.along)

    def _take_from_claims(self, draft: _Draft, pools: Sequence[Pool], need: int) -> int:
        family = pools[0].cidr.family
        self._give_up_unselected(draft)
        room = assign.block_limit(self.request, self.view.config) - self.own.count(family)
        got = 0
        for cidr in [cidr for cidr in self.own.bare if assign.in_pools(cidr, pools)]:
            if got < need and (seen := self.own.claim(cidr)):
                got += draft.take(seen, need - got, self.attribute, self._reserved)
        while got < need and room > 0 and self.view.config.auto_allocate:
            seen = self._next_block(draft, pools)
            if seen is None:
                break
            got += draft.take(seen, need - got, self.attribute, self._reserved)
            room -= 1
        return got

    def _give_up_unselected(self, draft: _Draft) -> None:
        """Empty blocks in pools that no longer select this node are not worth one of its few (reference 4.4, step 3)."""
        labels = self.view.node_labels if self.request.node_labels is None else self.request.node_labels
        for cidr, seen in list(self.own.seen.items()):
            if cidr in draft.before or assign.is_selected(cidr, self.view.pools, labels):
                continue
            try:
                if give_up(self.store, self.own.owner, cidr, seen):
                    self.own.forget(cidr)
            except LOST:
                continue  # somebody uses it just now

    def _next_block(self, draft: _Draft, pools: Sequence[Pool]) -> Seen | None:
        """A block nobody has claimed yet; only when there is none the blocks are listed and an idle one taken over."""
        self.occupied = self.occupied or self._known_blocks()
        if seen := self._unclaimed_block(pools):
            return seen
        self.ground.lenders.refresh(at_most_old=0.0 if self.lost else LENDERS_GOOD_FOR)
        self.occupied = Occupied({*self.ground.lenders.entries, *self.own.seen, *draft.before})
        return self._unclaimed_block(pools) or self._idle_block(draft, pools)

    def _unclaimed_block(self, pools: Sequence[Pool]) -> Seen | None:
        assert self.occupied is not None  # noqa: S101  _next_block made it
        while cidr := assign.unclaimed(pools, self.occupied, self._reserved, self.ground.node, self.now):
            self.occupied.add(cidr)
            if seen := self.own.claim(cidr):
                return seen
        return None

    def _known_blocks(self) -> Occupied:
        """All of them, not only the candidates: one of another size inside the pool may share addresses with several."""
        hint = self.view.blocks
        if hint is None:
            self.ground.lenders.refresh(at_most_old=60.0)
            hint = self.ground.lenders.entries.keys()
        return Occupied({*hint, *self.own.seen, *self.met})

    def _idle_block(self, draft: _Draft, pools: Sequence[Pool]) -> Seen | None:
        """Every block exists: take over one that its owner does not use, or ours that lost its affinity."""
        for entry, ledger in self._spacious(pools):
            known = ledger.cidr in draft.before or ledger.cidr in self.own.seen
            if not known and (ledger.owner == self.own.owner or assign.is_idle(ledger, self.now)):
                self.ground.lenders.entries.pop(ledger.cidr, None)
                if seen := self.own.take_over(entry, ledger):
                    return seen
        return None

    def _spacious(self, pools: Sequence[Pool]) -> list[tuple[Entry, Ledger]]:
        self.ground.lenders.refresh(at_most_old=LENDERS_GOOD_FOR)
        found = {ledger.cidr: (entry, ledger) for entry, ledger in self.ground.lenders.spacious(pools[0].cidr.family)}
        order = assign.walk_order((ledger for _, ledger in found.values()), pools, self.ground.node, self.now)
        return [found[ledger.cidr] for ledger in order]

    def _borrow(self, draft: _Draft, pools: Sequence[Pool], need: int) -> int:
        got = 0
        for entry, ledger in self._spacious(pools):
            if got == need:
                break
            if ledger.cidr not in draft.before:
                seen = self._settled(Seen(ledger, entry.revision))
                got += draft.take(seen, need - got, self.attribute, self._reserved)
        return got

    def _shortfall(self, family: int, wanted: int, found: int, pools: Sequence[Pool]) -> Shortfall:
        self.ground.lenders.refresh(at_most_old=LENDERS_GOOD_FOR)
        existing = self.ground.lenders.entries.keys()
        config, owned = self.view.config, self.own.count(family)
        limit = assign.block_limit(self.request, config)
        return Shortfall(self.ground.node, family, wanted, found, pools, existing, owned, limit, config)

    # -- committing

    def _commit(self, draft: _Draft, *, existed: bool = False) -> Assigned:
        writes = self._writes(draft)
        addresses = tuple(address for address, _ in draft.addresses)
        extra = list(self.also(addresses) if callable(self.also) else self.also)
        try:
            entries = self.store.commit([*writes, *extra])
        except LOST as lost:
            self._after_loss(draft, writes, lost, existed=existed)
            raise
        except StoreError:
            self._distrust(draft)
            raise
        self._remember(draft, writes, entries)
        also = tuple(entries[len(writes) :])
        return Assigned(addresses, tuple(block for _, block in draft.addresses), also=also)

    def _writes(self, draft: _Draft) -> list[Write]:
        counts = documents.counts_of(self.handle.document) if self.handle else {}
        counts |= {cidr: len(blocks.held_by(ledger, self.request.handle)) for cidr, ledger in draft.after.items()}
        handle = documents.handle_write(self.request.handle, counts, self.handle)
        along = [write for seen in draft.before.values() for write in seen.along]
        swaps = [block_write(ledger, draft.before[cidr].revision) for cidr, ledger in draft.after.items()]
        return [*along, *([handle] if handle else []), *swaps]

    def _remember(self, draft: _Draft, writes: Sequence[Write], entries: Sequence[Entry | None]) -> None:
        by_key = {write.key: entry for write, entry in zip(writes, entries, strict=False)}
        for cidr, ledger in draft.after.items():
            entry = by_key[documents.block_key(cidr)]
            before = draft.before[cidr]
            if entry and (before.along or before.revision is None):
                self.own.wrote(ledger, entry.revision, by_key.get(documents.affinity_key(self.own.owner, cidr)))
            elif entry and cidr in self.own.seen:
                self.own.rewrote(ledger, entry)
            elif entry:
                self.ground.lenders.entries[cidr] = entry

    def _distrust(self, draft: _Draft) -> None:
        """It is not known whether it was written: read everything of it again before the next use."""
        for cidr in draft.after:
            self.own.forget(cidr)
        self.ground.lenders.distrust()

    def _after_loss(self, draft: _Draft, writes: Sequence[Write], lost: Exception, *, existed: bool) -> None:
        """Learn what changed; without a transaction, first take back what was written before the write that lost."""
        blame_caller = False
        if not self.store.atomic:
            blame_caller = self._was_written(draft) if existed else self._take_back(draft)
        now = self._as_it_is(draft, writes, lost)
        if self.store.atomic:
            blame_caller = all((e.revision if (e := now[write.key]) else None) == write.revision for write in writes)
        if blame_caller:
            self._distrust(draft)
            raise _AlsoLost(f"what was to be written with the assignment changed meanwhile: {lost}") from None
        self.handle = now[documents.handle_key(self.request.handle)]
        for cidr in draft.after:
            entry = now[documents.block_key(cidr)]
            if self.own.learn(cidr, entry):
                self.overtaken += 1
            else:
                self.fresh = False
                self.ground.lenders.entries.pop(cidr, None)
                if entry:
                    self.met.add(cidr)
                    self.ground.lenders.entries[cidr] = entry
        self.own.shared = self.own.shared or self.overtaken > 1

    def _as_it_is(self, draft: _Draft, writes: Sequence[Write], lost: Exception) -> dict[Key, Entry | None]:
        """Handle, blocks and all that was to be written; mostly the store has said it along with its refusal."""
        known = dict(zip(keys_of(writes), lost.now, strict=False)) if isinstance(lost, Overtaken) else {}
        keys = [documents.handle_key(self.request.handle), *map(documents.block_key, draft.after), *keys_of(writes)]
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        return {**known, **dict(zip(missing, self.store.read(missing) if missing else (), strict=True))}

    def _was_written(self, draft: _Draft) -> bool:
        entries = self.store.read([documents.block_key(cidr) for cidr in draft.after])
        return all(
            entry and (seen := readable(entry)) and seen.ledger.sequences == ledger.sequences
            for entry, ledger in zip(entries, draft.after.values(), strict=True)
        )

    def _take_back(self, draft: _Draft) -> bool:
        """Free what this attempt wrote. True when all of our own writes were there, so the caller's one had lost."""
        complete = True
        for cidr, ledger in draft.after.items():
            mine = [
                Release(address.first, self.request.handle, ledger.sequences[cidr.ordinal(address.first)])
                for address, block in draft.addresses
                if block == cidr
            ]
            done = self.ground.releases.of_addresses(mine)
            complete = complete and len(done.freed) == len(mine)
        self._recount(draft)
        return complete

    def _recount(self, draft: _Draft) -> None:
        """The handle was written before the blocks: make it say what they say."""
        key = documents.handle_key(self.request.handle)
        for _ in range(RETRIES):
            entry, *found = self.store.read([key, *map(documents.block_key, draft.after)])
            if entry is None:
                return
            counts = documents.counts_of(entry.document)
            for cidr, block in zip(draft.after, found, strict=True):
                seen = readable(block) if block else None
                counts[cidr] = len(held_in(seen, self.request.handle)) if seen else 0
            try:
                write = documents.handle_write(self.request.handle, counts, entry)
                self.store.commit([write] if write else [])
                return
            except LOST:
                continue
