"""Will a pool and a block size do for that many nodes and pods? Pure arithmetic, before anything is built.

A block belongs to one node, so what a node does not use of it nobody else gets (unless it borrows): large blocks waste
addresses, small ones make many routes.  A node needs blocks for its pods and one address for its tunnel.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from felixlite.addresses import Prefix
from felixlite.ipam.assign import DEFAULT_MAX_BLOCKS
from felixlite.ipam.blocks import BLOCK_SIZES

USUAL = {4: 26, 6: 122}


@dataclass(frozen=True, slots=True)
class Estimate:
    """What one block size comes to."""

    block_size: int
    addresses_per_block: int
    blocks: int  # in the pool
    blocks_per_node: int
    blocks_needed: int
    wasted: int  # addresses in claimed blocks that no pod has
    most_nodes: int
    problems: tuple[str, ...]

    @property
    def fits(self) -> bool:
        return not self.problems


@dataclass(frozen=True, slots=True)
class Verdict:
    cidr: Prefix
    nodes: int
    pods: int  # on each node
    asked: Estimate
    better: Estimate | None  # the largest block size that fits, when the one asked for does not
    smallest: Prefix | None  # the smallest pool that would do with the block size asked for

    @property
    def sentence(self) -> str:
        asked = self.asked
        if asked.fits:
            spare = asked.blocks - asked.blocks_needed
            return (
                f"{self.cidr} with /{asked.block_size} blocks will do: {asked.blocks_needed} of {asked.blocks} blocks "
                f"for {self.nodes} nodes with {self.pods} pods each, {spare} to spare"
            )
        remedies = [f"use --block-size {self.better.block_size}"] if self.better else []
        remedies += [f"take at least a /{self.smallest.length}"] if self.smallest else []
        return f"{self.cidr} will not do: {'; '.join(asked.problems)}; {', or '.join(remedies) or 'use fewer nodes'}"


def estimate(cidr: Prefix, nodes: int, pods: int, block_size: int, most_blocks: int = DEFAULT_MAX_BLOCKS) -> Estimate:
    each = 1 << (cidr.width - block_size)
    count = 1 << max(0, block_size - cidr.length) if block_size >= cidr.length else 0
    per_node = -(-(pods + 1) // each)
    needed = per_node * nodes
    problems = tuple(_problems(cidr, block_size, count, needed, per_node, most_blocks))
    return Estimate(
        block_size, each, count, per_node, needed, needed * each - nodes * (pods + 1), count // per_node, problems
    )


def _problems(cidr: Prefix, size: int, count: int, needed: int, per_node: int, most_blocks: int) -> Iterator[str]:
    legal = BLOCK_SIZES[cidr.family]
    if size not in legal:
        yield f"blocks must be between /{legal[0]} and /{legal[-1]}"
    elif not count:
        yield f"it is smaller than one /{size} block"
    elif needed > count:
        yield f"{needed} blocks are needed and it has {count}"
    if per_node > most_blocks:
        yield f"a node needs {per_node} blocks and may have {most_blocks} (maxBlocksPerHost)"


def plan(
    cidr: Prefix, nodes: int, pods: int, block_size: int | None = None, most_blocks: int = DEFAULT_MAX_BLOCKS
) -> Verdict:
    asked = estimate(cidr, nodes, pods, block_size or USUAL[cidr.family], most_blocks)
    others = (estimate(cidr, nodes, pods, size, most_blocks) for size in BLOCK_SIZES[cidr.family])
    better = None if asked.fits else next((other for other in others if other.fits), None)
    return Verdict(cidr, nodes, pods, asked, better, _smallest(cidr, asked))


def _smallest(cidr: Prefix, asked: Estimate) -> Prefix | None:
    """With the same first address, as far as its length allows."""
    if asked.fits or asked.block_size not in BLOCK_SIZES[cidr.family]:
        return None
    length = asked.block_size - (asked.blocks_needed - 1).bit_length()
    return Prefix(cidr.packed, length).masked() if length > 0 else None
