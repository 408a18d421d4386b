"""How large a packet reaches an address, and who drops the larger ones: ICMP echoes that must not be fragmented.

A hop that says "too big" is believed; where packets vanish without a word (a filter that eats ICMP, a switch), echoes
with a growing TTL tell behind which hop they do.  Needs a raw socket, so root; changes nothing, the kernel's own memory
of path MTUs is neither used nor filled.
"""

import errno
import os
import select
import socket
import struct
import time
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum
from ipaddress import ip_address
from itertools import count
from typing import Final, NamedTuple, Self

from felixlite.addresses import Address

LONGEST_PATH: Final = 30
TRIES: Final = 3
_HEADER = struct.Struct("!BBHHH")
_PROBE: Final = 3  # IP_PMTUDISC_PROBE: don't fragment, and forget what was learned


class Wire(NamedTuple):
    """What differs between ICMP (RFC 792) and ICMPv6 (RFC 4443)."""

    family: socket.AddressFamily
    protocol: int
    level: int
    discover: int  # IP_MTU_DISCOVER
    hops: int  # IP_TTL
    header: int  # bytes of an IP header
    comes_with_header: bool  # what a raw socket receives
    smallest: int  # what every link carries
    echo: int
    reply: int
    unreachable: int
    exceeded: int
    too_big: tuple[int, int]  # type and code


WIRES: Final = {
    4: Wire(socket.AF_INET, 1, 0, 10, socket.IP_TTL, 20, True, 68, 8, 0, 3, 11, (3, 4)),
    6: Wire(socket.AF_INET6, 58, 41, 23, socket.IPV6_UNICAST_HOPS, 40, False, 1280, 128, 129, 1, 3, (2, 0)),
}


class Kind(Enum):
    REPLY = "reply"
    EXCEEDED = "time exceeded"
    TOO_BIG = "too big"
    UNREACHABLE = "unreachable"
    SILENCE = "silence"


@dataclass(frozen=True, slots=True)
class Answer:
    kind: Kind
    who: str = ""
    mtu: int = 0  # of a hop that says too big; 0: it does not tell


@dataclass(frozen=True, slots=True)
class Verdict:
    """What became of packets of `size` bytes. `largest`: 0 when nothing passes."""

    size: int
    largest: int
    why: str = ""

    @property
    def passes(self) -> bool:
        return self.largest >= self.size


