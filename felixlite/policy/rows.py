"""What the policy tables hold, in terms that belong to no backend: sets, chains, dispatch, gates, NAT.

The planner (plan.py) makes these; nftables_text.py and iptables_text.py spell them.  A row says what shall be so, not
which rules do it: "allow" is a verdict of nftables, and a mark and a return of iptables.

A chain is recognised in the kernel by its digest, which the backend writes into the comments of the chain's rules:
two Chained rows are equal when their digests are, and what `read` finds is a digest without a body.  Sets are read
back whole and compare by their members.
"""

from base64 import urlsafe_b64encode
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Final, Literal, NamedTuple

from felixlite.addresses import Address, Prefix
from felixlite.model.policy import Action, Direction, Icmp, PortRange

Kind = Literal["set", "policy", "profile", "endpoint", "dispatch", "gates", "nat", "leftover"]


class Key(NamedTuple):
    """What a row is called. Names are short enough for every backend (iptables: 28 characters with our prefix)."""

    kind: Kind
    name: str

    def __str__(self) -> str:
        return f"{self.kind} {self.name}"


# -- sets ------------------------------------------------------------------------------------------------------------

SetKind = Literal["ip", "net", "ip,port", "iface,ip", "mac,ip"]
Member = Prefix | tuple[Prefix, int, int] | tuple[str, Prefix]


@dataclass(frozen=True, slots=True)
class IpSet:
    """Members by kind: host Prefix; disjoint Prefixes; (host, protocol, port); (interface, host); (MAC, host)."""

    kind: SetKind
    members: frozenset[Member] = frozenset()

    def __str__(self) -> str:
        return f"{self.kind} {{{', '.join(sorted(map(spelled, self.members)))}}}"


def spelled(member: Member) -> str:
    """A member for people."""
    if isinstance(member, Prefix):
        return host_or_net(member)
    return ",".join(host_or_net(part) if isinstance(part, Prefix) else str(part) for part in member)


def host_or_net(prefix: Prefix) -> str:
    return prefix.first_text if prefix.is_host else str(prefix)


# -- rules: tuples, for a node may have ten thousand of them and each is made, hashed and printed ---------------------


class Side(NamedTuple):
    """What a packet's source or destination has to be. Sets are named; every field that is not empty has to hold."""

    nets: tuple[Prefix, ...] = ()
    not_nets: tuple[Prefix, ...] = ()
    sets: tuple[str, ...] = ()
    not_sets: tuple[str, ...] = ()
    ports: tuple[PortRange, ...] = ()
    not_ports: tuple[PortRange, ...] = ()
    port_sets: tuple[str, ...] = ()  # (address, protocol, port) is in each of them
    not_port_sets: tuple[str, ...] = ()


ANYWHERE = Side()


class Match(NamedTuple):
    """A packet. Of one family; whoever renders it knows which."""

    protocol: int | None = None
    not_protocol: int | None = None
    icmp: Icmp | None = None
    not_icmp: Icmp | None = None
    source: Side = ANYWHERE
    destination: Side = ANYWHERE


@dataclass(frozen=True, slots=True)
class Log:
    """How a Log rule writes its lines. The prefix may hold %t tier, %k kind, %n name, %p namespace/name."""

    prefix: str = "calico-packet"
    rate: str = ""  # "10/second"; empty: every packet
    burst: int = 5


class Rule(NamedTuple):
    match: Match
    action: Action
    log: "Log | None" = None  # of a LOG
    number: int = 0  # of the policy's rule that it came from


# -- chains ----------------------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PolicyChain:
    """One direction of one policy or profile: the first rule that matches decides; none: on to the next policy."""

    owner: str  # for people
    rules: tuple[Rule, ...]


class PolicyStep(NamedTuple):
    chain: str
    may_pass: bool  # some rule of it passes on to the next tier


@dataclass(frozen=True, slots=True)
class TierStep:
    name: str
    policies: tuple[PolicyStep, ...]
    end: Action  # DENY or PASS: what becomes of packets that no policy of the tier decided


@dataclass(frozen=True, slots=True)
class EndpointChain:
    """What decides about new connections from (EGRESS) or to (INGRESS) one workload."""

    interface: str
    direction: Direction
    tiers: tuple[TierStep, ...]
    profiles: tuple[str, ...]  # chains; when none decides, the packet is denied
    mac: str | None = None  # the only one that may send


USUAL_MASK: Final = 0xFFFF0000


