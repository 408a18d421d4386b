"""How large a packet reaches an address, and who drops the larger ones: ICMP echoes that must not be fragmented. IPv4.

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
from ipaddress import IPv4Address
from itertools import count
from typing import Final, Self

SMALLEST: Final = 68  # RFC 791: every link carries that
LONGEST_PATH: Final = 30
TRIES: Final = 3

_ECHO_REPLY, _UNREACHABLE, _ECHO, _EXCEEDED, _TOO_BIG = 0, 3, 8, 11, 4
_MTU_DISCOVER, _PROBE = 10, 3  # IP_MTU_DISCOVER, IP_PMTUDISC_PROBE: don't fragment, and forget what was learned
_HEADER = struct.Struct("!BBHHH")


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
    """Sends echoes and waits for what comes back. Use as a context manager."""

    def __init__(self, patience: float = 0.25) -> None:
        self.patience = patience
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
        self._socket.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _PROBE)
        self._socket.setblocking(False)
        self._identity = os.getpid() & 0xFFFF
        self._numbers = count(1)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._socket.close()

    def __call__(self, target: IPv4Address, size: int, ttl: int = 64) -> Answer:
        """The answer to a packet of `size` bytes in all, its IPv4 header included; silence only after TRIES."""
        for _ in range(TRIES):
            answer = self._once(target, size, ttl)
            if answer.kind is not Kind.SILENCE:
                break
        return answer

    def _once(self, target: IPv4Address, size: int, ttl: int) -> Answer:
        number = next(self._numbers) & 0xFFFF
        self._socket.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, ttl)
        try:
            self._socket.sendto(echo(self._identity, number, size), (str(target), 0))
        except OSError as error:
            if error.errno == errno.EMSGSIZE:
                return Answer(Kind.TOO_BIG, "this node itself")
            return Answer(Kind.UNREACHABLE, error.strerror or "")
        deadline = time.monotonic() + self.patience
        while (left := deadline - time.monotonic()) > 0:
            if select.select([self._socket], [], [], left)[0]:
                packet, (sender, _) = self._socket.recvfrom(65535)
                if answer := meaning(packet, sender, self._identity, number):
                    return answer
        return Answer(Kind.SILENCE)


def echo(identity: int, number: int, size: int) -> bytes:
    body = bytes(size - 20 - _HEADER.size)
    head = _HEADER.pack(_ECHO, 0, 0, identity, number)
    return _HEADER.pack(_ECHO, 0, checksum(head + body), identity, number) + body


def checksum(data: bytes) -> int:
    total = sum(struct.unpack(f"!{len(data) // 2}H", data[: len(data) & ~1])) + (data[-1] << 8 if len(data) % 2 else 0)
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~int(total) & 0xFFFF


def meaning(packet: bytes, sender: str, identity: int, number: int) -> Answer | None:
    """What an ICMP packet says about the echo; None: it is about something else."""
    start = (packet[0] & 15) * 4
    kind, code, _, first, second = _HEADER.unpack_from(packet, start)
    if kind == _ECHO_REPLY:
        return Answer(Kind.REPLY, sender) if (first, second) == (identity, number) else None
    if kind not in (_UNREACHABLE, _EXCEEDED):
        return None
    inner = packet[start + 8 :]
    if len(inner) < 28 or inner[9] != socket.IPPROTO_ICMP:
        return None
    ours = _HEADER.unpack_from(inner, (inner[0] & 15) * 4)
    if (ours[0], ours[3], ours[4]) != (_ECHO, identity, number):
        return None
    if kind == _EXCEEDED:
        return Answer(Kind.EXCEEDED, sender)
    return Answer(Kind.TOO_BIG, sender, second) if code == _TOO_BIG else Answer(Kind.UNREACHABLE, sender)


# -- the examination -------------------------------------------------------------------------------------------------


def examine(echoes: Echoes, target: IPv4Address, size: int) -> Verdict:
    """Whether packets of `size` reach the target; if not, up to which size they do and where the others end."""
    if echoes(target, size).kind is Kind.REPLY:
        return Verdict(size, size)
    if (answer := echoes(target, SMALLEST)).kind is not Kind.REPLY:
        return Verdict(size, 0, f"not even small packets are answered ({_told(answer)})")
    largest = _largest(echoes, target, SMALLEST, size)
    return Verdict(size, largest, culprit(echoes, target, size))


def _told(answer: Answer) -> str:
    return f"{answer.kind.value} from {answer.who}" if answer.who else answer.kind.value


def _largest(echoes: Echoes, target: IPv4Address, passes: int, fails: int) -> int:
    while fails - passes > 1:
        middle = (passes + fails) // 2
        if echoes(target, middle).kind is Kind.REPLY:
            passes = middle
        else:
            fails = middle
    return passes


def culprit(echoes: Echoes, target: IPv4Address, size: int) -> str:
    """Who drops packets of this size, in words."""
    answer = echoes(target, size)
    if answer.kind is Kind.TOO_BIG:
        return f"{answer.who} says that they are too big" + (f" for its MTU {answer.mtu}" if answer.mtu else "")
    before = "this node"
    for ttl in range(1, LONGEST_PATH):
        large, small = echoes(target, size, ttl), echoes(target, SMALLEST, ttl)
        if large.kind is Kind.EXCEEDED:
            before = large.who
        elif small.kind is Kind.REPLY:
            return f"they vanish without a word between {before} and {target}, or their answers do on the way back"
        elif small.kind is Kind.EXCEEDED:
            return f"they vanish without a word between {before} and {small.who}"
    return f"they vanish without a word behind {before}"


def source_of(target: IPv4Address) -> IPv4Address | None:
    """The address from which this machine would send there; connecting a UDP socket sends nothing."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        return None if probe.connect_ex((str(target), 9)) else IPv4Address(probe.getsockname()[0])


def link_of(source: IPv4Address, addresses: Iterable[tuple[str, str]]) -> str:
    """The link that has the address; empty where none does. `addresses` are (link, address with its length)."""
    return next((link for link, text in addresses if text.partition("/")[0] == str(source)), "")
