"""Carrying out fixes. IO: everything is read again first, and written by compare-and-swap.

A fix that is no longer needed, or no longer safe, does nothing and says so.  Blocks are rewritten before the handles
that index them.  Whether an address's holder is really gone is asked of the store once more right before it is freed.
"""

from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import assert_never

from felixlite.addresses import Address, Prefix
from felixlite.datastore.store import Key, Store, Write
from felixlite.errors import Conflict
from felixlite.ipam import assign, blocks, documents, fixes
from felixlite.ipam.blocks import Attribute, Ledger
from felixlite.ipam.claims import LOST, Seen, give_up, read_block, release_block
from felixlite.ipam.facts import Facts, Standing, gather, handle_of_endpoint, standing
from felixlite.ipam.fixes import Fix
from felixlite.ipam.reading import block_with, block_write, read_view, readable
from felixlite.ipam.releasing import Release
from felixlite.ipam.store import Ipam
from felixlite.model.inside import AffinityState

ATTEMPTS = 20


def read_facts(store: Store) -> Facts:
    """All lists. They are not of one moment: what is wrong in one reading only may be work in progress."""
    kinds = ("WorkloadEndpoint", "Node", documents.HANDLE, documents.AFFINITY, documents.BLOCK)
    endpoints, nodes, handles, affinities, block_entries = (store.list(kind).entries for kind in kinds)
    view = read_view(store)
    return gather(block_entries, affinities, handles, nodes, endpoints, view.pools, view.reservations)


