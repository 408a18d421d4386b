"""UPDATE messages: bytes -> prefixes and paths, without ever believing a malformed one (RFC 4271, 4760, 6793, 7606, 8950).

Attributes are decoded once per distinct blob of a session; prefixes are cut out by hand, because with 200,000 of them
this is where the time goes (docs/adr/0050).  A fault in an attribute makes its routes withdrawn (RFC 7606 section 2);
only when the prefixes themselves cannot be told apart does the session have to go (Malformed).
Before this: bgp/wire.py.  After: bgp/rib.py.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from ipaddress import IPv4Address, IPv6Address, ip_address

from felixlite.addresses import Address, Prefix
from felixlite.snapshot import Path

AS_TRANS = 23456
MOST_REMEMBERED = 20_000  # attribute blobs a session; a full table has more, and then they are decoded again

ORIGIN, AS_PATH, NEXT_HOP, MED, LOCAL_PREF = 1, 2, 3, 4, 5
COMMUNITIES, ORIGINATOR, CLUSTER_LIST, MP_REACH, MP_UNREACH, AS4_PATH, LARGE = 8, 9, 10, 14, 15, 17, 32
OPTIONAL, TRANSITIVE, EXTENDED = 0x80, 0x40, 0x10


class Malformed(Exception):
    """The session cannot go on: nobody can tell which prefixes were meant. Code and subcode of the NOTIFICATION."""

    def __init__(self, sentence: str, subcode: int = 1) -> None:
        super().__init__(sentence)
        self.subcode = subcode


class Faulty(Exception):
    """An attribute is wrong: its routes are treated as withdrawn."""


@dataclass(slots=True)
class Update:
    withdrawn: list[Prefix] = field(default_factory=list)
    announced: list[tuple[Path, list[Prefix]]] = field(default_factory=list)
    end_of_rib: int | None = None  # the family
    fault: str = ""  # why announced routes were treated as withdrawn


@dataclass(slots=True)
class _Attributes:
    path: Path | None = None  # with the next hop of IPv4's own field, when there is one
    reach: bytes | None = None
    unreach: bytes | None = None
    fault: str = ""


class Decoder:
    """For one session: how its AS numbers are written, and the attributes seen so far."""

    def __init__(self, *, asn4: bool = True, internal: bool = True) -> None:
        self.asn4 = asn4
        self.internal = internal
        self._seen: dict[bytes, _Attributes] = {}

    def decode(self, body: bytes) -> Update:
        if len(body) < 4:
            raise Malformed("an UPDATE shorter than its two length fields")
        cut = 2 + int.from_bytes(body[:2], "big")
        start = cut + 2
        end = start + int.from_bytes(body[cut:start], "big")
        if start > len(body) or end > len(body):
            raise Malformed("the lengths inside of an UPDATE exceed the message")
        update = Update(withdrawn=prefixes(body, 2, cut, 4))
        blob = body[start:end]
        plain = prefixes(body, end, len(body), 4)
        if not blob:
            if plain:
                update.fault = "prefixes without any attribute"
                update.withdrawn += plain
            elif len(body) == 4:
                update.end_of_rib = 4
            return update
        attributes = self._seen.get(blob) or self._decode_attributes(blob)
        self._sort(update, attributes, plain)
        return update

    def _sort(self, update: Update, attributes: _Attributes, plain: list[Prefix]) -> None:
        """Which prefixes are withdrawn, and which are announced with which path."""
        routes: list[tuple[Path | None, list[Prefix]]] = [(attributes.path, plain)] if plain else []
        fault = attributes.fault
        if attributes.unreach is not None:
            family = _family(attributes.unreach, "MP_UNREACH_NLRI")
            gone = prefixes(attributes.unreach, 3, len(attributes.unreach), family) if family else []
            update.withdrawn += gone
            if family and not gone and not plain and attributes.reach is None and not update.withdrawn:
                update.end_of_rib = family
        if attributes.reach is not None:
            try:
                routes.append(_reached(attributes.reach, attributes.path))
            except Faulty as error:
                fault = fault or str(error)
        if plain and not fault and (attributes.path is None or attributes.path.next_hop == NO_NEXT_HOP):
            fault = "NEXT_HOP is missing"
        update.fault = fault if routes or fault else ""
        for path, found in routes:
            if fault or path is None:
                update.withdrawn += found
            elif found:
                update.announced.append((path, found))

    def _decode_attributes(self, blob: bytes) -> _Attributes:
        found = _Attributes()
        fields: dict[int, bytes] = {}
        try:
            self._split(blob, fields)
        except Faulty as error:
            found.fault = str(error)
        found.reach, found.unreach = fields.get(MP_REACH), fields.get(MP_UNREACH)
        announces = fields.keys() - {MP_UNREACH}
        if not found.fault and announces:
            try:
                found.path = self._path(fields)
            except Faulty as error:
                found.fault = str(error)
        if found.reach is None and found.unreach is None:  # else the blob holds prefixes and will not come again
            if len(self._seen) >= MOST_REMEMBERED:
                self._seen.clear()
            self._seen[blob] = found
        return found

    def _split(self, blob: bytes, fields: dict[int, bytes]) -> None:
        """Into `fields`, as far as it goes: prefixes in MP attributes that came before a fault can be withdrawn."""
        at, fault = 0, ""
        while at < len(blob):
            if at + 3 > len(blob):
                raise Faulty("the last attribute is cut off")
            flags, code = blob[at], blob[at + 1]
            wide = 2 if flags & EXTENDED else 1
            size = int.from_bytes(blob[at + 2 : at + 2 + wide], "big")
            at += 2 + wide
            if at + size > len(blob):
                raise Faulty(f"attribute {code} is longer than the message")
            if code in fields and code in (MP_REACH, MP_UNREACH):
                raise Malformed(f"attribute {code} twice")  # RFC 7606 section 3 (g)
            if code not in fields:
                if code in _FLAGS and flags & (OPTIONAL | TRANSITIVE) != _FLAGS[code]:
                    fault = fault or f"attribute {code} has the flags {flags:#x}"
                if code not in _FLAGS and not flags & OPTIONAL:
                    fault = fault or f"attribute {code} is called well-known, and is not"
                fields[code] = blob[at : at + size]
            at += size
        if fault:
            raise Faulty(fault)

    def _path(self, fields: dict[int, bytes]) -> Path:
        if ORIGIN not in fields or AS_PATH not in fields:
            raise Faulty(f"{'ORIGIN' if ORIGIN not in fields else 'AS_PATH'} is missing")
        internal = self.internal
        as_path = segments(fields[AS_PATH], 4 if self.asn4 else 2)
        if not self.asn4 and AS4_PATH in fields:
            as_path = merged(as_path, segments(fields[AS4_PATH], 4))
        hop = fields.get(NEXT_HOP)
        return Path(
            next_hop=next_hop(hop) if hop is not None else NO_NEXT_HOP,
            origin=_number(fields, ORIGIN, 1, most=2) or 0,
            as_path=as_path,
            local_preference=_number(fields, LOCAL_PREF, 4) if internal else None,
            med=_number(fields, MED, 4),
            communities=_communities(fields),
            originator=_router(fields) if internal else None,
            cluster_list=_clusters(fields) if internal else (),
        )


NO_NEXT_HOP = IPv4Address(0)
_FLAGS = {
    ORIGIN: TRANSITIVE,
    AS_PATH: TRANSITIVE,
    NEXT_HOP: TRANSITIVE,
    MED: OPTIONAL,
    LOCAL_PREF: TRANSITIVE,
    6: TRANSITIVE,  # ATOMIC_AGGREGATE
    7: OPTIONAL | TRANSITIVE,  # AGGREGATOR
    COMMUNITIES: OPTIONAL | TRANSITIVE,
    ORIGINATOR: OPTIONAL,
    CLUSTER_LIST: OPTIONAL,
    MP_REACH: OPTIONAL,
    MP_UNREACH: OPTIONAL,
    AS4_PATH: OPTIONAL | TRANSITIVE,
    LARGE: OPTIONAL | TRANSITIVE,
}
_BYTES = [(length + 7) // 8 for length in range(129)]
_FREE_BITS = [(1 << (-length % 8)) - 1 for length in range(129)]


def prefixes(data: bytes, at: int, end: int, family: int) -> list[Prefix]:
    """The prefixes between two offsets. Bits behind a prefix's length mean nothing (RFC 4271 4.3) and become zero."""
    width = 4 if family == 4 else 16
    most = 8 * width
    zeros = bytes(width)
    found: list[Prefix] = []
    add, new, sizes, free, kind = found.append, tuple.__new__, _BYTES, _FREE_BITS, Prefix
    while at < end:
        length = data[at]
        if length > most:
            raise Malformed(f"a prefix of {length} bits in family IPv{family}", subcode=10)
        size = sizes[length]
        at += 1 + size
        if at > end:
            raise Malformed("the last prefix is cut off", subcode=10)
        packed = data[at - size : at]
        if size and packed[-1] & free[length]:
            packed = packed[:-1] + bytes((packed[-1] & ~free[length],))
        # tuple.__new__: a Prefix at half the cost of calling Prefix
        add(new(kind, (packed if size == width else packed + zeros[size:], length)))
    return found


