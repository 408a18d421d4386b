"""OPEN and NOTIFICATION: bytes -> values and words (RFC 4271, 4486, 4724, 5492, 8203, 8950, 9003). Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address

GRACEFUL_RESTART, ASN4, EXTENDED_NEXT_HOP = 64, 65, 5

_ERRORS = {
    1: ("message header error", {1: "connection not synchronized", 2: "bad message length", 3: "bad message type"}),
    2: (
        "OPEN refused",
        {
            1: "unsupported version",
            2: "wrong peer AS",
            3: "bad BGP identifier (the same router ID on both sides?)",
            4: "unsupported optional parameter",
            6: "unacceptable hold time",
            7: "unsupported capability",
        },
    ),
    3: (
        "UPDATE refused",
        {
            1: "malformed attribute list",
            2: "unrecognized well-known attribute",
            3: "missing well-known attribute",
            4: "attribute flags error",
            5: "attribute length error",
            6: "invalid ORIGIN",
            8: "invalid NEXT_HOP",
            9: "optional attribute error",
            10: "invalid network field",
            11: "malformed AS_PATH",
        },
    ),
    4: ("hold timer expired", {}),
    5: ("state machine error", {1: "in OpenSent", 2: "in OpenConfirm", 3: "in Established"}),
    6: (
        "cease",
        {
            1: "maximum number of prefixes reached",
            2: "administrative shutdown",
            3: "peer de-configured",
            4: "administrative reset",
            5: "connection rejected",
            6: "other configuration change",
            7: "connection collision resolution",
            8: "out of resources",
            9: "hard reset",
            10: "BFD down",
        },
    ),
    7: ("ROUTE-REFRESH refused", {1: "invalid message length"}),
}


@dataclass(frozen=True, slots=True)
class Restart:
    """The peer's graceful restart capability."""

    seconds: int
    restarting: bool
    forwarding: frozenset[int]  # families whose routes it kept
    families: frozenset[int]


@dataclass(frozen=True, slots=True)
class Open:
    asn: int
    hold_time: int
    router_id: IPv4Address
    restart: Restart | None = None
    extended_next_hop: bool = False


def notification(code: int, subcode: int, data: bytes = b"") -> str:
    name, subcodes = _ERRORS.get(code, (f"error {code}", {}))
    words = [name]
    if subcode in subcodes:
        words.append(subcodes[subcode])
    elif subcode:
        words.append(f"subcode {subcode}")
    if code == 2 and subcode == 2 and len(data) in (2, 4):
        words.append(f"it has AS {int.from_bytes(data, 'big')}")
    if code == 6 and subcode in (2, 4) and data and data[0] == len(data) - 1:  # RFC 9003
        words.append(data[1:].decode("utf-8", "replace"))
    return ": ".join(words)


def open_message(body: bytes) -> Open:
    """exabgp has accepted it already; what is cut off here is simply not there."""
    asn, hold = int.from_bytes(body[1:3], "big"), int.from_bytes(body[3:5], "big")
    router_id = IPv4Address(body[5:9])
    restart, extended = None, False
    for code, data in _capabilities(body):
        if code == ASN4 and len(data) == 4:
            asn = int.from_bytes(data, "big")
        elif code == GRACEFUL_RESTART and len(data) >= 2:
            restart = _restart(data)
        elif code == EXTENDED_NEXT_HOP:
            extended = any(data[at : at + 6] == b"\x00\x01\x00\x01\x00\x02" for at in range(0, len(data), 6))
    return Open(asn, hold, router_id, restart, extended)


def _capabilities(body: bytes) -> list[tuple[int, bytes]]:
    at, wide = (13, 2) if body[9:11] == b"\xff\xff" else (10, 1)  # RFC 9072: long parameters
    found = []
    while at + 1 + wide <= len(body):
        kind, size = body[at], int.from_bytes(body[at + 1 : at + 1 + wide], "big")
        data = body[at + 1 + wide : at + 1 + wide + size]
        at += 1 + wide + size
        while kind == 2 and len(data) >= 2:
            found.append((data[0], data[2 : 2 + data[1]]))
            data = data[2 + data[1] :]
    return found


def _restart(data: bytes) -> Restart:
    word = int.from_bytes(data[:2], "big")
    families, kept = set(), set()
    for at in range(2, len(data) - 3, 4):
        family = {1: 4, 2: 6}.get(int.from_bytes(data[at : at + 2], "big"))
        if family and data[at + 2] == 1:
            families.add(family)
            kept |= {family} if data[at + 3] & 0x80 else set()
    return Restart(word & 0xFFF, bool(word & 0x8000), frozenset(kept), frozenset(families))
