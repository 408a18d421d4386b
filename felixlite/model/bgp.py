"""BGPConfiguration and BGPPeer: whom the nodes speak BGP with, and how. Reference 2.2, 2.3.

Ours, beyond Calico: BGPPeer's holdTime, passive, maxPrefixes, asNumber `external` / `internal`, and a peerIP that is a
CIDR (whoever connects from there).
"""

from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import Field, PlainValidator, WithJsonSchema

from felixlite.addresses import Address as AnyAddress
from felixlite.addresses import Prefix
from felixlite.model import inside, scalars
from felixlite.model.resource import Resource, Spec, default
from felixlite.model.rules import never_global
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import (
    Address,
    Address4,
    Address6,
    AsNumber,
    Cidr,
    Community,
    InterfacePattern,
    KeepaliveTime,
    Name,
    PortNumber,
    Priority,
    RestartTime,
    Selector,
    Severity,
    Switch,
)

OURS = "Ours, not Calico's. "
RELATIONS = ("external", "internal")
ClusterRoutes = Literal["Enabled", "Disabled", "EnabledIPIPOnly", "EnabledNoEncapOnly"]


# -- what stands in one field


@dataclass(frozen=True, slots=True)
class PeerEnd:
    """`192.0.2.1`, `192.0.2.1:1179`, `[fd00::1]:1179`, or (ours) a range, `192.0.2.0/24`."""

    address: AnyAddress | None = None
    range: Prefix | None = None
    port: int | None = None

    @property
    def family(self) -> int:
        return self.range.family if self.range else self.address.version if self.address else 4


def _peer_end(given: Any) -> PeerEnd:
    text = scalars.text(given)
    if "/" in text:
        return PeerEnd(range=scalars.cidr(text))
    host, port = text, ""
    if text.startswith("["):
        host, _, rest = text[1:].partition("]")
        port = rest.removeprefix(":")
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    try:
        address = ip_address(host)
    except ValueError:
        raise ValueError("must be an address, with a port as 192.0.2.1:179 or [fd00::1]:179, or a CIDR") from None
    if (port or text.endswith(":")) and not (port.isdecimal() and 0 < int(port) < 65536):
        raise ValueError("must have a port from 1 to 65535 after the colon")
    if address.is_unspecified or address.is_loopback or address.is_multicast:
        raise ValueError("must be an address that a router can have")
    return PeerEnd(address=address, port=int(port) if port else None)


def _peer_as(given: Any) -> int | str:
    if given in RELATIONS:
        return str(given)
    try:
        return scalars.as_number(given)
    except ValueError as error:
        raise ValueError(f"{error}; or external, or internal") from None


def _hold_time(given: Any) -> float:
    seconds = scalars.duration(given)
    if seconds == 0 or 3 <= seconds <= 65535:
        return seconds
    raise ValueError("must be 0s (never expires) or from 3s to 65535s")  # RFC 4271 section 4.2


PeerIP = Annotated[PeerEnd, PlainValidator(_peer_end), WithJsonSchema({"type": "string"})]
PeerAs = Annotated[int | str, PlainValidator(_peer_as), WithJsonSchema({"x-kubernetes-int-or-string": True})]
HoldTime = Annotated[float, PlainValidator(_hold_time), WithJsonSchema({"type": "string", "format": "duration"})]


class SecretKeyRef(Model):
    name: Annotated[str, Field(min_length=1, description="The Secret, in the namespace of the agent.")]
    key: Annotated[str, Field(min_length=1, description="The key in it.")]
    optional: bool = False


class Password(Model):
    secretKeyRef: SecretKeyRef | None = None

    def inside(self) -> inside.SecretRef | None:
        reference = self.secretKeyRef
        return inside.SecretRef(reference.name, reference.key) if reference else None


class CidrEntry(Model):
    cidr: Cidr


# -- BGPConfiguration


class NamedCommunity(Model):
    name: Annotated[str, Field(min_length=1)]
    value: Community