def segments(data: bytes, width: int) -> tuple[int | frozenset[int], ...]:
    path: list[int | frozenset[int]] = []
    at = 0
    while at < len(data):
        if at + 2 > len(data):
            raise Faulty("AS_PATH is cut off")
        kind, count = data[at], data[at + 1]
        at += 2
        numbers = [int.from_bytes(data[at + i * width : at + (i + 1) * width], "big") for i in range(count)]
        at += count * width
        if at > len(data) or not count:
            raise Faulty("a segment of AS_PATH has a wrong length")
        if kind == 2:
            path += numbers
        elif kind == 1:
            path.append(frozenset(numbers))
        elif kind not in (3, 4):  # confederations: numbers of somebody else's inside, not counted (RFC 5065)
            raise Faulty(f"AS_PATH has a segment of type {kind}")
        if 0 in numbers:
            raise Faulty("AS_PATH contains AS 0")  # RFC 7607
    return tuple(path)


def merged(
    two: tuple[int | frozenset[int], ...], four: tuple[int | frozenset[int], ...]
) -> tuple[int | frozenset[int], ...]:
    """The path of an old speaker, with the numbers that did not fit (RFC 6793 4.2.3)."""
    return two[: len(two) - len(four)] + four if len(two) >= len(four) else two


def next_hop(data: bytes) -> Address:
    if len(data) not in (4, 16, 32):
        raise Faulty(f"a next hop of {len(data)} bytes")
    hop = ip_address(data[:16])  # 32: the global one is followed by the link-local one (RFC 2545)
    if hop.is_unspecified or hop.is_multicast or hop.is_loopback or data[:1] == b"\xff":
        raise Faulty(f"the next hop {hop} cannot be one")
    return hop