class Repair:
    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store, self.clock = store, clock
        self.ipam = Ipam(store, "-", clock=clock)

    def apply(self, fix: Fix) -> bool:
        """True when something was written. Conflict when somebody else kept changing it."""
        for _ in range(ATTEMPTS):
            try:
                return self._apply(fix)
            except LOST:
                continue
        raise Conflict(f"could not {fix}: it changed {ATTEMPTS} times meanwhile; try again")

    def _apply(self, fix: Fix) -> bool:  # noqa: C901  one line per kind of fix
        match fix:
            case fixes.MendBlock(cidr):
                return self._mend(cidr)
            case fixes.RebuildBlock(name, cidr):
                return self._rebuild(name, cidr)
            case fixes.RewriteHandle(handle, cidrs):
                return self._rewrite_handle(handle, cidrs)
            case fixes.ConfirmAffinity(owner, cidr):
                return self._confirm(owner, cidr)
            case fixes.DropAffinity(owner, cidr):
                return self._drop_affinity(owner, cidr)
            case fixes.DropBlock(cidr):
                return self._drop_block(cidr)
            case fixes.FreeBlock():
                return self._free_block(fix)
            case fixes.FreeAddress():
                return self._free(fix)
            case fixes.EndRest(cidr):
                return self._end_rest(cidr)
            case fixes.Occupy():
                return self._occupy(fix)
            case _:
                assert_never(fix)

    # -- blocks

    def _mend(self, cidr: Prefix) -> bool:
        entry = self.store.get(documents.block_key(cidr))
        ledger = blocks.parse_leniently(entry.document) if entry else None
        if entry is None or ledger is None or not any(blocks.faults(ledger)):
            return False
        self.store.update(entry.key, blocks.document(blocks.mended(ledger)), entry.revision)
        return True

    def _rebuild(self, name: str, cidr: Prefix) -> bool:
        entry = self.store.get(Key(documents.BLOCK, name))
        facts = read_facts(self.store)
        if entry is None or cidr in facts.ledgers:
            return False
        owner = next((o for (o, c), _ in facts.affinities.items() if c == cidr), None)
        ledger = replace(blocks.empty(cidr, owner or "", self.clock()), owner=owner)
        for address, attribute in holders_in(facts, cidr):
            ledger = blocks.take_ordinal(ledger, cidr.ordinal(address), attribute) or ledger
        self.store.update(entry.key, blocks.document(ledger), entry.revision)
        return True

    def _drop_block(self, cidr: Prefix) -> bool:
        entry = self.store.get(documents.block_key(cidr))
        if entry is None or not blocks.is_empty(ledger := blocks.parse(entry.document)):
            return False
        if ledger.node:
            return release_block(self.store, ledger.node, cidr)
        self.store.delete(entry.key, entry.revision)
        return True

    def _free_block(self, fix: fixes.FreeBlock) -> bool:
        if fix.sequence is None:
            return self.store.get(Key("Node", fix.node)) is None and release_block(self.store, fix.node, fix.cidr)
        seen = read_block(self.store, fix.cidr)
        if seen is None or seen.ledger.sequence != fix.sequence or seen.ledger.node != fix.node:
            return False
        return give_up(self.store, seen.ledger.owner, fix.cidr, seen)

    def _end_rest(self, cidr: Prefix) -> bool:
        entry = self.store.get(documents.block_key(cidr))
        if entry is None:
            return False
        ledger = blocks.parse(entry.document)
        settled = blocks.settled(ledger, self.clock(), self.ipam.config.cooldown)
        if settled is ledger:
            return False
        self.store.commit([block_write(settled, entry.revision)])
        return True

    # -- affinities

    def _confirm(self, owner: str, cidr: Prefix) -> bool:
        key = documents.affinity_key(owner, cidr)
        block, affinity = self.store.read([documents.block_key(cidr), key])
        if block is None or blocks.parse_leniently(block.document).owner != owner:
            return False
        found = documents.affinity_of(affinity.document) if affinity else None
        if found and found.state is AffinityState.CONFIRMED:
            return False
        self.store.commit([documents.affinity_write(owner, cidr, AffinityState.CONFIRMED, affinity)])
        return True

    def _drop_affinity(self, owner: str, cidr: Prefix) -> bool:
        key = documents.affinity_key(owner, cidr)
        block, affinity = self.store.read([documents.block_key(cidr), key])
        if affinity is None or (block and blocks.parse_leniently(block.document).owner == owner):
            return False
        self.store.delete(key, affinity.revision)
        return True

    # -- handles and addresses

    def _rewrite_handle(self, handle: str, cidrs: tuple[Prefix, ...]) -> bool:
        key = documents.handle_key(handle)
        entry, *found = self.store.read([key, *map(documents.block_key, cidrs)])
        before = documents.counts_of(entry.document) if entry else {}
        counts = dict(before)
        for cidr, block in zip(cidrs, found, strict=True):
            seen = readable(block) if block else None
            counts[cidr] = len(blocks.held_by(seen.ledger, handle)) if seen else 0
        write = documents.handle_write(handle, counts, entry)
        if write is None or {c: n for c, n in counts.items() if n} == before:
            return False
        self.store.commit([write])
        return True

    def _free(self, fix: fixes.FreeAddress) -> bool:
        """Once more: is the holder gone? Then only if it is still the same allocation."""
        entry = block_with(self.store, fix.address)
        if entry is None:
            return False
        ledger = blocks.parse(entry.document)
        ordinal = ledger.cidr.ordinal(fix.address)
        attribute = ledger.attribute(ordinal)
        if attribute is None or ledger.sequences.get(ordinal) != fix.sequence:
            return False
        if standing(self._facts_about(attribute), fix.address, attribute) not in (Standing.SUSPECT, Standing.NODE_GONE):
            return False
        return bool(self.ipam.release_addresses([Release(fix.address, fix.handle, fix.sequence)]).freed)

    def _facts_about(self, attribute: Attribute) -> Facts:
        """Enough to judge one holder: its node and the endpoints of its namespace."""
        about = blocks.secondary(attribute)
        node = self.store.get(Key("Node", about.get("node") or "-"))
        endpoints = self.store.list("WorkloadEndpoint", namespace=about.get("namespace", "")).entries
        return gather((), (), (), [node] if node else [], endpoints)

    def _occupy(self, fix: fixes.Occupy) -> bool:
        """The block says what the address's user says, and the handles follow."""
        seen = self._block_for(fix)
        if seen is None:
            return False
        found, revision, attribute = seen.ledger, seen.revision, fix.attribute
        ordinal = found.cidr.ordinal(fix.address)
        before = found.attribute(ordinal)
        if before == attribute:
            return False
        if before is not None:
            found = blocks.release(found, [ordinal], self.clock())
        taken = blocks.take_ordinal(found, ordinal, attribute)
        if taken is None:
            return False
        writes = [block_write(taken, revision), *self._handles_of(taken, before, attribute)]
        if revision is None and taken.owner:
            affinity = self.store.get(documents.affinity_key(taken.owner, taken.cidr))
            writes.append(documents.affinity_write(taken.owner, taken.cidr, AffinityState.CONFIRMED, affinity))
        self.store.commit(writes)
        return True

    def _block_for(self, fix: fixes.Occupy) -> Seen | None:
        """The block with the address, or a new one; none where no pool says what size it would have."""
        if entry := block_with(self.store, fix.address):
            return Seen(blocks.parse(entry.document), entry.revision)
        if fix.block_size is None:
            return None
        cidr = assign.block_around(fix.address, fix.block_size, read_facts(self.store).ledgers)
        return Seen(blocks.empty(cidr, blocks.HOST + fix.user.node, self.clock()), None) if cidr else None

    def _handles_of(self, ledger: Ledger, *attributes: Attribute | None) -> Iterator[Write]:
        for handle in {h for a in attributes if a and (h := blocks.handle_of(a))}:
            entry = self.store.get(documents.handle_key(handle))
            counts = documents.counts_of(entry.document) if entry else {}
            counts[ledger.cidr] = len(blocks.held_by(ledger, handle))
            if write := documents.handle_write(handle, counts, entry):
                yield write


def holders_in(facts: Facts, cidr: Prefix) -> Iterator[tuple[Address, Attribute]]:
    """Who is known to use addresses of a block whose own record is lost."""
    for address, endpoints in facts.endpoints.items():
        if cidr.holds(address):
            endpoint = endpoints[0]
            yield address, blocks.holding(handle_of_endpoint(facts, endpoint), endpoint.attributes)
    for address, use in facts.tunnels.items():
        if cidr.holds(address):
            yield address, blocks.holding(use.handle, use.attributes)
