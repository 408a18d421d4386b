"""The decision about one destination in words, for `felixlite show why 192.168.92.128/26`. Pure.

Tells what the routes were made from: whose the destination is, which pool covers it, what that pool says between these
two nodes, what is in use, and the route.  `gaps` lists destinations that have no route, and why not.
"""

from collections.abc import Iterator, Mapping

from felixlite.addresses import Prefix
from felixlite.ipip.plan import (
    BGP_METRIC,
    Encapsulation,
    Ground,
    block_routes,
    encapsulation,
    inside_routes,
    outside_routes,
    sent_as,
    share_subnet,
    vtep,
)
from felixlite.model.inside import Block, Mode, Node, Pool
from felixlite.rows import Route, RouteKey
from felixlite.snapshot import Learned, pool_covering


def why(prefix: Prefix, blocks: Mapping[Prefix, Block], learned: Mapping[Prefix, Learned], ground: Ground) -> list[str]:
    """Sentences, the last of which is the route, or why there is none."""
    block = _longest(prefix, blocks)
    pool = pool_covering(ground.pools, prefix)
    if block and pool:
        return [
            *_about_block(prefix, blocks[block], ground),
            *_about_pool(pool),
            *_outcome(prefix, blocks[block], pool, learned, ground),
        ]
    said = _longest(prefix, learned)
    if said is None:
        covers = [*_about_pool(pool)] if pool else [f"No pool covers {prefix}."]
        return [f"{prefix} is in no block, and no BGP peer announces it.", *covers, "No route of ours leads there."]
    return [
        *_about_learned(said, learned[said]),
        *(_about_pool(pool) if pool else [f"No pool covers {prefix}."]),
        *_learned_outcome(said, learned[said], ground),
    ]


def _longest(prefix: Prefix, among: Mapping[Prefix, object]) -> Prefix | None:
    """The most specific key that covers the prefix."""
    lengths = range(prefix.length, -1, -1)
    shorter = (Prefix(prefix.packed, length).masked() for length in lengths)
    return next((candidate for candidate in shorter if candidate in among), None)


def _user(prefix: Prefix, block: Block) -> str | None:
    """Which node the destination is on."""
    return (block.borrowed.get(prefix.first) if prefix.is_host else None) or block.node


def _about_block(prefix: Prefix, block: Block, ground: Ground) -> Iterator[str]:
    user = _user(prefix, block)
    if user and user != block.node:
        yield f"{prefix} is in block {block.cidr} of {block.node or 'no node'} and was borrowed by {user}."
    else:
        inside = "is" if prefix == block.cidr else f"is in {block.cidr},"
        yield f"{prefix} {inside} a block of {block.node or 'no node'}."
    if user and user != ground.here.name and user not in ground.nodes:
        yield f"There is no Node {user}."


def _about_pool(pool: Pool) -> Iterator[str]:
    modes = [
        f"{name} {mode}"
        for name, mode in (("ipipMode", pool.ipip), ("vxlanMode", pool.vxlan))
        if mode is not Mode.NEVER
    ]
    yield f"Pool {pool.name} ({pool.cidr}) covers it: {' and '.join(modes) or 'no encapsulation'}."


def _outcome(
    prefix: Prefix, block: Block, pool: Pool, learned: Mapping[Prefix, Learned], ground: Ground
) -> Iterator[str]:
    user = _user(prefix, block)
    if user == ground.here.name:
        yield "That is this node: its pods have routes of their own, and the rest of the block is a blackhole."
        return
    there = ground.nodes.get(user or "")
    if there is None:
        yield "No route of ours leads there."
        return
    yield from _about_pair(pool, there, ground)
    rows = block_routes({block.cidr: block}, ground)
    target = prefix if RouteKey(prefix) in rows else block.cidr
    if RouteKey(target) in rows:
        yield f"{RouteKey(target)} {rows[RouteKey(target)]}"
    elif target in learned:
        yield from _about_learned(target, learned[target])
        yield from _learned_outcome(target, learned[target], ground)
    else:
        yield f"No route: {_lack(there, pool, ground)}."


def _about_pair(pool: Pool, there: Node, ground: Ground) -> Iterator[str]:
    family = pool.cidr.family
    if Mode.CROSS_SUBNET in (pool.ipip, pool.vxlan):
        own = ground.here.interface(family)
        shared = "on" if share_subnet(ground.here, there, family) else "not on"
        yield f"{there.name} ({there.address(family)}) is {shared} our subnet {own.network if own else '(none)'}."
    wanted, used = encapsulation(pool, ground.here, there), sent_as(pool, there, ground)
    yield f"So traffic goes {_words(wanted)}."
    if used is not wanted:
        yield f"For the moment it still goes {_words(used)}: {there.name} does not say yet that it accepts {wanted}."


def _words(kind: Encapsulation) -> str:
    return {"native": "without encapsulation", "ipip": "through IPIP", "vxlan": "through VXLAN"}[kind]


def _about_learned(prefix: Prefix, learned: Learned) -> Iterator[str]:
    told = ", ".join(f"{peer} says via {hop}" for peer, hop in zip(learned.peers, learned.hops, strict=False))
    yield f"{prefix} is learned by BGP: {told}."
    if learned.others:
        yield f"Other paths: {', '.join(f'{peer} says via {hop}' for hop, peer in learned.others)}."


def _learned_outcome(prefix: Prefix, learned: Learned, ground: Ground) -> Iterator[str]:
    rows = learned_rows(prefix, learned, ground)
    for key, route in rows.items():
        yield f"{key} {route}"
    if not rows:
        yield f"No route: {_far(learned)}."


def learned_rows(prefix: Prefix, learned: Learned, ground: Ground) -> dict[RouteKey, Route]:
    if pool := pool_covering(ground.pools, prefix):
        return inside_routes({prefix: (pool, learned)}, ground)
    return outside_routes({prefix: learned}, ground.pools, ground.reach, BGP_METRIC)


def _far(learned: Learned) -> str:
    gateways = ", ".join(map(str, [*learned.hops, *(hop for hop, _ in learned.others)]))
    return f"gateway {gateways} is not on a subnet of ours; a router of this subnet has to announce it"


def _lack(there: Node, pool: Pool, ground: Ground) -> str:
    """Why a block of another node has no route of its own making."""
    family = pool.cidr.family
    if there.address(family) is None:
        return f"Node {there.name} has no IPv{family} address"
    if sent_as(pool, there, ground) is Encapsulation.VXLAN and vtep(there, family) is None:
        return f"Node {there.name} has no VXLAN tunnel address yet"
    return f"{there.name} is not on our subnet, the pool says no encapsulation, and no BGP peer announces it"


def gaps(blocks: Mapping[Prefix, Block], learned: Mapping[Prefix, Learned], ground: Ground) -> Iterator[str]:
    """Every block of another node that nothing leads to, and why. For status: better said than a black hole."""
    for cidr, block in blocks.items():
        pool = pool_covering(ground.pools, cidr)
        if (
            block.node in (None, ground.here.name)
            or pool is None
            or RouteKey(cidr) in block_routes({cidr: block}, ground)
        ):
            continue
        there = ground.nodes.get(block.node or "")
        if there is None:
            yield f"no route to {cidr}: there is no Node {block.node}"
        elif cidr not in learned:
            yield f"no route to {cidr} of {there.name}: {_lack(there, pool, ground)}"
        elif not learned_rows(cidr, learned[cidr], ground):
            yield f"no route to {cidr} of {there.name}: {_far(learned[cidr])}"
