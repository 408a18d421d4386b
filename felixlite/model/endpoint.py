"""WorkloadEndpoint and HostEndpoint: the interfaces that policy is about. Reference 2.6, 2.7."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import Field

from felixlite.model import inside
from felixlite.model.fromkubernetes import MOST_MTU
from felixlite.model.policy import PROTOCOL_NAMES
from felixlite.model.resource import Resource, Spec
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import (
    Address,
    Address4,
    Address6,
    Dscp,
    HostNet,
    Interface,
    InterfacePattern,
    Mac,
    Name,
    Net,
    PortNumber,
    Protocol,
)


class EndpointPort(Model):
    name: str
    protocol: Protocol
    port: PortNumber
    hostPort: Annotated[int, Field(ge=0, le=65535)] = 0
    hostIP: str = ""


class IPNat(Model):
    internalIP: Address
    externalIP: Address

    @rule
    def both_are_of_one_family(self) -> Iterator[Fault]:
        if self.internalIP.version != self.externalIP.version:
            yield Fault("externalIP", str(self.externalIP), f"must be IPv{self.internalIP.version}, as internalIP is")


class QosControls(Model):
    ingressBandwidth: Annotated[int | None, Field(ge=1_000, le=10**15, description="Bits a second.")] = None
    egressBandwidth: Annotated[int | None, Field(ge=1_000, le=10**15, description="Bits a second.")] = None
    ingressBurst: Annotated[int | None, Field(ge=1_000, le=34_359_738_360)] = None
    egressBurst: Annotated[int | None, Field(ge=1_000, le=34_359_738_360)] = None
    ingressPeakrate: Annotated[int | None, Field(ge=1_010)] = None
    egressPeakrate: Annotated[int | None, Field(ge=1_010)] = None
    ingressMinburst: Annotated[int | None, Field(ge=1_000, le=100_000_000)] = None
    egressMinburst: Annotated[int | None, Field(ge=1_000, le=100_000_000)] = None
    ingressPacketRate: Annotated[int | None, Field(ge=1, le=10_000)] = None
    egressPacketRate: Annotated[int | None, Field(ge=1, le=10_000)] = None
    ingressPacketBurst: Annotated[int | None, Field(ge=1)] = None
    egressPacketBurst: Annotated[int | None, Field(ge=1)] = None
    ingressMaxConnections: Annotated[int | None, Field(ge=1, le=2**32 - 1)] = None
    egressMaxConnections: Annotated[int | None, Field(ge=1, le=2**32 - 1)] = None
    dscp: Dscp | None = None


class WorkloadEndpointSpec(Spec):
    orchestrator: Annotated[str, Field(description="Who runs the workload: k8s, cni.")] = ""
    workload: Annotated[str, Field(description="Its name there, where that is not a pod.")] = ""
    node: Annotated[str, Field(min_length=1, description="The node that the workload runs on.")]
    containerID: Annotated[str, Field(description="The container that the interface was made for.")] = ""
    pod: Annotated[str, Field(description="The pod.")] = ""
    endpoint: Annotated[str, Field(description="The name of the interface inside.")] = ""
    serviceAccountName: Annotated[str, Field(description="The service account of the pod.")] = ""
    ipNetworks: Annotated[list[HostNet], Field(description="Its addresses.")] = Field(default_factory=list)
    ipNATs: Annotated[list[IPNat], Field(description="Addresses that are translated to its own; not done here.")] = (
        Field(default_factory=list)
    )
    ipv4Gateway: Annotated[Address4 | None, Field(description="Its gateway.")] = None
    ipv6Gateway: Annotated[Address6 | None, Field(description="Its IPv6 gateway.")] = None
    profiles: Annotated[list[Name], Field(description="Profiles whose labels and rules it has.")] = Field(
        default_factory=list
    )
    interfaceName: Annotated[Interface | None, Field(description="The host's side of its link.")] = None
    mac: Annotated[Mac | None, Field(description="The MAC of the interface inside.")] = None
    ports: Annotated[list[EndpointPort], Field(description="Names for its ports, for policies.")] = Field(
        default_factory=list
    )
    allowSpoofedSourcePrefixes: Annotated[
        list[Net], Field(description="Sources that it may send as, besides its own addresses.")
    ] = Field(default_factory=list)
    qosControls: Annotated[QosControls | None, Field(description="Limits of its traffic; not enforced here.")] = None


class WorkloadEndpoint(Resource):
    """One interface of a pod (or of any workload)."""

    spec: WorkloadEndpointSpec

    def inside(self) -> inside.Workload:
        spec = self.spec
        return inside.Workload(
            name=self.name,
            namespace=self.namespace,
            node=spec.node,
            interface=spec.interfaceName or "",
            addresses=tuple(spec.ipNetworks),
            mac=spec.mac,
            pod=spec.pod,
            container=spec.containerID,
            labels=self.metadata.labels,
            profiles=tuple(spec.profiles),
            service_account=spec.serviceAccountName,
            ports=tuple(
                inside.NamedPort(p.name, PROTOCOL_NAMES.get(p.protocol, str(p.protocol)), p.port) for p in spec.ports
            ),
            may_send_as=tuple(spec.allowSpoofedSourcePrefixes),
            most_mtu=_number(self.metadata.annotations.get(MOST_MTU, "")),
        )


def _number(text: str) -> int | None:
    """Whoever may write annotations of a pod may write anything there."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) < 6 else None


class HostEndpointSpec(Spec):
    node: Annotated[str, Field(min_length=1, description="The node that it is an interface of.")]
    interfaceName: Annotated[
        InterfacePattern | None, Field(description="The interface; * is all of them and the host itself.")
    ] = None
    expectedIPs: Annotated[list[Address], Field(description="Addresses by which the interface is recognised.")] = Field(
        default_factory=list
    )
    profiles: Annotated[list[Name], Field(description="Profiles whose rules it has.")] = Field(default_factory=list)
    ports: Annotated[list[EndpointPort], Field(description="Names for its ports, for policies.")] = Field(
        default_factory=list
    )

    @rule
    def it_says_which_interface(self) -> Iterator[Fault]:
        if not self.interfaceName and not self.expectedIPs:
            yield Fault("interfaceName", None, "interfaceName or expectedIPs is required")
        if self.interfaceName and "*" in self.interfaceName and self.interfaceName != "*":
            yield Fault("interfaceName", self.interfaceName, "must be one interface's name, or * alone")


class HostEndpoint(Resource):
    """An interface of a node, for policies about the node's own traffic."""

    spec: HostEndpointSpec
