"""How often the rules of each policy have matched, from what the packet filter counts. Pure; backend.py reads.

Only the first packet of a connection meets policy, so these are connections (and tries), not traffic.  A policy that is
written again counts from nothing.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from felixlite.model.policy import Action
from felixlite.policy.rows import Chained, EndpointChain, Key, PolicyChain, Row, Rule


class Counted(NamedTuple):
    """One line of a chain as the packet filter shows it."""

    packets: int
    octets: int
    denies: bool  # what matches goes to the end where everything is denied


Counts = Mapping[str, Sequence[Counted]]  # by chain


class Hits(NamedTuple):
    owner: str  # as explain.py calls it: `NetworkPolicy default/p`
    direction: str
    rule: int
    action: Action
    packets: int
    octets: int


@dataclass(frozen=True, slots=True)
class Tally:
    """What the rules of one family have matched since they were written."""

    hits: tuple[Hits, ...]
    unmatched: tuple[tuple[str, str, int], ...]  # (interface, direction, packets) that nothing allowed
    rules: Mapping[str, int] = field(default_factory=dict)  # how many there are in each chain


def tallied(wanted: Mapping[Key, Row], counts: Counts, width: Callable[[Rule], int]) -> Tally:
    """`width`: how many lines of the backend a rule becomes; the last one acts."""
    rules = {chain: len(lines) for chain, lines in counts.items()}
    return Tally(tuple(_hits(wanted, counts, width)), tuple(_unmatched(wanted, counts)), rules)


def _hits(wanted: Mapping[Key, Row], counts: Counts, width: Callable[[Rule], int]) -> Iterator[Hits]:
    for key, row in wanted.items():
        lines = counts.get(key.name)
        if not (isinstance(row, Chained) and isinstance(row.body, PolicyChain) and lines):
            continue
        owner, _, direction = row.body.owner.rpartition(" ")
        at, found = -1, dict[tuple[int, Action], tuple[int, int]]()
        for rule in row.body.rules:
            at += width(rule)
            if at < len(lines):
                packets, octets = found.get((rule.number, rule.action), (0, 0))
                found[rule.number, rule.action] = packets + lines[at].packets, octets + lines[at].octets
        yield from (Hits(owner, direction, *rule, *sums) for rule, sums in found.items())


def _unmatched(wanted: Mapping[Key, Row], counts: Counts) -> Iterator[tuple[str, str, int]]:
    for key, row in wanted.items():
        if isinstance(row, Chained) and isinstance(row.body, EndpointChain):
            own = (lines for chain, lines in counts.items() if chain.partition("/")[0] == key.name)
            denied = sum(line.packets for lines in own for line in lines if line.denies)
            yield row.body.interface, row.body.direction.value.lower(), denied
