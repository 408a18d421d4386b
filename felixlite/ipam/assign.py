"""Which address a request gets: pools, then the node's own blocks, then a new block, then somebody else's. Pure.

The rules are those of the reference (4.3 - 4.5), in its order, so that nodes that run Calico and nodes that run this
make the same choices in one cluster.  Nothing here reads or writes: store.py shows what there is and commits what is
chosen.  Time comes in as an argument.  When nothing fits, the error says which pool failed for which reason and what
to change.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import chain

from felixlite.addresses import Address, Prefix
from felixlite.datastore.store import Entry
from felixlite.errors import FelixliteError
from felixlite.ipam import blocks
from felixlite.ipam.blocks import Attribute, Ledger
from felixlite.model.inside import Labels, Pool, Use

DEFAULT_MAX_BLOCKS = 20
RECLAIM_AGE = 60.0  # seconds that an empty block of another node has to be old before it is taken over


Avoid = Callable[[int], bool]  # tells of an ordinal whether it is reserved


class NoPool(FelixliteError):
    """No pool may be used for this request."""


class Exhausted(FelixliteError):
    """The pools that may be used have no address left for this node."""


class Taken(FelixliteError):
    """The address that was asked for is somebody else's, or reserved by the rules."""


@dataclass(frozen=True, slots=True)
class Config:
    """IPAMConfiguration `default`."""

    strict_affinity: bool = False
    max_blocks: int = 0  # per node and family; 0: DEFAULT_MAX_BLOCKS
    auto_allocate: bool = True
    cooldown: float = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """What an assignment has to know of the cluster. The agent has it in its Snapshot; others read it."""

    pools: Sequence[Pool] = ()
    config: Config = Config()
    reservations: Sequence[Prefix] = ()
    node_labels: Labels = field(default_factory=dict)
    blocks: Collection[Prefix] | None = None  # the blocks of the cluster, where they are known anyway: only a hint


@dataclass(frozen=True, slots=True)
class Request:
    """What somebody wants. Either all of it is assigned or nothing."""

    handle: str
    attributes: Mapping[str, str]  # pod, namespace, node, type, ...; `timestamp` is added
    v4: int = 0
    v6: int = 0
    addresses: tuple[Address, ...] = ()  # these very ones, besides the counted ones
    pools: tuple[str, ...] = ()  # names or CIDRs; then selectors do not matter
    pools_of: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # the same, each for its family alone
    use: Use = Use.WORKLOAD
    namespace_labels: Labels = field(default_factory=dict)
    node_labels: Labels | None = None  # None: the View's
    max_blocks: int = 0
    reuse: bool = False  # what the handle already holds is the answer (a repeated ADD)

    def count(self, family: int) -> int:
        return self.v4 if family == 4 else self.v6


@dataclass(frozen=True, slots=True)
class Assigned:
    addresses: tuple[Prefix, ...]  # /32 and /128; those asked for by name first, then IPv4, then IPv6
    blocks: tuple[Prefix, ...]  # the block of each
    existed: bool = False  # the handle held them already
    also: tuple[Entry | None, ...] = ()  # what became of the caller's own writes


# -- pools


def pools_for(request: Request, family: int, view: View, here: str) -> tuple[Pool, ...]:
    """The pools to take from, in their order; NoPool with the reason of each if there is none."""
    of_family = sorted((pool for pool in view.pools if pool.cidr.family == family), key=lambda pool: pool.name)
    wanted = [text for text in request.pools if _family_of(text, of_family, view.pools) in (family, None)]
    wanted += _of_its_family(request, view).get(family, ())
    if wanted:
        return tuple(_requested(text, of_family, request) for text in wanted)
    refused = {pool.name: unfit(pool, request, view, of_family) for pool in of_family}
    if fit := tuple(pool for pool in of_family if not refused[pool.name]):
        return fit
    if not of_family:
        raise NoPool(
            f"there is no IPv{family} pool: create one (`felixlite apply -f` an IPPool with an IPv{family} cidr)"
        )
    reasons = "; ".join(f"pool {name} {reason}" for name, reason in refused.items())
    raise NoPool(f"no IPv{family} pool may be used on node {here}: {reasons}")


