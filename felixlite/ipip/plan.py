"""Which way traffic to another node travels: the decision, and the routes that follow from it. Pure.

`encapsulation` is the whole truth about Always, CrossSubnet and Never.  `Ground` is what a route is decided from; the
core makes a new one only when an input of it is a different object.  Each destination is decided by itself, and each
function takes as many as there are to decide:

    block_routes(blocks, ground)         blocks of other nodes, and the addresses lent out of any block
    covered(learned, pools)              learned prefixes that a pool covers -> pool and what was learned
    inside_routes(found, ground)         ... their routes, as the pool says
    outside_routes(learned, pools, reach, metric)   learned prefixes of no pool: as the router said

Blocks win over what BGP says about the same prefix (`less`), because the owner of a block is a fact of the store.
Routes of local workloads and blackholes of own blocks are not here.  Devices are in devices.py, the order in which a
change of encapsulation happens is in switch.py (it decides `Ground.sending`), words for a person in why.py.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from felixlite.addresses import Address, Prefix, longest_match
from felixlite.model.inside import Block, Mode, Node, Pool
from felixlite.rows import MAIN_TABLE, NextHop, Route, RouteKey, via
from felixlite.snapshot import Learned, LinkState

Routes = dict[RouteKey, Route]

TUNNEL_LINK = "tunl0"
VXLAN_LINKS = {4: "vxlan.calico", 6: "vxlan-v6.calico"}
BGP_METRIC = 1024  # learned routes give way to the operator's own (reference 12.8)


class Encapsulation(StrEnum):
    NONE = "native"
    IPIP = "ipip"
    VXLAN = "vxlan"


class Carrier(StrEnum):
    """What carries IPIP on this machine; named in status."""

    KERNEL = "kernel"
    EBPF = "ebpf"
    USER_SPACE = "user space"


Pairs = Mapping[tuple[str, str], Encapsulation]  # (pool, node) -> what is sent to it now


def encapsulation(pool: Pool, here: Node, there: Node) -> Encapsulation:
    """How traffic to the pool's addresses on node `there` leaves `here`."""
    ipip = pool.ipip if pool.cidr.family == 4 else Mode.NEVER
    for mode, kind in ((ipip, Encapsulation.IPIP), (pool.vxlan, Encapsulation.VXLAN)):
        if mode is Mode.ALWAYS or (mode is Mode.CROSS_SUBNET and not share_subnet(here, there, pool.cidr.family)):
            return kind
    return Encapsulation.NONE


def share_subnet(here: Node, there: Node, family: int) -> bool:
    """Our own prefix length decides, as a router's would."""
    own, other = here.interface(family), there.address(family)
    return own is not None and other is not None and other in own.network


MOST_REMEMBERED = 10_000  # results of BGP; a router that sends a full table has fewer next hops than that


class Reach:
    """The subnets that our links are on. Asking remembers, as there are few gateways and many routes through them."""

    def __init__(self, subnets: Iterable[Prefix]) -> None:
        self.subnets = tuple(sorted(set(subnets)))
        self._known: dict[Address, bool] = {}
        self._routes: dict[int, tuple[Learned, Route | None]] = {}  # by identity: hashing a Learned costs more

    def route(self, learned: Learned) -> Route | None:
        """As the router said, by those of its next hops that are neighbours of ours. One Route serves many prefixes.

        The node that a block is on says it best, but natively only what a router of our own subnet says leads there
        (RFC 4271 9.1.2 leaves out paths whose next hop cannot be resolved; whether it can depends on the pool).
        """
        known = self._routes.get(id(learned))
        if known is None or known[0] is not learned:
            if len(self._routes) > MOST_REMEMBERED:
                self._routes.clear()
            hops = tuple(NextHop(hop, None) for hop in learned.hops if hop in self)
            hops = hops or tuple(NextHop(hop, None) for hop, _ in learned.others if hop in self)[:1]
            known = self._routes[id(learned)] = (learned, Route(hops=hops) if hops else None)
        return known[1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Reach) and self.subnets == other.subnets

    def __hash__(self) -> int:
        return hash(self.subnets)

    def __contains__(self, gateway: Address) -> bool:
        if gateway not in self._known:
            self._known[gateway] = gateway.is_link_local or any(s.holds(gateway) for s in self.subnets)
        return self._known[gateway]


