"""What a change of the store means for the overlays of every node, told from the store alone. Pure.

The pure planners decide each node's ways, tunnels and MTUs before and after; what differs is told, as it is when every
node has moved (ipip/switch.py has the way there).  What only a node's own kernel or its BGP peers know is never guessed:
an uplink's MTU stays a word, and so does a native way that BGP has to tell.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from felixlite.addresses import Address, Prefix, longest_match
from felixlite.config import Settings, effective
from felixlite.ipam.tunneladdresses import TUNNELS, wanted
from felixlite.ipip.devices import FAMILY, LINK, OVERHEAD, VXLANS, Tunnel, tunnel_address
from felixlite.ipip.plan import Encapsulation, encapsulation, share_subnet, vtep
from felixlite.ipip.switch import accepts, called_for
from felixlite.model.inside import Node, Pool
from felixlite.snapshot import Snapshot

KINDS = ("FelixConfiguration", "IPPool", "Node")  # a change of these is told
READ = (*KINDS, "IPAMBlock")
MTU_SETTING = {Tunnel.IPIP: "ipipMTU", Tunnel.VXLAN: "vxlanMTU", Tunnel.VXLAN_V6: "vxlanMTUV6"}
BY_BGP = "native, as BGP tells"

Places = Mapping[str, tuple[Prefix, ...]]  # node -> blocks that are there, and addresses that it borrowed


@dataclass(frozen=True, slots=True)
class Row:
    """One thing of a node that will be different. "": it is not there."""

    node: str
    what: str  # way, accepts, or the name of a device or a size
    before: str
    after: str
    places: Places = field(default_factory=dict)  # of a way: where it leads


def foretold(before: Snapshot, after: Snapshot) -> list[Row]:
    """Node by node: the ways that change, then what the node itself gets, loses, and is known not to accept yet."""
    groups = _groups(before, after)
    lacking: dict[str, dict[Encapsulation, str]] = {}
    rows: dict[str, list[Row]] = {}
    for name in sorted({*before.nodes, *after.nodes}):
        rows[name] = [*_ways(name, before, after, groups, lacking), *_own(name, before, after)]
    for name, kinds in lacking.items():
        rows[name] += [Row(name, f"accepts {kind}", said, "needed") for kind, said in sorted(kinds.items())]
    return [row for own in rows.values() for row in own]


# -- ways ------------------------------------------------------------------------------------------------------------


class Way(NamedTuple):
    kind: str
    gateway: Address | None = None


class Group(NamedTuple):
    """Destinations that share what their way is decided from."""

    there: str
    before: Pool | None
    after: Pool | None
    prefixes: tuple[Prefix, ...]


def _groups(before: Snapshot, after: Snapshot) -> list[Group]:
    was, will = (longest_match((p.cidr, p) for p in s.pools.values()) for s in (before, after))
    found: dict[tuple[str, str, str], list[Prefix]] = {}
    for prefix, name in _destinations(after):
        covering = [pool.name if (pool := pool_of(prefix)) else "" for pool_of in (was, will)]
        found.setdefault((name, covering[0], covering[1]), []).append(prefix)
    return [
        Group(name, before.pools.get(old), after.pools.get(new), tuple(sorted(prefixes)))
        for (name, old, new), prefixes in sorted(found.items())
    ]


def _destinations(s: Snapshot) -> Iterator[tuple[Prefix, str]]:
    for cidr, block in s.blocks.items():
        if block.node:
            yield cidr, block.node
        yield from ((Prefix.host(address), user) for address, user in block.borrowed.items() if user != block.node)


def _ways(
    name: str,
    before: Snapshot,
    after: Snapshot,
    groups: Iterable[Group],
    lacking: dict[str, dict[Encapsulation, str]],
) -> Iterator[Row]:
    """`lacking` is told which nodes are not known to accept what will be sent to them."""
    found: dict[tuple[str, str], dict[str, tuple[Prefix, ...]]] = {}
    for group in groups:
        was = _way(before, name, group.there, group.before)
        will = _way(after, name, group.there, group.after)
        if name == group.there or was == will:
            continue
        places = found.setdefault(_in_words(was, will), {})
        places[group.there] = (*places.get(group.there, ()), *group.prefixes)
        if will and group.after and (was is None or was.kind != will.kind):
            _notice(after, name, group.there, group.after, lacking)
    for (old, new), places in sorted(found.items()):
        yield Row(name, "way", old, new, places)


def _way(s: Snapshot, name: str, to: str, pool: Pool | None) -> Way | None:
    """None: no block route leads there."""
    here, there = s.nodes.get(name), s.nodes.get(to)
    if here is None or there is None or pool is None or there.address(pool.cidr.family) is None:
        return None
    family = pool.cidr.family
    match encapsulation(pool, here, there):
        case Encapsulation.VXLAN:
            return Way(Encapsulation.VXLAN, vtep(there, family))
        case Encapsulation.NONE if not share_subnet(here, there, family):
            return Way(BY_BGP)
        case kind:
            return Way(kind, there.address(family))


def _in_words(was: Way | None, will: Way | None) -> tuple[str, str]:
    """Gateways only where nothing else differs."""
    same_kind = was is not None and will is not None and was.kind == will.kind
    old, new = (_said(way, with_gateway=same_kind) for way in (was, will))
    return old, new


def _said(way: Way | None, *, with_gateway: bool) -> str:
    if way is None:
        return ""
    return f"{way.kind} via {way.gateway or 'nothing yet'}" if with_gateway else str(way.kind)


def _notice(s: Snapshot, name: str, to: str, pool: Pool, lacking: dict[str, dict[Encapsulation, str]]) -> None:
    there = s.nodes[to]
    kind = encapsulation(pool, s.nodes[name], there)
    if kind is Encapsulation.NONE:
        return
    if there.accepts is None:
        lacking.setdefault(to, {})[kind] = "does not say"
    elif not accepts(there, kind, pool):
        lacking.setdefault(to, {})[kind] = "not yet"


# -- devices ---------------------------------------------------------------------------------------------------------


def _own(name: str, before: Snapshot, after: Snapshot) -> Iterator[Row]:
    was, will = _facts(name, before), _facts(name, after)
    for what in {**was, **will}:
        if was.get(what) != will.get(what):
            yield Row(name, what, was.get(what, ""), will.get(what, ""))


def _facts(name: str, s: Snapshot) -> dict[str, str]:
    """What the node has of its own, in words."""
    here = s.nodes.get(name)
    if here is None:
        return {}
    settings = effective({}, {}, s.felix_configurations, name)
    opened = [tunnel for tunnel in Tunnel if tunnel in {called_for(pool) for pool in s.pools.values()}]
    facts = {LINK[t]: _device(t, settings) for t in opened if t is Tunnel.IPIP or here.address(FAMILY[t])}
    for tunnel in Tunnel:
        if address := _address(tunnel, here, s.pools.values()):
            facts[f"address of {LINK[tunnel]}"] = address
    facts["MTU of pods"] = _mtu(opened, settings)
    return facts


def _device(tunnel: Tunnel, settings: Settings) -> str:
    how = f", VNI {settings['vxlanVNI']}, port {settings['vxlanPort']}" if tunnel in VXLANS else ""
    return f"MTU {_mtu([tunnel], settings)}{how}"


def _mtu(tunnels: Iterable[Tunnel], settings: Settings) -> str:
    """The smallest, as far as the store knows it."""
    sizes = {tunnel: int(settings[MTU_SETTING[tunnel]]) for tunnel in tunnels}
    fixed = [str(min(configured))] if (configured := [size for size in sizes.values() if size]) else []
    found_out = [OVERHEAD[tunnel] for tunnel, size in sizes.items() if not size]
    if found_out or not fixed:
        fixed.append(f"uplink - {max(found_out)}" if found_out else "uplink")
    return fixed[0] if len(fixed) == 1 else f"min({', '.join(fixed)})"


def _address(tunnel: Tunnel, here: Node, pools: Iterable[Pool]) -> str:
    """The one it has, if a pool calls for it; else which pools IPAM takes one from."""
    asked = dict(zip(Tunnel, TUNNELS, strict=True))[tunnel]
    sources = wanted(asked, pools, here.labels)
    now = tunnel_address(here, tunnel)
    if now and any(pool.cidr.holds(now) for pool in sources):
        return str(now)
    return f"one of {' or '.join(pool.name for pool in sources)}" if sources else ""