class Echoes:
    """Sends echoes of one family and waits for what comes back. Use as a context manager."""

    def __init__(self, patience: float = 0.25, family: int = 4) -> None:
        self.patience, self.wire = patience, WIRES[family]
        self._socket = socket.socket(self.wire.family, socket.SOCK_RAW, self.wire.protocol)
        self._socket.setsockopt(self.wire.level, self.wire.discover, _PROBE)
        self._socket.setblocking(False)
        self._identity = int.from_bytes(os.urandom(2), "big")  # several may run at a time
        self._numbers = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def __call__(self, target: Address, size: int, ttl: int = 64) -> Answer:
        """The answer to a packet of `size` bytes in all, its IP header included; silence only after TRIES."""
        for _ in range(TRIES):
            answer = self._once(target, size, ttl)
            if answer.kind is not Kind.SILENCE:
                break
        return answer

    def _once(self, target: Address, size: int, ttl: int) -> Answer:
        number = next(self._numbers) & 0xFFFF
        self._socket.setsockopt(self.wire.level, self.wire.hops, ttl)
        try:
            self._socket.sendto(echo(self.wire, self._identity, number, size), (str(target), 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return Answer(Kind.TOO_BIG, "its own link")
            return Answer(Kind.UNREACHABLE, error.strerror or "")
        deadline = time.monotonic() + self.patience
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                packet, (sender, *_) = self._socket.recvfrom(65535)
                if answer := meaning(self.wire, packet, sender, self._identity, number):
                    return answer
        return Answer(Kind.SILENCE)


def echo(wire: Wire, identity: int, number: int, size: int) -> bytes:
    """With ICMPv6 the kernel does the sum."""
    body = bytes(size - wire.header - _HEADER.size)
    head = _HEADER.pack(wire.echo, 0, 0, identity, number)
    return _HEADER.pack(wire.echo, 0, checksum(head + body), identity, number) + body


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) % 2 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~int(total) & 0xFFFF


def meaning(wire: Wire, packet: bytes, sender: str, identity: int, number: int) -> Answer | None:
    """What an ICMP packet says about the echo; None: it is about something else."""
    start = (packet[0] & 15) * 4 if wire.comes_with_header else 0
    if len(packet) < start + _HEADER.size:
        return None
    kind, code, _, first, second = _HEADER.unpack_from(packet, start)
    if kind == wire.reply:
        return Answer(Kind.REPLY, sender) if (first, second) == (identity, number) else None
    if kind not in (wire.unreachable, wire.exceeded, wire.too_big[0]):
        return None
    if not _is_about(wire, packet[start + 8 :], identity, number):
        return None
    if kind == wire.exceeded:
        return Answer(Kind.EXCEEDED, sender)
    # RFC 1191: the second half is the MTU; RFC 4443: all of it
    return Answer(Kind.TOO_BIG, sender, second) if (kind, code) == wire.too_big else Answer(Kind.UNREACHABLE, sender)


def _is_about(wire: Wire, inner: bytes, identity: int, number: int) -> bool:
    """Whether this is the beginning of our echo."""
    if len(inner) < wire.header + _HEADER.size or inner[9 if wire.header == 20 else 6] != wire.protocol:
        return False
    kind, _, _, *ours = _HEADER.unpack_from(inner, (inner[0] & 15) * 4 if wire.header == 20 else wire.header)
    return (kind, ours) == (wire.echo, [identity, number])


# -- the examination -------------------------------------------------------------------------------------------------


def examine(echoes: Echoes, target: Address, size: int, here: str = "this node") -> Verdict:
    """Whether packets of `size` reach the target; if not, up to which size they do and where the others end."""
    if echoes(target, size).kind is Kind.REPLY:
        return Verdict(size, size)
    smallest = echoes.wire.smallest
    if (answer := echoes(target, smallest)).kind is not Kind.REPLY:
        return Verdict(size, 0, f"not even small packets are answered ({_told(answer)})")
    largest = _largest(echoes, target, smallest, size)
    return Verdict(size, largest, culprit(echoes, target, size, here))


def _told(answer: Answer) -> str:
    return f"{answer.kind.value} from {answer.who}" if answer.who else answer.kind.value


def _largest(echoes: Echoes, target: Address, passes: int, fails: int) -> int:
    while fails - passes > 1:
        middle = (passes + fails) // 2
        if echoes(target, middle).kind is Kind.REPLY:
            passes = middle
        else:
            fails = middle
    return passes


def culprit(echoes: Echoes, target: Address, size: int, here: str = "this node") -> str:
    """Who drops packets of this size, in words."""
    answer = echoes(target, size)
    if answer.kind is Kind.TOO_BIG:
        return f"{answer.who} says that they are too big" + (f" for its MTU {answer.mtu}" if answer.mtu else "")
    before = here
    for ttl in range(1, LONGEST_PATH):
        large, small = echoes(target, size, ttl), echoes(target, echoes.wire.smallest, ttl)
        if large.kind is Kind.EXCEEDED:
            before = large.who
        elif small.kind is Kind.REPLY:
            return f"they or their answers vanish without a word between {before} and {target}"
        elif small.kind is Kind.EXCEEDED:
            return f"they vanish without a word between {before} and {small.who}"
    return f"they vanish without a word behind {before}"


def source_of(target: Address) -> Address | None:
    """The address from which this machine would send there; connecting a UDP socket sends nothing."""
    with socket.socket(WIRES[target.version].family, socket.SOCK_DGRAM) as probe:
        return None if probe.connect_ex((str(target), 9)) else ip_address(probe.getsockname()[0])


def link_of(source: Address, addresses: Iterable[tuple[str, str]]) -> str:
    """The link that has the address; empty where none does. `addresses` are (link, address with its length)."""
    return next((link for link, text in addresses if text.partition("/")[0] == str(source)), "")