def reach(links: Mapping[str, LinkState], link_addresses: Mapping[tuple[str, str], Prefix]) -> Reach:
    up = {name for name, link in links.items() if link.up}
    return Reach(subnet for (link, _), subnet in link_addresses.items() if link in up and not subnet.is_host)


def uplinks(here: Node, link_addresses: Mapping[tuple[str, str], Prefix]) -> Mapping[int, str]:
    """Per family the link that has the node's own address."""
    own = {str(address): family for family in (4, 6) if (address := here.address(family))}
    found: dict[int, str] = {}
    for link, text in link_addresses:
        if family := own.get(text.partition("/")[0]):
            found.setdefault(family, link)
    return found


@dataclass(frozen=True, slots=True)
class Ground:
    """All that a route to another node is decided from. Two are the same only if they are the same object."""

    here: Node
    nodes: Mapping[str, Node]
    pools: tuple[Pool, ...]
    uplinks: Mapping[int, str]
    reach: Reach
    sending: Pairs = field(default_factory=dict)
    owners: Mapping[Address, str] = field(default_factory=dict)  # a node's address -> its name


def owners(nodes: Mapping[str, Node]) -> Mapping[Address, str]:
    return {address: node.name for node in nodes.values() for f in (4, 6) if (address := node.address(f))}


def ground(
    here: Node,
    nodes: Mapping[str, Node],
    pools: Mapping[str, Pool],
    links: Mapping[str, LinkState],
    link_addresses: Mapping[tuple[str, str], Prefix],
    sending: Pairs | None = None,
) -> Ground:
    return Ground(
        here,
        nodes,
        tuple(pools.values()),
        uplinks(here, link_addresses),
        reach(links, link_addresses),
        sending if sending is not None else {},
        owners(nodes),
    )


# -- blocks ----------------------------------------------------------------------------------------------------------


def block_routes(blocks: Mapping[Prefix, Block], ground: Ground) -> Routes:
    """A block of another node goes there, and a borrowed address to its borrower, also where the block is our own.

    Nothing where only BGP can know the way (native, and not on our subnet): inside_routes has it.
    """
    rows = {}
    pool_of = longest_match((pool.cidr, pool) for pool in ground.pools)
    for cidr, block in blocks.items():
        pool = pool_of(cidr)
        if pool is None:
            continue
        for prefix, name in [(cidr, block.node), *((Prefix.host(a), user) for a, user in block.borrowed.items())]:
            there = ground.nodes.get(name) if name and name != ground.here.name else None
            if there and (route := toward(there, pool, ground)):
                rows[RouteKey(prefix)] = route
    return rows


def sent_as(pool: Pool, there: Node, ground: Ground) -> Encapsulation:
    """What is in use towards `there` now: what the pool says, unless a switch is under way."""
    return ground.sending.get((pool.name, there.name)) or encapsulation(pool, ground.here, there)


def toward(there: Node, pool: Pool, ground: Ground) -> Route | None:
    """The route to the pool's addresses on node `there`. None: only BGP knows the way, or nobody does."""
    family = pool.cidr.family
    address = there.address(family)
    if address is None:
        return None
    match sent_as(pool, there, ground):
        case Encapsulation.IPIP:
            return via(address, TUNNEL_LINK, onlink=True)
        case Encapsulation.VXLAN:
            return _by_vxlan(there, family)
        case Encapsulation.NONE:
            if not share_subnet(ground.here, there, family):
                return None
            return via(address, ground.uplinks.get(family))


def vtep(node: Node, family: int) -> Address | None:
    return node.vxlan_address if family == 4 else node.vxlan_address_v6


