"""A filter that runs in the kernel and drops the notifications that nobody here would look at.

A node that writes 100,000 routes hears of each one, and a busy segment changes neighbours all day.  The filter (classic
BPF on the netlink socket) lets through only what somebody else did to something that carries our protocol number, what
replaced a route, and everything about links, addresses and forwarding entries, which carries no such mark.
"""

import struct
from collections.abc import Collection, Sequence
from typing import Final

from felixlite.kernel.messages import DELETE_NEIGHBOUR, DELETE_ROUTE, DELETE_RULE, NEW_NEIGHBOUR, NEW_ROUTE, NEW_RULE
from felixlite.rows import ROUTE_PROTOCOL

_BYTE, _WORD, _BYTE_AT_X = 0x30, 0x20, 0x50  # loads
_SET_A, _SET_X, _A_TO_X = 0x00, 0x01, 0x07
_EQUAL, _HAS_BIT, _RETURN = 0x15, 0x45, 0x06
_FIND_ATTRIBUTE: Final = 0xFFFFF000 + 12  # SKF_AD_OFF + SKF_AD_NLATTR

# where things are in a notification
_KIND, _FLAGS_HIGH, _PORT, _FAMILY, _ROUTE_PROTOCOL_AT = 4, 7, 12, 16, 21
_NEIGHBOUR_ATTRIBUTES, _NDA_PROTOCOL, _AF_BRIDGE = 28, 12, 7
_RULE_ATTRIBUTES, _FRA_PROTOCOL = 28, 21

# The author of what follows from something else: IPv6 routes that go with their link. The link's own event tells more.
_KERNEL: Final = 0

Step = str | tuple[int, int, str, str]  # a label, or (code, constant, where to go when true, when false)


def program(ours: Collection[int]) -> bytes:
    """The filter for a listener; `ours` are the port numbers of our own writing sockets."""

    def unless_by(authors: Collection[int], then: str) -> list[Step]:
        # the port is in the machine's byte order, but BPF loads words as big-endian
        ports = [int.from_bytes(struct.pack("=I", port), "big") for port in authors]
        return [(_WORD, _PORT, "", ""), *((_EQUAL, port, "drop", "") for port in ports), (_EQUAL, 0, then, then)]

    def marked(start: int, attribute: int) -> list[Step]:
        return [
            (_SET_A, start, "", ""),
            (_SET_X, attribute, "", ""),
            (_WORD, _FIND_ATTRIBUTE, "", ""),
            (_EQUAL, 0, "drop", ""),
            (_A_TO_X, 0, "", ""),
            (_BYTE_AT_X, 4, "", ""),
            (_EQUAL, ROUTE_PROTOCOL, "keep", "drop"),
        ]

    return _assembled(
        [
            (_BYTE, _KIND, "", ""),
            (_EQUAL, NEW_ROUTE, "route", ""),
            (_EQUAL, DELETE_ROUTE, "route", ""),
            (_EQUAL, NEW_NEIGHBOUR, "neighbour", ""),
            (_EQUAL, DELETE_NEIGHBOUR, "gone neighbour", ""),
            (_EQUAL, NEW_RULE, "rule", ""),
            (_EQUAL, DELETE_RULE, "rule", "keep"),
            "route",
            *unless_by([*ours, _KERNEL], "somebody's route"),
            "somebody's route",
            (_BYTE, _ROUTE_PROTOCOL_AT, "", ""),
            (_EQUAL, ROUTE_PROTOCOL, "keep", ""),
            (_BYTE, _KIND, "", ""),
            (_EQUAL, NEW_ROUTE, "", "drop"),
            (_BYTE, _FLAGS_HIGH, "", ""),
            (_HAS_BIT, 1, "keep", "drop"),  # NLM_F_REPLACE: perhaps of one of ours
            "gone neighbour",  # one of an address was announced before, as changed, with its author's port
            (_BYTE, _FAMILY, "", ""),
            (_EQUAL, _AF_BRIDGE, "keep", "drop"),
            "neighbour",
            (_BYTE, _FAMILY, "", ""),
            (_EQUAL, _AF_BRIDGE, "keep", ""),
            *unless_by(ours, "somebody's neighbour"),
            "somebody's neighbour",
            *marked(_NEIGHBOUR_ATTRIBUTES, _NDA_PROTOCOL),
            "rule",
            *unless_by(ours, "somebody's rule"),
            "somebody's rule",
            *marked(_RULE_ATTRIBUTES, _FRA_PROTOCOL),
            "keep",
            (_RETURN, 0xFFFFFFFF, "", ""),
            "drop",
            (_RETURN, 0, "", ""),
        ]
    )


def _assembled(steps: Sequence[Step]) -> bytes:
    """Labels become distances; an empty label means the next instruction."""
    places: dict[str, int] = {}
    count = 0
    for step in steps:
        if isinstance(step, str):
            places[step] = count
        else:
            count += 1
    code = b""
    here = 0
    for step in steps:
        if isinstance(step, str):
            continue
        operation, constant, true, false = step
        here += 1
        jumps = [places[label] - here if label else 0 for label in (true, false)]
        code += struct.pack("=HBBI", operation, *jumps, constant)
    return code
