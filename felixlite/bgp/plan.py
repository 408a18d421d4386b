"""Whom to peer with and what to tell whom, from the store's objects and what was learned. Pure.

`peers` makes the sessions of this node (reference 2.3, 12.3): the mesh, BGPPeers that name this node or all, the other
ends of BGPPeers that select it.  `announcements` makes what each of them hears (12.4, 12.5): own blocks, own addresses
outside of them, service prefixes, and what a reflector or a border passes on.  `decide` is the one place that says yes
or no about a prefix and a peer, and why; `felixlite bgp why` prints the same sentence.
Before this: the Snapshot.  After: the tables of bgp/exabgp.py.
"""

import zlib
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address
from typing import Literal

from felixlite.addresses import Address, Prefix
from felixlite.bgp.filters import Route, judge, rules_of
from felixlite.bgp.rib import NORMAL_PREFERENCE
from felixlite.bgp.rows import Announcement, AnnouncementKey, Peer
from felixlite.bgp.services import named, ranges
from felixlite.model.inside import (
    Affinity,
    AffinityState,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    Node,
    Pool,
    SecretRef,
    Workload,
)
from felixlite.rows import Route as KernelRoute
from felixlite.rows import RouteKey, via
from felixlite.snapshot import Learned, Path, pool_covering

HOLD_TIME, RESTART_TIME, SHORTEST_HOLD = 240, 120, 3  # what BIRD does in a Calico node (reference 12.2)
NO_EXPORT, NO_ADVERTISE = "65535:65281", "65535:65282"  # RFC 1997


@dataclass(frozen=True, slots=True)
class Guards:
    """What a peer may not do to this node unless somebody says so."""

    accept_default_route: bool = False
    accept_own_subnet: bool = False
    max_prefixes: int | None = None  # from one peer, where its BGPPeer says nothing else


@dataclass(frozen=True, slots=True)
class Peering:
    rows: Mapping[str, Peer]
    notes: tuple[str, ...] = ()  # peers that are withheld, and why


# -- whom to peer with -----------------------------------------------------------------------------------------------


def peers(
    here: Node,
    nodes: Mapping[str, Node],
    bgp_peers: Mapping[str, BgpPeer],
    config: BgpConfiguration,
    filters: Mapping[str, BgpFilter],
    secrets: Mapping[tuple[str, str], str],
    guards: Guards = Guards(),
) -> Peering:
    """Where several want the same address: a global peer, then one for this node, then the mesh."""
    plan = _Peers(here, nodes, config, filters, secrets, guards)
    rows: dict[str, Peer] = {}
    chosen = sorted(bgp_peers.values(), key=lambda p: (p.node != "" or p.node_selector is not None, p.name))
    for peer in chosen:
        for key, row in plan.of(peer):
            rows.setdefault(key, row)
    for key, row in plan.mesh():
        rows.setdefault(key, row)
    return Peering(rows, tuple(plan.notes))


