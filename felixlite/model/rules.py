"""The rules of a policy as users write them, and what must hold between their fields. Reference 2.8."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from felixlite.model import policy
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import Name, Net, Port, Protocol, Selector

ICMP_OF = {policy.ICMP: 4, policy.ICMPV6: 6}


class Icmp(Model):
    type: Annotated[int | None, Field(ge=0, le=254, description="The type of ICMP message.")] = None
    code: Annotated[int | None, Field(ge=0, le=255, description="Its code; needs a type.")] = None

    @rule
    def a_code_belongs_to_a_type(self) -> Iterator[Fault]:
        if self.code is not None and self.type is None:
            yield Fault("code", self.code, "needs a type")

    def inside(self) -> policy.Icmp:
        return policy.Icmp(self.type, self.code)


class ServiceAccounts(Model):
    names: list[Name] = Field(default_factory=list)
    selector: Selector | None = None


class ServiceMatch(Model):
    name: Name
    namespace: Name | None = None


class HttpPath(Model):
    exact: str | None = None
    prefix: str | None = None

    @rule
    def one_of_the_two(self) -> Iterator[Fault]:
        if (self.exact is None) == (self.prefix is None):
            yield Fault("", {"exact": self.exact, "prefix": self.prefix}, "must have either exact or prefix")


class HttpMatch(Model):
    methods: list[str] = Field(default_factory=list)
    paths: list[HttpPath] = Field(default_factory=list)


class RuleMetadata(Model):
    annotations: dict[str, str] = Field(default_factory=dict)


class EntityRule(Model):
    nets: Annotated[list[Net], Field(max_length=256, description="Its address is in one of these.")] = Field(
        default_factory=list
    )
    notNets: Annotated[list[Net], Field(max_length=256, description="Its address is in none of these.")] = Field(
        default_factory=list
    )
    selector: Annotated[Selector | None, Field(description="It is an endpoint or network set that this selects.")] = (
        None
    )
    notSelector: Annotated[Selector | None, Field(description="It is none that this selects.")] = None
    namespaceSelector: Annotated[
        Selector | None, Field(description="Its namespace is one that this selects; global() is: it has none.")
    ] = None
    ports: Annotated[list[Port], Field(max_length=50, description="Numbers, ranges a:b, or names of ports.")] = Field(
        default_factory=list
    )
    notPorts: Annotated[list[Port], Field(max_length=50)] = Field(default_factory=list)
    serviceAccounts: ServiceAccounts | None = None
    services: Annotated[ServiceMatch | None, Field(description="It is one of this service's endpoints.")] = None

    @rule
    def something_is_left_after_not_nets(self) -> Iterator[Fault]:
        for i, net in enumerate(self.notNets):
            if net.length == 0:
                yield Fault(f"notNets[{i}]", str(net), "would match nothing at all")

    @rule
    def a_service_stands_alone(self) -> Iterator[Fault]:
        if self.services is None:
            return
        for field in ("nets", "notNets", "selector", "notSelector", "namespaceSelector", "serviceAccounts"):
            if getattr(self, field):
                yield Fault("services", self.services.name, f"cannot be given together with {field}")
        for field in ("ports", "notPorts"):
            if getattr(self, field):
                yield Fault(
                    field, len(getattr(self, field)), "cannot be given together with services, which has its own"
                )

    @rule
    def global_stands_alone_and_only_for_namespaces(self) -> Iterator[Fault]:
        for field in ("selector", "notSelector"):
            yield from never_global(field, getattr(self, field))
        if (found := self.namespaceSelector) and found.mentions_global and found.text != "global()":
            yield Fault("namespaceSelector", found.text, "global() must stand alone")

    @property
    def families(self) -> set[int]:
        return {net.family for net in (*self.nets, *self.notNets)}

    def inside(self, namespace: str) -> policy.EntityRule:
        accounts, service = self.serviceAccounts, self.services
        return policy.EntityRule(
            nets=tuple(self.nets),
            not_nets=tuple(self.notNets),
            selector=self.selector,
            not_selector=self.notSelector,
            namespace_selector=self.namespaceSelector,
            service_accounts=policy.ServiceAccounts(tuple(accounts.names), accounts.selector) if accounts else None,
            ports=tuple(self.ports),
            not_ports=tuple(self.notPorts),
            service=policy.ServiceRef(service.name, service.namespace or namespace) if service else None,
        )


class PolicyRule(Model):
    action: Annotated[
        Literal["Allow", "Deny", "Log", "Pass"],
        Field(description="What happens to a connection that the rule matches."),
    ]
    ipVersion: Annotated[Literal[4, 6] | None, Field(description="Only packets of this IP version.")] = None
    protocol: Annotated[Protocol | None, Field(description="TCP, UDP, ICMP, ICMPv6, SCTP, UDPLite, or a number.")] = (
        None
    )
    notProtocol: Protocol | None = None
    icmp: Icmp | None = None
    notICMP: Annotated[
        Icmp | None, Field(description="Only ICMP messages that are not such; without a type it restricts nothing.")
    ] = None
    source: Annotated[EntityRule | None, Field(description="Where the connection comes from.")] = None
    destination: Annotated[EntityRule | None, Field(description="Where the connection goes to.")] = None
    http: Annotated[HttpMatch | None, Field(description="Not enforced: a rule with it allows nothing.")] = None
    metadata: RuleMetadata | None = None

    @property
    def sides(self) -> tuple[tuple[str, EntityRule], ...]:
        both = (("source", self.source), ("destination", self.destination))
        return tuple((name, side) for name, side in both if side is not None)

    @rule
    def ports_need_a_protocol_that_has_them(self) -> Iterator[Fault]:
        if self.protocol in policy.WITH_PORTS:
            return
        named = ", ".join(sorted(policy.PROTOCOL_NAMES[number] for number in policy.WITH_PORTS))
        for name, side in self.sides:
            for field in ("ports", "notPorts"):
                if getattr(side, field):
                    found = [str(port) for port in getattr(side, field)]
                    yield Fault(f"{name}.{field}", found, f"needs protocol to be one of {named}")

    @rule
    def icmp_needs_its_protocol(self) -> Iterator[Fault]:
        for field in ("icmp", "notICMP"):
            if getattr(self, field) and self.protocol not in ICMP_OF:
                yield Fault(field, getattr(self, field).model_dump(), "needs protocol to be ICMP or ICMPv6")

    @rule
    def the_ip_version_is_one(self) -> Iterator[Fault]:
        wanted = ICMP_OF.get(self.protocol or 0)
        if wanted and self.ipVersion and wanted != self.ipVersion:
            name = policy.PROTOCOL_NAMES[self.protocol or 0]
            yield Fault("ipVersion", self.ipVersion, f"must be {wanted} with protocol {name}")

    @rule
    def the_nets_are_of_one_ip_version(self) -> Iterator[Fault]:
        found = {family for _, side in self.sides for family in side.families}
        if len(found) > 1:
            nets = [str(net) for _, side in self.sides for net in (*side.nets, *side.notNets)]
            yield Fault("", nets, "nets of IPv4 and of IPv6 must be in rules of their own")
        elif found and self.ipVersion and self.ipVersion not in found:
            yield Fault("ipVersion", self.ipVersion, f"must be {found.pop()}, as the nets are")

    @rule
    def http_is_for_allowed_tcp(self) -> Iterator[Fault]:
        if self.http and self.action != "Allow":
            yield Fault("http", self.action, "needs action Allow")
        if self.http and self.protocol not in (policy.TCP, None):
            yield Fault("http", self.protocol, "needs protocol TCP")

    def inside(self, namespace: str) -> policy.PolicyRule:
        return policy.PolicyRule(
            action=policy.Action(self.action),
            family=self.ipVersion,
            protocol=self.protocol,
            not_protocol=self.notProtocol,
            icmp=self.icmp.inside() if self.icmp else None,
            not_icmp=self.notICMP.inside() if self.notICMP else None,
            source=self.source.inside(namespace) if self.source else policy.ANYONE,
            destination=self.destination.inside(namespace) if self.destination else policy.ANYONE,
            annotations=self.metadata.annotations if self.metadata else {},
        )


def never_global(field: str, selector: object) -> Iterator[Fault]:
    if selector and getattr(selector, "mentions_global", False):
        yield Fault(field, str(selector), "global() may only be used in the namespaceSelector of a rule")


def enforceable(found: list[PolicyRule], namespace: str) -> tuple[policy.PolicyRule, ...]:
    """Inside; without the rules on HTTP, of which nobody here sees the bytes: what only they allow stays closed."""
    return tuple(one.inside(namespace) for one in found if one.http is None)
