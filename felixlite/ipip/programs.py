"""IPIP in two eBPF programs, for a kernel without the ipip module. Pure: only text for the assembler.

SEND is a classifier on the way out of tunl0: what the routing table sends there gets an outer header from this node's
address to the gateway of its route, and leaves by the link that leads to that gateway.  RECEIVE is a classifier on the
way in of an uplink: IPIP from a node that is known to an address of ours loses its outer header and goes on as if
tunl0 had received it.  So routes, addresses and MTU of tunl0 mean what they mean with the kernel's own device.

A packet can be in tunl0 already when the agent replaces its route by one through another link.  Its far end is not to
be found any more then (a kernel's own device remembers the route that a packet came by, a program does not see it):
SEND lets such a packet go the way that the table leads now, instead of losing it.

Everything else that RECEIVE sees it passes on untouched: IPIP of others, packets for others, and fragments (which the
kernel puts together and the receiver in userspace.py gets).

Maps: `senders` (outer source, outer destination) -> 1; `settings` 0 -> (own address, index of tunl0, TTL, whether DF);
`counters`, per processor, in the order of COUNTERS.  The outer header is as ip_tunnel.c makes it for tunl0: TTL and DF
of the inner one unless `settings` has them, its ECN bits and no other of its TOS (RFC 6040).
"""

from collections.abc import Mapping
from hashlib import sha256

from felixlite.ipip.assembler import (
    DW,
    FP,
    R0,
    R1,
    R2,
    R3,
    R4,
    R5,
    R6,
    R7,
    R8,
    R9,
    B,
    H,
    Line,
    W,
    add,
    add_register,
    and_with,
    assemble,
    atomic_add,
    big_endian16,
    call,
    exclusive_or,
    jump,
    jump_above,
    jump_if,
    jump_if_same,
    jump_unless,
    leave,
    load,
    load_map,
    move,
    negate,
    set_to,
    shift_left,
    shift_right,
    store,
    store_value,
)

SENDERS, SETTINGS, COUNTERS_MAP = "senders", "settings", "counters"
COUNTERS = ("sent", "received", "unknown sender", "fragment", "no route", "no room", "rerouted")

# the numbers of the kernel's helpers, from include/uapi/linux/bpf.h
_MAP_LOOKUP, _STORE_BYTES, _REDIRECT, _CHECKSUM, _CHANGE_HEAD = 1, 9, 23, 28, 43
_ADJUST_ROOM, _LOAD_RELATIVE, _FIB_LOOKUP, _SET_CE, _REDIRECT_NEIGHBOUR = 50, 68, 69, 97, 152

# struct __sk_buff
_LENGTH, _PACKET_TYPE, _PROTOCOL, _INDEX = 0, 4, 16, 40
_IPV4 = 0x0008  # ETH_P_IP as it lies in memory
_IPIP = 4
_TO_US = 0  # PACKET_HOST
_NEXT, _DROP = -1, 2  # TC_ACT_UNSPEC: the next classifier decides; TC_ACT_SHOT
_INGRESS = 1
_AT_MAC, _FIXED_GSO, _OUTER_IPV4 = 1, 1, 2
_FROM_NETWORK_HEADER = 1
_FIB_OUTPUT = 2
_NO_NEIGHBOUR = 7  # as good as success: the kernel asks for the neighbour when it sends
_ANY_FRAGMENT = 0xFF3F  # as it lies in memory
_DF = 0x40  # in the first of the two bytes
_ECN, _CE, _ECT0 = 3, 3, 2
_AF_INET = 2

_HEADER, _ETHERNET = 20, 14


def _count(counter: str) -> list[Line]:
    """Spoils R0 to R5."""
    done = f"counted {counter}"
    return [
        store_value(W, FP, -4, COUNTERS.index(counter)),
        *_look_up(COUNTERS_MAP, -4),
        jump_if(R0, 0, done),
        set_to(R1, 1),
        atomic_add(R0, 0, R1),
        done,
    ]


def _look_up(name: str, key: int) -> list[Line]:
    return [load_map(R1, name), move(R2, FP), add(R2, key), call(_MAP_LOOKUP)]


def _settings(otherwise: str) -> list[Line]:
    """R0 points to (own address, index of tunl0, TTL, whether DF)."""
    return [store_value(W, FP, -4, 0), *_look_up(SETTINGS, -4), jump_if(R0, 0, otherwise)]


def _read_header(at: int, otherwise: str) -> list[Line]:
    """The 20 bytes of the IPv4 header into the stack."""
    return [
        move(R1, R6),
        set_to(R2, 0),
        move(R3, FP),
        add(R3, at),
        set_to(R4, _HEADER),
        set_to(R5, _FROM_NETWORK_HEADER),
        call(_LOAD_RELATIVE),
        jump_unless(R0, 0, otherwise),
    ]


