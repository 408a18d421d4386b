"""What we say to the exabgp child and what it says to us: lines of text <-> commands and events. Pure.

exabgp's own JSON and commands, with the child's additions (bgp/engine/): UPDATEs, OPENs and NOTIFICATIONs come as
the bytes of the wire, answers carry the number of their order.
Before this: the child's socket in bgp/exabgp.py.  After: bgp/update.py, bgp/messages.py.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from ipaddress import IPv4Address, ip_address
from itertools import islice
from typing import Any

import orjson

from felixlite.addresses import Prefix
from felixlite.bgp.messages import Open, notification, open_message
from felixlite.bgp.rows import Announcement

OPEN, UPDATE, NOTIFICATION, ROUTE_REFRESH = 1, 2, 3, 5
PREFIXES_A_LINE = 500
STATES = {
    "IDLE": "Idle",
    "ACTIVE": "Active",
    "CONNECT": "Connect",
    "OPENSENT": "OpenSent",
    "OPENCONFIRM": "OpenConfirm",
    "ESTABLISHED": "Established",
}


@dataclass(frozen=True, slots=True)
class State:
    """Where the session's state machine is now."""

    peer: str
    state: str


@dataclass(frozen=True, slots=True)
class Up:
    peer: str
    peer_as: int | None


@dataclass(frozen=True, slots=True)
class Down:
    peer: str
    reason: str


@dataclass(frozen=True, slots=True)
class Negotiated:
    peer: str
    families: tuple[int, ...]
    asn4: bool
    hold_time: int


@dataclass(frozen=True, slots=True)
class Opened:
    peer: str
    open: Open


@dataclass(frozen=True, slots=True)
class Received:
    """The body of an UPDATE."""

    peer: str
    body: bytes


@dataclass(frozen=True, slots=True)
class Notified:
    """The peer ended the session, and why."""

    peer: str
    words: str


@dataclass(frozen=True, slots=True)
class Trouble:
    """No connection comes about."""

    peer: str
    error: str


@dataclass(frozen=True, slots=True)
class Answer:
    """To the order with this number."""

    number: int
    members: Mapping[str, Any]


Event = State | Up | Down | Negotiated | Opened | Received | Notified | Trouble | Answer


def event(line: bytes) -> Event | None:
    """None: a line that says nothing to us."""
    said = orjson.loads(line)
    if "felixlite" in said:
        return _own(said["felixlite"])
    if "neighbor" not in said:
        return None
    neighbor = said["neighbor"]
    peer = neighbor["address"]["peer"]
    match said["type"]:
        case "update" | "open" | "notification" if "message" in neighbor:
            return _message(peer, neighbor["message"])
        case "state" if neighbor["state"] == "up":
            return Up(peer, neighbor["asn"]["peer"])
        case "state" if neighbor["state"] == "down":
            return Down(peer, decoded(neighbor["reason"]))
        case "fsm":
            return State(peer, STATES[neighbor["state"]])
        case "negotiated":
            return _negotiated(peer, neighbor["negotiated"])
    return None


def _own(said: dict[str, Any]) -> Event:
    if "trouble" in said:
        return Trouble(said["trouble"]["peer"], said["trouble"]["error"])
    return Answer(said["id"], said)


def _message(peer: str, message: dict[str, Any]) -> Event | None:
    body = bytes.fromhex(message["body"].removeprefix("0x"))
    match message["category"]:
        case 2:
            return Received(peer, body)
        case 1:
            return Opened(peer, open_message(body))
        case 3 if len(body) >= 2:
            return Notified(peer, notification(body[0], body[1], body[2:]))
    return None


def _negotiated(peer: str, said: dict[str, Any]) -> Negotiated:
    families = tuple(number for name, number in (("ipv4 unicast", 4), ("ipv6 unicast", 6)) if name in said["families"])
    return Negotiated(peer, families, bool(said["asn4"]), int(said["hold_time"]))


def decoded(reason: str) -> str:
    """exabgp writes `notification sent (4,0): ...`; a person wants the sentence of the RFC."""
    for direction in ("sent", "received"):
        head, found, rest = reason.partition(f"notification {direction} (")
        if found:
            code, _, subcode = rest.partition(")")[0].partition(",")
            return f"{head}{direction}: {notification(int(code), int(subcode))}"
    return reason


# -- commands --------------------------------------------------------------------------------------------------------


def order(number: int, do: str, **members: Any) -> bytes:
    return b"felixlite " + orjson.dumps({"do": do, "id": number, **members}) + b"\n"


def announce(peer: str, row: Announcement, prefixes: Iterable[Prefix]) -> Iterable[bytes]:
    words = attributes(row)
    return (f"neighbor {peer} announce attributes {words} nlri {some}\n".encode() for some in _batches(prefixes))


def withdraw(peer: str, prefixes: Iterable[Prefix]) -> Iterable[bytes]:
    return (f"neighbor {peer} withdraw attributes nlri {some}\n".encode() for some in _batches(prefixes))


def _batches(prefixes: Iterable[Prefix]) -> Iterable[str]:
    rest = iter(prefixes)
    while batch := " ".join(map(str, islice(rest, PREFIXES_A_LINE))):
        yield batch


def attributes(row: Announcement) -> str:
    words = [f"next-hop {row.next_hop or 'self'}", "origin igp"]
    if row.local_preference is not None:
        words.append(f"local-preference {row.local_preference}")
    if row.med is not None:
        words.append(f"med {row.med}")
    if row.as_path:
        words.append(f"as-path [ {' '.join(map(str, row.as_path))} ]")
    large = [c for c in row.communities if c.count(":") == 2]
    plain = [c for c in row.communities if c.count(":") == 1]
    words += [f"community [ {' '.join(plain)} ]"] if plain else []
    words += [f"large-community [ {' '.join(large)} ]"] if large else []
    words += [f"originator-id {row.originator}"] if row.originator else []
    words += [f"cluster-list [ {' '.join(map(str, row.cluster_list))} ]"] if row.cluster_list else []
    return " ".join(words)


def announcement(words: str) -> Announcement:
    """The row that `attributes` wrote so: what the child holds, read back."""
    found: dict[str, list[str]] = {}
    rest = iter(words.split())
    for name in rest:
        value = next(rest)
        found[name] = list(iter(lambda: next(rest), "]")) if value == "[" else [value]
    hop = found["next-hop"][0]
    return Announcement(
        next_hop=None if hop == "self" else ip_address(hop),
        local_preference=int(found["local-preference"][0]) if "local-preference" in found else None,
        med=int(found["med"][0]) if "med" in found else None,
        as_path=tuple(map(int, found.get("as-path", ()))),
        communities=(*found.get("community", ()), *found.get("large-community", ())),
        originator=IPv4Address(found["originator-id"][0]) if "originator-id" in found else None,
        cluster_list=tuple(map(IPv4Address, found.get("cluster-list", ()))),
    )
