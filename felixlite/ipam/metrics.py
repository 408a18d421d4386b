"""What IPAM tells Prometheus: the controllers tell of the whole cluster, an agent of its node and of its assignments.

Names are those of the reference (section 5), so that dashboards made for Calico go on.  An agent reads the blocks of its
node when it is asked, two round trips; what it borrows elsewhere it knows from its Snapshot.
"""

import threading
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence

from felixlite.addresses import Address, Prefix
from felixlite.health import Sample
from felixlite.ipam import blocks
from felixlite.ipam.blocks import Ledger
from felixlite.ipam.facts import Facts
from felixlite.ipam.usage import block_usages, reserved_size, rows
from felixlite.model.inside import Pool
from felixlite.snapshot import Snapshot, pool_covering

NO_POOL = "no_ippool"

MEANINGS = {
    "ipam_allocations_in_use": "Addresses in use, by pool and by the node that uses them.",
    "ipam_allocations_borrowed": "Addresses that a node uses in another node's block.",
    "ipam_blocks": "Blocks, by pool and owner.",
    "ipam_ippool_size": "Addresses in a pool.",
    "ipam_ippool_reserved": "Addresses of a pool that are reserved.",
    "ipam_allocations_gc_candidates": "Addresses that look leaked and wait for their grace period to end.",
    "ipam_allocations_gc_reclamations": "Leaked addresses that were released.",
    "ipam_assignment_seconds": "How long assignments of addresses took.",
    "ipam_compare_and_swap_retries": "Compare-and-swaps that assignments lost.",
}


def _sample(name: str, value: float, kind: str = "gauge", **labels: str) -> Sample:
    return Sample(name, value, MEANINGS[name], tuple(labels.items()), kind)


def samples(facts: Facts, waiting: Collection[Address] = (), reclaimed: int = 0) -> list[Sample]:
    """The gauges of reference 5, by pool and by the node that uses the address (for blocks: owns it)."""
    found = block_usages(facts)
    pool_of = {block.cidr: block.pool or NO_POOL for block in found}
    counts: Counter[tuple[str, str, str]] = Counter()
    for block in found:
        counts["ipam_blocks", pool_of[block.cidr], block.owner or "no_affinity"] += 1
    for row in rows(facts):
        where = pool_of[row.block], row.node or "unknown_node"
        counts["ipam_allocations_in_use", *where] += 1
        counts["ipam_allocations_borrowed", *where] += row.node not in ("", row.owner)
        counts["ipam_allocations_gc_candidates", *where] += row.address in waiting
    return [
        *(_sample(name, value, ippool=pool, node=node) for (name, pool, node), value in sorted(counts.items())),
        *_pool_samples(facts.pools, facts.reservations),
        _sample("ipam_allocations_gc_reclamations", reclaimed, "counter"),
    ]


def _pool_samples(pools: Iterable[Pool], reservations: Sequence[Prefix]) -> Iterator[Sample]:
    for pool in pools:
        yield _sample("ipam_ippool_size", pool.cidr.size, ippool=pool.name)
        yield _sample("ipam_ippool_reserved", reserved_size(pool.cidr, reservations), ippool=pool.name)


def of_node(known: Snapshot, own: Iterable[Ledger]) -> Iterator[Sample]:
    """The same gauges for one node: its own blocks, and what it uses in others'."""
    pools, here = known.pools.values(), known.here

    def pool_name(where: Prefix) -> str:
        pool = pool_covering(pools, where)
        return pool.name if pool else NO_POOL

    owned: Counter[str] = Counter()
    used: Counter[str] = Counter()
    lent: Counter[str] = Counter()
    for ledger in own:
        owned[pool_name(ledger.cidr)] += 1
        users = (blocks.secondary(attribute).get("node", here) for _, attribute in blocks.in_use(ledger))
        used[pool_name(ledger.cidr)] += sum(1 for user in users if user == here)
    for block in known.blocks.values():
        lent[pool_name(block.cidr)] += sum(user == here for user in block.borrowed.values())
    for name, counts in (
        ("ipam_blocks", owned),
        ("ipam_allocations_in_use", used + lent),
        ("ipam_allocations_borrowed", lent),
    ):
        for pool in sorted({*counts, *known.pools}):
            yield _sample(name, counts[pool], ippool=pool, node=here)
    yield from _pool_samples(pools, [cidr for cidrs in known.reservations.values() for cidr in cidrs])


BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)


class Timings:
    """How long assignments took and how many compare-and-swaps they lost; given to Ipam as `observe`."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._buckets = [0] * len(BUCKETS)
        self._count, self._sum, self._retries = 0, 0.0, 0

    def __call__(self, seconds: float, retries: int) -> None:
        with self._lock:
            for index, limit in enumerate(BUCKETS):
                self._buckets[index] += seconds <= limit
            self._count += 1
            self._sum += seconds
            self._retries += retries

    def samples(self) -> list[Sample]:
        """A histogram in the usual form: each bucket counts what is not slower than it."""
        with self._lock:
            buckets = [(str(limit), count) for limit, count in zip(BUCKETS, self._buckets, strict=True)]
            return [
                *(_of_histogram("bucket", count, le=limit) for limit, count in (*buckets, ("+Inf", self._count))),
                _of_histogram("sum", self._sum),
                _of_histogram("count", self._count),
                _sample("ipam_compare_and_swap_retries", self._retries, "counter"),
            ]


def _of_histogram(part: str, value: float, **labels: str) -> Sample:
    name = "ipam_assignment_seconds"
    return Sample(f"{name}_{part}", value, MEANINGS[name], tuple(labels.items()), "histogram")
