"""The rows of the two BGP tables: whom to peer with, and what to tell whom. Values; see felixlite/rows.py."""

from dataclasses import dataclass, field
from ipaddress import IPv4Address
from typing import Literal, NamedTuple

from felixlite.addresses import Address, Prefix
from felixlite.model.inside import FilterRule


@dataclass(frozen=True, slots=True)
class Peer:
    """Key: the peer's address as text, or its prefix for a passive range. One BGP session as we want it."""

    local_as: int
    peer_as: int | None  # None: any other than ours (`external`), told apart by `relation`
    local_address: Address | None
    router_id: IPv4Address
    port: int = 179
    listen_port: int = 179
    bind: Address | None = None  # listen on this address only
    passive: bool = False
    hold_time: int = 240
    restart_time: int = 120
    password: str | None = field(default=None, repr=False)
    ttl_security: int | None = None
    families: tuple[int, ...] = (4,)
    kind: Literal["mesh", "node", "global"] = "mesh"
    name: str = ""  # of the BGPPeer
    node: str = ""  # the cluster's node behind it

    # what only our own RIB reads: a change of these does not touch the session
    allowed_own_as: int = 0
    cluster_id: IPv4Address | None = None  # ours; set: we are a route reflector
    client: bool = False  # the peer is a route reflector client of ours
    imports: tuple[FilterRule, ...] = ()
    imports_v6: tuple[FilterRule, ...] = ()
    exports: tuple[FilterRule, ...] = ()  # these two and the next are read by the planner of announcements
    exports_v6: tuple[FilterRule, ...] = ()
    next_hop_mode: str = "Auto"  # Auto, Self, Keep
    max_prefixes: int | None = None
    accept_default: bool = False  # a learned 0.0.0.0/0 or ::/0 may be installed
    protects: frozenset[Prefix] = frozenset()  # prefixes that would take this node's own addresses away

    @property
    def internal(self) -> bool:
        return self.peer_as == self.local_as


RIB_ONLY = frozenset(
    {
        "allowed_own_as",
        "cluster_id",
        "client",
        "imports",
        "imports_v6",
        "exports",
        "exports_v6",
        "next_hop_mode",
        "max_prefixes",
        "accept_default",
        "protects",
        "kind",
        "name",
        "node",
    }
)


class AnnouncementKey(NamedTuple):
    peer: str  # the key of the Peer that hears it
    prefix: Prefix

    def __str__(self) -> str:
        return f"neighbor {self.peer} announce route {self.prefix}"


@dataclass(frozen=True, slots=True)
class Announcement:
    next_hop: Address | None = None  # None: self
    local_preference: int | None = None
    med: int | None = None
    as_path: tuple[int, ...] = ()  # without our own AS: exabgp puts that in front for an eBGP peer
    communities: tuple[str, ...] = ()  # "65000:1" or "65000:1:2"
    originator: IPv4Address | None = None
    cluster_list: tuple[IPv4Address, ...] = ()
