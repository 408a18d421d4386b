"""Routes as rows and routes as rtnetlink bytes. Pure but for the names of links, which are asked of the caller.

Both ways are memories around a slow, complete codec: rows that are the same object are packed once, and answers of the
kernel that differ in nothing but the prefix are parsed once.  That makes a route cost about a microsecond.

What the kernel tells differently from how it was told:
- IPv6 has no metric 0: a route written without one has 1024 (IP6_RT_PRIO_USER).
- IPv6 has no scope, and keeps the hops of a multipath route in an order of its own.
- A hop without a link comes back with the one that the kernel found.
- Of an eBPF program it remembers the name only, so the name says what the program does.
"""

import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from ipaddress import ip_address
from typing import Final

from felixlite.addresses import Address, Prefix
from felixlite.kernel import messages
from felixlite.kernel.messages import BLACKHOLE, NEW_ROUTE, ONLINK, SCOPE_LINK, SCOPE_UNIVERSE, UNICAST
from felixlite.kernel.netlink import attribute, attributes, nested, u32
from felixlite.rows import ROUTE_PROTOCOL, NextHop, Route, RouteKey

_RTMSG = struct.Struct("=BBBBBBBBI")  # family, length, source length, tos, table, protocol, scope, type, flags
_TO4 = struct.Struct("=BBBBBBBBIHH4s")  # ... and the destination
_TO6 = struct.Struct("=BBBBBBBBIHH16s")
_HOP = struct.Struct("=HBBi")  # length, flags, weight - 1, index
_START = struct.Struct("=IH")
_DST, _OIF, _GATEWAY, _PRIORITY, _SOURCE, _METRICS, _MULTIPATH = 1, 4, 5, 6, 7, 8, 9
_TABLE, _VIA = 15, 18
_MTU, _ADVMSS = 2, 8
_ANY_SCOPE: Final = 255
_V6_METRIC: Final = 1024
_KINDS: Final = {"unicast": UNICAST, "blackhole": BLACKHOLE}

Tail = tuple[int, int, int, int, bytes]  # protocol, scope, type, flags, attributes


# -- packing ---------------------------------------------------------------------------------------------------------


class Packer:
    """Packs the routes of one call; link names are looked up once."""

    def __init__(self, index: Callable[[str], int]) -> None:
        self._index = index
        self._links: dict[str, int] = {}
        self._tails: tuple[dict[int, Tail], dict[int, Tail]] = ({}, {})
        self._places: dict[tuple[int, int], tuple[int, bytes]] = {}

    def pack(self, key: RouteKey, row: Route) -> bytes:
        """The body of RTM_NEWROUTE. Refused when a link of it does not exist."""
        (packed, length), table, metric = key
        v4 = len(packed) == 4
        # the rows of a call live as long as the call, so their ids do not come twice
        tail = self._tails[v4].get(id(row))
        if tail is None:
            tail = self._tails[v4][id(row)] = self._tail(row, 2 if v4 else 10)
        place = self._places.get((table, metric)) or self._place(table, metric)
        protocol, scope, kind, flags, rest = tail
        if v4:
            head = _TO4.pack(2, length, 0, 0, place[0], protocol, scope, kind, flags, 8, _DST, packed)
        else:
            head = _TO6.pack(10, length, 0, 0, place[0], protocol, scope, kind, flags, 20, _DST, packed)
        return head + place[1] + rest

    def _place(self, table: int, metric: int) -> tuple[int, bytes]:
        place = self._places[table, metric] = (table if table < 256 else 0, _place(table, metric))
        return place

    def _tail(self, row: Route, family: int) -> Tail:
        scope = SCOPE_LINK if row.scope_link and family == 2 else SCOPE_UNIVERSE
        flags = ONLINK if len(row.hops) == 1 and row.hops[0].onlink else 0
        parts = [attribute(_SOURCE, row.source.packed)] if row.source else []
        parts += self._hops(row.hops, family)
        metrics = [u32(kind, value) for kind, value in ((_MTU, row.mtu), (_ADVMSS, row.advmss)) if value is not None]
        parts += [nested(_METRICS, *metrics)] if metrics else []
        return row.protocol, scope, _KINDS[row.kind], flags, b"".join(parts)

    def _hops(self, hops: tuple[NextHop, ...], family: int) -> list[bytes]:
        if len(hops) > 1:
            return [nested(_MULTIPATH, *(self._one_of_many(hop, family) for hop in hops))]
        parts = []
        for hop in hops:
            parts += [messages.hop_gateway(family, hop.gateway)] if hop.gateway else []
            parts += [u32(_OIF, self._link(hop.link))] if hop.link else []
        return parts

    def _one_of_many(self, hop: NextHop, family: int) -> bytes:
        gateway = messages.hop_gateway(family, hop.gateway) if hop.gateway else b""
        index = self._link(hop.link) if hop.link else 0
        return _HOP.pack(8 + len(gateway), ONLINK if hop.onlink else 0, hop.weight - 1, index) + gateway

    def _link(self, name: str) -> int:
        if name not in self._links:
            self._links[name] = self._index(name)
        return self._links[name]


