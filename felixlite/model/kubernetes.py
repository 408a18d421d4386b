"""The kinds of Kubernetes that the agent reads, as far as it reads them. The API server has validated them.

Node is not here: a store makes Calico's Node of it (datastore/), as it makes a WorkloadEndpoint of a Pod.
"""

from base64 import b64decode
from collections.abc import Iterable, Iterator
from contextlib import suppress
from ipaddress import ip_address
from typing import Annotated, Any, Literal

from pydantic import Field

from felixlite.addresses import Prefix
from felixlite.model.inside import ServiceAddresses
from felixlite.model.policies import StagedAction
from felixlite.model.policy import TCP, Backend
from felixlite.model.resource import Resource, Spec
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import Protocol, SloppyCidr

Map = dict[str, Any]


class Requirement(Model):
    key: str
    operator: Literal["In", "NotIn", "Exists", "DoesNotExist"]
    values: list[str] = Field(default_factory=list)

    @rule
    def values_fit_the_operator(self) -> Iterator[Fault]:
        wants_values = self.operator in ("In", "NotIn")
        if wants_values and not self.values:
            yield Fault("values", [], f"must not be empty with operator {self.operator}")
        if not wants_values and self.values:
            yield Fault("values", self.values, f"must be empty with operator {self.operator}")


class LabelSelector(Model):
    matchLabels: dict[str, str] = Field(default_factory=dict)
    matchExpressions: list[Requirement] = Field(default_factory=list)


class IPBlock(Model):
    cidr: SloppyCidr
    except_: Annotated[list[SloppyCidr], Field(alias="except")] = Field(default_factory=list)


class PolicyPeer(Model):
    podSelector: LabelSelector | None = None
    namespaceSelector: LabelSelector | None = None
    ipBlock: IPBlock | None = None

    @rule
    def a_block_stands_alone(self) -> Iterator[Fault]:
        if self.ipBlock is not None and (self.podSelector is not None or self.namespaceSelector is not None):
            yield Fault(
                "ipBlock", str(self.ipBlock.cidr), "cannot be given together with podSelector or namespaceSelector"
            )


class PolicyPort(Model):
    protocol: Literal["TCP", "UDP", "SCTP"] = "TCP"
    port: Any = None
    endPort: Annotated[int | None, Field(ge=1, le=65535)] = None

    @rule
    def a_range_begins_with_a_number(self) -> Iterator[Fault]:
        if self.endPort is not None and (not isinstance(self.port, int) or self.endPort < self.port):
            yield Fault("endPort", self.endPort, "needs port to be a number that is not more")


class KubernetesRule(Model):
    ports: list[PolicyPort] = Field(default_factory=list)
    to: list[PolicyPeer] = Field(default_factory=list)
    from_: Annotated[list[PolicyPeer], Field(alias="from")] = Field(default_factory=list)


class KubernetesPolicySpec(Spec):
    podSelector: Annotated[
        LabelSelector, Field(description="The pods that the policy applies to; empty: all of the namespace.")
    ] = Field(default_factory=LabelSelector)
    policyTypes: Annotated[
        list[Literal["Ingress", "Egress"]] | None, Field(description="The directions that it decides about.")
    ] = None
    ingress: Annotated[list[KubernetesRule] | None, Field(description="What is allowed in.")] = None
    egress: Annotated[list[KubernetesRule] | None, Field(description="What is allowed out.")] = None


class KubernetesNetworkPolicy(Resource):
    """Kubernetes' own NetworkPolicy (networking.k8s.io/v1)."""

    spec: KubernetesPolicySpec = Field(default_factory=KubernetesPolicySpec)
    status: Map | None = None


class StagedKubernetesPolicySpec(KubernetesPolicySpec):
    stagedAction: Annotated[StagedAction, Field(description="What would be done; nothing is enforced.")] = "Set"


class StagedKubernetesNetworkPolicy(Resource):
    """A NetworkPolicy of Kubernetes that is not in force."""

    spec: StagedKubernetesPolicySpec = Field(default_factory=StagedKubernetesPolicySpec)


class Namespace(Resource):
    """A namespace; its labels are what namespaceSelectors select."""

    spec: Map | None = None
    status: Map | None = None


