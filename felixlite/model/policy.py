"""Policy as planners read it: frozen values, every default filled in. Pure; no pydantic, no documents.

The border (model/) turns NetworkPolicy, GlobalNetworkPolicy, Tier, NetworkSet and Profile documents into these after
validation; policy/kubernetes.py does the same for Kubernetes' own NetworkPolicy.  Nothing here is resolved: selectors
stay as the user wrote them, the scoping to a namespace and the `pcns.`/`pcsa.` prefixes belong to policy/selection.py.
What we cannot enforce (http, doNotTrack, preDNAT, applyOnForward, host endpoints, staged kinds) is refused or left out
before it gets here.  Reference 2.8-2.11 and 14.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NamedTuple

from felixlite.addresses import Address, Prefix
from felixlite.model.selector import ALL, Selector

TCP, UDP, ICMP, ICMPV6, SCTP, UDPLITE = 6, 17, 1, 58, 132, 136
PROTOCOLS = {"TCP": TCP, "UDP": UDP, "ICMP": ICMP, "ICMPv6": ICMPV6, "SCTP": SCTP, "UDPLite": UDPLITE}
PROTOCOL_NAMES = {number: name for name, number in PROTOCOLS.items()}
WITH_PORTS = frozenset({TCP, UDP, SCTP, UDPLITE})

DEFAULT_TIER = "default"


class Action(StrEnum):
    ALLOW = "Allow"
    DENY = "Deny"
    LOG = "Log"
    PASS = "Pass"  # noqa: S105  the reference's word, not a secret


class Direction(StrEnum):
    """Seen from the endpoint that the policy selects."""

    INGRESS = "Ingress"
    EGRESS = "Egress"


class PortRange(NamedTuple):
    first: int
    last: int

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


Port = PortRange | str  # a str names a port of the endpoints on that side


def port(value: int | str) -> Port:
    """`80`, `"80"`, `"8000:8080"` or a port's name. ValueError for a number that is no port."""
    text = str(value)
    first, colon, last = text.partition(":")
    if not first.isdecimal() or (colon and not last.isdecimal()):
        return text
    found = PortRange(int(first), int(last or first))
    if not 0 <= found.first <= found.last <= 65535:
        raise ValueError(f"{text!r} is not a port or a range of ports between 0 and 65535")
    return found


def protocol_number(value: int | str) -> int:
    """The number of a protocol given by number or (in any case) by name. ValueError if it is neither."""
    if str(value).isdecimal() and 1 <= int(value) <= 255:
        return int(value)
    for name, number in PROTOCOLS.items():
        if name.lower() == str(value).lower():
            return number
    raise ValueError(f"{value!r} is neither one of {', '.join(PROTOCOLS)} nor a number between 1 and 255")


@dataclass(frozen=True, slots=True)
class Icmp:
    type: int | None = None
    code: int | None = None


@dataclass(frozen=True, slots=True)
class ServiceAccounts:
    names: tuple[str, ...] = ()
    selector: Selector | None = None


@dataclass(frozen=True, slots=True)
class ServiceRef:
    name: str
    namespace: str


@dataclass(frozen=True, slots=True)
class EntityRule:
    """One side of a rule, source or destination. What is empty or None restricts nothing."""

    nets: tuple[Prefix, ...] = ()
    not_nets: tuple[Prefix, ...] = ()
    selector: Selector | None = None
    not_selector: Selector | None = None
    namespace_selector: Selector | None = None  # on the namespace's own labels; global() selects what has no namespace
    service_accounts: ServiceAccounts | None = None
    ports: tuple[Port, ...] = ()
    not_ports: tuple[Port, ...] = ()
    service: ServiceRef | None = None


ANYONE = EntityRule()


@dataclass(frozen=True, slots=True)
class PolicyRule:
    action: Action
    family: int | None = None  # ipVersion: 4 or 6
    protocol: int | None = None
    not_protocol: int | None = None
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    source: EntityRule = ANYONE
    destination: EntityRule = ANYONE
    annotations: Mapping[str, str] = field(default_factory=dict)


