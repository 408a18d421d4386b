"""All that this node knows, as one immutable value, and how a Change makes the next one. Pure.

A Snapshot is a record of mappings, one per kind of thing; a Change names the mapping it is about.  Snapshots share what
did not change, so that a planner can tell by identity (`is`) whether an input of its is a different one.
Before this come the sources (they put Changes into the inbox); after it comes plan.py.
"""

from collections.abc import Collection, Hashable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Any, assert_never, cast

from felixlite.addresses import Address, Prefix, longest_match
from felixlite.model.inside import (
    Affinity,
    BgpFilter,
    BgpPeer,
    Block,
    Node,
    Pool,
    ServiceAddresses,
    StatusRequest,
    Workload,
)
from felixlite.versions import patched


@dataclass(frozen=True, slots=True)
class LinkState:
    """A network interface of this machine as the kernel tells it."""

    name: str
    index: int
    kind: str  # veth, ipip, vxlan, tun, "" for hardware
    up: bool  # administratively up and with a carrier
    mtu: int
    mac: str
    master: str = ""
    on: bool = True  # administratively up, whether or not there is a carrier


@dataclass(frozen=True, slots=True)
class Path:
    """The attributes that came with a route. One object for all prefixes of an UPDATE."""

    next_hop: Address
    origin: int = 0  # 0 IGP, 1 EGP, 2 incomplete
    as_path: tuple[int | frozenset[int], ...] = ()
    local_preference: int | None = None
    med: int | None = None
    communities: tuple[str, ...] = ()  # "65000:1", large ones "65000:1:2"
    originator: IPv4Address | None = None
    cluster_list: tuple[IPv4Address, ...] = ()
    priority: int | None = None  # set by a filter


@dataclass(frozen=True, slots=True)
class Learned:
    """Where BGP says that a prefix is: the winner of bgp/rib.py, made ready for the kernel. Shared by many prefixes."""

    hops: tuple[Address, ...]  # several: equal paths
    peers: tuple[str, ...]  # who told us, in the order of the hops
    ibgp: bool = False
    priority: int | None = None  # set by a filter
    path: Path | None = None  # the best one's attributes: what a reflector passes on
    best: str = ""  # the peer that told the best one, and its router ID
    router_id: IPv4Address | None = None
    others: tuple[tuple[Address, str], ...] = ()  # next hops and peers of the paths that lost, best first


@dataclass(frozen=True, slots=True)
class SessionState:
    """One BGP session as it is now. Key in the Snapshot: the peer's address as text (of each peer of a range)."""

    state: str  # Idle, Connect, Active, OpenSent, OpenConfirm, Established, Close
    since: float  # seconds since the epoch
    error: str = ""  # the last one, in words
    families: tuple[int, ...] = ()
    peer_as: int | None = None
    router_id: IPv4Address | None = None
    flaps: int = 0
    extended_next_hop: bool = False  # the peer takes IPv4 routes with an IPv6 next hop


@dataclass(frozen=True, slots=True)
class Snapshot:
    here: str  # the name of this node

    # from the store
    pools: Mapping[str, Pool] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    affinities: Mapping[tuple[str, Prefix], Affinity] = field(default_factory=dict)
    blocks: Mapping[Prefix, Block] = field(default_factory=dict)
    local_workloads: Mapping[tuple[str, str], Workload] = field(default_factory=dict)
    remote_workloads: Mapping[tuple[str, str], Workload] = field(default_factory=dict)
    bgp_peers: Mapping[str, BgpPeer] = field(default_factory=dict)
    bgp_filters: Mapping[str, BgpFilter] = field(default_factory=dict)
    bgp_configurations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> spec
    felix_configurations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> spec
    ipam_configurations: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)  # name -> spec
    reservations: Mapping[str, tuple[Prefix, ...]] = field(default_factory=dict)
    policies: Mapping[Hashable, Any] = field(default_factory=dict)  # (kind, namespace, name) -> model.policy.Policy
    tiers: Mapping[str, Any] = field(default_factory=dict)
    network_sets: Mapping[tuple[str, str], Any] = field(default_factory=dict)
    profiles: Mapping[str, Any] = field(default_factory=dict)
    services: Mapping[tuple[str, str], Any] = field(default_factory=dict)  # (namespace, name) -> model.policy.Service
    service_addresses: Mapping[tuple[str, str], ServiceAddresses] = field(default_factory=dict)
    served_here: Mapping[tuple[str, str, str], bool] = field(
        default_factory=dict
    )  # (namespace, service, slice) -> True
    secrets: Mapping[tuple[str, str], str] = field(default_factory=dict, repr=False)  # (name, key) -> value
    asked: Mapping[str, str] = field(default_factory=dict)  # this node -> for which examination of its ways (ways.py)
    status_requests: Mapping[str, StatusRequest] = field(default_factory=dict)  # for this node
    rejected: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (kind, name) -> why it is kept out
    unenforced: Mapping[tuple[str, str], str] = field(default_factory=dict)  # (kind, name) -> what of it does nothing

    # from the kernel
    links: Mapping[str, LinkState] = field(default_factory=dict)
    link_addresses: Mapping[tuple[str, str], Prefix] = field(default_factory=dict)  # (link, "a/len") -> its subnet

    # from the BGP peers
    learned: Mapping[Prefix, Learned] = field(default_factory=dict)
    sessions: Mapping[str, SessionState] = field(default_factory=dict)

    in_sync: frozenset[str] = frozenset()  # sources that have delivered their first full list


