"""How full pools, nodes and blocks are, and whose an address is. Pure; for the command and for metrics.py.

A count is of addresses.  `leaked` are those whose holder is gone, as far as the facts tell; `cooling` were released and
rest before they are assigned again; `reserved` are kept back by IPReservations.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from felixlite.addresses import Address, Prefix
from felixlite.ipam import assign, blocks
from felixlite.ipam.blocks import Ledger
from felixlite.ipam.facts import Facts, Standing, by_handle, holder_name
from felixlite.model.inside import Pool


@dataclass(frozen=True, slots=True)
class Usage:
    total: int = 0
    used: int = 0
    borrowed: int = 0
    leaked: int = 0
    cooling: int = 0
    reserved: int = 0

    @property
    def free(self) -> int:
        return self.total - self.used - self.cooling - self.reserved

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(
            self.total + other.total,
            self.used + other.used,
            self.borrowed + other.borrowed,
            self.leaked + other.leaked,
            self.cooling + other.cooling,
            self.reserved + other.reserved,
        )


@dataclass(frozen=True, slots=True)
class BlockUsage:
    cidr: Prefix
    pool: str  # "" when no pool covers it
    owner: str  # "" when nobody owns it
    usage: Usage
    marks: str  # one letter for each address: see MARKS


MARKS: Mapping[str, str] = {
    "#": "in use",
    "b": "borrowed by another node",
    "!": "leaked: its holder is gone",
    "~": "cooling down",
    "r": "reserved",
    ".": "free",
}


def block_usages(facts: Facts) -> list[BlockUsage]:
    leaked = leaked_addresses(facts)
    return [_block(facts, facts.ledgers[cidr], leaked) for cidr in sorted(facts.ledgers) if cidr not in facts.faulty]


def _block(facts: Facts, ledger: Ledger, leaked: "set[tuple[Prefix, int]]") -> BlockUsage:
    avoid = assign.reserved_in(ledger.cidr, facts.reservations)
    marks = "".join(_mark(ledger, ordinal, leaked, avoid) for ordinal in range(ledger.size))
    count = marks.count
    usage = Usage(ledger.size, count("#") + count("b") + count("!"), count("b"), count("!"), count("~"), count("r"))
    pool = next((pool.name for pool in _longest_first(facts.pools) if pool.cidr.covers(ledger.cidr)), "")
    return BlockUsage(ledger.cidr, pool, (ledger.owner or "").partition(":")[2], usage, marks)


def _longest_first(pools: Iterable[Pool]) -> list[Pool]:
    return sorted(pools, key=lambda pool: -pool.cidr.length)


def _mark(ledger: Ledger, ordinal: int, leaked: "set[tuple[Prefix, int]]", avoid: assign.Avoid | None) -> str:
    attribute = ledger.attribute(ordinal)
    if attribute is None:
        return "r" if avoid and avoid(ordinal) else "."
    if blocks.is_cooling(attribute):
        return "~"
    if (ledger.cidr, ordinal) in leaked:
        return "!"
    node = blocks.secondary(attribute).get("node")
    return "b" if node and node != ledger.node else "#"


def leaked_addresses(facts: Facts) -> "set[tuple[Prefix, int]]":
    """(block, ordinal) of what nobody holds any more; a handle's addresses are leaked together or not at all."""
    gone = (Standing.SUSPECT, Standing.NODE_GONE)
    return {
        (ledger.cidr, ordinal)
        for held in by_handle(facts).values()
        if all(verdict in gone for _, _, verdict in held)
        for ledger, ordinal, _ in held
    }


@dataclass(frozen=True, slots=True)
class PoolUsage:
    pool: Pool
    blocks: int
    most_blocks: int
    usage: Usage  # total and free of the whole pool, blocks or not


def pool_usages(facts: Facts, found: Iterable[BlockUsage]) -> list[PoolUsage]:
    inside: dict[str, list[BlockUsage]] = {}
    for block in found:
        inside.setdefault(block.pool, []).append(block)
    ordered = sorted(facts.pools, key=lambda pool: pool.name)
    return [_pool(pool, inside.get(pool.name, ()), facts.reservations) for pool in ordered]


def _pool(pool: Pool, found: Sequence[BlockUsage], reservations: Sequence[Prefix]) -> PoolUsage:
    used = sum((block.usage for block in found), Usage())
    kept = reserved_size(pool.cidr, reservations)
    whole = Usage(pool.cidr.size, used.used, used.borrowed, used.leaked, used.cooling, max(kept, used.reserved))
    return PoolUsage(pool, len(found), 1 << (assign.block_length(pool) - pool.cidr.length), whole)


def reserved_size(cidr: Prefix, reservations: Iterable[Prefix]) -> int:
    """How many addresses of a pool are reserved; reservations may overlap each other."""
    inside = [r if cidr.covers(r) else cidr for r in reservations if r.overlaps(cidr)]
    return sum(r.size for r in set(inside) if not any(o.covers(r) for o in set(inside) if o != r))


class Row(NamedTuple):
    """An address and what is known of it."""

    address: Address
    block: Prefix
    owner: str
    handle: str
    holder: str
    node: str
    state: str
    since: str


def about(facts: Facts, address: Address) -> Row | None:
    """Whose an address is; None when no block has it."""
    for length in blocks.BLOCK_SIZES[address.version]:
        if ledger := facts.ledgers.get(Prefix.containing(address, length)):
            return _row(ledger, ledger.cidr.ordinal(address), leaked_addresses(facts))
    return None


def rows(facts: Facts, *, only_borrowed: bool = False) -> Iterator[Row]:
    """Every address in use."""
    leaked = leaked_addresses(facts)
    for cidr in sorted(facts.ledgers):
        ledger = facts.ledgers[cidr]
        for ordinal, _ in blocks.in_use(ledger) if cidr not in facts.faulty else ():
            row = _row(ledger, ordinal, leaked)
            if not only_borrowed or row.node not in ("", row.owner):
                yield row


def _row(ledger: Ledger, ordinal: int, leaked: "set[tuple[Prefix, int]]") -> Row:
    attribute = ledger.attribute(ordinal)
    state = MARKS[_mark(ledger, ordinal, leaked, None)]
    owner = (ledger.owner or "").partition(":")[2]
    address = ledger.cidr.address(ordinal)
    if attribute is None or blocks.is_cooling(attribute):
        since = str((attribute or {}).get("releasedAt", ""))
        return Row(address, ledger.cidr, owner, "", "", "", state, since)
    known = blocks.secondary(attribute)
    handle, holder = blocks.handle_of(attribute) or "", holder_name(attribute)
    return Row(address, ledger.cidr, owner, handle, holder, known.get("node", ""), state, known.get("timestamp", ""))