def _of_its_family(request: Request, view: View) -> Mapping[int, tuple[str, ...]]:
    for family, texts in request.pools_of.items():
        for text in texts:
            found = _family_of(text, (), view.pools)
            if found is None:
                raise _no_such_pool(text)
            if found != family:
                raise NoPool(f"pool {text!r}, which was asked for as an IPv{family} pool, is an IPv{found} pool")
    return request.pools_of


def _family_of(text: str, of_family: Iterable[Pool], pools: Iterable[Pool]) -> int | None:
    """The family of a pool that was asked for; None when there is no such pool."""
    for pool in (*of_family, *pools):
        if text in (pool.name, str(pool.cidr)):
            return pool.cidr.family
    return 6 if ":" in text else None


def _requested(text: str, pools: Iterable[Pool], request: Request) -> Pool:
    for pool in pools:
        if text in (pool.name, str(pool.cidr)):
            if pool.disabled or not pool.allocatable:
                raise NoPool(f"pool {pool.name}, which was asked for, is {_out_of_order(pool)}")
            if request.use not in pool.allowed_uses:
                raise NoPool(_wrong_use(pool, request.use))
            return pool
    raise _no_such_pool(text)


def _no_such_pool(text: str) -> NoPool:
    return NoPool(
        f"there is no pool {text!r}, which was asked for: name an IPPool or its cidr (`felixlite get ippools`)"
    )


def unfit(pool: Pool, request: Request, view: View, others: Iterable[Pool]) -> str:
    """Why a pool is not for this request, or ''."""
    labels = view.node_labels if request.node_labels is None else request.node_labels
    if pool.disabled or not pool.allocatable:
        return f"is {_out_of_order(pool)}"
    if not pool.automatic:
        return "is assigned from only when asked for (assignmentMode Manual)"
    if request.use not in pool.allowed_uses:
        return f"is not for {request.use} (allowedUses {', '.join(sorted(pool.allowed_uses))})"
    if pool.node_selector and not pool.node_selector.matches(labels):
        return f"does not select this node (nodeSelector {pool.node_selector})"
    if pool.namespace_selector and not pool.namespace_selector.matches(request.namespace_labels):
        return f"does not select this namespace (namespaceSelector {pool.namespace_selector})"
    if rival := next((p for p in others if _wins(p, pool)), None):
        return f"overlaps pool {rival.name} ({rival.cidr}), which was first"
    return ""


def _wins(rival: Pool, pool: Pool) -> bool:
    """Two pools that overlap (written past the validation) must not both hand out."""
    if rival.name == pool.name or not rival.allocatable or rival.disabled or not rival.cidr.overlaps(pool.cidr):
        return False
    return rival.name < pool.name


def _out_of_order(pool: Pool) -> str:
    return "disabled" if pool.disabled else "not allocatable (it overlaps another pool or is being deleted)"


def _wrong_use(pool: Pool, use: Use) -> str:
    return f"pool {pool.name} is not for {use}: its allowedUses are {', '.join(sorted(pool.allowed_uses))}"


def pool_of(address: Address, request: Request, view: View) -> Pool:
    """The pool of an address that was asked for by name: selectors and reservations do not matter (reference 4.5)."""
    holding = [pool for pool in view.pools if pool.cidr.holds(address)]
    usable = [pool for pool in holding if not pool.disabled and pool.allocatable]
    if not usable:
        why = "; ".join(f"pool {pool.name} is {_out_of_order(pool)}" for pool in holding)
        raise NoPool(f"address {address} is in no enabled pool{': ' + why if why else ''}; enable or create one")
    fit = [pool for pool in usable if request.use in pool.allowed_uses]
    if not fit:
        raise NoPool(f"address {address}: {_wrong_use(usable[0], request.use)}")
    return max(fit, key=lambda pool: pool.cidr.length)


# -- blocks


def block_limit(request: Request, config: Config) -> int:
    return min((n for n in (request.max_blocks, config.max_blocks) if n), default=DEFAULT_MAX_BLOCKS)


