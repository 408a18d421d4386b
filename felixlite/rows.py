"""The rows that tables hold: what we can want to be so outside of this process.

Each row is a value: two rows are equal when the world would be the same with either.  A row's key is what the kernel
(or the peer) identifies it by, so that a changed row is a replacement, never a removal and an addition.
str() of a row with its key is the text that a person would type; `felixlite plan` prints exactly that.
Policy rows (sets, chains) live in policy/rows.py, BGP rows (peers, announcements) in bgp/rows.py: only their own
planner and table know them.
"""

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

from felixlite.addresses import Address, Interface, Prefix

ROUTE_PROTOCOL = 80  # ours alone: any route with it that we do not want is removed (reference 9.1)
MAIN_TABLE = 254


# -- links -----------------------------------------------------------------------------------------------------------


Kind = Literal["adopt", "ipip", "vxlan", "tun"]


@dataclass(frozen=True, slots=True)
class Vxlan:
    vni: int
    port: int
    local: Address
    parent: str  # the link that carries it


@dataclass(frozen=True, slots=True)
class OuterHeader:
    """What IPIP puts before a packet. ttl 0: the packet's own; unless dont_fragment is set, DF is the packet's own too."""

    ttl: int = 0
    dont_fragment: bool = False

    def __str__(self) -> str:
        return f"ttl {self.ttl or 'inherit'} {'pmtudisc' if self.dont_fragment else 'nopmtudisc'}"


AS_INNER = OuterHeader()


@dataclass(frozen=True, slots=True)
class Link:
    """Key: the link's name. kind `adopt`: somebody else makes it (CNI, the kernel); we only set what is not None."""

    kind: Kind
    up: bool = True
    mtu: int | None = None
    mac: str | None = None
    vxlan: Vxlan | None = None
    outer: OuterHeader | None = None  # of the kernel's own tunl0

    def text(self, name: str) -> str:
        words = ["ip link set", name]
        words += ["up" if self.up else "down"]
        words += ["mtu", str(self.mtu)] if self.mtu else []
        words += ["address", self.mac] if self.mac else []
        if self.vxlan:
            v = self.vxlan
            words += [
                "type vxlan id",
                str(v.vni),
                "dstport",
                str(v.port),
                "local",
                str(v.local),
                "dev",
                v.parent,
                "nolearning",
            ]
        if self.outer not in (None, AS_INNER):
            words += ["&& ip tunnel change", name, "mode ipip", str(self.outer)]
        return " ".join(words)


class AddressKey(NamedTuple):
    link: str
    address: Interface

    def __str__(self) -> str:
        return f"ip address replace {self.address} dev {self.link}"


@dataclass(frozen=True, slots=True)
class LinkAddress:
    """Key: AddressKey. Being there is all there is to an address."""

    def __str__(self) -> str:
        return ""


# A sysctl's key is its path below /proc/sys with slashes, e.g. net/ipv4/conf/cali1234/proxy_arp; its row is the text.


class NeighbourKey(NamedTuple):
    link: str
    address: Address

    def __str__(self) -> str:
        return f"ip neighbour replace {self.address} dev {self.link}"


@dataclass(frozen=True, slots=True)
class Neighbour:
    mac: str  # always permanent

    def __str__(self) -> str:
        return f"lladdr {self.mac} nud permanent"


class FdbKey(NamedTuple):
    link: str
    mac: str

    def __str__(self) -> str:
        return f"bridge fdb replace {self.mac} dev {self.link}"


@dataclass(frozen=True, slots=True)
class Fdb:
    via: Address  # the remote node

    def __str__(self) -> str:
        return f"dst {self.via} self permanent"


class ClassifierKey(NamedTuple):
    link: str
    direction: Literal["ingress", "egress"]

    def __str__(self) -> str:
        return f"tc filter replace dev {self.link} {self.direction}"


@dataclass(frozen=True, slots=True)
class Classifier:
    """An eBPF program that sees every packet of a link; its name says exactly which program it is."""

    program: str

    def __str__(self) -> str:
        return f"bpf direct-action name {self.program}"


# -- routes ----------------------------------------------------------------------------------------------------------


class RouteKey(NamedTuple):
    """What the kernel tells routes apart by."""

    prefix: Prefix
    table: int = MAIN_TABLE
    metric: int = 0

    def __str__(self) -> str:
        words = ["table", str(self.table)] if self.table != MAIN_TABLE else []
        words += ["metric", str(self.metric)] if self.metric else []
        return " ".join(["ip route replace", str(self.prefix), *words])


class NextHop(NamedTuple):
    gateway: Address | None  # None: the destination is on the link itself
    link: str | None  # None: the kernel finds the link
    onlink: bool = False
    weight: int = 1


@dataclass(frozen=True, slots=True)
class Route:
    kind: Literal["unicast", "blackhole"] = "unicast"
    hops: tuple[NextHop, ...] = ()
    source: Address | None = None
    scope_link: bool = False
    mtu: int | None = None
    advmss: int | None = None
    protocol: int = ROUTE_PROTOCOL

    def __str__(self) -> str:
        words: list[str] = [] if self.kind == "unicast" else [self.kind]
        for hop in self.hops:
            words += ["nexthop"] if len(self.hops) > 1 else []
            words += ["via", str(hop.gateway)] if hop.gateway else []
            words += ["dev", hop.link] if hop.link else []
            words += ["weight", str(hop.weight)] if hop.weight != 1 else []
            words += ["onlink"] if hop.onlink else []
        words += ["scope link"] if self.scope_link else []
        words += ["src", str(self.source)] if self.source else []
        words += ["mtu", str(self.mtu)] if self.mtu else []
        words += ["advmss", str(self.advmss)] if self.advmss else []
        return " ".join([*words, f"proto {self.protocol}"])


@lru_cache(maxsize=1)
def blackhole() -> Route:
    return Route(kind="blackhole")


@lru_cache(maxsize=10_000)  # many prefixes share a next hop; equal rows that are one object cost the kernel table less
def via(gateway: Address, link: str | None = None, *, onlink: bool = False, mtu: int | None = None) -> Route:
    return Route(hops=(NextHop(gateway, link, onlink),), mtu=mtu)


@lru_cache(maxsize=1_000)
def on(link: str) -> Route:
    return Route(hops=(NextHop(None, link),), scope_link=True)


class RuleKey(NamedTuple):
    """A routing policy rule (`ip rule`)."""

    priority: int
    family: int
    table: int
    source: Prefix | None = None
    destination: Prefix | None = None
    mark: int | None = None

    def __str__(self) -> str:
        words = ["ip", f"-{self.family}", "rule add priority", str(self.priority)]
        words += ["from", str(self.source)] if self.source else []
        words += ["to", str(self.destination)] if self.destination else []
        words += ["fwmark", hex(self.mark)] if self.mark is not None else []
        return " ".join([*words, "lookup", str(self.table)])


@dataclass(frozen=True, slots=True)
class Rule:
    protocol: int = ROUTE_PROTOCOL

    def __str__(self) -> str:
        return f"protocol {self.protocol}"
