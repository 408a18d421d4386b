"""The change from one encapsulation to another without a lost packet: who may send what, and what stays open. Pure.

    1. A node opens a tunnel as soon as any pool calls for it, and publishes it as accepted once the link is up (the
       chains that admit it are written before links are).
    2. A sender uses what the pool says towards a node that accepts it; towards one that does not yet, it goes on with
       what that node does accept, for at most `patience` seconds, and says whom it waits for.
    3. A node publishes which tunnels it sends through; a tunnel that no pool calls for any more stays open until no
       node does, and a little longer for what is still on the way.  It is no longer published as accepted then, so
       that nobody starts again meanwhile.

Nodes that publish nothing (another agent) are believed to accept everything and to have moved after UNTOLD seconds.
Progress is the memory between rounds; `advance` makes the next one.  A restarted agent starts from the tunnels that it
finds open and from what the others publish.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from felixlite.ipip.devices import LINK, Tunnel, tunnel_address
from felixlite.ipip.plan import Carrier, Encapsulation, Pairs, encapsulation, vtep
from felixlite.model.inside import Mode, Node, Pool
from felixlite.snapshot import LinkState

NATIVE = str(Encapsulation.NONE)
LINGER = 5.0  # after the last sender has moved: packets on the way, and news of us that is on the way
UNTOLD = 60.0  # for nodes that do not say what they send
LONGEST = 600.0  # for nodes that have died saying that they send

Pair = tuple[str, str]  # (pool, node)


@dataclass(frozen=True, slots=True)
class Progress:
    sending: Pairs = field(default_factory=dict)
    waiting: Mapping[Pair, float] = field(default_factory=dict)  # since when; towards nodes that do not accept yet
    open: frozenset[Tunnel] = frozenset()
    unneeded: Mapping[Tunnel, float] = field(default_factory=dict)  # open, though no pool calls for it: since when
    quiet: Mapping[Tunnel, float] = field(default_factory=dict)  # ... and nobody sends through it: since when
    adopted: bool = False  # the tunnels that were there when the agent started have been looked for
    ask_again_at: float | None = None
    inputs: tuple[Any, ...] = field(default=(), repr=False, compare=False)


def called_for(pool: Pool) -> Tunnel | None:
    """The tunnel that the pool's traffic may need."""
    if pool.cidr.family == 4 and pool.ipip is not Mode.NEVER:
        return Tunnel.IPIP
    if pool.vxlan is not Mode.NEVER:
        return _tunnel(Encapsulation.VXLAN, pool)
    return None


def _tunnel(kind: Encapsulation, pool: Pool) -> Tunnel | None:
    match kind:
        case Encapsulation.IPIP:
            return Tunnel.IPIP
        case Encapsulation.VXLAN:
            return Tunnel.VXLAN if pool.cidr.family == 4 else Tunnel.VXLAN_V6
        case Encapsulation.NONE:
            return None


def advance(
    before: Progress,
    now: float,
    here: Node,
    nodes: Mapping[str, Node],
    pools: Mapping[str, Pool],
    links: Mapping[str, LinkState],
    patience: float,
) -> Progress:
    """The same object as before unless something is different, so that routes are decided again only then."""
    inputs = (here, nodes, pools, links, patience)
    same = len(before.inputs) == len(inputs) and all(a is b for a, b in zip(before.inputs, inputs, strict=True))
    if same and (before.ask_again_at is None or now < before.ask_again_at):
        return before
    others = {name: node for name, node in nodes.items() if name != here.name}
    adopted = _adopted(before, links)
    sending, waiting = _sending(adopted, now, here, others, pools, patience)
    after = _held_open(adopted, now, sending, here.sends or frozenset(), others, pools)
    after = after if after.open != before.open else replace(after, open=before.open)
    after = replace(after, sending=_kept(before.sending, sending), waiting=_kept(before.waiting, waiting))
    return replace(after, ask_again_at=_next_step(after, now, others, patience), inputs=inputs)