def _ask_for_route(flags: int, found: str, otherwise: str) -> list[Line]:
    """The routing table's answer to: from R2 to R3, at link R1. The neighbour need not be known yet.

    What follows is `found`.
    """
    return [
        *(store_value(DW, FP, _QUESTION + offset, 0) for offset in range(0, 64, 8)),
        store_value(B, FP, _QUESTION, _AF_INET),
        store(W, FP, _QUESTION + 8, R1),
        store(W, FP, _QUESTION + 16, R2),
        store(W, FP, _QUESTION + 32, R3),
        move(R1, R6),
        move(R2, FP),
        add(R2, _QUESTION),
        set_to(R3, 64),
        set_to(R4, flags),
        call(_FIB_LOOKUP),
        jump_if(R0, 0, found),
        jump_unless(R0, _NO_NEIGHBOUR, otherwise),
        found,
    ]


def _fold(to: int, spare: int) -> list[Line]:
    """A 32-bit sum becomes the 16 bits of a checksum."""
    once: list[Line] = [move(spare, to), shift_right(spare, 16), and_with(to, 0xFFFF), add_register(to, spare)]
    return [*once, *once, exclusive_or(to, 0xFFFF)]


# The stack of SEND: a key at -4, the outer header at -24, the inner one at -48, and a struct bpf_fib_lookup at -112
# (family +0, index +8, source +16, destination +32, which becomes the gateway), and below it a struct bpf_redir_neigh.
_OUTER, _INNER, _QUESTION, _NEIGHBOUR = -24, -48, -112, -136


def _inner_route(flags: int, found: str, otherwise: str) -> list[Line]:
    """The routing table's answer for the packet itself."""
    return [
        load(W, R1, R6, _INDEX),
        load(W, R2, FP, _INNER + 12),
        load(W, R3, FP, _INNER + 16),
        *_ask_for_route(flags, found, otherwise),
    ]


def _room_for_link_header() -> list[Line]:
    """The kernel fills it."""
    return [
        move(R1, R6),
        set_to(R2, _ETHERNET),
        set_to(R3, 0),
        call(_CHANGE_HEAD),
        jump_unless(R0, 0, "no room"),
    ]


def _ttl_and_df() -> list[Line]:
    return [
        *_settings("drop"),
        load(B, R1, R0, 8),
        jump_unless(R1, 0, "ttl"),
        load(B, R1, FP, _INNER + 8),
        "ttl",
        store(B, FP, _OUTER + 8, R1),
        load(B, R2, R0, 9),
        set_to(R1, _DF),
        jump_unless(R2, 0, "df"),
        load(B, R1, FP, _INNER + 6),
        and_with(R1, _DF),
        "df",
        store(B, FP, _OUTER + 6, R1),
        store_value(B, FP, _OUTER + 7, 0),
    ]


