"""The tunnel devices of this node: links, addresses, neighbours, forwarding entries, and all MTUs. Pure.

Which tunnels are held open is switch.py's decision (they open before anybody sends and close after everybody stopped);
here is what an open one looks like.  The receiving side is complete when a tunnel's link is up.
"""

import hashlib
import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import StrEnum
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_interface

from felixlite.addresses import Address, Interface, Prefix
from felixlite.ipip.plan import TUNNEL_LINK, VXLAN_LINKS, Carrier, vtep
from felixlite.ipip.programs import RECEIVE_NAME, SEND_NAME
from felixlite.ipip.rows import OUTER, Admitted, End, EndKey, Forwarder, Outer, Sender
from felixlite.model.inside import Node
from felixlite.rows import (
    AS_INNER,
    AddressKey,
    Classifier,
    ClassifierKey,
    Fdb,
    FdbKey,
    Link,
    LinkAddress,
    Neighbour,
    NeighbourKey,
    OuterHeader,
    Vxlan,
)
from felixlite.snapshot import LinkState


class Tunnel(StrEnum):
    """What a node can hold open. The values are what it publishes that it accepts."""

    IPIP = "ipip"
    VXLAN = "vxlan"
    VXLAN_V6 = "vxlan-v6"


LINK = {Tunnel.IPIP: TUNNEL_LINK, Tunnel.VXLAN: VXLAN_LINKS[4], Tunnel.VXLAN_V6: VXLAN_LINKS[6]}
FAMILY = {Tunnel.IPIP: 4, Tunnel.VXLAN: 4, Tunnel.VXLAN_V6: 6}
OVERHEAD = {Tunnel.IPIP: 20, Tunnel.VXLAN: 50, Tunnel.VXLAN_V6: 70}
VXLANS = (Tunnel.VXLAN, Tunnel.VXLAN_V6)

UNKNOWN_UPLINK_MTU = 1460  # what the reference assumes where no interface matches
OURS = frozenset(LINK.values())


@dataclass(frozen=True, slots=True)
class Mtus:
    uplink: int
    tunnels: Mapping[Tunnel, int]
    pod: int  # for the CNI: fits through every tunnel that is in use or about to be


def mtus(
    open_tunnels: Collection[Tunnel],
    links: Mapping[str, LinkState],
    uplinks: Collection[str],
    interface_pattern: str,
    configured: Mapping[Tunnel, int],
) -> Mtus:
    """`configured` is what FelixConfiguration says, 0 or absent: found out. Lowered before a tunnel is used and raised
    after, because `open_tunnels` are open before and after."""
    uplink = uplink_mtu(links, uplinks, interface_pattern)
    tunnels = {tunnel: configured.get(tunnel) or uplink - OVERHEAD[tunnel] for tunnel in Tunnel}
    return Mtus(uplink, tunnels, min((tunnels[tunnel] for tunnel in open_tunnels), default=uplink))


def uplink_mtu(links: Mapping[str, LinkState], uplinks: Collection[str], interface_pattern: str) -> int:
    """The smallest of the interfaces that look like uplinks, and of those that have the node's addresses."""
    looks = re.compile(interface_pattern)
    sizes = [
        link.mtu
        for name, link in links.items()
        if link.up and name not in OURS and (name in uplinks or looks.match(name))
    ]
    return min(sizes, default=UNKNOWN_UPLINK_MTU)


def links(
    open_tunnels: Collection[Tunnel],
    here: Node,
    uplinks: Mapping[int, str],
    mtus: Mtus,
    carrier: Carrier = Carrier.KERNEL,
    vni: int = 4096,
    port: int = 4789,
    header: OuterHeader = AS_INNER,
) -> dict[str, Link]:
    rows = {}
    if Tunnel.IPIP in open_tunnels:
        mtu = mtus.tunnels[Tunnel.IPIP]
        rows[TUNNEL_LINK] = Link("ipip", mtu=mtu, outer=header) if carrier is Carrier.KERNEL else Link("tun", mtu=mtu)
    for tunnel in VXLANS:
        family = FAMILY[tunnel]
        local, parent = here.address(family), uplinks.get(family)
        if tunnel in open_tunnels and local and parent:
            how = Vxlan(vni, port, local, parent)
            rows[LINK[tunnel]] = Link("vxlan", mtu=mtus.tunnels[tunnel], mac=mac(here, family), vxlan=how)
    return rows


def mac(node: Node, family: int) -> str:
    """A VXLAN device's address: what the node says, or what its name makes it (reference 9.6), the same everywhere."""
    said = node.vxlan_mac if family == 4 else node.vxlan_mac_v6
    return said or mac_of(node.name, family)


def mac_of(name: str, family: int) -> str:
    digest = hashlib.sha1((name if family == 4 else f"{name}-v6").encode(), usedforsecurity=False).digest()
    return ":".join(f"{byte:02x}" for byte in b"\x66" + digest[:5])


def tunnel_address(node: Node, tunnel: Tunnel) -> Address | None:
    return node.ipip_address if tunnel is Tunnel.IPIP else vtep(node, FAMILY[tunnel])