class Advertisement(Model):
    cidr: Cidr
    communities: Annotated[
        list[str], Field(max_length=50, description="Communities, or names from the list of communities.")
    ] = Field(default_factory=list)


class BGPConfigurationSpec(Spec):
    logSeverityScreen: Annotated[Severity, Field(description="What is logged about BGP.")] = "Info"
    nodeToNodeMeshEnabled: Annotated[bool, Field(description="Every node peers with every other.")] = True
    asNumber: Annotated[AsNumber | None, Field(description="The AS of the nodes that have none of their own.")] = None
    serviceLoadBalancerIPs: Annotated[
        list[CidrEntry], Field(description="Load balancer addresses in here are announced.")
    ] = Field(default_factory=list)
    serviceExternalIPs: Annotated[list[CidrEntry], Field(description="External addresses in here are announced.")] = (
        Field(default_factory=list)
    )
    serviceClusterIPs: Annotated[list[CidrEntry], Field(description="Cluster addresses in here are announced.")] = (
        Field(default_factory=list)
    )
    serviceLoadBalancerAggregation: Annotated[
        Switch, Field(description="Enabled: announce the CIDR; Disabled: each service's address.")
    ] = "Enabled"
    communities: Annotated[list[NamedCommunity], Field(max_length=500, description="Names for communities.")] = Field(
        default_factory=list
    )
    prefixAdvertisements: Annotated[
        list[Advertisement], Field(max_length=500, description="Which communities announcements carry, by prefix.")
    ] = Field(default_factory=list)
    listenPort: Annotated[PortNumber | None, Field(description="The port that the nodes listen on; else 179.")] = None
    nodeMeshPassword: Annotated[Password | None, Field(description="TCP MD5 password of the mesh.")] = None
    nodeMeshMaxRestartTime: Annotated[
        RestartTime | None, Field(description="Graceful restart time of the mesh; else 120s.")
    ] = None
    bindMode: Annotated[Literal["None", "NodeIP"], Field(description="NodeIP: listen on the node's address only.")] = (
        "None"
    )
    ignoredInterfaces: Annotated[list[InterfacePattern], Field(description="Their networks are not looked at.")] = (
        Field(default_factory=list)
    )
    localWorkloadPeeringIPV4: Annotated[
        Address4 | None, Field(description="The address that routers in pods peer with; not served here.")
    ] = None
    localWorkloadPeeringIPV6: Annotated[Address6 | None, Field(description="The same for IPv6.")] = None
    programClusterRoutes: Annotated[
        ClusterRoutes, Field(description="Who writes routes to other nodes; here it is always the agent.")
    ] = "EnabledNoEncapOnly"
    ipv4NormalRoutePriority: Annotated[Priority, Field(description="Metric of learned routes in the kernel.")] = 1024
    ipv6NormalRoutePriority: Annotated[Priority, Field(description="The same for IPv6.")] = 1024

    @rule
    def communities_are_defined_and_used(self) -> Iterator[Fault]:
        defined = {one.name for one in self.communities}
        used = {name for one in self.prefixAdvertisements for name in one.communities}
        for i, one in enumerate(self.communities):
            if one.name not in used:
                yield Fault(f"communities[{i}].name", one.name, "is used by none of prefixAdvertisements")
        for i, advertisement in enumerate(self.prefixAdvertisements):
            for j, name in enumerate(advertisement.communities):
                if name not in defined and not _is_community(name):
                    yield Fault(
                        f"prefixAdvertisements[{i}].communities[{j}]", name, "must be a community or one of communities"
                    )

    @rule
    def names_of_communities_differ(self) -> Iterator[Fault]:
        names = [one.name for one in self.communities]
        for i, name in enumerate(names):
            if name in names[:i]:
                yield Fault(f"communities[{i}].name", name, "is defined twice")

    @rule
    def what_the_mesh_needs_needs_a_mesh(self) -> Iterator[Fault]:
        for field in ("nodeMeshPassword", "nodeMeshMaxRestartTime"):
            if not self.nodeToNodeMeshEnabled and getattr(self, field) is not None:
                yield Fault(field, "given", "needs nodeToNodeMeshEnabled: true")


