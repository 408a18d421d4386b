"""Six routers, two of each kind, and one Speaker, shared by all scenarios: starting them is what takes the time.

Each scenario has a wire of its own (a subnet on the same bridge) with a session of its own at every router, so that it
leaves nothing behind.  The routers wait to be called and have the same AS; whether a session is internal is up to ours.

with fleet("fb-f") as it:
    r = it.at("bird", "ibgp")          # the first BIRD, and both ends' addresses of that session
    it.call(r)                         # a row for it
    it.until(lambda: it.hops(r.route) == [r.address])
"""

from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address
from typing import Any

from felixlite.addresses import Prefix
from felixlite.bgp import announcing
from felixlite.bgp.rows import Announcement, AnnouncementKey
from felixlite.lab.routers import Router
from felixlite.model.inside import Affinity, AffinityState, BgpConfiguration, Node, Pool
from tests.support.speakers import COMMUNITY, KINDS, heard, toml
from tests.support.speaking import Rack, agent, rack

ROUTERS_AS, OTHER_AS, THIRD_AS = 4200000001, 4200000000, 4200000007
SHARED, BLOCK = "172.30.0.0/24", "10.42.0.0/26"  # told by every router; ours
PASSWORD = "s3cret"


@dataclass(frozen=True)
class Wire:
    number: int
    internal: bool = True
    password: str = ""
    client: bool = False  # we are a client of the router, which is a reflector
    six: bool = False  # the session runs over IPv6
    families: tuple[int, ...] = (4,)
    hold: int = 9
    asn: int = ROUTERS_AS  # as what the router appears


WIRES = {
    "ibgp": Wire(1, password=PASSWORD),
    "ebgp": Wire(2, internal=False),
    "v6": Wire(3, six=True, families=(6,)),
    "over6": Wire(4, six=True, families=(4, 6)),
    "client": Wire(5, client=True),
    "client2": Wire(6, client=True),
    "plain": Wire(7),
    "leak": Wire(8),
    "fast": Wire(9, hold=3),
    "events": Wire(10, internal=False),
    "shared": Wire(11),
    "border": Wire(12, internal=False, asn=THIRD_AS),
}


DEFAULTS = BgpConfiguration()


@dataclass(frozen=True)
class End:
    """One session at one router."""

    router: Router
    number: int
    name: str
    wire: Wire

    @property
    def address(self) -> str:
        n = 100 + self.number
        return f"fd99:{self.wire.number}::{n}" if self.wire.six else f"10.99.{self.wire.number}.{n}"

    @property
    def protocol(self) -> str:
        """Its name in BIRD's configuration, where `ibgp` is a word of the language."""
        return f"w_{self.name}"

    @property
    def here(self) -> str:
        return f"fd99:{self.wire.number}::1" if self.wire.six else f"10.99.{self.wire.number}.1"

    @property
    def route(self) -> str:
        """What only this router tells."""
        return f"fd20:{self.number}::/64" if 4 not in self.wire.families else f"172.20.{self.number}.0/26"

    @property
    def router_id(self) -> str:
        return f"10.99.1.{100 + self.number}"

    def heard(self, prefix: str) -> str:
        return heard(self.router, prefix)