@dataclass(slots=True)
class _Peers:
    here: Node
    nodes: Mapping[str, Node]
    config: BgpConfiguration
    filters: Mapping[str, BgpFilter]
    secrets: Mapping[tuple[str, str], str]
    guards: Guards
    notes: list[str] = field(default_factory=list)

    def mesh(self) -> Iterator[tuple[str, Peer]]:
        """Every other node; reflectors are reached by BGPPeers, so they are not part of it."""
        if not self.config.mesh or self.here.cluster_id is not None:
            return
        if self.password(self.config.mesh_password, "the mesh") is Missing:
            return
        mesh = BgpPeer(
            "the mesh", password=self.config.mesh_password, restart_time=self.config.mesh_restart_time or RESTART_TIME
        )
        for node in self.others():
            if node.cluster_id is None:
                yield from self.to_node(node, mesh, "mesh")

    def of(self, peer: BgpPeer) -> Iterator[tuple[str, Peer]]:
        kind: Literal["node", "global"] = "node" if peer.node or peer.node_selector is not None else "global"
        if self.password(peer.password, f"BGPPeer {peer.name}") is Missing:
            return
        mine = applies(peer, self.here)
        if peer.peer_selector is not None:
            selected = peer.peer_selector.matches(self.here.labels)
            for node in self.others():
                forth = mine and peer.peer_selector.matches(node.labels)
                back = peer.reverse and selected and applies(peer, node)
                if forth or back:
                    yield from self.to_node(node, peer, kind)
        elif mine and peer.peer_range is not None:
            yield str(peer.peer_range), self.row(peer, kind, peer.peer_range.family, None)
        elif mine and peer.peer_ip is not None and peer.peer_ip != self.here.address(peer.peer_ip.version):
            address = peer.peer_ip
            yield str(address), self.row(peer, kind, address.version, address, self.node_with(address))

    def to_node(self, node: Node, peer: BgpPeer, kind: Literal["mesh", "node", "global"]) -> Iterator[tuple[str, Peer]]:
        for family in (4, 6):
            there = node.address(family)
            if there is not None and self.here.address(family) is not None:
                yield str(there), self.row(peer, kind, family, there, node)

    def row(
        self,
        peer: BgpPeer,
        kind: Literal["mesh", "node", "global"],
        family: int,
        there: Address | None,
        node: Node | None = None,
    ) -> Peer:
        own = self.here.address(family)
        local_as = peer.local_asn or self.here.asn or self.config.asn
        peer_as = self.peer_as(peer, node, local_as)
        password = self.password(peer.password, "")
        cluster = self.here.cluster_id
        return Peer(
            local_as=local_as,
            peer_as=peer_as,
            local_address=own if peer.use_node_ip else None,
            router_id=router_id(self.here),
            port=self.config.listen_port if node is not None and peer.peer_ip is None else peer.peer_port,
            listen_port=self.config.listen_port,
            bind=own if self.config.bind_to_node_address else None,
            passive=peer.passive or there is None or (node is not None and waits(own, there)),
            hold_time=hold_time(peer),
            restart_time=peer.restart_time or RESTART_TIME,
            password=password if isinstance(password, str) else None,
            ttl_security=peer.ttl_security or None,
            families=(family,) if family == 4 or self.here.ipv4 is not None else (4, 6),
            kind=kind,
            name="" if kind == "mesh" else peer.name,
            node=node.name if node else "",
            allowed_own_as=peer.allowed_own_as,
            cluster_id=cluster,
            client=cluster is not None and peer_as == local_as and (node is None or node.cluster_id != cluster),
            imports=rules_of(peer.filters, self.filters, 4, imports=True),
            imports_v6=rules_of(peer.filters, self.filters, 6, imports=True),
            exports=rules_of(peer.filters, self.filters, 4, imports=False),
            exports_v6=rules_of(peer.filters, self.filters, 6, imports=False),
            next_hop_mode=peer.next_hop_mode,
            max_prefixes=peer.max_prefixes or self.guards.max_prefixes,
            accept_default=self.guards.accept_default_route,
            protects=frozenset() if self.guards.accept_own_subnet else protected(self.here),
        )

    def peer_as(self, peer: BgpPeer, node: Node | None, local_as: int) -> int | None:
        if peer.asn is not None:
            return peer.asn
        if peer.asn_relation:
            return local_as if peer.asn_relation == "internal" else None
        return (node.asn if node else None) or self.config.asn

    def password(self, reference: SecretRef | None, whose: str) -> "str | type[Missing] | None":
        if reference is None:
            return None
        found = self.secrets.get((reference.name, reference.key))
        if found is None:
            note = f"{whose} is withheld: there is no key {reference.key!r} in the Secret {reference.name!r}"
            if whose and note not in self.notes:
                self.notes.append(note)
            return Missing
        return found.rstrip("\n")  # what `kubectl create secret --from-file` leaves at the end

    def others(self) -> Iterator[Node]:
        return (node for name, node in sorted(self.nodes.items()) if name != self.here.name)

    def node_with(self, address: Address) -> Node | None:
        return next((n for n in self.others() if n.address(address.version) == address), None)


class Missing:
    """A password that is named and not there."""


def applies(peer: BgpPeer, node: Node) -> bool:
    if peer.node:
        return peer.node == node.name
    return peer.node_selector is None or peer.node_selector.matches(node.labels)


def waits(own: Address | None, there: Address) -> bool:
    """One of two nodes dials: the one whose address is the greater text (a Calico node does the same)."""
    return own is not None and str(there) > str(own)


def hold_time(peer: BgpPeer) -> int:
    """exabgp sends keepalives at a third of the hold time, so that a keepalive time means a hold time of three."""
    if peer.hold_time is not None:
        return peer.hold_time
    return max(SHORTEST_HOLD, min(HOLD_TIME, 3 * peer.keepalive)) if peer.keepalive else HOLD_TIME


def router_id(node: Node) -> IPv4Address:
    """The IPv4 address; without one a number from the name, in the range of addresses that a router can have."""
    if node.ipv4 is not None:
        return node.ipv4.ip
    number = zlib.crc32(node.name.encode())
    return IPv4Address((number & 0x00FFFFFF) | (1 + (number >> 24) % 126) << 24)