@lru_cache(maxsize=1000)
def _place(table: int, metric: int) -> bytes:
    return (u32(_TABLE, table) if table > 255 else b"") + (u32(_PRIORITY, metric) if metric else b"")


def pack_delete(key: RouteKey) -> bytes:
    """The body of RTM_DELROUTE; the protocol goes along, so that somebody else's route is never the one removed."""
    (packed, length), table, metric = key
    if len(packed) == 4:
        head = _TO4.pack(
            2, length, 0, 0, table if table < 256 else 0, ROUTE_PROTOCOL, _ANY_SCOPE, 0, 0, 8, _DST, packed
        )
        return head + _place(table, metric)
    head = _TO6.pack(10, length, 0, 0, table if table < 256 else 0, ROUTE_PROTOCOL, 0, 0, 0, 20, _DST, packed)
    return head + _place(table, metric or _V6_METRIC)


# -- parsing ---------------------------------------------------------------------------------------------------------


def dump_request(family: int, protocol: int, table: int | None = None) -> bytes:
    """For Socket.dump: the kernel filters by protocol and table (strict checking)."""
    head = _RTMSG.pack(family, 0, 0, 0, 0, protocol, 0, 0, 0)
    return head + (u32(_TABLE, table) if table is not None else b"")


@dataclass(slots=True)
class _Meaning:
    """What all answers of one likeness mean, and which wanted rows (by id) mean the same."""

    table: int
    metric: int
    row: Route
    verdicts: dict[int, bool] = field(default_factory=dict)
    usual: Route | None = None  # the wanted row that was last found to mean the same


class Reader:
    """Reads the dumps of one family. Where an answer means the same as the wanted row, it becomes the wanted row.

    Nearly every message is: header 16, rtmsg 12, RTA_TABLE 8, RTA_DST 4 + width, the rest.  Two messages that agree in
    all but the destination's bytes and its length are of one likeness and mean the same route.
    """

    def __init__(self, width: int, name: Callable[[int], str | None], wanted: Mapping[RouteKey, Route]) -> None:
        self.width, self.name, self.wanted = width, name, wanted
        self.rows: dict[RouteKey, Route] = {}
        self._known: dict[bytes, _Meaning] = {}
        self._usual = struct.pack("=HH", 4 + width, _DST)

    def read(self, buffers: Iterable[bytes]) -> dict[RouteKey, Route]:
        for data in buffers:
            length = int.from_bytes(data[:4], "little")
            # most buffers hold messages of one length, which struct takes apart in one go
            even = length > 40 + self.width and length % 4 == 0 and len(data) % length == 0
            if not (even and self._read_even(data, length)):
                self._read_uneven(data)
        return self.rows

    def _read_even(self, data: bytes, length: int) -> bool:
        """False when they were of different lengths after all; what was read till then is right."""
        shape = f"=IH11xB22s{self.width}s{length - 40 - self.width}s"
        known, wanted, rows, new = self._known, self.wanted, self.rows, tuple.__new__
        for size, kind, bits, front, packed, rest in struct.iter_unpack(shape, data):
            if size != length or kind != NEW_ROUTE or (meaning := known.get(front + rest)) is None:
                return False
            # the classes' own constructors take three times as long
            key = new(RouteKey, (new(Prefix, (packed, bits)), meaning.table, meaning.metric))
            asked = wanted.get(key)
            if asked is not None and asked is meaning.usual:
                rows[key] = asked
            else:
                self._add(key, asked, meaning)
        return True

    def _read_uneven(self, data: bytes) -> None:
        position, width = 0, self.width
        while position < len(data):
            length, kind = _START.unpack_from(data, position)
            start, end = position + 40, position + length
            position += (length + 3) & ~3
            if kind != NEW_ROUTE:
                continue
            meaning = self._known.get(data[start - 22 : start] + data[start + width : end])
            if meaning is None:
                meaning = self._learn(data, start, end)
            if meaning is not None:
                prefix = Prefix(data[start : start + width], data[start - 23])
                self._add(RouteKey(prefix, meaning.table, meaning.metric), None, meaning)

    def _learn(self, data: bytes, start: int, end: int) -> _Meaning | None:
        """Parse a message of a likeness not met before; None when it is not ours, or of an unusual shape."""
        message = message_of(data, start - 24, end, self.name)
        if message is None:
            return None
        key, row = message
        meaning = _Meaning(key.table, key.metric, row)
        if data[start - 4 : start] == self._usual:
            self._known[data[start - 22 : start] + data[start + self.width : end]] = meaning
            return meaning
        self._add(key, None, meaning)
        return None

    def _add(self, key: RouteKey, asked: Route | None, meaning: _Meaning) -> None:
        asked = asked or self.wanted.get(key)
        if asked is None and key.metric == _V6_METRIC and self.width == 16:
            key = RouteKey(key.prefix, key.table)  # written without a metric
            asked = self.wanted.get(key)
        if asked is None:
            self.rows[key] = meaning.row
            return
        verdict = meaning.verdicts.get(id(asked))
        if verdict is None:
            verdict = meaning.verdicts[id(asked)] = means_the_same(asked, meaning.row, v6=self.width == 16)
        if verdict:
            meaning.usual = asked
        self.rows[key] = asked if verdict else meaning.row