def _kept(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return old if old == new else new


def _adopted(before: Progress, links: Mapping[str, LinkState]) -> Progress:
    """After a restart, what is open stays open until the rules say otherwise."""
    if before.adopted or not links:
        return before
    found = frozenset(tunnel for tunnel in Tunnel if (link := links.get(LINK[tunnel])) and link.up)
    return replace(before, open=before.open | found, adopted=True)


# -- sending ---------------------------------------------------------------------------------------------------------


def _sending(
    before: Progress, now: float, here: Node, others: Mapping[str, Node], pools: Mapping[str, Pool], patience: float
) -> tuple[dict[Pair, Encapsulation], dict[Pair, float]]:
    sending: dict[Pair, Encapsulation] = {}
    waiting: dict[Pair, float] = {}
    for pool in pools.values():
        for there in others.values():
            pair = (pool.name, there.name)
            wanted = encapsulation(pool, here, there)
            if not accepts(there, wanted, pool):
                since = waiting[pair] = before.waiting.get(pair, now)
                if now < since + patience or not possible(there, wanted, pool):
                    wanted = _meanwhile(before.sending.get(pair), there, pool, before.open)
            sending[pair] = wanted
    return sending, waiting


def possible(there: Node, kind: Encapsulation, pool: Pool) -> bool:
    """VXLAN needs the far tunnel address as next hop."""
    return kind is not Encapsulation.VXLAN or vtep(there, pool.cidr.family) is not None


def accepts(there: Node, kind: Encapsulation, pool: Pool) -> bool:
    tunnel = _tunnel(kind, pool)
    if tunnel is None:
        return True
    return possible(there, kind, pool) and (there.accepts is None or tunnel in there.accepts)


def _meanwhile(used: Encapsulation | None, there: Node, pool: Pool, open_here: frozenset[Tunnel]) -> Encapsulation:
    """What to go on with: what was used, or (after a restart) a tunnel that both ends have open, or none."""
    if used is not None and accepts(there, used, pool):
        return used
    for kind in (Encapsulation.IPIP, Encapsulation.VXLAN):
        tunnel = _tunnel(kind, pool)
        fits = pool.cidr.family == 4 or kind is Encapsulation.VXLAN
        if fits and tunnel in open_here and there.accepts is not None and accepts(there, kind, pool):
            return kind
    return Encapsulation.NONE


# -- receiving -------------------------------------------------------------------------------------------------------


def _held_open(
    before: Progress,
    now: float,
    sending: Pairs,
    said: frozenset[str],
    others: Mapping[str, Node],
    pools: Mapping[str, Pool],
) -> Progress:
    """`said` is what this node has published: it goes on saying so while a route of its own is not replaced yet."""
    needed = {tunnel for pool in pools.values() if (tunnel := called_for(pool))}
    used = {tunnel for (pool, _), kind in sending.items() if (tunnel := _tunnel(kind, pools[pool]))}
    unneeded = {tunnel: before.unneeded.get(tunnel, now) for tunnel in before.open - needed}
    quiet = {
        tunnel: before.quiet.get(tunnel, now)
        for tunnel, since in unneeded.items()
        if tunnel not in used and tunnel not in said and not _somebody_sends(tunnel, others, now - since)
    }
    closing = {tunnel for tunnel, since in quiet.items() if now >= since + LINGER}
    return replace(
        before,
        open=frozenset(needed | used | (before.open - closing)),
        unneeded={tunnel: since for tunnel, since in unneeded.items() if tunnel not in closing},
        quiet={tunnel: since for tunnel, since in quiet.items() if tunnel not in closing},
    )


def _somebody_sends(tunnel: Tunnel, others: Mapping[str, Node], unneeded_for: float) -> bool:
    if unneeded_for >= LONGEST:
        return False
    return any(tunnel in node.sends if node.sends is not None else unneeded_for < UNTOLD for node in others.values())


def _next_step(after: Progress, now: float, others: Mapping[str, Node], patience: float) -> float | None:
    """When time alone changes something."""
    times = [since + patience for since in set(after.waiting.values())]
    times += [since + LINGER for since in after.quiet.values()]
    for tunnel, since in after.unneeded.items():
        if tunnel not in after.quiet:
            times += [since + LONGEST]
            times += [since + UNTOLD] if any(node.sends is None for node in others.values()) else []
    return min((time for time in times if time > now), default=None)


# -- what is told ----------------------------------------------------------------------------------------------------


def published_accepts(
    progress: Progress, here: Node, links: Mapping[str, LinkState], carrier: Carrier = Carrier.KERNEL
) -> frozenset[str]:
    """What this node can receive at this moment, for its Node's `felixlite.io/accepts`."""
    ready = {str(tunnel) for tunnel in progress.open - progress.quiet.keys() if _ready(tunnel, here, links, carrier)}
    return frozenset({NATIVE, *ready})


def _ready(tunnel: Tunnel, here: Node, links: Mapping[str, LinkState], carrier: Carrier) -> bool:
    link = links.get(LINK[tunnel])
    if link is None or tunnel_address(here, tunnel) is None:  # the policy admits a tunnel that has an address
        return False
    # a TUN device has a carrier only while somebody holds it, which the programs do not need
    return link.up or (tunnel is Tunnel.IPIP and carrier is Carrier.EBPF)


def published_sends(progress: Progress, pools: Mapping[str, Pool]) -> frozenset[str]:
    """The tunnels that this node sends through, for its Node's `felixlite.io/sends`."""
    used = (_tunnel(kind, pools[pool]) for (pool, _), kind in progress.sending.items() if pool in pools)
    return frozenset(str(tunnel) for tunnel in used if tunnel)


def notes(
    progress: Progress, now: float, here: Node, nodes: Mapping[str, Node], pools: Mapping[str, Pool], patience: float
) -> Iterator[str]:
    """Whom we wait for, and what stays open for whom."""
    for (pool, name), since in progress.waiting.items():
        kind, wanted = progress.sending[pool, name], encapsulation(pools[pool], here, nodes[name])
        if kind is not wanted:
            lack = "accept" if possible(nodes[name], wanted, pools[pool]) else "have an address for"
            yield f"pool {pool}: {kind} to {name} until it says that it can {lack} {wanted} ({now - since:.0f} of {patience:.0f} s)"
        else:
            yield f"pool {pool}: {wanted} to {name}, which never said that it accepts it; {patience:.0f} s were up"
    for tunnel, since in progress.unneeded.items():
        users = sorted(n.name for n in nodes.values() if n.name != here.name and n.sends and tunnel in n.sends)
        for_whom = f"for {', '.join(users[:5])}" if users else "for what is on the way"
        yield f"{LINK[tunnel]} stays open {for_whom}; no pool needs it since {now - since:.0f} s"


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one node is with a pool's encapsulation (`felixlite pool watch`)."""

    node: str
    accepts: bool | None  # None: it does not say
    sends: frozenset[str] | None  # None: it does not say
    old: tuple[str, ...]  # of those, tunnels that no pool calls for
    done: bool


def standing(pool: Pool, nodes: Mapping[str, Node], other_pools: Mapping[str, Pool]) -> list[Standing]:
    """Of every node, by its own account: done when it accepts what the pool calls for, and sends nothing else.

    Where the pool says Always, a node that has somebody to send to also has to say that it sends so.
    """
    wanted = called_for(pool)
    called = {wanted, *(called_for(other) for other in other_pools.values() if other.name != pool.name)}
    always = wanted is not None and len(nodes) > 1 and Mode.ALWAYS in (pool.ipip, pool.vxlan)
    rows = []
    for node in sorted(nodes.values(), key=lambda n: n.name):
        able = None if node.accepts is None else wanted is None or wanted in node.accepts
        old = tuple(sorted(node.sends - called)) if node.sends else ()
        moved = node.sends is None or not always or wanted in node.sends
        rows.append(Standing(node.name, able, node.sends, old, able is not False and moved and not old))
    return rows