class ServiceAccount(Resource):
    """A service account; its labels are what serviceAccountSelectors select."""

    secrets: list[Any] | None = None
    imagePullSecrets: list[Any] | None = None
    automountServiceAccountToken: bool | None = None


class Pod(Resource):
    """A pod."""

    spec: Map = Field(default_factory=dict)
    status: Map | None = None


class Service(Resource):
    """A service."""

    spec: Map = Field(default_factory=dict)
    status: Map | None = None

    def inside(self) -> ServiceAddresses:
        """Headless services and ExternalNames have no address; what is none is passed over, as Kubernetes wrote it."""
        spec = self.spec
        if spec.get("type") == "ExternalName" or spec.get("clusterIP") == "None":
            return ServiceAddresses()
        ingress = ((self.status or {}).get("loadBalancer") or {}).get("ingress") or ()
        return ServiceAddresses(
            cluster=hosts(spec.get("clusterIPs") or [spec.get("clusterIP")]),
            external=hosts(spec.get("externalIPs") or ()),
            load_balancer=hosts(one.get("ip") for one in ingress) if spec.get("type") == "LoadBalancer" else (),
            local=spec.get("externalTrafficPolicy") == "Local",
        )


def hosts(texts: Iterable[Any]) -> tuple[Prefix, ...]:
    found = []
    for text in texts:
        with suppress(ValueError):
            found.append(Prefix.host(ip_address(text or "")))
    return tuple(found)


class Endpoint(Model):
    addresses: list[str] = Field(default_factory=list)
    conditions: Map | None = None
    hostname: str | None = None
    targetRef: Map | None = None
    nodeName: str | None = None
    zone: str | None = None
    hints: Map | None = None
    deprecatedTopology: Map | None = None


class SlicePort(Model):
    name: str | None = None
    protocol: Protocol = TCP
    port: int | None = None
    appProtocol: str | None = None


class EndpointSlice(Resource):
    """Endpoints of a service."""

    addressType: Literal["IPv4", "IPv6", "FQDN"]
    endpoints: list[Endpoint] = Field(default_factory=list)
    ports: list[SlicePort] | None = None

    def inside(self) -> tuple[Backend, ...]:
        """Ready or not: what is starting up may already be spoken to by whom a policy lets."""
        if self.addressType == "FQDN":
            return ()
        return tuple(
            Backend(ip_address(address), port.protocol, port.port)
            for endpoint in self.endpoints
            for address in endpoint.addresses
            for port in self.ports or ()
            if port.port is not None
        )

    def is_served_by(self, node: str) -> bool:
        """Whether a ready endpoint is on this node; a condition that nobody wrote means ready."""
        return any(
            endpoint.nodeName == node and (endpoint.conditions or {}).get("ready") is not False
            for endpoint in self.endpoints
        )

    @rule
    def its_addresses_are_addresses(self) -> Iterator[Fault]:
        for i, endpoint in enumerate(self.endpoints if self.addressType != "FQDN" else ()):
            for address in endpoint.addresses:
                try:
                    ip_address(address)
                except ValueError:
                    yield Fault(f"endpoints[{i}].addresses", address, f"must be {self.addressType} addresses")


class Secret(Resource):
    """Passwords, by key, in base64."""

    type: str = "Opaque"
    data: dict[str, str] | None = None
    stringData: dict[str, str] | None = None
    immutable: bool | None = None

    def inside(self) -> dict[str, str]:
        decoded = {key: b64decode(value).decode() for key, value in (self.data or {}).items() if _is_text(value)}
        return decoded | (self.stringData or {})


class LeaseSpec(Spec):
    holderIdentity: str | None = None
    leaseDurationSeconds: int | None = None
    acquireTime: str | None = None
    renewTime: str | None = None
    leaseTransitions: int | None = None


class Lease(Resource):
    """Which of several processes is the one that acts."""

    spec: LeaseSpec = Field(default_factory=LeaseSpec)


def _is_text(encoded: str) -> bool:
    try:
        b64decode(encoded, validate=True).decode()
    except ValueError:
        return False
    return True
