"""Giving addresses back: by handle (a pod is gone) or one by one (the collection, the operator). IO, transactions.

The block is the truth: it is written before the handles, so that a crash leaves a handle that counts too much and never
an address without one.  Freeing what is free already is a success; freeing what became somebody else's is refused.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

from felixlite.addresses import Address, Prefix
from felixlite.datastore.store import Store, Write
from felixlite.errors import Conflict, StoreError
from felixlite.ipam import blocks, documents
from felixlite.ipam.assign import View
from felixlite.ipam.blocks import Ledger
from felixlite.ipam.claims import LOST, OwnBlocks, Seen
from felixlite.ipam.reading import block_with, block_write, blocks_of, held_in, readable, unchanged

RETRIES = 100

Also = Callable[[tuple[Prefix, ...]], Sequence[Write]] | Sequence[Write]


@dataclass(frozen=True, slots=True)
class Release:
    """One address to free; with a handle or a sequence number only if it is still that allocation."""

    address: Address
    handle: str | None = None
    sequence: int | None = None


@dataclass(frozen=True, slots=True)
class Released:
    freed: tuple[Address, ...] = ()
    already_free: tuple[Address, ...] = ()
    not_ours: tuple[Address, ...] = ()  # another handle or sequence number: left alone


class Releases:
    """Not safe for several threads: Ipam holds its lock around every call."""

    def __init__(self, store: Store, own: OwnBlocks, view: Callable[[], View], clock: Callable[[], float]) -> None:
        self.store, self.own, self.view, self.clock = store, own, view, clock

    def of_handle(self, handle: str, also: Also) -> tuple[Prefix, ...]:
        extra = list(also(()) if callable(also) else also)
        if extra and not self.store.atomic:
            self.store.commit(extra)
            extra = []
        in_steps: list[Prefix] = []  # freed by an attempt that then lost a later write
        for _ in range(RETRIES):
            writes, after, freed = self._release_writes(handle)
            if self._commit_release(extra, writes, after):
                return tuple(dict.fromkeys((*in_steps, *freed)))
            in_steps += () if self.store.atomic else freed
        raise Conflict(f"handle {handle} changed {RETRIES} times while it was to be released; try again")

    def _release_writes(self, handle: str) -> "tuple[list[Write], list[Ledger], tuple[Prefix, ...]]":
        entry, found = blocks_of(self.store, self.own, handle)
        now, cooldown = self.clock(), self.view().config.cooldown
        writes, after, freed = [], [], []
        for seen in found:
            if ordinals := blocks.held_by(seen.ledger, handle):
                left = blocks.release(blocks.settled(seen.ledger, now, cooldown), ordinals, now, cooldown)
                writes.append(block_write(left, seen.revision))
                after.append(left)
                freed += held_in(seen, handle)
        if entry:
            writes.append(Write(entry.key, None, entry.revision))
        return writes, after, tuple(freed)

    def _commit_release(self, extra: Sequence[Write], ours: Sequence[Write], after: Sequence[Ledger]) -> bool:
        writes = [*extra, *ours]
        try:
            entries = self.store.commit(writes) if writes else ()
        except LOST as lost:
            for ledger in after:
                self.own.forget(ledger.cidr)
            if extra and unchanged(self.store, ours):
                raise Conflict(f"what was to be written with the release changed meanwhile: {lost}") from None
            return False
        except StoreError:
            for ledger in after:
                self.own.forget(ledger.cidr)
            raise
        by_key = {write.key: entry for write, entry in zip(writes, entries, strict=True)}
        for ledger in after:
            self.own.rewrote(ledger, by_key[documents.block_key(ledger.cidr)])
        return True

    def of_addresses(self, releases: Iterable[Release]) -> Released:
        freed: list[Address] = []
        free: list[Address] = []
        others: list[Address] = []
        for seen, wanted in self._by_block(releases):
            if seen is None:
                free += [release.address for release in wanted]
                continue
            for part in _chunks(wanted, 50):
                done = self._release_in(seen.ledger.cidr, part)
                freed += done.freed
                free += done.already_free
                others += done.not_ours
        return Released(tuple(freed), tuple(free), tuple(others))

    def _by_block(self, releases: Iterable[Release]) -> Iterator[tuple[Seen | None, list[Release]]]:
        groups: dict[Prefix | None, tuple[Seen | None, list[Release]]] = {}
        for release in releases:
            near = (g for cidr, g in groups.items() if cidr and cidr.holds(release.address))
            group = next(near, None)
            if group is None:
                entry = block_with(self.store, release.address)
                seen = readable(entry) if entry else None
                group = groups.setdefault(seen.ledger.cidr if seen else None, (seen, []))
            group[1].append(release)
        yield from groups.values()

    def _release_in(self, cidr: Prefix, releases: Sequence[Release]) -> Released:
        for _ in range(RETRIES):
            entry = self.store.get(documents.block_key(cidr))
            seen = readable(entry) if entry else None
            if seen is None:
                return Released(already_free=tuple(release.address for release in releases))
            sorted_out = _sort_out(seen.ledger, releases)
            if not sorted_out.freed:
                return sorted_out
            try:
                self._free(seen, [cidr.ordinal(address) for address in sorted_out.freed])
            except LOST:
                continue
            return sorted_out
        raise Conflict(f"block {cidr} changed {RETRIES} times while addresses of it were to be released; try again")

    def _free(self, seen: Seen, ordinals: Sequence[int]) -> None:
        """Block first, then the handles: a crash between leaves a handle that counts too much."""
        now, cooldown = self.clock(), self.view().config.cooldown
        left = blocks.release(blocks.settled(seen.ledger, now, cooldown), ordinals, now, cooldown)
        holders = {h for o in ordinals if (a := seen.ledger.attribute(o)) and (h := blocks.handle_of(a))}
        entries = self.store.read([documents.handle_key(handle) for handle in holders])
        writes = [block_write(left, seen.revision)]
        for handle, entry in zip(holders, entries, strict=True):
            if entry:
                counts = {**documents.counts_of(entry.document), left.cidr: len(blocks.held_by(left, handle))}
                write = documents.handle_write(handle, counts, entry)
                writes += [write] if write else []
        self.own.forget(left.cidr)  # read again when it is needed
        self.store.commit(writes)


def _sort_out(ledger: Ledger, releases: Sequence[Release]) -> Released:
    freed, free, others = [], [], []
    for release in releases:
        ordinal = ledger.cidr.ordinal(release.address)
        attribute = ledger.attribute(ordinal)
        if attribute is None or blocks.is_cooling(attribute):
            free.append(release.address)
        elif (release.handle is not None and blocks.handle_of(attribute) != release.handle) or (
            release.sequence is not None and ledger.sequences.get(ordinal) != release.sequence
        ):
            others.append(release.address)
        else:
            freed.append(release.address)
    return Released(tuple(freed), tuple(free), tuple(others))


def _chunks(items: Sequence[Release], size: int) -> Iterator[Sequence[Release]]:
    for start in range(0, len(items), size):
        yield items[start : start + size]
