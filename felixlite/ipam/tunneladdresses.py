"""Which tunnel of a node has an address, where the Node says it, and from which pools it may come. Pure.

tunnels.py brings IPAM and the Node in step with what is decided here (reference 4.9).
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from ipaddress import ip_address
from typing import Any

from felixlite.addresses import Address
from felixlite.datastore.store import Document
from felixlite.model.inside import Labels, Mode, Pool, Use


@dataclass(frozen=True, slots=True)
class Tunnel:
    """One kind of tunnel: how its address is called in IPAM and on the Node."""

    name: str
    family: int
    handle: str  # followed by the node's name
    type: str  # the attribute that says what the address is for
    path: tuple[str, ...]  # in the Node's spec
    mode: Callable[[Pool], Mode]


TUNNELS = (
    Tunnel("ipip", 4, "ipip-tunnel-addr-", "ipipTunnelAddress", ("bgp", "ipv4IPIPTunnelAddr"), lambda p: p.ipip),
    Tunnel("vxlan", 4, "vxlan-tunnel-addr-", "vxlanTunnelAddress", ("ipv4VXLANTunnelAddr",), lambda p: p.vxlan),
    Tunnel("vxlan6", 6, "vxlan-v6-tunnel-addr-", "vxlanV6TunnelAddress", ("ipv6VXLANTunnelAddr",), lambda p: p.vxlan),
)


def wanted(tunnel: Tunnel, pools: Iterable[Pool], labels: Labels) -> tuple[Pool, ...]:
    """The pools that an address of this tunnel may come from; none: the tunnel needs no address."""
    return tuple(
        pool
        for pool in sorted(pools, key=lambda pool: pool.name)
        if pool.cidr.family == tunnel.family
        and tunnel.mode(pool) is not Mode.NEVER
        and not pool.disabled
        and pool.allocatable
        and Use.TUNNEL in pool.allowed_uses
        and (pool.node_selector is None or pool.node_selector.matches(labels))
    )


def current(tunnel: Tunnel, node: Mapping[str, Any]) -> Address | None:
    """The address that a Node document says; None also for what is no address."""
    value: Any = node.get("spec") or {}
    for name in tunnel.path:
        value = value.get(name) if isinstance(value, dict) else None
    try:
        return ip_address(str(value).partition("/")[0]) if value else None
    except ValueError:
        return None


def with_address(tunnel: Tunnel, node: Document, address: Address | None) -> Document:
    """The Node document that says this address, or none."""
    made: Document = json.loads(json.dumps(node))
    place = made.setdefault("spec", {})
    for name in tunnel.path[:-1]:
        place[name] = place.get(name) or {}
        place = place[name]
    place.pop(tunnel.path[-1], None)
    if address is not None:
        place[tunnel.path[-1]] = str(address)
    return made
