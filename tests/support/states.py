"""Canned states of a node: what is wanted in every table of the kernel, and the same as a person would type it.

The end must depend on the state only, never on the way there: walks.py goes from any of them to any other.
The node has eth0 with 192.0.2.1/24, and eth1 with 198.51.100.1/24.
"""

from dataclasses import dataclass
from ipaddress import ip_address as ip
from ipaddress import ip_interface
from textwrap import dedent
from typing import Any

from felixlite.addresses import Prefix
from felixlite.rows import (
    AddressKey,
    Fdb,
    FdbKey,
    Link,
    LinkAddress,
    Neighbour,
    NeighbourKey,
    NextHop,
    Route,
    RouteKey,
    Rule,
    RuleKey,
    Vxlan,
    blackhole,
    on,
    via,
)

Rows = dict[Any, Any]


@dataclass(frozen=True)
class State:
    name: str
    plan: dict[str, Rows]
    typed: str

    def __str__(self) -> str:
        return self.name


def to(text: str, **rest: int) -> RouteKey:
    return RouteKey(Prefix.parse(text), **rest)


def _joined(*plans: dict[str, Rows]) -> dict[str, Rows]:
    tables: dict[str, Rows] = {}
    for plan in plans:
        for table, rows in plan.items():
            tables.setdefault(table, {}).update(rows)
    return tables


BLOCK = {"routes": {to("10.65.0.0/26"): blackhole()}}
WORKLOAD = {
    "links": {"cali1": Link("adopt", mtu=1400)},
    "sysctls": {"net/ipv4/conf/cali1/proxy_arp": "1", "net/ipv4/ip_forward": "1"},
    "neighbours": {NeighbourKey("cali1", ip("10.65.0.5")): Neighbour("02:00:00:00:00:05")},
    "routes": {to("10.65.0.5/32"): on("cali1")},
}
NATIVE = {"routes": {to("10.65.1.0/26"): via(ip("192.0.2.2"), "eth0")}}
TWO_WAYS = {
    "routes": {
        to("10.65.1.0/26"): Route(
            hops=(NextHop(ip("192.0.2.2"), "eth0"), NextHop(ip("198.51.100.2"), "eth1", weight=2))
        )
    }
}


def _vxlan(vni: int) -> dict[str, Rows]:
    return {
        "links": {
            "vxlan.calico": Link(
                "vxlan", mtu=1350, mac="66:00:00:00:00:01", vxlan=Vxlan(vni, 4789, ip("192.0.2.1"), "eth0")
            )
        },
        "addresses": {AddressKey("vxlan.calico", ip_interface("10.65.0.1/32")): LinkAddress()},
        "neighbours": {NeighbourKey("vxlan.calico", ip("10.65.1.0")): Neighbour("66:00:00:00:00:02")},
        "fdb": {FdbKey("vxlan.calico", "66:00:00:00:00:02"): Fdb(ip("192.0.2.2"))},
        "routes": {to("10.65.1.0/26"): via(ip("10.65.1.0"), "vxlan.calico", onlink=True)},
    }


STATES = [
    State("nothing", {}, ""),
    State("a block of our own", BLOCK, "ip route replace 10.65.0.0/26 blackhole proto 80"),
    State(
        "a workload",
        _joined(BLOCK, WORKLOAD),
        """
        ip link set cali1 up mtu 1400
        sysctl -w net.ipv4.conf.cali1.proxy_arp=1
        sysctl -w net.ipv4.ip_forward=1
        ip neighbour replace 10.65.0.5 dev cali1 lladdr 02:00:00:00:00:05 nud permanent
        ip route replace 10.65.0.0/26 blackhole proto 80
        ip route replace 10.65.0.5/32 dev cali1 scope link proto 80
        """,
    ),
    State(
        "another node, native",
        _joined(BLOCK, NATIVE),
        """
        ip route replace 10.65.0.0/26 blackhole proto 80
        ip route replace 10.65.1.0/26 via 192.0.2.2 dev eth0 proto 80
        """,
    ),
    State(
        "another node, two ways",
        _joined(BLOCK, WORKLOAD, TWO_WAYS),
        """
        ip link set cali1 up mtu 1400
        sysctl -w net.ipv4.conf.cali1.proxy_arp=1
        sysctl -w net.ipv4.ip_forward=1
        ip neighbour replace 10.65.0.5 dev cali1 lladdr 02:00:00:00:00:05 nud permanent
        ip route replace 10.65.0.0/26 blackhole proto 80
        ip route replace 10.65.0.5/32 dev cali1 scope link proto 80
        ip route replace 10.65.1.0/26 nexthop via 192.0.2.2 dev eth0 nexthop via 198.51.100.2 dev eth1 weight 2 proto 80
        """,
    ),
    State(
        "another node, vxlan",
        _joined(BLOCK, WORKLOAD, _vxlan(4096)),
        """
        ip link set cali1 up mtu 1400
        ip link set vxlan.calico up mtu 1350 address 66:00:00:00:00:01 type vxlan id 4096 dstport 4789 local 192.0.2.1 dev eth0 nolearning
        ip address replace 10.65.0.1/32 dev vxlan.calico
        sysctl -w net.ipv4.conf.cali1.proxy_arp=1
        sysctl -w net.ipv4.ip_forward=1
        ip neighbour replace 10.65.0.5 dev cali1 lladdr 02:00:00:00:00:05 nud permanent
        ip neighbour replace 10.65.1.0 dev vxlan.calico lladdr 66:00:00:00:00:02 nud permanent
        bridge fdb replace 66:00:00:00:00:02 dev vxlan.calico dst 192.0.2.2 self permanent
        ip route replace 10.65.0.0/26 blackhole proto 80
        ip route replace 10.65.0.5/32 dev cali1 scope link proto 80
        ip route replace 10.65.1.0/26 via 10.65.1.0 dev vxlan.calico onlink proto 80
        """,
    ),
    State(
        "vxlan with another number",
        _joined(BLOCK, _vxlan(5000)),
        """
        ip link set vxlan.calico up mtu 1350 address 66:00:00:00:00:01 type vxlan id 5000 dstport 4789 local 192.0.2.1 dev eth0 nolearning
        ip address replace 10.65.0.1/32 dev vxlan.calico
        ip neighbour replace 10.65.1.0 dev vxlan.calico lladdr 66:00:00:00:00:02 nud permanent
        bridge fdb replace 66:00:00:00:00:02 dev vxlan.calico dst 192.0.2.2 self permanent
        ip route replace 10.65.0.0/26 blackhole proto 80
        ip route replace 10.65.1.0/26 via 10.65.1.0 dev vxlan.calico onlink proto 80
        """,
    ),
    State(
        "tables of its own",
        {
            "routes": {
                to("10.65.1.0/26", table=300): via(ip("192.0.2.2"), "eth0"),
                to("10.65.1.0/26", metric=9): on("eth1"),
            },
            "rules": {RuleKey(99, 4, 300, Prefix.parse("10.65.0.0/16"), None, 0x10): Rule()},
        },
        """
        ip route replace 10.65.1.0/26 metric 9 dev eth1 scope link proto 80
        ip route replace 10.65.1.0/26 table 300 via 192.0.2.2 dev eth0 proto 80
        ip -4 rule add priority 99 from 10.65.0.0/16 fwmark 0x10 lookup 300 protocol 80
        """,
    ),
]


def lines(text: str) -> list[str]:
    return [line for line in dedent(text).strip().splitlines() if line]