def fnv1a(text: str) -> int:
    """FNV-1a, 32 bits: a node starts its search at the same place again after it lost its blocks."""
    value = 0x811C9DC5
    for byte in text.encode():
        value = (value ^ byte) * 0x01000193 & 0xFFFFFFFF
    return value


class Occupied:
    """The blocks that exist, to find the first candidate that is free among 16,384 in a millisecond.

    Per pool they become the numbers of the candidates that they overlap: a block of another size inside the pool takes
    away every candidate that shares an address with it.
    """

    def __init__(self, existing: Iterable[Prefix]) -> None:
        self._existing = set(existing)
        self._numbers: dict[tuple[Prefix, int], set[int]] = {}

    def add(self, block: Prefix) -> None:
        self._existing.add(block)
        for (cidr, length), numbers in self._numbers.items():
            numbers.update(_candidates_within(cidr, length, block))

    def numbers(self, cidr: Prefix, length: int) -> set[int]:
        found = self._numbers.get((cidr, length))
        if found is None:
            width, base, shift, end = len(cidr.packed), int(cidr), cidr.width - length, int(cidr) + cidr.size
            found = set()
            for packed, size in self._existing:
                if len(packed) == width and base <= (value := int.from_bytes(packed, "big")) < end and size >= length:
                    found.add((value - base) >> shift)
            for block in self._existing:
                if block.length < length:
                    found.update(_candidates_within(cidr, length, block))
            self._numbers[cidr, length] = found
        return found


def _candidates_within(cidr: Prefix, length: int, block: Prefix) -> Iterable[int]:
    """The numbers of the candidates (of `length`, in the pool `cidr`) that overlap a block."""
    if not cidr.overlaps(block):
        return ()
    shift = cidr.width - length
    first = max(int(block), int(cidr)) - int(cidr)
    last = min(int(block) + block.size, int(cidr) + cidr.size) - int(cidr) - 1
    return range(first >> shift, (last >> shift) + 1)


def unclaimed(
    pools: Iterable[Pool], occupied: Occupied, reservations: Sequence[Prefix], here: str, now: float
) -> Prefix | None:
    """The next block that does not exist yet and has an address that may be assigned.

    Each pool is walked from this node's own place, once around (reference 4.4, step 6).
    """
    for pool in pools:
        cidr, length = pool.cidr, block_length(pool)
        inside = [r for r in reservations if r.overlaps(cidr)]
        taken, count, base = occupied.numbers(cidr, length), 1 << (length - cidr.length), int(cidr)
        start = _start(pool, here, now) % count
        for number in chain(range(start, count), range(start)):
            if number not in taken:
                found = Prefix.from_int(base + (number << (cidr.width - length)), length, cidr.family)
                if not (inside and all_reserved(found, inside)):
                    return found
    return None


def block_length(pool: Pool) -> int:
    return max(pool.block_size, pool.cidr.length)


def block_around(address: Address, length: int, existing: Iterable[Prefix]) -> Prefix | None:
    """The largest block, but no larger than `length` says, that holds the address and overlaps no other one.

    It is smaller where the pool once had another block size.  None: a block that exists has the address.
    """
    whole = Prefix.containing(address, length)
    near = [block for block in existing if block.overlaps(whole)]
    sizes = (Prefix.containing(address, shorter) for shorter in range(length, whole.width + 1))
    return next((cidr for cidr in sizes if not any(cidr.overlaps(block) for block in near)), None)


def _start(pool: Pool, here: str, now: float) -> int:
    # blocks of one address: a fixed place would hand the address just freed to the next pod (reference 4.4)
    return int(now * 1e9) if pool.block_size == pool.cidr.width else fnv1a(here)


def reserved_in(cidr: Prefix, reservations: Iterable[Prefix]) -> Avoid | None:
    """Tells of an ordinal whether it is reserved; None when none is."""
    ranges = []
    for reservation in reservations:
        if reservation.covers(cidr):
            return lambda _: True
        if cidr.covers(reservation):
            first = int(reservation) - int(cidr)
            ranges.append(range(first, first + reservation.size))
    if not ranges:
        return None
    return lambda ordinal: any(ordinal in reserved for reserved in ranges)


def all_reserved(cidr: Prefix, reservations: Iterable[Prefix]) -> bool:
    avoid = reserved_in(cidr, reservations)
    return avoid is not None and all(map(avoid, range(cidr.size)))


