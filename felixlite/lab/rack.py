"""What the routers of a lab are told: the configuration of BIRD, FRR or GoBGP for one machine. Pure.

A router peers with every node of every subnet that it is on (eBGP, it waits for the nodes to call), passes on what it
learns, tells of the network outside, and puts what it learns into its own kernel.  (GoBGP can do neither of the last
two: it only shows that the sessions and the routes are there.)
"""

from collections.abc import Iterator
from ipaddress import IPv4Network
from itertools import islice

from felixlite.lab.topology import CLUSTER_AS, OUTSIDE, ROUTER_AS, Machine, Topology

LEAKS = IPv4Network("100.64.0.0/10")  # where the routes of a leak are taken from, as /24s


def configuration(topology: Topology, machine: Machine, leaked: int = 0) -> str:
    """`leaked`: so many routes beside what a router has to say (BIRD only)."""
    write = {"bird": _bird, "frr": _frr, "gobgp": _gobgp}[topology.router]
    return "\n".join([*write(topology, machine), *_leak(leaked)]) + "\n"


def _leak(count: int) -> Iterator[str]:
    if count:
        yield "protocol static leak { ipv4;"
        yield from (f"  route {network} blackhole;" for network in islice(LEAKS.subnets(new_prefix=24), count))
        yield "}"


def _bird(topology: Topology, machine: Machine) -> Iterator[str]:
    yield f"router id {machine.address};"
    yield "log stderr all;"
    yield "protocol device { scan time 5; }"
    yield "protocol direct { ipv4; }"
    yield "protocol kernel { ipv4 { export where source = RTS_BGP; }; merge paths; }"
    for subnet in range(1, topology.subnets + 1):
        local = topology.subnet(subnet)[int(machine.name[1:])]
        yield f"protocol bgp nodes{subnet} {{"
        yield f"  local {local} as {ROUTER_AS};"
        yield f"  neighbor range {topology.subnet(subnet)} as {CLUSTER_AS};"
        yield f'  dynamic name "n{subnet}_"; direct; passive; hold time {topology.hold}; graceful restart on;'
        yield "  error wait time 1, 10;"  # else it turns a node away for a minute after a hold timer
        yield f"  ipv4 {{ import all; export where source = RTS_BGP || net = {OUTSIDE} || net ~ [ {LEAKS}+ ]; }};"
        yield "}"


def _frr(topology: Topology, machine: Machine) -> Iterator[str]:
    yield f"router bgp {ROUTER_AS}"
    yield f" bgp router-id {machine.address}"
    yield " no bgp ebgp-requires-policy"
    yield " bgp graceful-restart"
    yield " address-family ipv4 unicast"
    yield f"  network {OUTSIDE}"
    yield " exit-address-family"
    for subnet in range(1, topology.subnets + 1):
        yield f" neighbor nodes{subnet} peer-group"
        yield f" neighbor nodes{subnet} remote-as {CLUSTER_AS}"
        yield f" neighbor nodes{subnet} timers {max(1, topology.hold // 3)} {topology.hold}"
        yield f" bgp listen range {topology.subnet(subnet)} peer-group nodes{subnet}"
    yield " bgp listen limit 1000"


def _gobgp(topology: Topology, machine: Machine) -> Iterator[str]:
    yield "[global.config]"
    yield f"as = {ROUTER_AS}"
    yield f'router-id = "{machine.address}"'
    yield "[[peer-groups]]"
    yield "[peer-groups.config]"
    yield 'peer-group-name = "nodes"'
    yield f"peer-as = {CLUSTER_AS}"
    yield "[[peer-groups.afi-safis]]"
    yield '[peer-groups.afi-safis.config]\nafi-safi-name = "ipv4-unicast"'
    for subnet in range(1, topology.subnets + 1):
        yield "[[dynamic-neighbors]]"
        yield "[dynamic-neighbors.config]"
        yield f'prefix = "{topology.subnet(subnet)}"'
        yield 'peer-group = "nodes"'
