"""The blocks that a node owns: remembered between assignments, claimed, taken over and given up. IO through a Store.

What is remembered may be old; nothing is decided on it that a compare-and-swap does not verify, so the common
assignment reads nothing at all.  Where the store can write several keys at once a claim is part of the assignment's one
transaction (Seen.affinity says what has to be written along); where it cannot, the steps are those of the reference
(4.2), ordered so that a crash between any two leaves what the next claim, release or collection repairs.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from felixlite.addresses import Prefix
from felixlite.datastore.store import Entry, Key, Store, Write
from felixlite.errors import AlreadyExists, Conflict, NotFound
from felixlite.ipam import blocks, documents
from felixlite.ipam.blocks import Corrupt, Ledger
from felixlite.model.inside import AffinityState

LOST = (Conflict, AlreadyExists, NotFound)  # the compare-and-swap was lost: read again


@dataclass(frozen=True, slots=True)
class Seen:
    """A block as it was when it was last read or written."""

    ledger: Ledger
    revision: str | None  # None: it is not in the store yet
    affinity: Entry | None = None  # its owner's
    along: tuple[Write, ...] = ()  # what must be written with it to make it ours for good


class OwnBlocks:
    """Not safe for several threads: Ipam holds its lock around every call."""

    def __init__(self, store: Store, owner: str, clock: Callable[[], float]) -> None:
        self.store, self.owner, self.clock = store, owner, clock
        self.seen: dict[Prefix, Seen] = {}
        self.bare: dict[Prefix, Entry] = {}  # affinities whose block is not there (a claim that was cut off)
        self.corrupt: dict[Prefix, Corrupt] = {}
        self.claimed: set[Prefix] = set()  # by this process
        self.shared = False  # another process assigns for this node, too

    @property
    def node(self) -> str:
        return self.owner.partition(":")[2]

    def count(self, family: int) -> int:
        every = (*self.seen, *self.bare, *self.corrupt)
        return sum(1 for cidr in every if cidr.family == family)

    # -- looking

    def refresh(self) -> None:
        """Read the node's affinities and their blocks: two round trips."""
        entries: dict[Prefix, Entry] = {}
        for entry in self.store.list(documents.AFFINITY, node=self.node).entries:
            affinity = documents.affinity_of(entry.document)
            if affinity and documents.owner_of(affinity) == self.owner:
                entries[affinity.cidr] = entry
        found = self.store.read([documents.block_key(cidr) for cidr in entries]) if entries else ()
        known, self.seen, self.bare, self.corrupt = self.seen, {}, {}, {}
        for (cidr, affinity_entry), block in zip(entries.items(), found, strict=True):
            self._sort_in(cidr, affinity_entry, block, known.get(cidr))

    def _sort_in(self, cidr: Prefix, affinity: Entry, entry: Entry | None, known: Seen | None) -> None:
        if entry is None:
            self.bare[cidr] = affinity
            return
        if known and known.revision == entry.revision:
            self.seen[cidr] = Seen(known.ledger, entry.revision, affinity, self._confirmation(cidr, affinity))
            return
        try:
            ledger = blocks.parse(entry.document)
        except Corrupt as corrupt:
            self.corrupt[cidr] = corrupt
            return
        if ledger.owner == self.owner:
            self.seen[cidr] = Seen(ledger, entry.revision, affinity, self._confirmation(cidr, affinity))
        else:
            self._drop(affinity)  # somebody else was faster (reference 4.2, rule 6)

    def _confirmation(self, cidr: Prefix, affinity: Entry) -> tuple[Write, ...]:
        found = documents.affinity_of(affinity.document)
        if found and found.state is AffinityState.CONFIRMED:
            return ()
        return (documents.affinity_write(self.owner, cidr, AffinityState.CONFIRMED, affinity),)

    def _drop(self, affinity: Entry) -> None:
        try:
            self.store.delete(affinity.key, affinity.revision)
        except LOST:
            return  # it changed: whoever changed it looks after it

    def learn(self, cidr: Prefix, entry: Entry | None) -> bool:
        """A block of ours as it was just read. False when it is not ours as we remember it: refresh."""
        known = self.seen.pop(cidr, None)
        if known is None or entry is None:
            return False
        try:
            ledger = blocks.parse(entry.document)
        except Corrupt as corrupt:
            self.corrupt[cidr] = corrupt
            return True
        if ledger.owner != self.owner:
            return False
        self.seen[cidr] = Seen(ledger, entry.revision, known.affinity, known.along)
        return True

    def wrote(self, ledger: Ledger, revision: str, affinity: Entry | None) -> None:
        """A block that we wrote just now, its affinity confirmed."""
        self.bare.pop(ledger.cidr, None)
        self.claimed.add(ledger.cidr)
        self.seen[ledger.cidr] = Seen(ledger, revision, affinity)

    def rewrote(self, ledger: Ledger, entry: Entry | None) -> None:
        """A block that we wrote just now without a word about its owner."""
        known = self.seen.get(ledger.cidr)
        if known and entry:
            self.seen[ledger.cidr] = Seen(ledger, entry.revision, known.affinity, known.along)
        else:
            self.forget(ledger.cidr)

    def at_hand(self) -> list[tuple[Prefix, Seen]]:
        """The blocks to take from first. Two processes on one block lose half of their writes to each other: as soon as
        there are two, each takes from the blocks that it claimed itself."""
        return [(cidr, seen) for cidr, seen in self.seen.items() if not self.shared or cidr in self.claimed]

    def forget(self, cidr: Prefix) -> None:
        self.seen.pop(cidr, None)
        self.bare.pop(cidr, None)

    def forget_all(self) -> None:
        self.seen, self.bare, self.corrupt = {}, {}, {}

    # -- claiming

    def claim(self, cidr: Prefix) -> Seen | None:
        """A new block for us; None when somebody else has it."""
        fresh = blocks.empty(cidr, self.owner, self.clock())
        before = self.bare.get(cidr)
        confirmation = documents.affinity_write(self.owner, cidr, AffinityState.CONFIRMED, before)
        if self.store.atomic:
            return Seen(fresh, None, before, (confirmation,))
        return self._claim_in_steps(cidr, fresh, before)

    def _claim_in_steps(self, cidr: Prefix, fresh: Ledger, before: Entry | None) -> Seen | None:
        pending = self._write(documents.affinity_write(self.owner, cidr, AffinityState.PENDING, before))
        try:
            entry = self.store.create(documents.block_key(cidr), blocks.document(fresh))
        except AlreadyExists:
            existing = self.store.get(documents.block_key(cidr))
            if existing is None:
                raise Conflict(f"block {cidr} came and went while it was claimed") from None
            if blocks.parse_leniently(existing.document).owner != self.owner:
                self._drop(pending)
                return None
            entry = existing
        affinity = self._write(documents.affinity_write(self.owner, cidr, AffinityState.CONFIRMED, pending))
        self.wrote(blocks.parse(entry.document), entry.revision, affinity)
        return self.seen[cidr]

    def secured(self, seen: Seen) -> Seen:
        """A block of ours whose affinity is not confirmed, made safe to use.

        In steps: the affinity is touched and the block rewritten, so that whoever is just releasing it loses.
        """
        if self.store.atomic or not seen.along or seen.revision is None:
            return seen
        cidr = seen.ledger.cidr
        pending = self._write(documents.affinity_write(self.owner, cidr, AffinityState.PENDING, seen.affinity))
        bumped = blocks.reowned(seen.ledger, self.owner, seen.ledger.claimed_at)
        entry = self.store.update(documents.block_key(cidr), blocks.document(bumped), seen.revision)
        affinity = self._write(documents.affinity_write(self.owner, cidr, AffinityState.CONFIRMED, pending))
        self.seen[cidr] = Seen(bumped, entry.revision, affinity)
        return self.seen[cidr]

    def take_over(self, entry: Entry, ledger: Ledger) -> Seen | None:
        """An idle empty block of somebody else's, or of nobody's, for us."""
        cidr = ledger.cidr
        theirs = None
        if ledger.owner and ledger.owner != self.owner:
            theirs = self.store.get(documents.affinity_key(ledger.owner, cidr))
        if not self.store.atomic:
            return self._take_over_in_steps(entry, ledger, theirs)
        before = self.bare.get(cidr) or self.store.get(documents.affinity_key(self.owner, cidr))
        along = [documents.affinity_write(self.owner, cidr, AffinityState.CONFIRMED, before)]
        if theirs:
            along.insert(0, Write(theirs.key, None, theirs.revision))
        return Seen(blocks.reowned(ledger, self.owner, self.clock()), entry.revision, before, tuple(along))

    def _take_over_in_steps(self, entry: Entry, ledger: Ledger, theirs: Entry | None) -> Seen | None:
        if ledger.owner != self.owner:
            give_up(self.store, ledger.owner, ledger.cidr, Seen(ledger, entry.revision, theirs))
        return self.claim(ledger.cidr)

    def _write(self, write: Write) -> Entry:
        assert write.document is not None  # noqa: S101  a claim never deletes
        if write.revision is None:
            return self.store.create(write.key, write.document)
        return self.store.update(write.key, write.document, write.revision)