@dataclass(frozen=True, slots=True)
class Put:
    """`key` of `kind` (a field of Snapshot) is now `value`."""

    kind: str
    key: Hashable
    value: Any


@dataclass(frozen=True, slots=True)
class Gone:
    kind: str
    key: Hashable


@dataclass(frozen=True, slots=True)
class Replace:
    """These are all there are of `kind`."""

    kind: str
    values: Mapping[Any, Any]


@dataclass(frozen=True, slots=True)
class Many:
    """Put and Gone for many keys of one kind at once: what came in one read of a source that talks in bursts."""

    kind: str
    values: Mapping[Any, Any]
    gone: Collection[Any] = ()


@dataclass(frozen=True, slots=True)
class InSync:
    source: str


Change = Put | Gone | Replace | Many | InSync


def fold(snapshot: Snapshot, changes: Iterable[Change]) -> Snapshot:
    """The snapshot after the changes, in order."""
    draft = _Draft(snapshot)
    in_sync = snapshot.in_sync
    for change in changes:
        match change:
            case Put(kind, key, value):
                draft.put(kind, key, value)
            case Gone(kind, key):
                draft.drop(kind, key)
            case Replace(kind, values):
                draft.replace(kind, values)
            case Many(kind, values, gone):
                draft.many(kind, values, gone)
            case InSync(source):
                in_sync |= {source}
            case _:
                assert_never(change)
    draft.settle(*draft.bursts)
    if not draft.fresh and in_sync == snapshot.in_sync:
        return snapshot
    return replace(snapshot, in_sync=in_sync, **cast("dict[str, Any]", draft.fresh))


class _Draft:
    """The mappings that differ from the snapshot's. Each is copied once, and only if it really changes."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot
        self.fresh: dict[str, Mapping[Any, Any]] = {}
        self.bursts: dict[str, tuple[Mapping[Any, Any], Collection[Any]]] = {}  # not yet in `fresh`

    def now(self, kind: str) -> Mapping[Any, Any]:
        self.settle(kind)
        found: Mapping[Any, Any] = self.fresh[kind] if kind in self.fresh else getattr(self.snapshot, kind)
        return found

    def own(self, kind: str) -> dict[Any, Any]:
        now = self.now(kind)
        fresh = self.fresh[kind] = now if kind in self.fresh and isinstance(now, dict) else dict(now)
        return fresh

    def put(self, kind: str, key: Hashable, value: Any) -> None:
        now = self.now(kind)
        if key not in now or now[key] != value:
            self.own(kind)[key] = value

    def drop(self, kind: str, key: Hashable) -> None:
        if key in self.now(kind):
            del self.own(kind)[key]

    def many(self, kind: str, values: Mapping[Any, Any], gone: Collection[Any]) -> None:
        if kind in self.bursts:
            before, away = self.bursts[kind]
            values, gone = {**before, **values}, {*away} - values.keys() | set(gone)
            values = {key: row for key, row in values.items() if key not in gone} if gone else values
        self.bursts[kind] = (values, gone)

    def settle(self, *kinds: str) -> None:
        for kind in kinds:
            if kind in self.bursts:
                values, gone = self.bursts.pop(kind)
                self.fresh[kind] = patched(self.now(kind), values, gone)

    def replace(self, kind: str, values: Mapping[Any, Any]) -> None:
        if self.now(kind) != values:
            self.fresh[kind] = dict(values)


def links_that_came_up(before: Mapping[str, LinkState], changes: Iterable[Change]) -> set[str]:
    """The links that are switched on at some time during the changes and were not, or not the same ones, just before.

    One that goes off and on again within a burst counts: the kernel has dropped what was on it.  A carrier that goes
    costs nothing but the neighbours that were learned (net/core/neighbour.c, neigh_carrier_down), and comes with every pod.
    """
    now: dict[str, LinkState | None] = {}
    found: set[str] = set()
    for change in changes:
        match change:
            case Put("links", str(name), LinkState() as link):
                told = {name: link}
            case Replace("links", values):
                told = dict(values)
            case Gone("links", str(name)):
                now[name] = None
                continue
            case _:
                continue
        for name, link in told.items():
            old = now[name] if name in now else before.get(name)
            if link.on and (old is None or not old.on or old.index != link.index):
                found.add(name)
            now[name] = link
    return found


def here(snapshot: Snapshot) -> Node | None:
    """This node's own record, once there is one."""
    return snapshot.nodes.get(snapshot.here)


def pool_covering(pools: Iterable[Pool], prefix: Prefix) -> Pool | None:
    """The longest pool that covers the prefix decides about it."""
    return longest_match((pool.cidr, pool) for pool in pools)(prefix)
