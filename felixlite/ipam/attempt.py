"""One assignment over its attempts: draft what would be written, commit it, learn from a lost comparison, again. IO.

search.py drafts; this decides what is one transaction, what a lost one means (a block was overtaken, or the caller's own
write was) and, where the store has no transactions, takes back what was written before the write that lost.  A repeated
request is answered with what its handle holds.
"""

from collections.abc import Sequence
from dataclasses import replace

from felixlite.datastore.store import Entry, Key, Meanwhile, Overtaken, Store, Write
from felixlite.errors import Conflict, StoreError
from felixlite.ipam import blocks, documents
from felixlite.ipam.assign import Assigned, Exhausted, NoPool, Taken
from felixlite.ipam.claims import LOST, OwnBlocks, Seen, keys_of
from felixlite.ipam.reading import block_write, blocks_of, held_in, readable
from felixlite.ipam.releasing import RETRIES, Also, Release, Releases
from felixlite.ipam.search import Draft, Search, Stale


class _AlsoLost(Conflict):
    """One of the caller's own writes lost its comparison."""


class Assignment:
    """One call of assign, over its attempts."""

    def __init__(
        self, store: Store, own: OwnBlocks, releases: Releases, search: Search, also: Also, meanwhile: Meanwhile = None
    ) -> None:
        self.store, self.own, self.releases, self.search, self.also = store, own, releases, search, also
        self.meanwhile = meanwhile
        self.request = search.request
        self.handle: Entry | None = None  # assumed absent until a commit says otherwise
        self.lost = 0
        self.overtaken = 0  # on a block of ours, by a process of this node or by a borrower

    def run(self) -> Assigned:
        for _ in range(RETRIES):
            try:
                if self.handle and self.request.reuse and (held := self._already_held(self.handle)):
                    return held
                return self._commit(self.search.drafted())
            except Stale:
                self.search.look_again()
            except _AlsoLost as lost:
                raise Conflict(str(lost)) from None
            except LOST:
                self.lost += 1
                self.search.lost()
            except (NoPool, Exhausted, Taken):
                if not self._may_hold_already():
                    raise
        raise Conflict(
            f"{RETRIES} attempts to assign to {self.request.handle} on node {self.own.node} were all overtaken by "
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
            self.releases.of_handle(name, ())
            self.handle = self.store.get(handle.key)
        return None

    def _renew(self, held: Sequence[Seen]) -> Assigned:
        """Under new sequence numbers, so that a collection that just found them leaked leaves them alone."""
        draft = Draft()
        for seen in held:
            ordinals = blocks.held_by(seen.ledger, self.request.handle)
            draft.put(seen, blocks.renewed(seen.ledger, ordinals, self.search.attribute), ordinals)
        return replace(self._commit(draft, existed=True), existed=True)

    # -- committing

    def _commit(self, draft: Draft, *, existed: bool = False) -> Assigned:
        writes = self._writes(draft)
        addresses = tuple(address for address, _ in draft.addresses)
        extra = list(self.also(addresses) if callable(self.also) else self.also)
        try:
            entries = self.store.commit([*writes, *extra], self.meanwhile)
        except LOST as lost:
            self._after_loss(draft, writes, lost, existed=existed)
            raise
        except StoreError:
            self.own.forget_all()  # it may have been written, or it is not the same store any more
            self.search.lenders.distrust()
            raise
        self._remember(draft, writes, entries)
        also = tuple(entries[len(writes) :])
        return Assigned(addresses, tuple(block for _, block in draft.addresses), also=also)

    def _writes(self, draft: Draft) -> list[Write]:
        counts = documents.counts_of(self.handle.document) if self.handle else {}
        counts |= {cidr: len(blocks.held_by(ledger, self.request.handle)) for cidr, ledger in draft.after.items()}
        handle = documents.handle_write(self.request.handle, counts, self.handle)
        along = [write for seen in draft.before.values() for write in seen.along]
        swaps = [block_write(ledger, draft.before[cidr].revision) for cidr, ledger in draft.after.items()]
        return [*along, *([handle] if handle else []), *swaps]

    def _remember(self, draft: Draft, writes: Sequence[Write], entries: Sequence[Entry | None]) -> None:
        by_key = {write.key: entry for write, entry in zip(writes, entries, strict=False)}
        for cidr, ledger in draft.after.items():
            entry = by_key[documents.block_key(cidr)]
            before = draft.before[cidr]
            if entry and (before.along or before.revision is None):
                self.own.wrote(ledger, entry.revision, by_key.get(documents.affinity_key(self.own.owner, cidr)))
            elif entry and cidr in self.own.seen:
                self.own.rewrote(ledger, entry)
            elif entry:
                self.search.lenders.entries[cidr] = entry

    def _distrust(self, draft: Draft) -> None:
        """It is not known whether it was written: read everything of it again before the next use."""
        for cidr in draft.after:
            self.own.forget(cidr)
        self.search.lenders.distrust()

    def _after_loss(self, draft: Draft, writes: Sequence[Write], lost: Exception, *, existed: bool) -> None:
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
            entry, was_ours = now[documents.block_key(cidr)], cidr in self.own.seen
            if self.own.learn(cidr, entry):
                self.overtaken += 1
            else:
                self.search.missed(cidr, entry, was_ours=was_ours)
        self.own.shared = self.own.shared or self.overtaken > 1

    def _as_it_is(self, draft: Draft, writes: Sequence[Write], lost: Exception) -> dict[Key, Entry | None]:
        """Handle, blocks and all that was to be written; mostly the store has said it along with its refusal."""
        known = dict(zip(keys_of(writes), lost.now, strict=False)) if isinstance(lost, Overtaken) else {}
        keys = [documents.handle_key(self.request.handle), *map(documents.block_key, draft.after), *keys_of(writes)]
        missing = [key for key in dict.fromkeys(keys) if key not in known]
        return {**known, **dict(zip(missing, self.store.read(missing) if missing else (), strict=True))}

    def _was_written(self, draft: Draft) -> bool:
        entries = self.store.read([documents.block_key(cidr) for cidr in draft.after])
        return all(
            entry and (seen := readable(entry)) and seen.ledger.sequences == ledger.sequences
            for entry, ledger in zip(entries, draft.after.values(), strict=True)
        )

    def _take_back(self, draft: Draft) -> bool:
        """Free what this attempt wrote. True when all of our own writes were there, so the caller's one had lost."""
        complete = True
        for cidr, ledger in draft.after.items():
            mine = [
                Release(address.first, self.request.handle, ledger.sequences[cidr.ordinal(address.first)])
                for address, block in draft.addresses
                if block == cidr
            ]
            done = self.releases.of_addresses(mine)
            complete = complete and len(done.freed) == len(mine)
        self._recount(draft)
        return complete

    def _recount(self, draft: Draft) -> None:
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