def _is_community(text: str) -> bool:
    try:
        scalars.community(text)
    except ValueError:
        return False
    return True


class BGPConfiguration(Resource):
    """How the cluster speaks BGP; `default` for all, `node.NAME` for one node."""

    spec: BGPConfigurationSpec = Field(default_factory=BGPConfigurationSpec)

    @classmethod
    def filled(cls, document: dict[str, Any]) -> None:
        if document["metadata"]["name"] == "default":
            default(document.setdefault("spec", {}), nodeToNodeMeshEnabled=True, logSeverityScreen="Info")


# -- BGPPeer


class BGPPeerSpec(Spec):
    node: Annotated[str | None, Field(description="Only this node has the session.")] = None
    nodeSelector: Annotated[
        Selector | None, Field(description="Only these nodes have it; without node and nodeSelector all do.")
    ] = None
    peerIP: Annotated[
        PeerIP | None,
        Field(description="The peer's address, with a port if not 179. Ours: a CIDR is whoever connects from there."),
    ] = None
    asNumber: Annotated[
        PeerAs | None, Field(description="The peer's AS. Ours: external or internal, whatever the number is.")
    ] = None
    peerSelector: Annotated[Selector | None, Field(description="The peers are the nodes that this selects.")] = None
    localASNumber: Annotated[AsNumber | None, Field(description="Our AS in this session.")] = None
    keepOriginalNextHop: Annotated[bool, Field(description="Deprecated: nextHopMode Keep.")] = False
    nextHopMode: Annotated[
        Literal["Auto", "Self", "Keep"], Field(description="Which next hop we announce: ours, or the one we heard.")
    ] = "Auto"
    password: Annotated[Password | None, Field(description="TCP MD5 password.")] = None
    sourceAddress: Annotated[
        Literal["UseNodeIP", "None"],
        Field(description="Connect from the node's address, or from what the kernel picks."),
    ] = "UseNodeIP"
    maxRestartTime: Annotated[RestartTime | None, Field(description="Graceful restart time; else 120s.")] = None
    keepaliveTime: Annotated[
        KeepaliveTime | None, Field(description="Time between keepalives; else a third of the hold time.")
    ] = None
    numAllowedLocalASNumbers: Annotated[
        int, Field(ge=0, le=255, description="How often our own AS may be in a path that we accept.")
    ] = 0
    ttlSecurity: Annotated[
        int | None, Field(ge=0, le=255, description="At most this many hops away, proven by the TTL (RFC 5082).")
    ] = None
    reachableBy: Annotated[Address | None, Field(description="The gateway to the peer.")] = None
    filters: Annotated[list[Name], Field(description="BGPFilters for this session, in order.")] = Field(
        default_factory=list
    )
    localWorkloadSelector: Annotated[Selector | None, Field(description="The peers are workloads of the node.")] = None
    reversePeering: Annotated[
        Literal["Auto", "Manual"], Field(description="Auto: nodes that peerSelector selects get the other end as well.")
    ] = "Auto"
    holdTime: Annotated[HoldTime | None, Field(description=OURS + "Silence after which the peer is dead.")] = None
    passive: Annotated[bool, Field(description=OURS + "Wait for the peer to connect.")] = False
    maxPrefixes: Annotated[
        int | None, Field(ge=1, description=OURS + "The session is shut when the peer sends more.")
    ] = None

    @rule
    def which_nodes(self) -> Iterator[Fault]:
        if self.node and self.nodeSelector:
            yield Fault("nodeSelector", self.nodeSelector.text, "cannot be given together with node")
        for field in ("nodeSelector", "peerSelector", "localWorkloadSelector"):
            yield from never_global(field, getattr(self, field))

    @rule
    def which_peers(self) -> Iterator[Fault]:
        given = [f for f in ("peerIP", "peerSelector", "localWorkloadSelector") if getattr(self, f) is not None]
        if not given:
            yield Fault("", {}, "must have one of peerIP, peerSelector, localWorkloadSelector")
        for field in given[1:]:
            yield Fault(field, str(getattr(self, field)), f"cannot be given together with {given[0]}")

    @rule
    def the_as_number_of_selected_nodes_is_theirs(self) -> Iterator[Fault]:
        if self.peerSelector and self.asNumber is not None:
            yield Fault("asNumber", self.asNumber, "must be left out with peerSelector: the nodes have theirs")

    @rule
    def a_peer_has_an_as_number(self) -> Iterator[Fault]:
        if (self.peerIP or self.localWorkloadSelector) and self.asNumber is None:
            yield Fault("asNumber", None, "is required with peerIP and localWorkloadSelector")

    @rule
    def one_way_to_keep_the_next_hop(self) -> Iterator[Fault]:
        if self.keepOriginalNextHop and self.nextHopMode != "Auto":
            yield Fault("keepOriginalNextHop", True, "cannot be given together with nextHopMode")

    @rule
    def a_gateway_is_for_one_address(self) -> Iterator[Fault]:
        if self.reachableBy is None:
            return
        if self.peerIP is None or self.peerIP.address is None:
            yield Fault("reachableBy", str(self.reachableBy), "needs peerIP to be one address")
        elif self.reachableBy.version != self.peerIP.family:
            yield Fault("reachableBy", str(self.reachableBy), f"must be IPv{self.peerIP.family}, as peerIP is")

    @rule
    def keepalives_come_before_the_hold_time_ends(self) -> Iterator[Fault]:
        if self.holdTime and self.keepaliveTime and self.keepaliveTime * 2 > self.holdTime:
            yield Fault("keepaliveTime", self.keepaliveTime, f"must be at most half of holdTime, {self.holdTime:g}s")

    @rule
    def each_filter_is_named_once(self) -> Iterator[Fault]:
        if len(set(self.filters)) < len(self.filters):
            yield Fault("filters", self.filters, "must name each filter once")


