"""IPPool and IPReservation: which addresses there are, and how their traffic travels. Reference 2.1, 2.12."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from felixlite.addresses import Prefix
from felixlite.model import inside
from felixlite.model.resource import Resource, Spec, default
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import Cidr, Net, Selector

FORBIDDEN = tuple(map(Prefix.parse, ("169.254.0.0/16", "fe80::/10")))
BLOCK_SIZES = {4: (20, 32, 26), 6: (116, 128, 122)}  # smallest, largest, default

Mode = Literal["Never", "Always", "CrossSubnet"]
Use = Literal["Workload", "Tunnel", "LoadBalancer"]


def _usual_uses() -> list[Use]:
    return ["Workload", "Tunnel"]


class IPPoolSpec(Spec):
    cidr: Annotated[Cidr, Field(description="The addresses of the pool. Cannot be changed.", examples=["10.42.0.0/16"])]
    ipipMode: Annotated[
        Mode, Field(description="When traffic between nodes travels in IPIP: always, or only between subnets.")
    ] = "Never"
    vxlanMode: Annotated[Mode, Field(description="When traffic between nodes travels in VXLAN.")] = "Never"
    natOutgoing: Annotated[
        bool, Field(description="Masquerade what pods of this pool send to addresses outside of all pools.")
    ] = False
    disabled: Annotated[bool, Field(description="Assign no new addresses; what is assigned stays.")] = False
    disableBGPExport: Annotated[bool, Field(description="Announce nothing of this pool over BGP.")] = False
    blockSize: Annotated[
        int | None,
        Field(description="Prefix length of the blocks that nodes own: 20-32, or 116-128 for IPv6. Cannot be changed."),
    ] = None
    nodeSelector: Annotated[Selector | None, Field(description="The nodes that may assign from this pool.")] = None
    namespaceSelector: Annotated[
        Selector | None, Field(description="The namespaces whose pods may get an address of this pool.")
    ] = None
    allowedUses: Annotated[
        list[Use],
        Field(description="What its addresses may be used for.", max_length=8),  # an end, or CEL refuses to count
    ] = Field(default_factory=_usual_uses)
    assignmentMode: Annotated[
        Literal["Automatic", "Manual"], Field(description="Manual: only used by who asks for this pool.")
    ] = "Automatic"

    @property
    def size(self) -> int:
        return self.blockSize if self.blockSize is not None else BLOCK_SIZES[self.cidr.family][2]

    @rule
    def it_stays_clear_of_link_local(self) -> Iterator[Fault]:
        for forbidden in FORBIDDEN:
            if self.cidr.overlaps(forbidden):
                yield Fault("cidr", str(self.cidr), f"must not overlap {forbidden}, which is link-local")

    @rule
    def a_block_has_a_sensible_size(self) -> Iterator[Fault]:
        low, high, _ = BLOCK_SIZES[self.cidr.family]
        if not low <= self.size <= high:
            yield Fault("blockSize", self.size, f"must be from {low} to {high} for IPv{self.cidr.family}")

    @rule
    def a_block_fits_into_the_pool(self) -> Iterator[Fault]:
        low, high, _ = BLOCK_SIZES[self.cidr.family]
        if not self.disabled and low <= self.size <= high and self.cidr.length > self.size:
            yield Fault("cidr", str(self.cidr), f"is smaller than one block (/{self.size}); widen it or set blockSize")

    @rule
    def one_encapsulation_only(self) -> Iterator[Fault]:
        if self.ipipMode != "Never" and self.vxlanMode != "Never":
            yield Fault("ipipMode", self.ipipMode, f"must be Never while vxlanMode is {self.vxlanMode}")

    @rule
    def ipip_carries_ipv4(self) -> Iterator[Fault]:
        if self.ipipMode != "Never" and self.cidr.family == 6:
            yield Fault("ipipMode", self.ipipMode, "must be Never for an IPv6 pool; vxlanMode can carry it")

    @rule
    def nodes_are_not_global(self) -> Iterator[Fault]:
        for field in ("nodeSelector", "namespaceSelector"):
            if (selector := getattr(self, field)) and selector.mentions_global:
                yield Fault(field, selector.text, "must not use global()")

    @rule
    def it_is_used_for_something(self) -> Iterator[Fault]:
        if not self.allowedUses:
            yield Fault("allowedUses", [], "must name at least one of Workload, Tunnel, LoadBalancer")
        if len(set(self.allowedUses)) < len(self.allowedUses):
            yield Fault("allowedUses", self.allowedUses, "must name each use once")

    @rule
    def tunnels_have_no_namespace(self) -> Iterator[Fault]:
        if self.namespaceSelector and self.namespaceSelector.text != "all()" and "Tunnel" in self.allowedUses:
            yield Fault(
                "namespaceSelector", self.namespaceSelector.text, "needs allowedUses without Tunnel, such as [Workload]"
            )

    @rule
    def load_balancer_pools_are_for_nothing_else(self) -> Iterator[Fault]:
        if "LoadBalancer" not in self.allowedUses:
            return
        if len(self.allowedUses) > 1:
            yield Fault("allowedUses", self.allowedUses, "LoadBalancer excludes every other use")
        for field in ("ipipMode", "vxlanMode"):
            if getattr(self, field) != "Never":
                yield Fault(field, getattr(self, field), "must be Never in a pool for LoadBalancer")
        if self.nodeSelector and self.nodeSelector.text != "all()":
            yield Fault("nodeSelector", self.nodeSelector.text, "must be all() in a pool for LoadBalancer")
        if self.disableBGPExport:
            yield Fault("disableBGPExport", True, "must be false in a pool for LoadBalancer")


class Condition(Model):
    type: str
    status: str
    reason: str = ""
    message: str = ""
    lastTransitionTime: Any = None
    observedGeneration: int | None = None


class IPPoolStatus(Model):
    conditions: list[Condition] = Field(default_factory=list)


class IPPool(Resource):
    """A range of addresses for pods, and how their traffic travels between nodes."""

    spec: IPPoolSpec
    status: IPPoolStatus | None = None

    @classmethod
    def filled(cls, document: dict[str, Any]) -> None:
        spec = document["spec"]
        default(spec, ipipMode="Never", vxlanMode="Never", nodeSelector="all()", assignmentMode="Automatic")
        default(spec, allowedUses=["Workload", "Tunnel"])
        default(spec, blockSize=BLOCK_SIZES[6 if ":" in spec["cidr"] else 4][2])

    @property
    def allocatable(self) -> bool:
        conditions = self.status.conditions if self.status else []
        return all(c.status != "False" for c in conditions if c.type == "Allocatable") and self.not_doomed

    @property
    def not_doomed(self) -> bool:
        return self.metadata.deletionTimestamp is None

    def inside(self) -> inside.Pool:
        spec = self.spec
        return inside.Pool(
            name=self.name,
            cidr=spec.cidr,
            ipip=inside.Mode(spec.ipipMode),
            vxlan=inside.Mode(spec.vxlanMode),
            nat_outgoing=spec.natOutgoing,
            disabled=spec.disabled,
            disable_bgp_export=spec.disableBGPExport,
            block_size=spec.size,
            node_selector=spec.nodeSelector,
            namespace_selector=spec.namespaceSelector,
            allowed_uses=frozenset(map(inside.Use, spec.allowedUses)),
            automatic=spec.assignmentMode == "Automatic",
            allocatable=self.allocatable,
        )


class IPReservationSpec(Spec):
    reservedCIDRs: Annotated[
        list[Net], Field(description="Addresses that are never assigned unless somebody asks for exactly that one.")
    ] = Field(default_factory=list)


class IPReservation(Resource):
    """Addresses inside pools that are kept free."""

    spec: IPReservationSpec = Field(default_factory=IPReservationSpec)

    def inside(self) -> tuple[Prefix, ...]:
        return tuple(self.spec.reservedCIDRs)
