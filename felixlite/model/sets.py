"""Tier, NetworkSet, GlobalNetworkSet, Profile: what policies refer to. Reference 2.9-2.11."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from felixlite.model import policy
from felixlite.model.resource import Resource, Spec, default
from felixlite.model.rules import PolicyRule, enforceable
from felixlite.model.shape import Fault, rule
from felixlite.model.words import Net


class TierSpec(Spec):
    order: Annotated[
        float | None, Field(allow_inf_nan=False, description="Lower is earlier; without one: after all that have one.")
    ] = None
    defaultAction: Annotated[
        Literal["Deny", "Pass"],
        Field(description="For connections that policies of the tier are about and no rule of theirs decided."),
    ] = "Deny"


class Tier(Resource):
    """A group of policies that are evaluated together."""

    spec: TierSpec = Field(default_factory=TierSpec)

    @rule
    def its_name_is_short_and_has_no_dots(self) -> Iterator[Fault]:
        if "." in self.name or len(self.name) > 63:
            yield Fault("metadata.name", self.name, "must have no dots and at most 63 characters")

    @rule
    def built_in_tiers_keep_their_place(self) -> Iterator[Fault]:
        known = policy.BUILT_IN_TIERS.get(self.name)
        if known is None:
            return
        if self.spec.order != known.order:
            yield Fault("spec.order", self.spec.order, f"must be {known.order:g} for the built-in tier {known.name}")
        if self.spec.defaultAction != known.default_action:
            yield Fault("spec.defaultAction", self.spec.defaultAction, f"must be {known.default_action}")

    @classmethod
    def filled(cls, document: dict[str, Any]) -> None:
        default(document.setdefault("spec", {}), defaultAction="Deny")

    def inside(self) -> policy.Tier:
        return policy.Tier(self.name, self.spec.order, policy.Action(self.spec.defaultAction))


class NetworkSetSpec(Spec):
    nets: Annotated[list[Net], Field(description="Addresses that a selector on this set's labels stands for.")] = Field(
        default_factory=list
    )


class GlobalNetworkSet(Resource):
    """Addresses outside of the cluster, to be selected by label from every namespace."""

    spec: NetworkSetSpec = Field(default_factory=NetworkSetSpec)

    def inside(self) -> policy.NetworkSet:
        return policy.NetworkSet(self.name, self.namespace, tuple(self.spec.nets), self.metadata.labels)


class NetworkSet(GlobalNetworkSet):
    """Addresses outside of the cluster, to be selected by label from policies of its namespace."""


class ProfileSpec(Spec):
    ingress: Annotated[
        list[PolicyRule], Field(max_length=1024, description="Rules for connections to the endpoints.")
    ] = Field(default_factory=list)
    egress: Annotated[list[PolicyRule], Field(max_length=1024, description="Rules for connections from them.")] = Field(
        default_factory=list
    )
    labelsToApply: Annotated[
        dict[str, str], Field(description="Labels that the endpoints with this profile inherit.")
    ] = Field(default_factory=dict)


class Profile(Resource):
    """Rules for the endpoints that name it, after all policies."""

    spec: ProfileSpec = Field(default_factory=ProfileSpec)

    def inside(self) -> policy.Profile:
        spec = self.spec
        return policy.Profile(
            self.name, enforceable(spec.ingress, ""), enforceable(spec.egress, ""), spec.labelsToApply
        )