def protected(here: Node) -> frozenset[Prefix]:
    """Prefixes that hold our own address and would beat the connected route to our own subnet."""
    found = set()
    for own in (here.ipv4, here.ipv6):
        if own is not None:
            width = own.max_prefixlen
            found |= {Prefix.containing(own.ip, length) for length in range(own.network.prefixlen, width + 1)}
    return frozenset(found)


def gateways(here: Node, bgp_peers: Iterable[BgpPeer]) -> dict[RouteKey, KernelRoute]:
    """`reachableBy`: the way to a peer that is not on our own subnets."""
    return {
        RouteKey(Prefix.host(peer.peer_ip)): via(peer.reachable_by)
        for peer in bgp_peers
        if peer.peer_ip is not None and peer.reachable_by is not None and applies(peer, here)
    }


# -- what to say -----------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that could be announced."""

    prefix: Prefix
    what: Literal["block", "address", "service", "learned"]
    path: Path | None = None  # as it was learned
    learned: Learned | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    row: Announcement | None
    reason: str


@dataclass(frozen=True, slots=True)
class Speech:
    """What `decide` reads besides the prefix and the peer."""

    here: Node
    pools: Collection[Pool]
    config: BgpConfiguration
    peers: Mapping[str, Peer]

    @property
    def services(self) -> tuple[Prefix, ...]:
        return ranges(self.here, self.config)


def announcements(
    here: Node,
    peers: Mapping[str, Peer],
    affinities: Mapping[tuple[str, Prefix], Affinity],
    workloads: Mapping[tuple[str, str], Workload],
    pools: Mapping[str, Pool],
    config: BgpConfiguration,
    learned: Mapping[Prefix, Learned],
    services: Collection[Prefix] = (),
) -> dict[AnnouncementKey, Announcement]:
    """`services`: addresses of single services that this node announces (their aggregates are in the configuration)."""
    speech = Speech(here, tuple(pools.values()), config, peers)
    own = own_candidates(speech, affinities, workloads, services)
    passed_on = learned_candidates(speech, learned, own)
    rows: dict[AnnouncementKey, Announcement] = {}
    for candidate in (*own.values(), *passed_on):
        answers: dict[tuple[object, ...], Announcement | None] = {}
        for key, peer in peers.items():
            alike = _alike(key, peer, candidate)
            if alike not in answers:
                answers[alike] = decide(speech, candidate, key, peer).row
            row = answers[alike]
            if row is not None:
                rows[AnnouncementKey(key, candidate.prefix)] = row
    return rows


def _alike(key: str, peer: Peer, candidate: Candidate) -> tuple[object, ...]:
    """Peers that hear the same about this candidate: a mesh of thousands is decided once."""
    told_us = candidate.learned is not None and candidate.learned.best == key
    return (
        ":" in key,
        peer.local_as,
        peer.peer_as,
        peer.families,
        peer.client,
        peer.exports,
        peer.exports_v6,
        peer.next_hop_mode,
        told_us,
    )


def own_candidates(
    speech: Speech,
    affinities: Mapping[tuple[str, Prefix], Affinity],
    workloads: Mapping[tuple[str, str], Workload],
    services: Collection[Prefix] = (),
) -> dict[Prefix, Candidate]:
    """Own confirmed blocks; own addresses that are in none of them (borrowed, or explicit ones); service prefixes."""
    name = speech.here.name
    blocks = [
        a.cidr for a in affinities.values() if a.node == name and a.state is AffinityState.CONFIRMED and not a.virtual
    ]
    found = {cidr: Candidate(cidr, "block") for cidr in blocks}
    lengths = {cidr.length for cidr in blocks}
    for workload in workloads.values():
        for address in workload.addresses:
            inside = any(Prefix(address.packed, n).masked() in found for n in lengths if n <= address.width)
            if not inside:
                found[address] = Candidate(address, "address")
    for cidr in (*speech.services, *services):
        found.setdefault(cidr, Candidate(cidr, "service"))
    return found


def learned_candidates(
    speech: Speech, learned: Mapping[Prefix, Learned], own: Collection[Prefix]
) -> Iterator[Candidate]:
    """What could be passed on at all: nothing learned by iBGP, unless we are a reflector."""
    reflector = speech.here.cluster_id is not None
    for prefix, result in learned.items():
        if result.path is not None and (reflector or not result.ibgp) and prefix not in own:
            yield Candidate(prefix, "learned", result.path, result)


