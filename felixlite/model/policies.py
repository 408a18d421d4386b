"""NetworkPolicy and GlobalNetworkPolicy, and their staged forms, which are never enforced. Reference 2.8."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from felixlite.model import policy
from felixlite.model.resource import Resource, Spec
from felixlite.model.rules import PolicyRule, enforceable, never_global
from felixlite.model.selector import ALL
from felixlite.model.shape import Fault, rule
from felixlite.model.words import Selector, TierName

TIER_LABEL = "projectcalico.org/tier"
Direction = Literal["Ingress", "Egress"]
StagedAction = Literal["Set", "Delete", "Learn", "Ignore"]
Rules = Annotated[list[PolicyRule], Field(max_length=1024)]


class PolicySpec(Spec):
    tier: Annotated[TierName, Field(description="The tier that the policy is in.")] = policy.DEFAULT_TIER
    order: Annotated[
        float | None, Field(allow_inf_nan=False, description="Lower is earlier; without one: after all that have one.")
    ] = None
    selector: Annotated[Selector | None, Field(description="The endpoints that the policy applies to.")] = None
    serviceAccountSelector: Annotated[
        Selector | None, Field(description="... and only if their service account is one that this selects.")
    ] = None
    types: Annotated[
        list[Direction] | None, Field(description="The directions that it decides about; else those it has rules for.")
    ] = None
    ingress: Annotated[Rules, Field(description="Rules for connections to the endpoints, in order.")] = Field(
        default_factory=list
    )
    egress: Annotated[Rules, Field(description="Rules for connections from the endpoints, in order.")] = Field(
        default_factory=list
    )
    performanceHints: Annotated[list[Literal["AssumeNeededOnEveryNode"]], Field(description="Passed over.")] = Field(
        default_factory=list
    )

    @property
    def directions(self) -> list[str]:
        """What `types` means when it is left out, or empty."""
        return list(self.types or ()) or types_of({"ingress": self.ingress, "egress": self.egress})

    @rule
    def it_does_not_select_globally(self) -> Iterator[Fault]:
        for field in ("selector", "serviceAccountSelector"):
            yield from never_global(field, getattr(self, field))

    @rule
    def each_direction_is_named_once(self) -> Iterator[Fault]:
        if self.types and len(set(self.types)) < len(self.types):
            yield Fault("types", self.types, "must name each direction once")

    @rule
    def services_are_on_the_far_side(self) -> Iterator[Fault]:
        for i, one in enumerate(self.ingress):
            if one.destination and one.destination.services:
                yield Fault(f"ingress[{i}].destination.services", one.destination.services.name, "belongs into source")
        for i, one in enumerate(self.egress):
            if one.source and one.source.services:
                yield Fault(f"egress[{i}].source.services", one.source.services.name, "belongs into destination")

    @rule
    def http_is_for_ingress(self) -> Iterator[Fault]:
        for i, one in enumerate(self.egress):
            if one.http:
                yield Fault(f"egress[{i}].http", one.http.methods, "is possible in ingress rules only")


def types_of(spec: dict[str, Any]) -> list[str]:
    """Which directions a policy without `types` decides about."""
    egress = ["Egress"] if spec.get("egress") else []
    return (["Ingress"] if spec.get("ingress") or not egress else []) + egress


class GlobalPolicySpec(PolicySpec):
    namespaceSelector: Annotated[
        Selector | None, Field(description="Only endpoints in namespaces that this selects.")
    ] = None
    doNotTrack: Annotated[bool, Field(description="For host endpoints, before connection tracking.")] = False
    preDNAT: Annotated[bool, Field(description="For host endpoints, before destination NAT.")] = False
    applyOnForward: Annotated[bool, Field(description="For host endpoints: also what is forwarded.")] = False

    @rule
    def untracked_or_before_nat(self) -> Iterator[Fault]:
        if self.doNotTrack and self.preDNAT:
            yield Fault("preDNAT", True, "cannot be given together with doNotTrack")
        for field in ("doNotTrack", "preDNAT"):
            if getattr(self, field) and not self.applyOnForward:
                yield Fault("applyOnForward", False, f"must be true with {field}")

    @rule
    def before_nat_there_is_only_ingress(self) -> Iterator[Fault]:
        if self.preDNAT and self.egress:
            yield Fault("egress", f"{len(self.egress)} rules", "must be empty with preDNAT")
        if self.preDNAT and "Egress" in (self.types or []):
            yield Fault("types", self.types, "must be [Ingress] with preDNAT")

    @rule
    def its_services_name_their_namespace(self) -> Iterator[Fault]:
        for field, side in (("ingress", "source"), ("egress", "destination")):
            for i, one in enumerate(getattr(self, field)):
                services = getattr(getattr(one, side), "services", None)
                if services and not services.namespace:
                    yield Fault(f"{field}[{i}].{side}.services.namespace", None, "is required in a global policy")


class _Policy(Resource):
    @classmethod
    def filled(cls, document: dict[str, Any]) -> None:
        spec = document.setdefault("spec", {})
        spec.setdefault("tier", policy.DEFAULT_TIER)
        if not spec.get("types"):
            spec["types"] = types_of(spec)
        document["metadata"].setdefault("labels", {})[TIER_LABEL] = spec["tier"]


def _inside(document: Resource, spec: PolicySpec, **more: Any) -> policy.Policy:
    return policy.Policy(
        kind=document.kind,
        name=document.name,
        namespace=document.namespace,
        tier=spec.tier,
        order=spec.order,
        selector=spec.selector or ALL,
        service_account_selector=spec.serviceAccountSelector,
        types=frozenset(map(policy.Direction, spec.directions)),
        ingress=enforceable(spec.ingress, document.namespace),
        egress=enforceable(spec.egress, document.namespace),
        **more,
    )


class NetworkPolicy(_Policy):
    """Who may talk to and from the pods that it selects in its namespace."""

    spec: PolicySpec = Field(default_factory=PolicySpec)

    def inside(self) -> policy.Policy:
        return _inside(self, self.spec)


class GlobalNetworkPolicy(_Policy):
    """Who may talk to and from the endpoints that it selects in all namespaces."""

    spec: GlobalPolicySpec = Field(default_factory=GlobalPolicySpec)

    def inside(self) -> policy.Policy | None:
        """None: it is about host endpoints alone, which are not enforced."""
        if self.spec.doNotTrack or self.spec.preDNAT:
            return None
        return _inside(self, self.spec, namespace_selector=self.spec.namespaceSelector)


class _Staged(PolicySpec):
    stagedAction: Annotated[StagedAction, Field(description="What would be done; nothing is enforced.")] = "Set"

    @rule
    def a_deletion_has_no_rules(self) -> Iterator[Fault]:
        if self.stagedAction == "Delete" and (self.ingress or self.egress):
            yield Fault("stagedAction", "Delete", "cannot have rules")


class StagedPolicySpec(_Staged):
    pass


class StagedGlobalPolicySpec(_Staged, GlobalPolicySpec):
    pass


class StagedNetworkPolicy(_Policy):
    """A NetworkPolicy that is not in force, to see what it would do."""

    spec: StagedPolicySpec = Field(default_factory=StagedPolicySpec)


class StagedGlobalNetworkPolicy(_Policy):
    """A GlobalNetworkPolicy that is not in force, to see what it would do."""

    spec: StagedGlobalPolicySpec = Field(default_factory=StagedGlobalPolicySpec)
