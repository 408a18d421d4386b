"""The rtnetlink messages that we send, as functions from values to Message tuples.

Each says in its name what it makes so.  A link is named by its index or by its name; a name works in every message
about a link itself, everything on a link (addresses, routes, neighbours) needs the index.  A veth may be made with
indexes of the maker's choice, so that one batch can create it and put addresses on it.
"""

import struct
from dataclasses import dataclass
from typing import Final

from felixlite.addresses import Address, Interface, Prefix
from felixlite.kernel.netlink import CREATE, EXCLUSIVE, REPLACE, Message, attribute, nested, text, u8, u32

NEW_LINK: Final = 16
DELETE_LINK: Final = 17
GET_LINK: Final = 18
NEW_ADDRESS: Final = 20
DELETE_ADDRESS: Final = 21
GET_ADDRESS: Final = 22
NEW_ROUTE: Final = 24
DELETE_ROUTE: Final = 25
GET_ROUTE: Final = 26
NEW_NEIGHBOUR: Final = 28
DELETE_NEIGHBOUR: Final = 29
GET_NEIGHBOUR: Final = 30
NEW_RULE: Final = 32
DELETE_RULE: Final = 33
GET_RULE: Final = 34

IFF_UP: Final = 0x1
NUD_PERMANENT: Final = 0x80
_IFINFO = struct.Struct("=BxHiII")  # family, type, index, flags, which flags to change
_IFADDR = struct.Struct("=BBBBi")  # family, prefix length, flags, scope, index
_NDMSG = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type

_WITHOUT_STATISTICS: Final = 8  # RTEXT_FILTER_SKIP_STATS

LinkId = int | str


def family(address: Address | Prefix) -> int:
    """AF_INET or AF_INET6."""
    return 2 if len(address.packed) == 4 else 10


def hardware(mac: str) -> bytes:
    return bytes.fromhex(mac.replace(":", ""))


# -- links -----------------------------------------------------------------------------------------------------------


def _link(link: LinkId, flags: int = 0, change: int = 0) -> bytes:
    if isinstance(link, int):
        return _IFINFO.pack(0, 0, link, flags, change)
    return _IFINFO.pack(0, 0, 0, flags, change) + text(3, link)


def _settings(mtu: int | None, mac: str | None, master: int | None = None) -> bytes:
    parts = [u32(4, mtu)] if mtu is not None else []
    parts += [attribute(1, hardware(mac))] if mac is not None else []
    parts += [u32(10, master)] if master is not None else []
    return b"".join(parts)


def new_link(name: str, kind: str, *details: bytes, mtu: int | None = None, mac: str | None = None) -> Message:
    """Create a link of a kind (ipip, vxlan, bridge, ...); `details` are the attributes of that kind."""
    info = nested(18, text(1, kind), *([nested(2, *details)] if details else []))
    return NEW_LINK, CREATE | EXCLUSIVE, _link(name) + _settings(mtu, mac) + info


def vxlan(vni: int, port: int, local: Address, parent: int) -> bytes:
    """The details of a vxlan link that learns nothing: we fill its forwarding table."""
    local_kind = 4 if local.version == 4 else 17
    where = u32(1, vni) + attribute(local_kind, local.packed) + u32(3, parent)
    return where + u8(7, 0) + attribute(15, port.to_bytes(2, "big"))


@dataclass(frozen=True, slots=True)
class VethEnd:
    name: str
    index: int = (
        0  # 0: the kernel chooses; it heeds the far end's only if the near end has one too (drivers/net/veth.c)
    )
    mtu: int | None = None
    mac: str | None = None
    namespace: int | None = None  # descriptor of the namespace where it is born; None: the socket's own
    up: bool = False


def new_veth(here: VethEnd, there: VethEnd) -> Message:
    """Create both ends, each at once in its namespace.

    Only `here` can be born up: the far end is made first, and without a peer the kernel does not set it up (ENOTCONN).
    With one queue, as veth uses it by itself: to come to that from one for each processor it waits for RCU, for both
    ends (drivers/net/veth.c, veth_init_queues).
    """
    return (
        NEW_LINK,
        CREATE | EXCLUSIVE,
        _veth_end(here) + nested(18, text(1, "veth"), nested(2, attribute(1, _veth_end(there)))),
    )