def _by_vxlan(there: Node, family: int) -> Route | None:
    end = vtep(there, family)
    return via(end, VXLAN_LINKS[family], onlink=True) if end else None


# -- what BGP says ---------------------------------------------------------------------------------------------------


def covered(learned: Mapping[Prefix, Learned], pools: Collection[Pool]) -> dict[Prefix, tuple[Pool, Learned]]:
    if not pools:
        return {}
    pool_of = longest_match((pool.cidr, pool) for pool in pools)
    return {prefix: (pool, said) for prefix, said in learned.items() if (pool := pool_of(prefix))}


def inside_routes(found: Mapping[Prefix, tuple[Pool, Learned]], ground: Ground) -> Routes:
    """Learned prefixes of a pool: tunnelled if the next hop is a node and the pool says so, else as learned."""
    rows = {}
    known: dict[tuple[int, int], tuple[int, Route | None]] = {}  # many prefixes share what they are decided from
    for prefix, (pool, learned) in found.items():
        shared = (id(pool), id(learned))
        metric, route = known.get(shared) or known.setdefault(shared, _inside(pool, learned, ground))
        if route:
            rows[RouteKey(prefix, metric=metric)] = route
    return rows


def _inside(pool: Pool, learned: Learned, ground: Ground) -> tuple[int, Route | None]:
    """The metric and the route."""
    ends = [ground.nodes[name] if (name := ground.owners.get(hop)) else None for hop in learned.hops]
    routes = [toward(there, pool, ground) if there else None for there in ends]
    tunnels = [route for route in routes if route]
    if tunnels and len(tunnels) == len(learned.hops):
        return 0, _shared_out(tunnels)
    return learned.priority or 0, ground.reach.route(learned)


def _shared_out(routes: list[Route]) -> Route:
    """Equal paths as one route with several next hops."""
    return Route(hops=tuple(hop for route in routes for hop in route.hops))


def outside_routes(
    learned: Mapping[Prefix, Learned],
    pools: Collection[Pool],
    reach: Reach,
    metric: int = BGP_METRIC,
    services: Collection[Prefix] = (),
) -> Routes:
    """As the router said, if its next hops are neighbours of ours; a gateway elsewhere would be a black hole.

    Not into the ranges of services: every node announces them, and kube-proxy takes what arrives (reference 13).
    """
    rows: Routes = {}
    ranges = [*((pool.cidr, True) for pool in pools), *((cidr, True) for cidr in services)]
    elsewhere = longest_match(ranges) if ranges else None
    last, route, at, new = None, None, metric, tuple.__new__
    for prefix, said in learned.items():
        if said is not last:  # they come in long runs
            last, route, at = said, reach.route(said), said.priority or metric
        if route and not (elsewhere and elsewhere(prefix)):
            # with a full table this line is where the time goes: tuple.__new__ costs a third of calling RouteKey
            rows[new(RouteKey, (prefix, MAIN_TABLE, at))] = route
    return rows


def less(rows: Mapping[RouteKey, Route], *stronger: Collection[RouteKey]) -> Mapping[RouteKey, Route]:
    """The rows without the keys that somebody with a better claim wants."""
    taken = {
        key for keys in stronger for key in (rows if len(rows) < len(keys) else keys) if key in rows and key in keys
    }
    return {key: row for key, row in rows.items() if key not in taken} if taken else rows


# -- all at once (the oracle of the incremental way, and enough for a command) ---------------------------------------


def routes(
    blocks: Mapping[Prefix, Block], learned: Mapping[Prefix, Learned], ground: Ground, metric: int = BGP_METRIC
) -> Routes:
    """Every route to somewhere else."""
    by_block = block_routes(blocks, ground)
    inside = inside_routes(covered(learned, ground.pools), ground)
    by_bgp = {**inside, **outside_routes(learned, ground.pools, ground.reach, metric)}
    own = [RouteKey(cidr) for cidr, block in blocks.items() if block.node == ground.here.name]
    return {**less(by_bgp, by_block, own), **by_block}
