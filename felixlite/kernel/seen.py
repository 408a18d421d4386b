"""What the kernel says about links and addresses, parsed from its messages. Pure: bytes in, values out."""

import struct
from dataclasses import dataclass
from ipaddress import ip_address, ip_interface
from typing import Final

from felixlite.addresses import Address, Interface, Prefix
from felixlite.kernel.messages import IFF_UP
from felixlite.kernel.netlink import attributes
from felixlite.rows import OuterHeader
from felixlite.snapshot import LinkState

_IFINFO = struct.Struct("=BxHiII")
_IFADDR = struct.Struct("=BBBBi")
_LOWER_UP: Final = 0x10000


@dataclass(frozen=True, slots=True)
class SeenVxlan:
    vni: int
    port: int
    local: Address | None
    parent: int  # index, 0 for none
    learning: bool


@dataclass(frozen=True, slots=True)
class SeenLink:
    state: LinkState
    master: int  # index, 0 for none
    vxlan: SeenVxlan | None = None
    outer: OuterHeader | None = None  # of an ipip link


def link(message: bytes, start: int = 0, end: int | None = None) -> SeenLink:
    """A link from the body of an RTM_NEWLINK or RTM_DELLINK."""
    _, _, index, flags, _ = _IFINFO.unpack_from(message, start)
    found = attributes(message, start + 16, end)
    info = attributes(found.get(18, b""))
    kind = _text(info.get(1, b""))
    on = bool(flags & IFF_UP)
    state = LinkState(
        name=_text(found.get(3, b"")),
        index=index,
        kind=kind,
        up=on and bool(flags & _LOWER_UP),
        mtu=_number(found.get(4)),
        mac=found.get(1, b"").hex(":"),
        on=on,
    )
    data = info.get(2, b"")
    vxlan = _vxlan(data) if kind == "vxlan" else None
    return SeenLink(state, _number(found.get(10)), vxlan, _outer(data) if kind == "ipip" else None)


def _outer(data: bytes) -> OuterHeader:
    """IFLA_IPTUN_TTL and IFLA_IPTUN_PMTUDISC."""
    found = attributes(data)
    return OuterHeader(_number(found.get(4)), bool(_number(found.get(10))))


def _vxlan(data: bytes) -> SeenVxlan:
    found = attributes(data)
    local = found.get(4) or found.get(17)
    return SeenVxlan(
        vni=_number(found.get(1)),
        port=int.from_bytes(found.get(15, b"")[:2], "big"),
        local=ip_address(local) if local else None,
        parent=_number(found.get(3)),
        learning=found.get(7, b"\0") != b"\0",
    )


@dataclass(frozen=True, slots=True)
class SeenAddress:
    link: int  # index
    address: Interface
    subnet: Prefix
    scope: int  # 0 global, 253 link, 254 host


def address(message: bytes, start: int = 0, end: int | None = None) -> SeenAddress | None:
    """An address from the body of an RTM_NEWADDR or RTM_DELADDR."""
    _, length, _, scope, index = _IFADDR.unpack_from(message, start)
    found = attributes(message, start + 8, end)
    # with a peer (point to point) IFA_LOCAL is ours and IFA_ADDRESS is the peer's
    packed = found.get(2) or found.get(1)
    if packed is None:
        return None
    host = ip_address(packed)
    subnet = Prefix.containing(ip_address(found.get(1, packed)), length)
    return SeenAddress(index, ip_interface((host, length)), subnet, scope)


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _number(data: bytes | None) -> int:
    return int.from_bytes(data[:4], "little") if data else 0
