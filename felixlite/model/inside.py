"""What the resources mean inside: frozen values that planners read. Pure; no pydantic, no documents.

The border (the other files of this folder) turns documents into these after validation.  Policy has its own file,
model/policy.py.  Defaults are those of the reference; a field that no planner reads is not here.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface

from felixlite.addresses import Address, Interface, Prefix
from felixlite.model.selector import Selector

Labels = Mapping[str, str]


class Mode(StrEnum):
    """How a pool's traffic between two nodes is encapsulated (ipipMode, vxlanMode)."""

    NEVER = "Never"
    ALWAYS = "Always"
    CROSS_SUBNET = "CrossSubnet"


class Use(StrEnum):
    WORKLOAD = "Workload"
    TUNNEL = "Tunnel"
    LOAD_BALANCER = "LoadBalancer"


@dataclass(frozen=True, slots=True)
class Pool:
    name: str
    cidr: Prefix
    ipip: Mode = Mode.NEVER
    vxlan: Mode = Mode.NEVER
    nat_outgoing: bool = False
    disabled: bool = False
    disable_bgp_export: bool = False
    block_size: int = 26
    node_selector: Selector | None = None  # None: all()
    namespace_selector: Selector | None = None
    allowed_uses: frozenset[Use] = frozenset({Use.WORKLOAD, Use.TUNNEL})
    automatic: bool = True  # assignmentMode
    allocatable: bool = True  # status condition: not overlapped, not terminating


@dataclass(frozen=True, slots=True)
class Node:
    """A machine of the cluster. The interfaces carry the prefix length of the node's own subnet."""

    name: str
    ipv4: IPv4Interface | None = None
    ipv6: IPv6Interface | None = None
    asn: int | None = None
    cluster_id: IPv4Address | None = None  # set: this node is a route reflector
    ipip_address: IPv4Address | None = None
    vxlan_address: IPv4Address | None = None
    vxlan_address_v6: IPv6Address | None = None
    vxlan_mac: str | None = None
    vxlan_mac_v6: str | None = None
    accepts: frozenset[str] | None = None  # encapsulations it can receive now; None: does not say (a Calico node)
    sends: frozenset[str] | None = None  # tunnels it still sends through; None: does not say
    labels: Labels = field(default_factory=dict)

    def address(self, family: int) -> Address | None:
        own = self.interface(family)
        return own.ip if own else None

    def interface(self, family: int) -> Interface | None:
        return self.ipv4 if family == 4 else self.ipv6


class AffinityState(StrEnum):
    PENDING = "pending"
    CONFIRMED = "confirmed"
    PENDING_DELETION = "pendingDeletion"


@dataclass(frozen=True, slots=True)
class Affinity:
    """Node `node` owns block `cidr`. Key in the Snapshot: (node, cidr)."""

    node: str
    cidr: Prefix
    state: AffinityState
    virtual: bool = False


@dataclass(frozen=True, slots=True)
class Block:
    """What routing needs of an IPAM block: its owner, and who uses addresses of it without being the owner."""

    cidr: Prefix
    node: str | None
    borrowed: Mapping[Address, str] = field(default_factory=dict)  # address -> the node that uses it


@dataclass(frozen=True, slots=True)
class NamedPort:
    name: str
    protocol: str
    port: int


@dataclass(frozen=True, slots=True)
class Workload:
    """A pod's (or any workload's) interface. Key in the Snapshot: (namespace, name of the WorkloadEndpoint)."""

    name: str
    namespace: str
    node: str
    interface: str  # the host side, cali...
    addresses: tuple[Prefix, ...]  # /32 and /128
    mac: str | None = None
    pod: str = ""
    container: str = ""
    labels: Labels = field(default_factory=dict)
    profiles: tuple[str, ...] = ()
    service_account: str = ""
    ports: tuple[NamedPort, ...] = ()
    may_send_as: tuple[Prefix, ...] = ()  # besides its own addresses, where the settings allow that
    most_mtu: int | None = None  # how far its MTU may be raised again while it runs; None: not at all


@dataclass(frozen=True, slots=True)
class PrefixAdvertisement:
    cidr: Prefix
    communities: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class BgpConfiguration:
    """The effective one: `default` with `node.<name>` folded over it."""

    mesh: bool = True
    asn: int = 64512
    listen_port: int = 179
    bind_to_node_address: bool = False
    mesh_password: "SecretRef | None" = None
    mesh_restart_time: int | None = None
    advertisements: tuple[PrefixAdvertisement, ...] = ()
    service_cluster_cidrs: tuple[Prefix, ...] = ()
    service_external_cidrs: tuple[Prefix, ...] = ()
    service_load_balancer_cidrs: tuple[Prefix, ...] = ()
    service_load_balancer_aggregation: bool = True
    ignored_interfaces: tuple[str, ...] = ()
    route_priority: int = 1024


@dataclass(frozen=True, slots=True)
class ServiceAddresses:
    """Under which addresses a Kubernetes Service is reached from outside of its own node. Key: (namespace, name)."""

    cluster: tuple[Prefix, ...] = ()
    external: tuple[Prefix, ...] = ()
    load_balancer: tuple[Prefix, ...] = ()
    local: bool = False  # externalTrafficPolicy Local: only where it has endpoints


@dataclass(frozen=True, slots=True)
class SecretRef:
    name: str
    key: str


@dataclass(frozen=True, slots=True)
class BgpPeer:
    name: str
    node: str = ""
    node_selector: Selector | None = None
    peer_ip: Address | None = None
    peer_range: Prefix | None = None  # passive: whoever connects from here
    peer_port: int = 179
    peer_selector: Selector | None = None
    asn: int | None = None
    asn_relation: str = ""  # "external" or "internal" instead of a number
    local_asn: int | None = None
    next_hop_mode: str = "Auto"  # Auto, Self, Keep
    password: SecretRef | None = None
    use_node_ip: bool = True  # sourceAddress
    restart_time: int | None = None
    keepalive: int | None = None
    hold_time: int | None = None
    allowed_own_as: int = 0
    ttl_security: int | None = None
    passive: bool = False
    reachable_by: Address | None = None
    max_prefixes: int | None = None
    filters: tuple[str, ...] = ()
    reverse: bool = True  # reversePeering Auto


@dataclass(frozen=True, slots=True)
class FilterOperation:
    add_community: str = ""
    prepend: tuple[int, ...] = ()
    set_priority: int | None = None


@dataclass(frozen=True, slots=True)
class FilterRule:
    accept: bool
    cidr: Prefix | None = None
    operator: str = ""  # Equal, NotEqual, In, NotIn
    min_length: int | None = None
    max_length: int | None = None
    remote_only: bool = False  # source: RemotePeers
    interface: str = ""
    peer_type: str = ""  # eBGP, iBGP
    community: str = ""
    as_path_prefix: tuple[int, ...] = ()
    priority: int | None = None
    operations: tuple[FilterOperation, ...] = ()


@dataclass(frozen=True, slots=True)
class StatusRequest:
    """A CalicoNodeStatus, as far as it asks."""

    node: str
    classes: frozenset[str]
    period: int  # seconds; 0: no more


@dataclass(frozen=True, slots=True)
class BgpFilter:
    name: str
    imports: Mapping[int, tuple[FilterRule, ...]] = field(default_factory=dict)  # family -> rules
    exports: Mapping[int, tuple[FilterRule, ...]] = field(default_factory=dict)
