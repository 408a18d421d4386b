"""The same router in the three languages: a session with 10.99.0.1, one route with a community, and what it heard."""

from dataclasses import dataclass
from typing import Any

from felixlite.errors import FelixliteError
from felixlite.lab.routers import Router
from tests.support.speaking import AS, Rack

ROUTE, COMMUNITY = "172.20.{number}.0/26", "65000:7"
KINDS = ("bird", "frr", "gobgp")


@dataclass(frozen=True)
class Wish:
    kind: str
    number: int = 1
    asn: int = AS
    peer_as: int = AS
    password: str = ""
    gtsm: bool = False
    graceful: bool = False
    six: bool = False  # the session, and its route
    passive: bool = False
    hold: int = 9

    @property
    def address(self) -> str:
        return f"fd99::{100 + self.number:x}" if self.six else f"10.99.0.{100 + self.number}"

    @property
    def node(self) -> str:
        return "fd99::1" if self.six else "10.99.0.1"

    @property
    def route(self) -> str:
        return f"fd20:{self.number}::/64" if self.six else ROUTE.format(number=self.number)


def start(it: Rack, wish: Wish, recovers: bool = False) -> Router:
    router = it.router(wish.number, wish.kind, {"bird": bird, "frr": frr, "gobgp": gobgp}[wish.kind](wish), recovers)
    if wish.kind == "gobgp":
        family = ["-a", "ipv6"] if wish.six else []
        router.ask("global", "rib", "add", wish.route, "community", COMMUNITY, "nexthop", wish.address, *family)
    return router


def bird(w: Wish) -> str:
    family = "ipv6" if w.six else "ipv4"
    options = [
        f'password "{w.password}";' if w.password else "",
        f"ttl security on; {'multihop 1;' if w.asn == w.peer_as else ''}" if w.gtsm else "",
        "graceful restart on;" if w.graceful else "",
        "passive;" if w.passive else "",
    ]
    return f"""
router id 10.99.0.{100 + w.number};
protocol device {{}}
protocol direct {{ ipv4; ipv6; }}
protocol static s1 {{ {family}; route {w.route} blackhole {{ bgp_community.add((65000,7)); }}; }}
protocol bgp n1 {{ local {w.address} as {w.asn}; neighbor {w.node} as {w.peer_as}; hold time {w.hold}; direct;
  connect retry time 1; connect delay time 1; error wait time 1,2; {" ".join(options)}
  {family} {{ import all; export where source = RTS_STATIC; next hop self; }}; }}
""".replace("direct;", "" if w.gtsm and w.asn == w.peer_as else "direct;", 1)


def frr(w: Wish) -> str:
    family = "ipv6" if w.six else "ipv4"
    neighbor = f" neighbor {w.node}"
    lines = [
        f"router bgp {w.asn}",
        f" bgp router-id 10.99.0.{100 + w.number}",
        " no bgp ebgp-requires-policy",
        " no bgp default ipv4-unicast",
        " no bgp network import-check",
        *([" bgp graceful-restart", " bgp graceful-restart preserve-fw-state"] if w.graceful else []),
        f"{neighbor} remote-as {w.peer_as}",
        f"{neighbor} timers {max(1, w.hold // 3)} {w.hold}",
        f"{neighbor} timers connect 1",
        *([f"{neighbor} password {w.password}"] if w.password else []),
        *([f"{neighbor} ttl-security hops 1"] if w.gtsm else []),
        *([f"{neighbor} passive"] if w.passive else []),
        f" address-family {family} unicast",
        f"  network {w.route} route-map MARK",
        f" {neighbor} activate",
        " exit-address-family",
        "route-map MARK permit 10",
        f" set community {COMMUNITY}",
    ]
    return "\n".join(lines) + "\n"


def gobgp(w: Wish) -> str:
    sections: list[tuple[str, dict[str, Any]]] = [
        ("[neighbors.config]", {"neighbor-address": w.node, "peer-as": w.peer_as, "auth-password": w.password}),
        ("[neighbors.transport.config]", {"local-address": w.address, "passive-mode": w.passive}),
        (
            "[neighbors.timers.config]",
            {
                "hold-time": w.hold,
                "keepalive-interval": max(1, w.hold // 3),
                "connect-retry": 1,
                "idle-hold-time-after-reset": 1,
            },
        ),
        ("[neighbors.ttl-security.config]", {"enabled": w.gtsm, "ttl-min": 255}),
        ("[neighbors.graceful-restart.config]", {"enabled": w.graceful, "restart-time": 60}),
        (
            "[[neighbors.afi-safis]]\n[neighbors.afi-safis.config]",
            {"afi-safi-name": "ipv6-unicast" if w.six else "ipv4-unicast"},
        ),
        ("[neighbors.afi-safis.mp-graceful-restart.config]", {"enabled": w.graceful}),
    ]
    head = f'[global.config]\nas = {w.asn}\nrouter-id = "10.99.0.{100 + w.number}"\nport = 179\n[[neighbors]]\n'
    return head + "\n".join(
        f"{name}\n" + "\n".join(f"{k} = {toml(v)}" for k, v in fields.items()) for name, fields in sections
    )


def toml(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value) if isinstance(value, int) else f'"{value}"'


def heard(router: Router, prefix: str) -> str:
    """What the router has of a prefix, in its own words; empty if nothing."""
    family = "ipv6" if ":" in prefix else "ipv4"
    question = {
        "bird": ("show", "route", "all", prefix),
        "frr": (f"show bgp {family} unicast {prefix}",),
        "gobgp": ("global", "rib", prefix, "-a", family),
    }[router.kind]
    try:
        text = router.ask(*question)
    except FelixliteError as error:  # the clients of BIRD and GoBGP fail when there is no such route
        if "not found" in str(error) or "not in table" in str(error):
            return ""
        raise
    found = {"bird": "BGP", "frr": "Paths:", "gobgp": prefix}[router.kind]
    return text if found in text and "not in table" not in text else ""
