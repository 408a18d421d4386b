"""Whom to peer with, from the store's objects. Pure.

`peers` makes the sessions of this node (reference 2.3, 12.3): the mesh, BGPPeers that name this node or all, the other
ends of BGPPeers that select it.  A peer whose password is not there is withheld, with a note.
Before this: the Snapshot.  After: announcing.py, and the table of peers in bgp/exabgp.py.
"""

import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal

from felixlite.addresses import Address, Prefix
from felixlite.bgp.filters import rules_of
from felixlite.bgp.rows import Peer
from felixlite.model.inside import (
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    Node,
    SecretRef,
)
from felixlite.rows import Route as KernelRoute
from felixlite.rows import RouteKey, via

HOLD_TIME, RESTART_TIME, SHORTEST_HOLD = 240, 120, 3  # what BIRD does in a Calico node (reference 12.2)


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