class BGPPeer(Resource):
    """A BGP session between nodes and a router, or among nodes."""

    spec: BGPPeerSpec

    def inside(self) -> inside.BgpPeer | None:
        """None: a router inside of a pod, with whom the nodes here cannot speak."""
        spec, end = self.spec, self.spec.peerIP or PeerEnd()
        if spec.localWorkloadSelector:
            return None
        relation = spec.asNumber if isinstance(spec.asNumber, str) else ""
        return inside.BgpPeer(
            name=self.name,
            node=spec.node or "",
            node_selector=spec.nodeSelector,
            peer_ip=end.address,
            peer_range=end.range,
            peer_port=end.port or 179,
            peer_selector=spec.peerSelector,
            asn=spec.asNumber if isinstance(spec.asNumber, int) else None,
            asn_relation=relation,
            local_asn=spec.localASNumber,
            next_hop_mode="Keep" if spec.keepOriginalNextHop else spec.nextHopMode,
            password=spec.password.inside() if spec.password else None,
            use_node_ip=spec.sourceAddress == "UseNodeIP",
            restart_time=_seconds(spec.maxRestartTime),
            keepalive=_seconds(spec.keepaliveTime),
            hold_time=_seconds(spec.holdTime),
            allowed_own_as=spec.numAllowedLocalASNumbers,
            ttl_security=spec.ttlSecurity or None,
            passive=spec.passive or end.range is not None,
            reachable_by=spec.reachableBy,
            max_prefixes=spec.maxPrefixes,
            filters=tuple(spec.filters),
            reverse=spec.reversePeering == "Auto",
        )


def _seconds(given: float | None) -> int | None:
    return None if given is None else round(given)