def addresses(
    open_tunnels: Collection[Tunnel], here: Node, link_addresses: Mapping[tuple[str, str], Prefix]
) -> dict[AddressKey, LinkAddress]:
    """Exactly one address a tunnel: host traffic into it has an address that leads back into it.

    Until the node has one (again), an open tunnel keeps what it has: with the last address of a link the kernel throws
    away every route and neighbour there (fib_disable_ip).
    """
    rows = {}
    for tunnel in open_tunnels:
        link, own = LINK[tunnel], tunnel_address(here, tunnel)
        kept = [] if own else [ip_interface(text) for name, text in link_addresses if name == link]
        rows.update({AddressKey(link, each): LinkAddress() for each in ([_single(own)] if own else kept)})
    return rows


def _single(address: Address) -> Interface:
    return IPv4Interface((address, 32)) if isinstance(address, IPv4Address) else IPv6Interface((address, 128))


def _far_ends(
    open_tunnels: Collection[Tunnel], here: Node, nodes: Mapping[str, Node]
) -> Iterator[tuple[str, str, Address, Address]]:
    """For every VXLAN that is open and every other node: link, MAC, tunnel address, node address."""
    for tunnel in VXLANS:
        if tunnel in open_tunnels:
            family = FAMILY[tunnel]
            for there in nodes.values():
                end, address = vtep(there, family), there.address(family)
                if there.name != here.name and end and address:
                    yield LINK[tunnel], mac(there, family), end, address


def neighbours(
    open_tunnels: Collection[Tunnel], here: Node, nodes: Mapping[str, Node]
) -> dict[NeighbourKey, Neighbour]:
    return {NeighbourKey(link, end): Neighbour(lladdr) for link, lladdr, end, _ in _far_ends(open_tunnels, here, nodes)}


def forwarding(open_tunnels: Collection[Tunnel], here: Node, nodes: Mapping[str, Node]) -> dict[FdbKey, Fdb]:
    return {FdbKey(link, lladdr): Fdb(via) for link, lladdr, _, via in _far_ends(open_tunnels, here, nodes)}


def sysctls(
    open_tunnels: Collection[Tunnel],
    links: Mapping[str, LinkState],
    uplinks: Mapping[int, str],
    addressed: Collection[str],
) -> dict[str, str]:
    """While two nodes move from one encapsulation to another, requests and replies travel differently for a moment;
    a strict reverse path check (RFC 3704) would drop them, on a tunnel and on the uplink. The policy has its own check
    of workloads; where the operator has switched the uplink's off, it stays off."""
    ends = [LINK[tunnel] for tunnel in Tunnel if tunnel in open_tunnels and FAMILY[tunnel] == 4]
    reverse_path = dict.fromkeys(ends, "2") | dict.fromkeys(reached(links, uplinks.get(4), addressed), "2|0")
    return {f"net/ipv4/conf/{link}/rp_filter": value for link, value in reverse_path.items() if link in links}


def reached(links: Mapping[str, LinkState], uplink: str | None, addressed: Collection[str]) -> list[str]:
    """The links that other nodes' packets come in by.

    A node address on a link of no hardware (lo, dummy) is reached through whatever other links there are.
    """
    if uplink is None:
        return []
    if uplink == "lo" or (uplink in links and links[uplink].kind == "dummy"):
        return [name for name in addressed if name in links and name not in OURS and name != "lo"]
    return [uplink]


# -- IPIP by eBPF ----------------------------------------------------------------------------------------------------


def ends(
    open_tunnels: Collection[Tunnel],
    here: Node,
    nodes: Mapping[str, Node],
    external: Iterable[Prefix] = (),
    carrier: Carrier = Carrier.KERNEL,
    header: OuterHeader = AS_INNER,
) -> dict[EndKey, End]:
    """Whom the programs let in: all other nodes, and the hosts of externalNodesList."""
    local = here.address(4)
    if carrier is not Carrier.EBPF or Tunnel.IPIP not in open_tunnels or not isinstance(local, IPv4Address):
        return {}
    others = {node.address(4) for node in nodes.values()} | {prefix.first for prefix in external if prefix.is_host}
    senders = [Sender(other, local) for other in others if isinstance(other, IPv4Address) and other != local]
    return {**dict.fromkeys(senders, Admitted()), OUTER: Outer(local, TUNNEL_LINK, header)}


def forwarders(
    open_tunnels: Collection[Tunnel], carrier: Carrier = Carrier.KERNEL, header: OuterHeader = AS_INNER
) -> dict[str, Forwarder]:
    """The process at tunl0: all of the work, or beside the programs what they pass on (fragments)."""
    if carrier is Carrier.KERNEL or Tunnel.IPIP not in open_tunnels:
        return {}
    return {TUNNEL_LINK: Forwarder(True, header) if carrier is Carrier.USER_SPACE else Forwarder(sends=False)}


def addressed(link_addresses: Mapping[tuple[str, str], Prefix]) -> frozenset[str]:
    """The links that have addresses of any kind."""
    return frozenset(link for link, _ in link_addresses)


def classifiers(
    open_tunnels: Collection[Tunnel],
    links: Mapping[str, LinkState],
    uplinks: Mapping[int, str],
    addressed: Collection[str],
    carrier: Carrier = Carrier.KERNEL,
) -> dict[ClassifierKey, Classifier]:
    """Which links the programs are on."""
    ways_in = reached(links, uplinks.get(4), addressed)
    if carrier is not Carrier.EBPF or Tunnel.IPIP not in open_tunnels or not ways_in:
        return {}
    rows = {ClassifierKey(link, "ingress"): Classifier(RECEIVE_NAME) for link in ways_in}
    return {ClassifierKey(TUNNEL_LINK, "egress"): Classifier(SEND_NAME), **rows}