# -- giving up


def give_up(store: Store, owner: str | None, cidr: Prefix, seen: Seen, *, must_be_empty: bool = True) -> bool:
    """The owner loses the block; with addresses in it, it stays ownerless until they are gone.

    False, and nothing changed, when it has addresses and `must_be_empty`.  Raises one of LOST when it changed meanwhile.
    """
    occupied = not blocks.is_empty(seen.ledger)
    if occupied and must_be_empty:
        return False
    key = documents.block_key(cidr)
    left = blocks.document(blocks.reowned(seen.ledger, None, None)) if occupied else None
    affinity = seen.affinity
    if store.atomic:
        drop = [Write(affinity.key, None, affinity.revision)] if affinity else []
        store.commit([Write(key, left, seen.revision), *drop])
        return True
    if affinity and owner:
        doomed = documents.affinity_write(owner, cidr, AffinityState.PENDING_DELETION, affinity)
        affinity = store.commit([doomed])[0]
    store.commit([Write(key, left, seen.revision)])
    if affinity:
        store.delete(affinity.key, affinity.revision)
    return True


def read_block(store: Store, cidr: Prefix) -> Seen | None:
    """A block and its owner's affinity. Corrupt when it does not add up."""
    entry = store.get(documents.block_key(cidr))
    if entry is None:
        return None
    ledger = blocks.parse(entry.document)
    affinity = store.get(documents.affinity_key(ledger.owner, cidr)) if ledger.owner else None
    return Seen(ledger, entry.revision, affinity)


def release_block(store: Store, node: str, cidr: Prefix, *, must_be_empty: bool = True, attempts: int = 20) -> bool:
    """`node` gives up a block. False when it is not empty and has to be. A missing block only loses its affinity."""
    owner = blocks.HOST + node
    for _ in range(attempts):
        entry, affinity = store.read([documents.block_key(cidr), documents.affinity_key(owner, cidr)])
        try:
            ledger = blocks.parse(entry.document) if entry else None
            if ledger is None or entry is None or ledger.owner != owner:
                if affinity:
                    store.delete(affinity.key, affinity.revision)
                return True
            return give_up(store, owner, cidr, Seen(ledger, entry.revision, affinity), must_be_empty=must_be_empty)
        except LOST:
            continue
    raise Conflict(f"block {cidr} changed {attempts} times while it was to be released; try again")


def keys_of(writes: Sequence[Write]) -> list[Key]:
    return [write.key for write in writes]
