"""Node: a machine of the cluster, its addresses, its part in BGP. Reference 2.5."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from felixlite.model import inside
from felixlite.model.resource import Resource, Spec
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import Address4, Address6, AsNumber, Mac, Net, NodeAddress4, NodeAddress6


class NodeBGP(Model):
    asNumber: Annotated[AsNumber | None, Field(description="This node's AS; else BGPConfiguration's.")] = None
    ipv4Address: Annotated[
        NodeAddress4 | None, Field(description="The node's address with its subnet's prefix length.")
    ] = None
    ipv6Address: Annotated[
        NodeAddress6 | None, Field(description="The node's IPv6 address with its subnet's prefix length.")
    ] = None
    ipv4IPIPTunnelAddr: Annotated[Address4 | None, Field(description="The address of tunl0.")] = None
    routeReflectorClusterID: Annotated[
        Address4 | None, Field(description="Makes this node a route reflector of that cluster.")
    ] = None

    @rule
    def it_has_an_address(self) -> Iterator[Fault]:
        if not self.ipv4Address and not self.ipv6Address:
            yield Fault("", {}, "must have ipv4Address or ipv6Address")
        if self.ipv4IPIPTunnelAddr and not self.ipv4Address:
            yield Fault("ipv4IPIPTunnelAddr", str(self.ipv4IPIPTunnelAddr), "needs ipv4Address")


class OrchRef(Model):
    orchestrator: str
    nodeName: str = ""


class NodeAddress(Model):
    address: Net | None = None
    type: Literal["CalicoNodeIP", "InternalIP", "ExternalIP"] | None = None


class NodeInterface(Model):
    name: str
    addresses: list[Net] = Field(default_factory=list)


class NodeWireguard(Model):
    interfaceIPv4Address: Address4 | None = None
    interfaceIPv6Address: Address6 | None = None


class NodeSpec(Spec):
    bgp: Annotated[NodeBGP | None, Field(description="The node's addresses and its part in BGP.")] = None
    ipv4VXLANTunnelAddr: Annotated[Address4 | None, Field(description="The address of vxlan.calico.")] = None
    vxlanTunnelMACAddr: Annotated[Mac | None, Field(description="The MAC of vxlan.calico.")] = None
    ipv6VXLANTunnelAddr: Annotated[Address6 | None, Field(description="The address of the IPv6 VXLAN.")] = None
    vxlanTunnelMACAddrV6: Annotated[Mac | None, Field(description="Its MAC.")] = None
    wireguard: Annotated[NodeWireguard | None, Field(description="Addresses of WireGuard, which is not used here.")] = (
        None
    )
    orchRefs: Annotated[list[OrchRef], Field(description="What the orchestrators call the node.")] = Field(
        default_factory=list
    )
    addresses: Annotated[list[NodeAddress], Field(description="All of its addresses.")] = Field(default_factory=list)
    interfaces: Annotated[list[NodeInterface], Field(description="Its interfaces.")] = Field(default_factory=list)


class NodeStatus(Model):
    accepts: Annotated[
        list[str] | None,
        Field(description="Ours: the encapsulations that this node can receive at this moment; senders wait for it."),
    ] = None
    sends: Annotated[
        list[str] | None,
        Field(description="Ours: the tunnels that this node still sends through; receivers keep them open."),
    ] = None
    examine: Annotated[
        list[str] | None,
        Field(description="Ours: one word; as soon as it is another one, the node examines its ways to all others."),
    ] = None
    ways: Annotated[
        list[str] | None,
        Field(description="Ours: what it found, after the word that asked for it (`felixlite doctor mtu` reads both)."),
    ] = None
    wireguardPublicKey: str = ""
    wireguardPublicKeyV6: str = ""
    podCIDRs: list[Net] = Field(default_factory=list)


class Node(Resource):
    """A machine that runs an agent."""

    spec: NodeSpec = Field(default_factory=NodeSpec)
    status: NodeStatus | None = None

    def inside(self) -> inside.Node:
        spec = self.spec
        bgp = spec.bgp or NodeBGP()
        return inside.Node(
            name=self.name,
            ipv4=bgp.ipv4Address,
            ipv6=bgp.ipv6Address,
            asn=bgp.asNumber,
            cluster_id=bgp.routeReflectorClusterID,
            ipip_address=bgp.ipv4IPIPTunnelAddr,
            vxlan_address=spec.ipv4VXLANTunnelAddr,
            vxlan_address_v6=spec.ipv6VXLANTunnelAddr,
            vxlan_mac=spec.vxlanTunnelMACAddr,
            vxlan_mac_v6=spec.vxlanTunnelMACAddrV6,
            accepts=_words(self.status.accepts if self.status else None),
            sends=_words(self.status.sends if self.status else None),
            labels=self.metadata.labels,
        )


def _words(listed: list[str] | None) -> frozenset[str] | None:
    return None if listed is None else frozenset(listed)
