"""BGPFilter: which routes a session takes and gives, and what is changed on the way. Reference 2.4."""

from collections.abc import Iterator
from typing import Annotated, ClassVar, Literal

from pydantic import Field

from felixlite.model import inside
from felixlite.model.resource import Resource, Spec
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import AsNumber, Cidr, Community, InterfacePattern, Priority

WIDTH = {4: 32, 6: 128}


class PrefixLength(Model):
    min: int | None = None
    max: int | None = None


class CommunityMatch(Model):
    values: Annotated[list[Community], Field(min_length=1, max_length=1)]


class AddCommunity(Model):
    value: Community


class PrependAsPath(Model):
    prefix: Annotated[list[AsNumber], Field(min_length=1, max_length=10)]


class SetPriority(Model):
    value: Priority


class Operation(Model):
    addCommunity: AddCommunity | None = None
    prependASPath: PrependAsPath | None = None
    setPriority: SetPriority | None = None

    @rule
    def it_is_one(self) -> Iterator[Fault]:
        given = [name for name in type(self).model_fields if getattr(self, name) is not None]
        if len(given) != 1:
            yield Fault("", given, "must have exactly one of addCommunity, prependASPath, setPriority")

    def inside(self) -> inside.FilterOperation:
        return inside.FilterOperation(
            add_community=self.addCommunity.value if self.addCommunity else "",
            prepend=tuple(self.prependASPath.prefix) if self.prependASPath else (),
            set_priority=self.setPriority.value if self.setPriority else None,
        )


class _FilterRule(Model):
    family: ClassVar[int]

    action: Annotated[Literal["Accept", "Reject"], Field(description="What happens to a route that the rule matches.")]
    cidr: Annotated[Cidr | None, Field(description="Compared with the route's prefix by matchOperator.")] = None
    matchOperator: Annotated[
        Literal["Equal", "NotEqual", "In", "NotIn"] | None, Field(description="How cidr is compared.")
    ] = None
    prefixLength: PrefixLength | None = None
    source: Annotated[Literal["RemotePeers"] | None, Field(description="Only what came from BGP peers.")] = None
    interface: Annotated[InterfacePattern | None, Field(description="Only what leaves by this interface.")] = None
    peerType: Annotated[Literal["eBGP", "iBGP"] | None, Field(description="Only in sessions of this type.")] = None
    communities: Annotated[CommunityMatch | None, Field(description="Only what carries this community.")] = None
    asPathPrefix: Annotated[list[AsNumber], Field(description="Only if the AS path begins with these.")] = Field(
        default_factory=list
    )
    priority: Annotated[Priority | None, Field(description="Only what has this priority.")] = None
    operations: Annotated[
        list[Operation], Field(max_length=10, description="What is changed on an accepted route.")
    ] = Field(default_factory=list)

    @rule
    def a_cidr_and_its_operator_come_together(self) -> Iterator[Fault]:
        if (self.cidr is None) != (self.matchOperator is None):
            field = "matchOperator" if self.matchOperator is None else "cidr"
            yield Fault(field, None, "is required: cidr and matchOperator are given together or not at all")

    @rule
    def the_cidr_is_of_the_lists_ip_version(self) -> Iterator[Fault]:
        if self.cidr is not None and self.cidr.family != self.family:
            yield Fault("cidr", str(self.cidr), f"must be IPv{self.family} in this list")

    @rule
    def a_prefix_length_is_within_the_cidr(self) -> Iterator[Fault]:
        given = self.prefixLength
        if given is None:
            return
        if self.cidr is None:
            yield Fault("prefixLength", given.model_dump(), "needs a cidr")
        for field, value in (("min", given.min), ("max", given.max)):
            if value is not None and not 0 <= value <= WIDTH[self.family]:
                yield Fault(f"prefixLength.{field}", value, f"must be from 0 to {WIDTH[self.family]}")
        if given.min is not None and given.max is not None and given.min > given.max:
            yield Fault("prefixLength.min", given.min, f"must not be more than max, {given.max}")

    @rule
    def only_what_is_accepted_is_changed(self) -> Iterator[Fault]:
        if self.operations and self.action != "Accept":
            yield Fault("operations", f"{len(self.operations)} operations", "need action Accept")

    def inside(self) -> inside.FilterRule:
        length = self.prefixLength or PrefixLength()
        return inside.FilterRule(
            accept=self.action == "Accept",
            cidr=self.cidr,
            operator=self.matchOperator or "",
            min_length=length.min,
            max_length=length.max,
            remote_only=self.source == "RemotePeers",
            interface=self.interface or "",
            peer_type=self.peerType or "",
            community=self.communities.values[0] if self.communities else "",
            as_path_prefix=tuple(self.asPathPrefix),
            priority=self.priority,
            operations=tuple(operation.inside() for operation in self.operations),
        )


class FilterRuleV4(_FilterRule):
    family = 4


class FilterRuleV6(_FilterRule):
    family = 6


class BGPFilterSpec(Spec):
    """In each list the first rule that matches decides; after all lists the usual filters do."""

    exportV4: Annotated[list[FilterRuleV4], Field(description="For IPv4 routes to the peer.")] = Field(
        default_factory=list
    )
    importV4: Annotated[list[FilterRuleV4], Field(description="For IPv4 routes from the peer.")] = Field(
        default_factory=list
    )
    exportV6: Annotated[list[FilterRuleV6], Field(description="For IPv6 routes to the peer.")] = Field(
        default_factory=list
    )
    importV6: Annotated[list[FilterRuleV6], Field(description="For IPv6 routes from the peer.")] = Field(
        default_factory=list
    )


class BGPFilter(Resource):
    """Rules for the routes of the sessions that name it."""

    spec: BGPFilterSpec = Field(default_factory=BGPFilterSpec)

    def inside(self) -> inside.BgpFilter:
        spec = self.spec
        return inside.BgpFilter(
            name=self.name,
            imports={4: _inside(spec.importV4), 6: _inside(spec.importV6)},
            exports={4: _inside(spec.exportV4), 6: _inside(spec.exportV6)},
        )


def _inside(rules: list[FilterRuleV4] | list[FilterRuleV6]) -> tuple[inside.FilterRule, ...]:
    return tuple(one.inside() for one in rules)