@dataclass(frozen=True, slots=True)
class Gates:
    """The chains that hang in the kernel's hooks, and all that they hold but the dispatch to endpoints."""

    interfaces: tuple[str, ...]  # prefixes of workload interfaces; one that has no endpoint chain is dropped
    spoofers: tuple[tuple[str, tuple[Prefix, ...]], ...] = ()  # interfaces, and as whom else each may send
    ipip: bool = False  # guard protocol 4
    vxlan: bool = False  # guard VXLAN
    vxlan_port: int = 4789
    pods_may_ipip: bool = False
    pods_may_vxlan: bool = False
    to_host: Literal["Drop", "Return", "Accept"] = "Drop"
    deny: Literal["Drop", "Reject"] = "Drop"
    service_loop: Literal["Drop", "Reject", "Disabled"] = "Drop"
    service_nets: tuple[Prefix, ...] = ()
    check_invalid: bool = True
    mark_mask: int = USUAL_MASK
    insert: bool = True
    reverse_path: bool = True
    nftables: Literal["Auto", "Enabled", "Disabled"] = "Auto"  # which backend writes this
    iptables: Literal["Auto", "Legacy", "NFT"] = "Auto"


@dataclass(frozen=True, slots=True)
class ServiceGates(Gates):
    """Where IPVS chooses the pods behind services: what it takes in INPUT is judged in OUTPUT, with the pod's address.

    There no packet has an interface that it came from and its MAC address is out of reach, so the sender is known by
    its address (FROM_SENDERS), and MACs are looked at before.  Sets: SERVICES, SENDERS, OWN_MACS.
    """

    without_mac: tuple[str, ...] = ()  # interfaces that may send with any


class Tunnel(NamedTuple):
    link: str
    address: Address


@dataclass(frozen=True, slots=True)
class Nat:
    """Who is masqueraded on the way out. Sets: MASQUERADED (sources), INSIDE (destinations that are not outside)."""

    outgoing: bool = False
    to_address: Address | None = None
    ports: tuple[int, int] | None = None
    out_interfaces: str = ""  # a pattern such as eth+
    keep_inside: tuple[Prefix, ...] = ()  # whose addresses other programs' rules do not rewrite from pod to pod
    tunnels: tuple[Tunnel, ...] = ()
    random_fully: bool = True


Body = PolicyChain | EndpointChain | Gates | Nat


@dataclass(frozen=True, slots=True)
class Chained:
    """A row that becomes chains. Read from the kernel it has no body."""

    digest: str
    body: Body | None = field(default=None, compare=False)

    def __str__(self) -> str:
        return str(self.body) if self.body else f"rules of digest {self.digest}"


def chained(body: Body, mark_mask: int = USUAL_MASK) -> Chained:
    """Chains that speak in other marks are other chains, though they say the same."""
    marks = "" if mark_mask == USUAL_MASK else f"~{mark_mask:x}"
    return Chained(digest(_with_parts_printed(body)) + marks, body)


def marks_of(row: "Row | None") -> str:
    """What tells the marks that a row is spelled with; also of one that was read from the kernel."""
    return row.digest.partition("~")[2] if isinstance(row, Chained) else ""


def digest(body: object) -> str:
    """What tells one body from another: 96 bits of its printed form."""
    return urlsafe_b64encode(blake2b(repr(body).encode(), digest_size=12).digest()).decode()


def _with_parts_printed(body: Body) -> object:
    """A node may have ten thousand rules of a few hundred kinds: what of them was printed once is remembered."""
    match body:
        case PolicyChain():
            return [body.owner, *map(_printed, body.rules)]
        case EndpointChain():
            return [body.interface, body.direction.value, *map(_printed, body.tiers), body.profiles, body.mac]
        case _:
            return body


_printed = lru_cache(maxsize=16384)(digest)


@dataclass(frozen=True, slots=True)
class Dispatch:
    """interface (of FROM_SENDERS: address) -> the endpoint chain that decides about it."""

    direction: Direction
    chains: frozenset[tuple[str, str]]


Row = IpSet | Chained | Dispatch
Rows = Mapping[Key, Row]

# -- names -----------------------------------------------------------------------------------------------------------

ALL_HOSTS = "all-hosts"  # who may send us tunnel packets
MASQUERADED = "masq-pools"
INSIDE = "all-pools"
OWN_ADDRESSES = "own-addresses"
OWN_MACS = "own-macs"  # of each address the MAC that may send with it; only with ServiceGates
SERVICES = "services"  # addresses that IPVS listens to, and nothing else does
SENDERS = "senders"  # the pods of this node that may send to them

GATES = Key("gates", "gates")
NAT = Key("nat", "nat")
FROM_WORKLOADS = Key("dispatch", "from-workload")
TO_WORKLOADS = Key("dispatch", "to-workload")
FROM_SENDERS = Key("dispatch", "from-sender")  # by source address; only with ServiceGates


def short(prefix: str, text: str) -> str:
    """A name of fixed length that stands for a text of any length."""
    return f"{prefix}{blake2b(text.encode(errors='surrogatepass'), digest_size=8).hexdigest()}"


def endpoint_key(direction: Direction, interface: str) -> Key:
    """`fw-cali1` decides about what comes from the workload, `tw-cali1` about what goes to it."""
    return Key("endpoint", f"{'fw' if direction is Direction.EGRESS else 'tw'}-{interface}")
