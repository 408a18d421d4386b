"""A pod's wiring as it is: both ends of the pair, and what is on the pod's. Looked at, never changed.

For CHECK (`first_wrong`), for GC (`host_ends`), and for an ADD that finds the name taken (`seen`).
"""

import errno
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from ipaddress import ip_address

from felixlite.addresses import Address, Prefix
from felixlite.cni.names import EVERYTHING, EVERYTHING_6, GATEWAY, GATEWAY_6, HOST_MAC
from felixlite.kernel import messages
from felixlite.kernel.netlink import Refused, Socket, attributes, each

_IFINFO = struct.Struct("=BxHiII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")


@dataclass(frozen=True, slots=True)
class PodEnd:
    name: str
    mac: str
    mtu: int
    addresses: Sequence[Prefix]
    default_routes: bool = True
    forwards: bool = False  # ip_forward inside the pod

    @property
    def families(self) -> frozenset[int]:
        return frozenset(address.family for address in self.addresses)


@dataclass(frozen=True, slots=True)
class SeenLink:
    index: int
    kind: str
    name: str
    mac: str
    mtu: int
    up: bool
    peer: int  # the index of a veth's other end

    @property
    def is_ours(self) -> bool:
        return self.kind == "veth" and self.mac == HOST_MAC

    def is_paired_with(self, other: "SeenLink") -> bool:
        return self.kind == other.kind == "veth" and (self.peer, other.peer) == (other.index, self.index)


def seen(socket: Socket, link: int | str) -> SeenLink | None:
    try:
        data = socket.get(*messages.get_link(link))
    except Refused as error:
        if error.number == errno.ENODEV:
            return None
        raise
    return _link(data)


def _link(data: bytes, start: int = 0, end: int | None = None) -> SeenLink:
    _, _, index, flags, _ = _IFINFO.unpack_from(data, start)
    found = attributes(data, start + 16, end)
    kind = attributes(found.get(18, b"")).get(1, b"")

    def number(of: int) -> int:
        return int(struct.unpack("=I", found[of])[0]) if of in found else 0

    return SeenLink(
        index,
        kind.rstrip(b"\0").decode(),
        found.get(3, b"").rstrip(b"\0").decode(),
        found.get(1, b"").hex(":"),
        number(4),
        bool(flags & messages.IFF_UP),
        number(5),
    )


def host_ends() -> list[SeenLink]:
    """All links of this host that are ends made by us."""
    with Socket() as host:
        rows = host.dump(messages.GET_LINK, _IFINFO.pack(0, 0, 0, 0, 0) + b"\x08\x00\x1d\x00\x08\x00\x00\x00")
    links = (
        _link(data, start, end) for data in rows for kind, _, _, start, end in each(data) if kind == messages.NEW_LINK
    )
    return [link for link in links if link.is_ours]


def first_wrong(host_name: str, namespace: int, pod: PodEnd) -> str:
    """What is not as an ADD left it, inside the pod and on the pair; "" if nothing."""
    with Socket() as host, Socket(namespace) as inside:
        ours, theirs = seen(host, host_name), seen(inside, pod.name)
        if theirs is None:
            return f"interface {pod.name} is missing in the pod"
        if ours is None:
            return f"the host's end {host_name} is missing"
        if not ours.is_paired_with(theirs):
            return f"interface {pod.name} in the pod is not the other end of {host_name}"
        if theirs.mac != pod.mac:
            return f"interface {pod.name} has the hardware address {theirs.mac} and not {pod.mac}"
        if not theirs.up:
            return f"interface {pod.name} is down"
        if not ours.up:
            return f"the host's end {host_name} is down"
        return _first_missing(inside, theirs.index, pod)


def strays(inside: Socket, index: int, pod: PodEnd) -> set[Prefix]:
    """The addresses on the pod's end that are not the pod's. Link-local ones are the kernel's affair."""
    return {a for a in _addresses(inside, index) if a not in pod.addresses and not a.first.is_link_local}


def _first_missing(inside: Socket, index: int, pod: PodEnd) -> str:
    addresses = _addresses(inside, index)
    for address in pod.addresses:
        if address not in addresses:
            return f"address {address} is missing on {pod.name}"
    routes, neighbours = _routes(inside, index), _neighbours(inside, index)
    for family in sorted(pod.families):
        gateway: Address = GATEWAY if family == 4 else GATEWAY_6
        if family == 4 and (Prefix.host(GATEWAY), None) not in routes:
            return f"route {GATEWAY} dev {pod.name} is missing in the pod"
        if pod.default_routes and (EVERYTHING if family == 4 else EVERYTHING_6, gateway) not in routes:
            return f"route default via {gateway} is missing in the pod"
        if neighbours.get(gateway) != HOST_MAC:
            return f"neighbour {gateway} lladdr {HOST_MAC} is missing in the pod"
    return ""


def _rows(socket: Socket, kind: int, answer: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
    for data in socket.dump(kind, body):
        for found, _, _, start, end in each(data):
            if found == answer:
                yield data, start, end


def _addresses(inside: Socket, index: int) -> set[Prefix]:
    found = set()
    for data, start, end in _rows(inside, messages.GET_ADDRESS, messages.NEW_ADDRESS, bytes(8)):
        _, length, _, _, link = struct.unpack_from("=BBBBi", data, start)
        values = attributes(data, start + 8, end)
        if link == index:
            found.add(Prefix(values.get(2) or values[1], length))
    return found


def _routes(inside: Socket, index: int) -> set[tuple[Prefix, Address | None]]:
    found = set()
    for family, width in ((2, 4), (10, 16)):
        request = _RTMSG.pack(family, 0, 0, 0, 254, 0, 0, 0, 0)
        for data, start, end in _rows(inside, messages.GET_ROUTE, messages.NEW_ROUTE, request):
            head = _RTMSG.unpack_from(data, start)
            values = attributes(data, start + 12, end)
            if values.get(4) == struct.pack("=I", index):
                gateway = ip_address(values[5]) if 5 in values else None
                found.add((Prefix(values.get(1, bytes(width)), head[1]), gateway))
    return found


def _neighbours(inside: Socket, index: int) -> dict[Address, str]:
    found: dict[Address, str] = {}
    for family in (2, 10):
        request = _NDMSG.pack(family, 0, 0, 0, 0)
        for data, start, end in _rows(inside, messages.GET_NEIGHBOUR, messages.NEW_NEIGHBOUR, request):
            values = attributes(data, start + 12, end)
            if _NDMSG.unpack_from(data, start)[1] == index and 2 in values:
                found[ip_address(values[1])] = values[2].hex(":")
    return found