ALLOW_ALL, DENY_ALL = PolicyRule(Action.ALLOW), PolicyRule(Action.DENY)


@dataclass(frozen=True, slots=True)
class Policy:
    """Key in the Snapshot: (kind, namespace, name); the namespace of a global one is ""."""

    kind: str  # NetworkPolicy, GlobalNetworkPolicy, KubernetesNetworkPolicy
    name: str
    namespace: str = ""
    tier: str = DEFAULT_TIER
    order: float | None = None  # None: after all numbered
    selector: Selector = ALL
    namespace_selector: Selector | None = None  # GlobalNetworkPolicy only
    service_account_selector: Selector | None = None
    types: frozenset[Direction] = frozenset({Direction.INGRESS})
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
    is_stand_in: bool = False  # for one that was never valid: it denies whatever that selects

    def rules(self, direction: Direction) -> tuple[PolicyRule, ...]:
        return self.ingress if direction is Direction.INGRESS else self.egress

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}" if self.namespace else f"{self.kind} {self.name}"


@dataclass(frozen=True, slots=True)
class Tier:
    """Key in the Snapshot: its name."""

    name: str
    order: float | None = None
    default_action: Action = Action.DENY  # or PASS: what happens to a packet that no rule of the tier decided


BUILT_IN_TIERS: Mapping[str, Tier] = {
    tier.name: tier
    for tier in (
        Tier("kube-admin", 1_000, Action.PASS),
        Tier(DEFAULT_TIER, 1_000_000, Action.DENY),
        Tier("kube-baseline", 10_000_000, Action.PASS),
    )
}


@dataclass(frozen=True, slots=True)
class NetworkSet:
    """Key in the Snapshot: (namespace, name); the namespace of a global one is ""."""

    name: str
    namespace: str = ""
    nets: tuple[Prefix, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Profile:
    """Key in the Snapshot: its name. Namespaces arrive as `kns.<name>`, service accounts as `ksa.<namespace>.<name>`."""

    name: str
    ingress: tuple[PolicyRule, ...] = ()
    egress: tuple[PolicyRule, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)  # inherited by the endpoints, prefix included (pcns.app)
    is_stand_in: bool = False  # for one that is not there or was never valid

    def rules(self, direction: Direction) -> tuple[PolicyRule, ...]:
        return self.ingress if direction is Direction.INGRESS else self.egress


DEFAULT_ALLOW = Profile("projectcalico-default-allow", (ALLOW_ALL,), (ALLOW_ALL,))


def closed_profile(name: str, labels: Mapping[str, str] | None = None) -> Profile:
    """What stands for a profile that is not there, or is invalid: it denies what no policy has decided."""
    return Profile(name, (DENY_ALL,), (DENY_ALL,), labels or {}, is_stand_in=True)


def namespace_profile(name: str, labels: Mapping[str, str]) -> Profile:
    """The profile that a Kubernetes namespace stands for: it allows both ways and hands down its labels."""
    inherited = {f"pcns.{key}": value for key, value in labels.items()}
    return Profile(f"kns.{name}", (ALLOW_ALL,), (ALLOW_ALL,), inherited | {"pcns.projectcalico.org/name": name})


def service_account_profile(namespace: str, name: str, labels: Mapping[str, str]) -> Profile:
    """The profile that a Kubernetes service account stands for: labels only, no rules."""
    inherited = {f"pcsa.{key}": value for key, value in labels.items()}
    return Profile(f"ksa.{namespace}.{name}", labels=inherited | {"pcsa.projectcalico.org/name": name})


class Backend(NamedTuple):
    address: Address
    protocol: int
    port: int


@dataclass(frozen=True, slots=True)
class Service:
    """The endpoints behind a Kubernetes Service, from its EndpointSlices. Key in the Snapshot: (namespace, name)."""

    name: str
    namespace: str
    backends: tuple[Backend, ...] = ()