def has_room(ledger: Ledger, reservations: Iterable[Prefix]) -> bool:
    avoid = reserved_in(ledger.cidr, reservations)
    return bool(ledger.unallocated) if avoid is None else not all(map(avoid, ledger.unallocated))


def is_idle(ledger: Ledger, now: float) -> bool:
    """Empty, and claimed long enough ago that its owner is not about to use it.

    A claim time far in the future is a clock that jumped, not a block to leave alone for ever.
    """
    return blocks.is_empty(ledger) and (ledger.claimed_at is None or abs(now - ledger.claimed_at) > RECLAIM_AGE)


def in_pools(cidr: Prefix, pools: Iterable[Pool]) -> bool:
    return any(pool.cidr.covers(cidr) for pool in pools)


def is_selected(cidr: Prefix, pools: Iterable[Pool], labels: Labels) -> bool:
    """A pool covers the block and selects the node."""
    return any(p.cidr.covers(cidr) and (p.node_selector is None or p.node_selector.matches(labels)) for p in pools)


def walk_order(ledgers: Iterable[Ledger], pools: Sequence[Pool], here: str, now: float) -> list[Ledger]:
    """Existing blocks in the order in which this node would look at them, to borrow or to take over."""

    def place(ledger: Ledger) -> tuple[int, int]:
        number = next(n for n, pool in enumerate(pools) if pool.cidr.covers(ledger.cidr))
        pool = pools[number]
        length = block_length(pool)
        count = 1 << (length - pool.cidr.length)
        position = (int(ledger.cidr) - int(pool.cidr)) >> (pool.cidr.width - length)
        return number, (position - _start(pool, here, now)) % count

    return sorted((x for x in ledgers if in_pools(x.cidr, pools)), key=place)


def stamped(request: Request, now: float) -> Attribute:
    attributes = {"timestamp": blocks.timestamp(now), **request.attributes}
    return blocks.holding(request.handle, attributes)


# -- saying no


@dataclass(frozen=True, slots=True)
class Shortfall:
    """Why the search came to an end."""

    here: str
    family: int
    wanted: int
    found: int
    pools: Sequence[Pool]
    existing: Collection[Prefix]
    owned: int
    limit: int
    config: Config

    def error(self) -> Exhausted:
        got = f"{self.found} of {self.wanted} IPv{self.family} addresses found for node {self.here}"
        limited = self.owned >= self.limit
        parts = [got, *(self._pool(pool, limited) for pool in self.pools)]
        return Exhausted("; ".join([*parts, *self._why(limited), self._remedy(limited)]))

    def _pool(self, pool: Pool, limited: bool) -> str:
        count = 1 << (block_length(pool) - pool.cidr.length)
        free = max(0, count - sum(1 for block in self.existing if pool.cidr.covers(block)))
        state = "is full: " if not free else "has " if limited else "is used up for this node: "
        return f"pool {pool.name} {state}{free} of {count} blocks free"

    def _why(self, limited: bool) -> Iterator[str]:
        if limited:
            yield f"node {self.here} owns {self.owned} blocks, its limit is {self.limit} (maxBlocksPerHost)"
        if not self.config.auto_allocate:
            yield "blocks are not claimed automatically (autoAllocateBlocks false)"
        if self.config.strict_affinity:
            yield f"node {self.here} may not borrow because strictAffinity is on"
        else:
            yield "no other node's block has an address to lend"

    def _remedy(self, limited: bool) -> str:
        ways = ["add a pool"]
        if limited:
            needed = "" if self.config.strict_affinity else " --strict-affinity=true"  # without it there is only 20
            ways = [f"raise maxBlocksPerHost (`felixlite ipam configure{needed} --max-blocks-per-host N`)"]
        if not self.config.auto_allocate:
            ways.append("give the node a block or turn autoAllocateBlocks on")
        if self.config.strict_affinity:
            ways.append("turn strictAffinity off (`felixlite ipam configure --strict-affinity=false`)")
        ways.append("look for leaked addresses (`felixlite ipam check`)")
        return ", or ".join(ways)