SEND: list[Line] = [
    move(R6, R1),
    load(W, R1, R6, _PROTOCOL),
    jump_unless(R1, _IPV4, "drop"),
    *_read_header(_INNER, "drop"),
    *_settings("drop"),
    load(W, R7, R0, 0),
    jump_if(R7, 0, "drop"),
    # the gateway of the route that led the packet here is the far end
    *_inner_route(_FIB_OUTPUT, "by tunnel", "not by tunnel"),
    jump("far end"),
    "not by tunnel",
    *_inner_route(0, "by any link", "no route"),
    load(W, R9, FP, _QUESTION + 8),
    load(W, R1, R6, _INDEX),
    jump_if_same(R9, R1, "far end"),  # it was replaced and put back meanwhile
    jump("rerouted"),
    "far end",
    load(W, R8, FP, _QUESTION + 32),
    # the link that leads to the far end must be another one
    load(W, R1, R6, _INDEX),
    move(R2, R7),
    move(R3, R8),
    *_ask_for_route(0, "to the far end", "no route"),
    load(W, R9, FP, _QUESTION + 8),
    load(W, R1, R6, _INDEX),
    jump_if_same(R9, R1, "no route"),
    # the outer header
    store_value(B, FP, _OUTER, 0x45),
    load(B, R1, FP, _INNER + 1),
    and_with(R1, _ECN),
    jump_unless(R1, _CE, "ecn"),
    set_to(R1, _ECT0),
    "ecn",
    store(B, FP, _OUTER + 1, R1),
    load(W, R1, R6, _LENGTH),
    add(R1, _HEADER),
    big_endian16(R1),
    store(H, FP, _OUTER + 2, R1),
    load(H, R1, FP, _INNER + 4),
    store(H, FP, _OUTER + 4, R1),
    *_ttl_and_df(),
    store_value(B, FP, _OUTER + 9, _IPIP),
    store_value(H, FP, _OUTER + 10, 0),
    store(W, FP, _OUTER + 12, R7),
    store(W, FP, _OUTER + 16, R8),
    set_to(R1, 0),
    set_to(R2, 0),
    move(R3, FP),
    add(R3, _OUTER),
    set_to(R4, _HEADER),
    set_to(R5, 0),
    call(_CHECKSUM),
    *_fold(R0, R1),
    store(H, FP, _OUTER + 10, R0),
    # room for it
    move(R1, R6),
    set_to(R2, _HEADER),
    set_to(R3, _AT_MAC),
    set_to(R4, _FIXED_GSO | _OUTER_IPV4),
    call(_ADJUST_ROOM),
    jump_unless(R0, 0, "no room"),
    move(R1, R6),
    set_to(R2, 0),
    move(R3, FP),
    add(R3, _OUTER),
    set_to(R4, _HEADER),
    set_to(R5, 0),
    call(_STORE_BYTES),
    jump_unless(R0, 0, "no room"),
    *_room_for_link_header(),
    *_count("sent"),
    move(R1, R9),
    set_to(R2, 0),
    set_to(R3, 0),
    set_to(R4, 0),
    call(_REDIRECT_NEIGHBOUR),
    leave(),
    "rerouted",
    *_room_for_link_header(),
    load(B, R1, FP, _QUESTION),  # the family of the gateway
    store(W, FP, _NEIGHBOUR, R1),
    *(
        line
        for offset in range(0, 16, 4)
        for line in (load(W, R1, FP, _QUESTION + 32 + offset), store(W, FP, _NEIGHBOUR + 4 + offset, R1))
    ),
    *_count("rerouted"),
    move(R1, R9),
    move(R2, FP),
    add(R2, _NEIGHBOUR),
    set_to(R3, 20),
    set_to(R4, 0),
    call(_REDIRECT_NEIGHBOUR),
    leave(),
    "no route",
    *_count("no route"),
    jump("drop"),
    "no room",
    *_count("no room"),
    "drop",
    set_to(R0, _DROP),
    leave(),
]

# The stack of RECEIVE: a key at -4, the outer header at -24; its two addresses are the key of a sender.
_PAIR = _OUTER + 12

RECEIVE: list[Line] = [
    move(R6, R1),
    load(W, R1, R6, _PROTOCOL),
    jump_unless(R1, _IPV4, "next"),
    load(W, R1, R6, _PACKET_TYPE),
    jump_unless(R1, _TO_US, "next"),
    *_read_header(_OUTER, "next"),
    load(B, R1, FP, _OUTER + 9),
    jump_unless(R1, _IPIP, "next"),
    load(B, R7, FP, _OUTER),
    move(R1, R7),
    shift_right(R1, 4),
    jump_unless(R1, 4, "next"),
    and_with(R7, 15),
    shift_left(R7, 2),
    jump_above(R7, _HEADER - 1, "whole header"),
    jump("next"),
    "whole header",
    *_look_up(SENDERS, _PAIR),
    jump_if(R0, 0, "unknown sender"),
    load(H, R1, FP, _OUTER + 6),
    and_with(R1, _ANY_FRAGMENT),
    jump_unless(R1, 0, "fragment"),
    *_settings("next"),
    load(W, R8, R0, 4),
    load(B, R9, FP, _OUTER + 1),
    and_with(R9, _ECN),
    # off with the header and its options
    move(R1, R6),
    move(R2, R7),
    negate(R2),
    set_to(R3, _AT_MAC),
    set_to(R4, _FIXED_GSO),
    call(_ADJUST_ROOM),
    jump_unless(R0, 0, "no room"),
    jump_unless(R9, _CE, "no congestion"),
    move(R1, R6),
    call(_SET_CE),
    "no congestion",
    *_count("received"),
    move(R1, R8),
    set_to(R2, _INGRESS),
    call(_REDIRECT),
    leave(),
    "unknown sender",
    *_count("unknown sender"),
    jump("next"),
    "fragment",
    *_count("fragment"),
    "next",
    set_to(R0, _NEXT),
    leave(),
    "no room",
    *_count("no room"),
    set_to(R0, _DROP),
    leave(),
]


def version(program: list[Line]) -> str:
    """A name for exactly this program, whatever maps it has."""
    maps = dict.fromkeys((SENDERS, SETTINGS, COUNTERS_MAP), 0)
    return sha256(assemble(program, maps)).hexdigest()[:12]


SEND_NAME = f"fl_ipip_send_{version(SEND)}"
RECEIVE_NAME = f"fl_ipip_receive_{version(RECEIVE)}"
PROGRAMS: Mapping[str, list[Line]] = {SEND_NAME: SEND, RECEIVE_NAME: RECEIVE}
