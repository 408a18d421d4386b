"""What IPAM reads of a store: blocks by address or handle, all blocks at once, and the pools with their rules. IO.

Reading never changes anything, and never stops at one bad object: a pool that does not validate is no pool, a block
that does not add up is left out by whoever assigns and read as far as possible by whoever releases.
"""

from collections.abc import Callable, Iterator, Sequence

from felixlite.addresses import Address, Prefix
from felixlite.datastore.names import block_cidr
from felixlite.datastore.store import Entry, Key, Store, Write
from felixlite.errors import Rejected
from felixlite.ipam import blocks, documents
from felixlite.ipam.assign import View
from felixlite.ipam.blocks import Corrupt, Ledger
from felixlite.ipam.claims import OwnBlocks, Seen, keys_of
from felixlite.model.inside import Labels, Pool


class StoreView:
    """The View of who has no Snapshot: three lists and a get, believed for some seconds."""

    def __init__(self, store: Store, node: str, clock: Callable[[], float], good_for: float = 5.0) -> None:
        self.store, self.node, self.clock, self.good_for = store, node, clock, good_for
        self._read_at = float("-inf")
        self._view = View()

    def __call__(self) -> View:
        if not 0 <= self.clock() - self._read_at < self.good_for:
            self._view = read_view(self.store, self.node)
            self._read_at = self.clock()
        return self._view


def read_view(store: Store, node: str = "") -> View:
    config, own = store.read([documents.CONFIG_KEY, Key("Node", node or "-")])
    reservations = store.list("IPReservation").entries
    return View(
        pools=read_pools(store),
        config=documents.config_of(config.document if config else None),
        reservations=[cidr for entry in reservations for cidr in documents.reservations_of(entry.document)],
        node_labels=_labels(own),
    )


def read_pools(store: Store) -> list[Pool]:
    from felixlite.model.parse import parse  # late: pydantic, which the agent's way with a Snapshot does not need

    found = []
    for entry in store.list("IPPool").entries:
        try:
            found.append(parse(entry.document).inside())
        except Rejected:
            continue  # an invalid pool is as good as none; the agent and `felixlite validate` tell its author
    return found


def blocks_of_node(store: Store, node: str) -> list[Ledger]:
    """The blocks that a node owns, as they are now; one that does not add up is left out."""
    affinities = map(
        documents.affinity_of, (entry.document for entry in store.list(documents.AFFINITY, node=node).entries)
    )
    entries = store.read([documents.block_key(found.cidr) for found in affinities if found and not found.virtual])
    seen = [readable(entry) for entry in entries if entry]
    return [one.ledger for one in seen if one and one.ledger.node == node]


def _labels(node: Entry | None) -> Labels:
    found = (node.document.get("metadata") or {}).get("labels") if node else None
    return found if isinstance(found, dict) else {}


def blocks_of(store: Store, own: OwnBlocks, handle: str) -> tuple[Entry | None, list[Seen]]:
    """A handle, and the blocks that it names or that we remember it in."""
    guess = [cidr for cidr, seen in own.seen.items() if blocks.held_by(seen.ledger, handle)]
    entry, *entries = store.read([documents.handle_key(handle), *map(documents.block_key, guess)])
    named = documents.counts_of(entry.document) if entry else {}
    missing = [cidr for cidr in named if cidr not in guess]
    if missing:
        entries += store.read([documents.block_key(cidr) for cidr in missing])
    return entry, [seen for found in entries if found and (seen := readable(found))]


def block_with(store: Store, address: Address) -> Entry | None:
    """The block that holds an address, of whatever size, as it is now."""
    width = 8 * len(address.packed)
    sizes = blocks.BLOCK_SIZES[4 if width == 32 else 6]
    keys = [documents.block_key(Prefix.containing(address, length)) for length in sizes]
    return next(filter(None, store.read(keys)), None)


def unchanged(store: Store, writes: Sequence[Write]) -> bool:
    """Nobody touched what we compared: so it was one of the caller's writes that lost."""
    now = store.read(keys_of(writes))
    return all((e.revision if e else None) == w.revision for e, w in zip(now, writes, strict=True))


def readable(entry: Entry) -> Seen | None:
    """A block as far as it can be read: releasing must work on a damaged one, too."""
    try:
        ledger = blocks.parse_leniently(entry.document)
    except Corrupt:
        return None
    if any(blocks.faults(ledger)):
        ledger = blocks.mended(ledger)
    return Seen(ledger, entry.revision)


def block_write(ledger: Ledger, revision: str | None) -> Write:
    """A block that nobody owns and nobody uses goes away."""
    gone = ledger.owner is None and blocks.is_empty(ledger)
    return Write(documents.block_key(ledger.cidr), None if gone else blocks.document(ledger), revision)


def held_in(seen: Seen, handle: str) -> list[Prefix]:
    return [seen.ledger.prefix(ordinal) for ordinal in blocks.held_by(seen.ledger, handle)]


class Lenders:
    """All blocks of the cluster, listed when a claim or a loan needs them and believed for a while."""

    def __init__(self, store: Store, clock: Callable[[], float]) -> None:
        self.store, self.clock = store, clock
        self.listed_at = float("-inf")
        self.entries: dict[Prefix, Entry] = {}

    def refresh(self, *, at_most_old: float) -> None:
        if not 0 <= self.clock() - self.listed_at <= at_most_old:
            found = self.store.list(documents.BLOCK).entries
            self.entries = {cidr: entry for entry in found if (cidr := _cidr_of(entry))}
            self.listed_at = self.clock()

    def distrust(self) -> None:
        self.listed_at = float("-inf")

    def spacious(self, family: int) -> Iterator[tuple[Entry, Ledger]]:
        """Those with a free address; a full block is not even parsed."""
        for cidr, entry in self.entries.items():
            if cidr.family == family and (entry.document.get("spec") or {}).get("unallocated"):
                try:
                    ledger = blocks.parse(entry.document)
                except Corrupt:
                    continue  # never assigned from; `ipam check` tells
                if documents.block_key(ledger.cidr) == entry.key:  # nor one that says that it is another
                    yield entry, ledger


def _cidr_of(entry: Entry) -> Prefix | None:
    """By its name, for that is what a claim of it would meet; an IPv6 name may not tell, then by its own word."""
    try:
        return block_cidr(entry.key.name)
    except ValueError:
        pass
    try:
        return Prefix.parse((entry.document.get("spec") or {}).get("cidr") or "")
    except (ValueError, TypeError, AttributeError):
        return None