class Fleet:
    def __init__(self, it: Rack, routers: Mapping[tuple[str, int], Router]) -> None:
        self.rack, self.routers = it, routers
        self.until, self.hops, self.learned, self.up = it.until, it.hops, it.learned, it.up

    def at(self, kind: str, name: str, second: bool = False) -> End:
        number = 2 * KINDS.index(kind) + 1 + second
        return End(self.routers[kind, 1 + second], number, name, WIRES[name])

    def call(self, *ends: End, **fields: Any) -> None:
        for end in ends:
            wire = end.wire
            given = {
                "local_as": ROUTERS_AS if wire.internal else OTHER_AS,
                "peer_as": wire.asn,
                "local_address": ip_address(end.here),
                "router_id": IPv4Address(f"10.99.{wire.number}.1"),
                "password": wire.password or None,
                "families": wire.families,
                "hold_time": wire.hold,
                **fields,
            }
            assert self.rack.peer(end.address, **given) == {}
        self.up(*(end.address for end in ends))

    def change(self, end: End, **fields: Any) -> None:
        assert self.rack.change(end.address, **fields) == {}

    def tell(self, here: Node, config: BgpConfiguration = DEFAULTS) -> dict[AnnouncementKey, Announcement]:
        """What the planner of announcements wants to be told, to those whom we have called. A block of ours is part of it."""
        pools = {name: Pool(name, Prefix.parse(cidr)) for name, cidr in (("a", "10.42.0.0/16"), ("b", "172.20.0.0/16"))}
        block = Prefix.parse(BLOCK)
        ours = {(here.name, block): Affinity(here.name, block, AffinityState.CONFIRMED)}
        table, learned = self.rack.speaker.announcements, self.rack.snapshot.learned
        rows = announcing.announcements(here, self.rack.speaker.peers.rows, ours, {}, pools, config, learned)
        assert table.upsert(rows) == {}
        assert table.delete(table.read().keys() - rows.keys()) == {}
        return rows

    def hang_up(self) -> None:
        rows = self.rack.speaker.peers.rows
        assert self.rack.speaker.peers.delete(list(rows)) == {}
        self.until(lambda: not self.rack.snapshot.sessions)

    def kernel(self, within: str) -> dict[str, set[str]]:
        """prefix -> gateways, as the kernel has them."""
        found: dict[str, set[str]] = {}
        prefix = ""
        for line in self.rack.node.ip(f"route show root {within} proto 80").splitlines():
            words = line.split()
            if words[0] != "nexthop":
                prefix = words[0]
                found[prefix] = set()
            if "via" in words:
                found[prefix].add(words[words.index("via") + 1])
        return found


def node(wire: Wire = WIRES["ibgp"], **fields: Any) -> Node:
    """Ourselves, as the planner sees us."""
    given = {
        "ipv4": IPv4Interface(f"10.99.{wire.number}.1/24"),
        "ipv6": IPv6Interface(f"fd99:{wire.number}::1/64"),
        **fields,
    }
    return Node("n1", **given)


@contextmanager
def fleet(name: str) -> Iterator[Fleet]:
    with ExitStack() as stack:
        it = stack.enter_context(rack(name, routers=2 * len(KINDS)))
        for wire in WIRES.values():
            it.node.ip(f"addr add 10.99.{wire.number}.1/24 dev br0")
            it.node.ip(f"addr add fd99:{wire.number}::1/64 dev br0 nodad", family=6)
            for number, other in enumerate(it.others, 1):
                other.ip(f"addr add 10.99.{wire.number}.{100 + number}/24 dev eth0")
                other.ip(f"addr add fd99:{wire.number}::{100 + number}/64 dev eth0 nodad", family=6)
        routers = {}
        for number, (kind, which) in enumerate([(kind, which) for kind in KINDS for which in (1, 2)], 1):
            text = {"bird": bird, "frr": frr, "gobgp": gobgp}[kind](number)
            routers[kind, which] = it.router(number, kind, text)
            if kind == "gobgp":
                for prefix in (f"172.20.{number}.0/26", SHARED, f"fd20:{number}::/64"):
                    more = ["-a", "ipv6"] if ":" in prefix else [] if prefix == SHARED else ["community", COMMUNITY]
                    routers[kind, which].ask("global", "rib", "add", prefix, *more)
        stack.enter_context(
            agent(it, *(net.format(wire.number) for wire in WIRES.values() for net in ("10.99.{}.", "fd99:{}::")))
        )
        it.speaker.planned()
        it.until(lambda: "bgp" in it.snapshot.in_sync)
        yield Fleet(it, routers)


def ends(number: int) -> list[End]:
    return [End(None, number, name, wire) for name, wire in WIRES.items()]  # type: ignore[arg-type]  # its addresses only


