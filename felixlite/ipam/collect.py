"""Garbage collection: which findings of the check may be put right without a person, and when. Pure.

Nothing is done at first sight, for a reading of the store is not of one moment: a suspicion has to stand unchanged for a
grace period (an allocation made anew has another sequence number, so it is another suspicion).  Only what belonged to a
node that is gone goes at once.  repair.py asks the store once more right before it acts.  `memory` is what was
suspected when; time is monotonic, so that a clock that jumps frees nothing early.  Reference section 5.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from felixlite.addresses import Address, Prefix
from felixlite.ipam import blocks, fixes
from felixlite.ipam.check import GRACE, check
from felixlite.ipam.facts import Facts, Standing, by_handle
from felixlite.ipam.fixes import Fix

# What the check finds and the collection may put right; corrupted blocks and disputed addresses want a person.
MINE = frozenset(
    {
        "address-leaked",
        "affinity-of-another",
        "affinity-unconfirmed",
        "affinity-without-block",
        "block-of-deleted-node",
        "block-ownerless",
        "block-without-affinity",
        "handle-counts-too-little",
        "handle-counts-too-much",
        "handle-missing",
    }
)
AT_ONCE = frozenset({"block-of-deleted-node"})


@dataclass(frozen=True, slots=True)
class Suspicion:
    code: str
    fix: Fix


@dataclass(frozen=True, slots=True)
class Decision:
    """What to do and why: also the event that is told when it was done."""

    code: str
    fix: Fix
    reason: str


Memory = Mapping[Suspicion, float]


def collect(facts: Facts, memory: Memory, now: float, grace: float = GRACE) -> tuple[Memory, list[Decision]]:
    """The suspicions to remember until the next pass, and what to do now, addresses first."""
    remembered: dict[Suspicion, float] = {}
    decisions = []
    for code, fix, reason, at_once in _suspicions(facts):
        suspicion = Suspicion(code, fix)
        if suspicion in remembered:
            continue  # one repair for all that is wrong with a handle
        since = remembered[suspicion] = memory.get(suspicion, now)
        if at_once or (grace > 0 and now - since >= grace):
            decisions.append(Decision(code, fix, reason))
    return remembered, sorted(decisions, key=lambda d: not isinstance(d.fix, fixes.FreeAddress))


def candidates(memory: Memory) -> set[Address]:
    """The addresses that wait for their grace period to end."""
    return {suspicion.fix.address for suspicion in memory if isinstance(suspicion.fix, fixes.FreeAddress)}


def _suspicions(facts: Facts) -> Iterator[tuple[str, Fix, str, bool]]:
    orphaned = {
        ledger.cidr.address(ordinal)
        for held in by_handle(facts).values()
        for ledger, ordinal, verdict in held
        if verdict is Standing.NODE_GONE
    }
    for finding in check(facts, now=0.0, grace=float("-inf")):  # the ages are judged here, not by timestamps
        if finding.code in MINE and finding.fix:
            at_once = finding.code in AT_ONCE or finding.address in orphaned
            yield finding.code, finding.fix, finding.sentence, at_once
    for cidr in _resting(facts):
        yield "addresses-rested", fixes.EndRest(cidr), "their cool-down is over and nobody uses the block", True
    for node, cidr, sequence in _spare(facts):
        yield "block-spare", fixes.FreeBlock(node, cidr, sequence), f"node {node} does not use it and has others", False


def _resting(facts: Facts) -> Iterator[Prefix]:
    """Whether the rest is over is asked of the clock by the repair."""
    for cidr, ledger in facts.ledgers.items():
        if cidr not in facts.faulty and any(map(blocks.is_cooling, ledger.attributes)):
            yield cidr


def _spare(facts: Facts) -> Iterator[tuple[str, Prefix, int]]:
    """Empty blocks of living nodes, but never a node's last one that a pool still covers."""
    owned: dict[tuple[str, int], list[Prefix]] = {}
    for cidr, ledger in facts.ledgers.items():
        if ledger.node in facts.nodes and ledger.node and cidr not in facts.faulty:
            owned.setdefault((ledger.node, cidr.family), []).append(cidr)
    for (node, _), cidrs in owned.items():
        used = [cidr for cidr in cidrs if not blocks.is_empty(facts.ledgers[cidr])]
        empty = [cidr for cidr in sorted(cidrs) if cidr not in used]
        usable = [c for c in empty if any(p.cidr.covers(c) and not p.disabled for p in facts.pools)]
        kept = usable[:1] if not used else []
        for cidr in empty:
            if cidr not in kept:
                yield node, cidr, facts.ledgers[cidr].sequence