def _family(data: bytes, name: str) -> int | None:
    """4 or 6; None for a family that we did not negotiate."""
    if len(data) < 3:
        raise Malformed(f"{name} is cut off", subcode=9)
    afi, safi = int.from_bytes(data[:2], "big"), data[2]
    return {1: 4, 2: 6}.get(afi) if safi == 1 else None


def _reached(data: bytes, path: Path | None) -> tuple[Path | None, list[Prefix]]:
    family = _family(data, "MP_REACH_NLRI")
    if family is None:
        return path, []
    size = data[3] if len(data) > 3 else 0
    if len(data) < 5 + size:
        raise Malformed("MP_REACH_NLRI is cut off", subcode=9)
    found = prefixes(data, 5 + size, len(data), family)
    if path is None:
        return None, found
    hop = next_hop(data[4 : 4 + size])
    if family == 6 and isinstance(hop, IPv4Address):
        raise Faulty(f"the next hop {hop} of IPv6 prefixes")
    return _with_hop(path, hop), found


def _with_hop(path: Path, hop: IPv4Address | IPv6Address) -> Path:
    return Path(
        hop,
        path.origin,
        path.as_path,
        path.local_preference,
        path.med,
        path.communities,
        path.originator,
        path.cluster_list,
    )


def _number(fields: dict[int, bytes], code: int, size: int, most: int = 0xFFFFFFFF) -> int | None:
    data = fields.get(code)
    if data is None:
        return None
    value = int.from_bytes(data, "big")
    if len(data) != size or value > most:
        raise Faulty(f"attribute {code} is {data.hex()}")
    return value


def _communities(fields: dict[int, bytes]) -> tuple[str, ...]:
    plain = _words(fields, COMMUNITIES, 4, lambda d: f"{int.from_bytes(d[:2], 'big')}:{int.from_bytes(d[2:], 'big')}")
    large = _words(fields, LARGE, 12, lambda d: ":".join(str(int.from_bytes(d[i : i + 4], "big")) for i in (0, 4, 8)))
    return plain + large


def _words(fields: dict[int, bytes], code: int, size: int, text: Callable[[bytes], str]) -> tuple[str, ...]:
    data = fields.get(code, b"")
    if len(data) % size or (code in fields and not data):
        raise Faulty(f"attribute {code} has {len(data)} bytes")
    return tuple(text(data[at : at + size]) for at in range(0, len(data), size))


def _router(fields: dict[int, bytes]) -> IPv4Address | None:
    value = _number(fields, ORIGINATOR, 4)
    return None if value is None else IPv4Address(value)


def _clusters(fields: dict[int, bytes]) -> tuple[IPv4Address, ...]:
    data = fields.get(CLUSTER_LIST, b"")
    if len(data) % 4:
        raise Faulty(f"CLUSTER_LIST has {len(data)} bytes")
    return tuple(IPv4Address(data[at : at + 4]) for at in range(0, len(data), 4))
