"""Which of several paths wins (RFC 4271 section 9.1.2.2, with equal-cost paths), and the same in words. Pure.

No rule looks at age: the same paths in any order give the same result.  `why` tells the decision from the same steps.
Before this: rib.py, which judges each path by itself (`Entry.refused`).  After: the Snapshot's `learned`.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from ipaddress import IPv4Address

from felixlite.addresses import Address, Prefix
from felixlite.bgp.rows import Peer
from felixlite.snapshot import Learned, Path

MOST_EQUAL_PATHS = 64
DEFAULT_PREFERENCE = 100
NORMAL_PREFERENCE = 2147483647 - 1024  # how a Calico node says "normal priority" (reference 12.5)


@dataclass(eq=False, slots=True)
class Entry:
    """One peer's path, for all prefixes that came with it. `refused` says why it cannot be used."""

    peer: str
    told: Path  # as it came
    path: Path  # after the import rules
    source: "Source"
    refused: str = ""
    cost: int = 0
    learned: Learned | None = None  # the result where this is the only path; made once


@dataclass(slots=True)
class Source:
    """A peer, as far as the decision looks at it."""

    key: str
    peer: Peer
    address: Address
    router_id: IPv4Address
    prefixes: set[Prefix] = field(default_factory=set)
    stale: set[Prefix] = field(default_factory=set)  # kept over a graceful restart, not yet told again
    entries: dict[Path, Entry] = field(default_factory=dict)
    filtered: dict[tuple[Path, str], Entry] = field(default_factory=dict)  # where rules look at prefixes


# Each step keeps those with the smallest value (RFC 4271 9.1.2.2). MED has no total order and is a step of its own.
_FIRST: tuple[tuple[str, Callable[[Entry], int]], ...] = (
    ("local preference", lambda e: -(e.path.local_preference if e.path.local_preference is not None else 100)),
    ("length of the AS path", lambda e: len(e.path.as_path)),
    ("origin", lambda e: e.path.origin),
)
_THEN: tuple[tuple[str, Callable[[Entry], int]], ...] = (
    ("eBGP before iBGP", lambda e: int(e.source.peer.internal)),
    ("cost of the way to the next hop", lambda e: e.cost),
)
_LAST: tuple[tuple[str, Callable[[Entry], int]], ...] = (
    ("router ID", lambda e: int(e.path.originator or e.source.router_id)),
    ("length of the cluster list", lambda e: len(e.path.cluster_list)),
    ("peer's address", lambda e: int(e.source.address)),
)


def best_paths(entries: Iterable[Entry]) -> list[Entry]:
    """The usable paths that nothing but an arbitrary rule tells apart, the best one first."""
    left = [entry for entry in entries if not entry.refused]
    for _, survivors in _decision(left):
        left = survivors
    if len(left) < 2:
        return left
    return sorted(left, key=lambda e: tuple(value(e) for _, value in _LAST))


def _decision(left: list[Entry]) -> Iterator[tuple[str, list[Entry]]]:
    """The steps up to equality, with who is left after each."""
    for name, value in _FIRST:
        left = _smallest(left, value)
        yield name, left
    left = lowest_med(left)
    yield "MED", left
    for name, value in _THEN:
        left = _smallest(left, value)
        yield name, left


def _smallest(entries: list[Entry], value: Callable[[Entry], int]) -> list[Entry]:
    if len(entries) < 2:
        return entries
    least = min(map(value, entries))
    return [e for e in entries if value(e) == least]


def lowest_med(entries: list[Entry]) -> list[Entry]:
    """MEDs of different neighbouring ASes cannot be compared; a missing one is zero."""
    if len(entries) < 2:
        return entries
    lowest: dict[object, int] = {}
    for e in entries:
        neighbour, med = _neighbour_as(e), e.path.med or 0
        lowest[neighbour] = min(med, lowest.get(neighbour, med))
    return [e for e in entries if (e.path.med or 0) == lowest[_neighbour_as(e)]]


def _neighbour_as(entry: Entry) -> object:
    return entry.path.as_path[0] if entry.path.as_path else entry.source.peer.local_as


def beaten(entries: tuple[Entry, ...], equal: list[Entry]) -> list[Entry]:
    """The usable paths that did not win, best first."""
    order: list[Entry] = []
    rest = tuple(entry for entry in entries if entry not in equal)
    while following := best_paths(rest):
        order += following
        rest = tuple(entry for entry in rest if entry not in following)
    return order


def learned_from(equal: list[Entry], others: Iterable[Entry] = ()) -> Learned:
    """The first is the best; its equals share the traffic, one per next hop."""
    best = equal[0]
    hops: dict[Address, str] = {}
    for entry in equal:
        hops.setdefault(entry.path.next_hop, entry.peer)
    order = sorted(hops, key=lambda hop: (hop.version, int(hop)))[:MOST_EQUAL_PATHS]
    return Learned(
        hops=tuple(order),
        peers=tuple(hops[hop] for hop in order),
        ibgp=best.source.peer.internal,
        priority=best.path.priority or priority_of(best.path),
        path=best.path,
        best=best.peer,
        router_id=best.source.router_id,
        others=tuple((entry.path.next_hop, entry.peer) for entry in others),
    )


def priority_of(path: Path) -> int | None:
    """A Calico node writes the priority of a route into its local preference (reference 12.5)."""
    preference = path.local_preference
    if preference is None or preference == NORMAL_PREFERENCE or preference < 2147483647 - 65535:
        return None
    return 2147483647 - preference


# -- in words --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    peer: str
    path: Path
    chosen: bool
    reason: str  # why it lost, why it cannot be used, or why it won


def why(entries: Iterable[Entry]) -> list[Candidate]:
    """Every path that was told, the chosen ones first, each with the rule that decided about it."""
    entries = list(entries)
    left = [e for e in entries if not e.refused]
    reasons: dict[Entry, str] = {e: e.refused for e in entries if e.refused}
    decided = "the only usable path" if len(left) == 1 else ""
    for name, survivors in _decision(left):
        for entry in left:
            if entry not in survivors:
                reasons[entry] = f"lost by {name}"
                decided = name
        left = survivors
    order = best_paths(entries)
    for rank, entry in enumerate(order):
        reasons[entry] = _won(decided, rank, len(order))
    chosen = [Candidate(e.peer, e.path, True, reasons[e]) for e in order]
    return chosen + [Candidate(e.peer, e.path, False, reasons[e]) for e in entries if e not in order]


def _won(decided: str, rank: int, equals: int) -> str:
    how = decided if decided.startswith("the only") else f"won by {decided}" if decided else "all paths are equal"
    if equals > 1:
        how += f"; shares the traffic with {equals - 1} equal path{'s' if equals > 2 else ''}"
        how += " (best: passed on)" if rank == 0 else ""
    return how