def bird(number: int, routes: tuple[str, ...] = ()) -> str:
    mine = "{ bgp_community.add((65000,7)); }"
    sessions = []
    for end in ends(number):
        w = end.wire
        reflects = "rr client; rr cluster id 10.99.99.99;" if w.client else ""
        export = "export where source ~ [RTS_STATIC, RTS_BGP]" if w.client else "export where source = RTS_STATIC"
        password = f'password "{w.password}";' if w.password else ""
        extended = "extended next hop on;" if w.six else ""
        channels = " ".join(f"ipv{f} {{ import all; {export}; {extended if f == 4 else ''} }};" for f in w.families)
        sessions.append(
            f"protocol bgp {end.protocol} {{ passive; local {end.address} as {w.asn};"
            f" neighbor {end.here} as {ROUTERS_AS if w.internal else OTHER_AS}; hold time {w.hold}; {reflects}"
            f" {password} error wait time 1,2; {channels} }}"
        )
    more = " ".join(f"route {route} blackhole;" for route in routes)
    return (
        f"""
router id 10.99.1.{100 + number};
protocol device {{}}
protocol direct {{ ipv4; ipv6; }}
protocol static s1 {{ ipv4; route 172.20.{number}.0/26 blackhole {mine}; route {SHARED} blackhole; {more} }}
protocol static s2 {{ ipv6; route fd20:{number}::/64 blackhole; }}
"""
        + "\n".join(sessions)
        + "\n"
    )


def frr(number: int) -> str:
    lines = [
        f"router bgp {ROUTERS_AS}",
        f" bgp router-id 10.99.1.{100 + number}",
        " bgp cluster-id 10.99.99.99",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
        " no bgp network import-check",
    ]
    activated: dict[int, list[str]] = {4: [], 6: []}
    for end in ends(number):
        w, neighbor = end.wire, f" neighbor {end.here}"
        lines += [
            f"{neighbor} remote-as {ROUTERS_AS if w.internal else OTHER_AS}",
            f"{neighbor} update-source {end.address}",
            f"{neighbor} timers {w.hold // 3} {w.hold}",
            f"{neighbor} timers connect 1",
            f"{neighbor} passive",
            *([f"{neighbor} password {w.password}"] if w.password else []),
            *([f"{neighbor} local-as {w.asn} no-prepend replace-as"] if w.asn != ROUTERS_AS else []),
            *([f"{neighbor} capability extended-nexthop"] if w.six else []),
        ]
        for family in w.families:
            activated[family] += [
                f" {neighbor} activate",
                *([f" {neighbor} route-reflector-client"] if w.client else []),
            ]
    lines += [" address-family ipv4 unicast", f"  network 172.20.{number}.0/26 route-map MARK", f"  network {SHARED}"]
    lines += [*activated[4], " exit-address-family"]
    lines += [" address-family ipv6 unicast", f"  network fd20:{number}::/64", *activated[6], " exit-address-family"]
    lines += ["route-map MARK permit 10", f" set community {COMMUNITY}"]
    return "\n".join(lines) + "\n"


def gobgp(number: int) -> str:
    text = f'[global.config]\nas = {ROUTERS_AS}\nrouter-id = "10.99.1.{100 + number}"\nport = 179\n'
    for end in ends(number):
        w = end.wire
        sections: list[tuple[str, dict[str, Any]]] = [
            (
                "[neighbors.config]",
                {
                    "neighbor-address": end.here,
                    "peer-as": ROUTERS_AS if w.internal else OTHER_AS,
                    "auth-password": w.password,
                    **({"local-as": w.asn} if w.asn != ROUTERS_AS else {}),
                },
            ),
            ("[neighbors.transport.config]", {"local-address": end.address, "passive-mode": True}),
            (
                "[neighbors.timers.config]",
                {"hold-time": w.hold, "keepalive-interval": w.hold // 3, "idle-hold-time-after-reset": 1},
            ),
            (
                "[neighbors.route-reflector.config]",
                {"route-reflector-client": w.client, "route-reflector-cluster-id": "10.99.99.99"},
            ),
        ]
        sections += [
            ("[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]", {"afi-safi-name": f"ipv{family}-unicast"})
            for family in w.families
        ]
        if not w.client:
            sections.pop(3)
        text += "[[neighbors]]\n" + "".join(
            f"{name}\n" + "".join(f"{k} = {toml(v)}\n" for k, v in fields.items()) for name, fields in sections
        )
    return text
