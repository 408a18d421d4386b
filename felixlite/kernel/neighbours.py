"""The tables of neighbours (who answers for an address on a link) and of forwarding entries of vxlan devices.

Neighbours: ours carry our protocol number (NDA_PROTOCOL, Linux 5.0), on whatever link.
Forwarding entries (fdb.py's Fdb rows): ours are the permanent ones on the vxlan devices that we make.
"""

import errno
import struct
from collections.abc import Collection, Iterator, Mapping
from ipaddress import ip_address
from typing import Final

from felixlite.kernel import messages
from felixlite.kernel.host import Host
from felixlite.kernel.links import OUR_NAMES
from felixlite.kernel.netlink import CREATE, REPLACE, Message, attribute, attributes, each, u8, u32
from felixlite.rows import ROUTE_PROTOCOL, Fdb, FdbKey, Neighbour, NeighbourKey

_NDMSG = struct.Struct("=BxxxiHBB")
_AF_BRIDGE: Final = 7
_PROTOCOL: Final = 12  # NDA_PROTOCOL
_SELF: Final = 2  # NTF_SELF: the device's own table, not a bridge's
_NOARP: Final = 0x40


class Neighbours:
    name = "neighbours"
    guard = False

    def __init__(self, host: Host) -> None:
        self.host = host

    def read(self) -> dict[NeighbourKey, Neighbour]:
        rows = {}
        for family in (2, 10):
            for index, state, _, found in _entries(self.host, _NDMSG.pack(family, 0, 0, 0, 0)):
                ours = found.get(_PROTOCOL) == bytes([ROUTE_PROTOCOL])
                if ours and state & messages.NUD_PERMANENT and (link := self.host.name(index)):
                    key = NeighbourKey(link, ip_address(found[1]))
                    rows[key] = Neighbour(found.get(2, b"").hex(":"))
        return rows

    def links_of(self, key: NeighbourKey, _: Neighbour) -> tuple[str]:
        return (key.link,)

    def upsert(self, items: Mapping[NeighbourKey, Neighbour]) -> dict[NeighbourKey, Exception]:
        def pack(key: NeighbourKey) -> Message:
            kind, flags, body = messages.set_neighbour(self.host.index(key.link), key.address, items[key].mac)
            return kind, flags, body + u8(_PROTOCOL, ROUTE_PROTOCOL)

        return self.host.send(items, pack)

    def delete(self, keys: Collection[NeighbourKey]) -> dict[NeighbourKey, Exception]:
        there = {key: index for key in keys if (index := _index(self.host, key.link)) is not None}
        return self.host.send(
            there, lambda key: messages.delete_neighbour(there[key], key.address), ignore=(errno.ENOENT, errno.ENODEV)
        )


class ForwardingEntries:
    name = "fdb"
    guard = False

    def __init__(self, host: Host, ours: Collection[str] = OUR_NAMES) -> None:
        self.host = host
        self.ours = frozenset(ours)

    def read(self) -> dict[FdbKey, Fdb]:
        rows = {}
        for link in sorted(self.ours):
            index = _index(self.host, link)
            if index is None:
                continue
            request = _NDMSG.pack(_AF_BRIDGE, 0, 0, 0, 0) + u32(8, index)  # NDA_IFINDEX
            for at, state, flags, found in _entries(self.host, request):
                if at == index and state & messages.NUD_PERMANENT and flags & _SELF and 1 in found and any(found[2]):
                    rows[FdbKey(link, found[2].hex(":"))] = Fdb(ip_address(found[1]))
        return rows

    def links_of(self, key: FdbKey, _: Fdb) -> tuple[str]:
        return (key.link,)

    def upsert(self, items: Mapping[FdbKey, Fdb]) -> dict[FdbKey, Exception]:
        def pack(key: FdbKey) -> Message:
            head = _NDMSG.pack(_AF_BRIDGE, self.host.index(key.link), messages.NUD_PERMANENT | _NOARP, _SELF, 0)
            body = head + attribute(2, messages.hardware(key.mac)) + attribute(1, items[key].via.packed)
            return messages.NEW_NEIGHBOUR, CREATE | REPLACE, body

        return self.host.send(items, pack)

    def delete(self, keys: Collection[FdbKey]) -> dict[FdbKey, Exception]:
        there = {key: index for key in keys if (index := _index(self.host, key.link)) is not None}

        def pack(key: FdbKey) -> Message:
            head = _NDMSG.pack(_AF_BRIDGE, there[key], 0, _SELF, 0)
            return messages.DELETE_NEIGHBOUR, 0, head + attribute(2, messages.hardware(key.mac))

        return self.host.send(there, pack, ignore=(errno.ENOENT, errno.ENODEV))


def _entries(host: Host, request: bytes) -> Iterator[tuple[int, int, int, dict[int, bytes]]]:
    """Index, state, flags and attributes of each entry."""
    for data in host.netlink.dump(messages.GET_NEIGHBOUR, request):
        for kind, _, _, start, end in each(data):
            if kind == messages.NEW_NEIGHBOUR:
                _, index, state, flags, _ = _NDMSG.unpack_from(data, start)
                yield index, state, flags, attributes(data, start + 12, end)


def _index(host: Host, link: str) -> int | None:
    """None when the link is gone, and what was on it with it."""
    try:
        return host.index(link)
    except OSError:
        return None