def message_of(data: bytes, start: int, end: int, name: Callable[[int], str | None]) -> tuple[RouteKey, Route] | None:
    """One route of ours from the body of a message; None for somebody else's, or one that we could not have written."""
    family, length, _, _, table, protocol, scope, kind, flags = _RTMSG.unpack_from(data, start)
    if protocol != ROUTE_PROTOCOL or kind not in (UNICAST, BLACKHOLE):
        return None
    found = attributes(data, start + 12, end)
    width = 4 if family == 2 else 16
    key = RouteKey(
        Prefix(found.get(_DST, bytes(width)), length),
        _number(found[_TABLE]) if _TABLE in found else table,
        _number(found[_PRIORITY]) if _PRIORITY in found else 0,
    )
    source = ip_address(found[_SOURCE]) if _SOURCE in found else None
    if kind == BLACKHOLE:
        return key, Route("blackhole", source=source)
    metrics = attributes(found.get(_METRICS, b""))
    row = Route(
        hops=tuple(_parse_hops(found, flags, name)),
        source=source,
        scope_link=scope == SCOPE_LINK,
        mtu=_number(metrics[_MTU]) if _MTU in metrics else None,
        advmss=_number(metrics[_ADVMSS]) if _ADVMSS in metrics else None,
        protocol=protocol,
    )
    return key, row


def _parse_hops(found: Mapping[int, bytes], flags: int, name: Callable[[int], str | None]) -> Iterable[NextHop]:
    if _MULTIPATH not in found:
        link = name(_number(found[_OIF])) if _OIF in found else None
        yield NextHop(_parse_gateway(found), link, bool(flags & ONLINK))
        return
    data = found[_MULTIPATH]
    position = 0
    while position + 8 <= len(data):
        length, hop_flags, weight, index = _HOP.unpack_from(data, position)
        inner = attributes(data, position + 8, position + length)
        yield NextHop(_parse_gateway(inner), name(index), bool(hop_flags & ONLINK), weight + 1)
        position += (max(length, 8) + 3) & ~3


def _parse_gateway(found: Mapping[int, bytes]) -> Address | None:
    packed = found[_GATEWAY] if _GATEWAY in found else found.get(_VIA, b"")[2:]
    return ip_address(packed) if packed else None


def _number(data: bytes) -> int:
    return int.from_bytes(data[:4], "little")


# -- comparing -------------------------------------------------------------------------------------------------------


def means_the_same(wanted: Route, found: Route, *, v6: bool) -> bool:
    """Whether the kernel, told the wanted route, would tell the found one."""
    if wanted == found:
        return True
    if (wanted.kind, wanted.source, wanted.protocol) != (found.kind, found.source, found.protocol):
        return False
    if wanted.kind == "blackhole":
        return True
    if (wanted.mtu, wanted.advmss) != (found.mtu, found.advmss) or len(wanted.hops) != len(found.hops):
        return False
    if not v6 and wanted.scope_link != found.scope_link:
        return False
    theirs = list(found.hops)
    for hop in wanted.hops:
        candidates = theirs if v6 else theirs[:1]
        match = next((other for other in candidates if _same_hop(hop, other)), None)
        if match is None:
            return False
        theirs.remove(match)
    return True


def _same_hop(wanted: NextHop, found: NextHop) -> bool:
    return wanted._replace(link=wanted.link or found.link) == found