def _veth_end(end: VethEnd) -> bytes:
    flags = IFF_UP if end.up else 0
    body = _IFINFO.pack(0, 0, end.index, flags, flags) + text(3, end.name) + _settings(end.mtu, end.mac)
    body += u32(31, 1) + u32(32, 1)  # IFLA_NUM_TX_QUEUES, IFLA_NUM_RX_QUEUES
    return body + (u32(28, end.namespace) if end.namespace is not None else b"")


def set_link(
    link: LinkId, *, up: bool | None = None, mtu: int | None = None, mac: str | None = None, master: int | None = None
) -> Message:
    """Change what is not None of a link that exists."""
    flags, change = (IFF_UP if up else 0, IFF_UP) if up is not None else (0, 0)
    return NEW_LINK, 0, _link(link, flags, change) + _settings(mtu, mac, master)


def rename_link(index: int, name: str) -> Message:
    return NEW_LINK, 0, _link(index) + text(3, name)


def delete_link(link: LinkId) -> Message:
    return DELETE_LINK, 0, _link(link)


def get_link(link: LinkId) -> tuple[int, bytes]:
    """For Socket.get."""
    return GET_LINK, _link(link) + u32(29, _WITHOUT_STATISTICS)


# -- addresses, neighbours -------------------------------------------------------------------------------------------

_NODAD: Final = 0x02


def _address(index: int, address: Interface, flags: int) -> bytes:
    packed = address.ip.packed
    head = _IFADDR.pack(2 if len(packed) == 4 else 10, address.network.prefixlen, flags, 0, index)
    return head + attribute(2, packed) + attribute(1, packed)


def set_address(index: int, address: Interface) -> Message:
    """Put the address on the link. IPv6 without duplicate address detection: a tentative address serves nobody."""
    return NEW_ADDRESS, CREATE | REPLACE, _address(index, address, _NODAD if address.version == 6 else 0)


def delete_address(index: int, address: Interface) -> Message:
    return DELETE_ADDRESS, 0, _address(index, address, 0)


def set_neighbour(index: int, address: Address, mac: str) -> Message:
    """A permanent neighbour."""
    body = _NDMSG.pack(family(address), index, NUD_PERMANENT, 0, 0)
    return NEW_NEIGHBOUR, CREATE | REPLACE, body + attribute(1, address.packed) + attribute(2, hardware(mac))


def delete_neighbour(index: int, address: Address) -> Message:
    return DELETE_NEIGHBOUR, 0, _NDMSG.pack(family(address), index, 0, 0, 0) + attribute(1, address.packed)


# -- routes ----------------------------------------------------------------------------------------------------------

_RTMSG = struct.Struct("=BBBBBBBBI")
UNICAST: Final = 1
BLACKHOLE: Final = 6
SCOPE_UNIVERSE: Final = 0
SCOPE_LINK: Final = 253
ONLINK: Final = 4


def set_route(
    prefix: Prefix,
    index: int | None = None,
    *,
    gateway: Address | None = None,
    onlink: bool = False,
    scope_link: bool = False,
    source: Address | None = None,
    mtu: int | None = None,
    table: int = 254,
    protocol: int = 80,
) -> Message:
    """One plain route, replaced in place. routes.py packs the rest of the world, and faster."""
    scope = SCOPE_LINK if scope_link and prefix.family == 4 else SCOPE_UNIVERSE
    body = _RTMSG.pack(
        family(prefix), prefix.length, 0, 0, 0, protocol, scope, UNICAST, ONLINK if onlink else 0
    ) + attribute(1, prefix.packed)
    body += u32(15, table)
    body += u32(4, index) if index is not None else b""
    body += hop_gateway(family(prefix), gateway) if gateway is not None else b""
    body += attribute(7, source.packed) if source is not None else b""
    body += nested(8, u32(2, mtu)) if mtu is not None else b""
    return NEW_ROUTE, CREATE | REPLACE, body


def hop_gateway(route_family: int, gateway: Address) -> bytes:
    """RTA_GATEWAY, or RTA_VIA where an IPv4 route goes through an IPv6 neighbour."""
    if family(gateway) == route_family:
        return attribute(5, gateway.packed)
    return attribute(18, struct.pack("=H", family(gateway)) + gateway.packed)


def delete_route(prefix: Prefix, *, table: int = 254, metric: int = 0, protocol: int = 80) -> Message:
    body = _RTMSG.pack(family(prefix), prefix.length, 0, 0, 0, protocol, 255, 0, 0) + attribute(1, prefix.packed)
    return DELETE_ROUTE, 0, body + u32(15, table) + (u32(6, metric) if metric else b"")