def decide(speech: Speech, candidate: Candidate, key: str, peer: Peer) -> Decision:
    """Is this peer told of this prefix, how, and why (not)? Reference 12.5, in its order."""
    prefix = candidate.prefix
    if prefix.family not in peer.families:
        return Decision(None, f"the session does not carry IPv{prefix.family}")
    if candidate.what == "learned" and (objection := held_back(speech, candidate, key, peer)):
        return Decision(None, objection)
    path = candidate.path or Path(next_hop=speech.here.address(prefix.family) or IPv4Address(0))
    rules = peer.exports if prefix.family == 4 else peer.exports_v6
    learned = candidate.what == "learned"
    verdict = judge(
        rules, prefix, Route(path, internal=peer.internal, learned=learned, priority=speech.config.route_priority)
    )
    if verdict.accept is False:
        return Decision(None, f"export rule {verdict.rule + 1} rejects it")
    if verdict.accept is None and (objection := _not_ours_to_tell(speech, candidate)):
        return Decision(None, objection)
    reason = f"export rule {verdict.rule + 1} accepts it" if verdict.accept else _reasons[candidate.what]
    return Decision(_announcement(speech, candidate, verdict.path, key, peer), reason)


_reasons = {
    "block": "it is a block of this node",
    "address": "it is an address of this node outside of its blocks",
    "service": "it is a service prefix",
    "learned": "it is passed on",
}


def _not_ours_to_tell(speech: Speech, candidate: Candidate) -> str:
    prefix = candidate.prefix
    if candidate.what == "service":
        return ""
    pool = pool_covering(speech.pools, prefix)
    if pool is None:
        if (
            candidate.what == "learned"
            and speech.here.cluster_id
            and any(s.covers(prefix) for s in named(speech.config))
        ):
            return ""
        return "no IPPool covers it"
    return f"IPPool {pool.name} has disableBGPExport" if pool.disable_bgp_export else ""


def held_back(speech: Speech, candidate: Candidate, key: str, peer: Peer) -> str:
    """Why a learned route is not passed on to this peer (RFC 4456 section 6, RFC 1997); empty if it may be."""
    learned, path = candidate.learned, candidate.path
    if learned is None or path is None:
        return "nothing is known of its path"
    if learned.best == key:
        return "this peer told us"
    if NO_ADVERTISE in path.communities or (NO_EXPORT in path.communities and not peer.internal):
        return "a community of it forbids that"
    if any(isinstance(hop, frozenset) for hop in path.as_path):
        return "its AS path contains an AS_SET (RFC 6472)"
    if not learned.ibgp:
        return ""
    if speech.here.cluster_id is None:
        return "it was learned by iBGP, and this node is no route reflector"
    source = speech.peers.get(learned.best)
    if peer.internal and not peer.client and not (source is not None and source.client):
        return "neither its source nor this peer is a client of this reflector"
    return ""


def _announcement(speech: Speech, candidate: Candidate, path: Path, key: str, peer: Peer) -> Announcement:
    config, learned = speech.config, candidate.learned
    communities = dict.fromkeys(path.communities)
    for advertisement in config.advertisements:
        if advertisement.cidr.covers(candidate.prefix):
            communities |= dict.fromkeys(advertisement.communities)
    as_path = tuple(hop for hop in path.as_path if isinstance(hop, int))
    row = Announcement(
        next_hop=next_hop(speech.here, candidate, path, key, peer),
        communities=tuple(communities),
        as_path=as_path if peer.internal or not as_path else (peer.local_as, *as_path),
    )
    if not peer.internal:
        return row
    row = replace(row, local_preference=preference(path, config, own=learned is None), med=path.med)
    if learned is None or not learned.ibgp or peer.cluster_id is None:
        return row
    return replace(
        row,
        originator=path.originator or learned.router_id,
        cluster_list=(peer.cluster_id, *path.cluster_list),
    )


def preference(path: Path, config: BgpConfiguration, *, own: bool) -> int:
    """A route's priority travels as local preference, so that Calico nodes and ours understand each other."""
    if path.priority is not None:
        return 2147483647 - path.priority
    if path.local_preference is not None:
        return path.local_preference
    return 2147483647 - config.route_priority if own else NORMAL_PREFERENCE


def next_hop(here: Node, candidate: Candidate, path: Path, key: str, peer: Peer) -> Address | None:
    """None: our own address of the session. Own routes have no other hop than us; what is passed on to eBGP neither,
    unless asked to keep it; inside of an AS the hop stays (RFC 4456 section 10)."""
    keep = peer.next_hop_mode == "Keep" or (peer.next_hop_mode == "Auto" and peer.internal)
    if candidate.learned is not None and keep:
        return path.next_hop
    session = 6 if ":" in key else 4
    if candidate.prefix.family == session:
        return None
    return here.address(candidate.prefix.family) or here.address(session)
