"""Prefixes: the one way in which this project writes a range of addresses.

A Prefix is the packed network address and a length.  `ipaddress.IPv4Network` says the same in ten times the memory
and time; with 200,000 learned routes that decides whether we keep BIRD's pace (docs/adr/0002).  Single addresses
(gateways, node addresses) stay `ipaddress` objects: there are few of them and they come with checks.
"""

from collections.abc import Callable, Iterable
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface, ip_address
from socket import AF_INET, AF_INET6, inet_ntop, inet_pton
from typing import NamedTuple, TypeVar

T = TypeVar("T")

Address = IPv4Address | IPv6Address
Interface = IPv4Interface | IPv6Interface


class Prefix(NamedTuple):
    """A network; the host bits of `packed` are zero. Sorts by address, then shortest first."""

    packed: bytes
    length: int

    @classmethod
    def parse(cls, text: str) -> "Prefix":
        """`10.0.0.0/26`, `fd00::/64`; a bare address is its /32 or /128. ValueError for anything else."""
        host, _, bits = text.partition("/")
        try:
            packed = inet_pton(AF_INET6 if ":" in host else AF_INET, host)
        except OSError:
            raise ValueError(f"{text!r} is not an IP prefix") from None
        width = 8 * len(packed)
        length = int(bits) if bits.isdecimal() else width if not bits else -1
        if not 0 <= length <= width:
            raise ValueError(f"{text!r} has no prefix length between 0 and {width}")
        prefix = cls(packed, length)
        if prefix.masked() != prefix:
            raise ValueError(f"{text!r} has host bits set; the network is {prefix.masked()}")
        return prefix

    @classmethod
    def host(cls, address: Address) -> "Prefix":
        packed = address.packed
        return cls(packed, 8 * len(packed))

    @classmethod
    def containing(cls, address: Address, length: int) -> "Prefix":
        return cls(address.packed, length).masked()

    @classmethod
    def from_int(cls, value: int, length: int, family: int) -> "Prefix":
        return cls(value.to_bytes(4 if family == 4 else 16, "big"), length)

    def masked(self) -> "Prefix":
        free = self.width - self.length
        return Prefix(
            (int.from_bytes(self.packed, "big") >> free << free).to_bytes(len(self.packed), "big"), self.length
        )

    @property
    def family(self) -> int:
        """4 or 6."""
        return 4 if len(self.packed) == 4 else 6

    @property
    def width(self) -> int:
        """How many bits an address of this family has."""
        return 8 * len(self.packed)

    @property
    def size(self) -> int:
        return 1 << (self.width - self.length)

    @property
    def is_host(self) -> bool:
        return self.length == self.width

    @property
    def first(self) -> Address:
        return ip_address(self.packed)

    def __int__(self) -> int:
        return int.from_bytes(self.packed, "big")

    def address(self, ordinal: int) -> Address:
        return ip_address((int(self) + ordinal).to_bytes(len(self.packed), "big"))

    def ordinal(self, address: Address) -> int:
        return int(address) - int(self)

    def covers(self, other: "Prefix") -> bool:
        """True when every address of `other` is one of ours (a prefix covers itself)."""
        if len(self.packed) != len(other.packed) or self.length > other.length:
            return False
        free = self.width - self.length
        return int(self) >> free == int(other) >> free

    def holds(self, address: Address) -> bool:
        return self.covers(Prefix.host(address))

    def overlaps(self, other: "Prefix") -> bool:
        return self.covers(other) or other.covers(self)

    @property
    def first_text(self) -> str:
        """`first` as text, ten times as fast."""
        return inet_ntop(AF_INET if len(self.packed) == 4 else AF_INET6, self.packed)

    def __str__(self) -> str:
        return f"{self.first_text}/{self.length}"

    def __repr__(self) -> str:
        return f"Prefix({str(self)!r})"


def first_texts(prefixes: Iterable[Prefix]) -> list[str]:
    """`first_text` of many of one family, twice as fast."""
    packed = [prefix.packed for prefix in prefixes]
    family = AF_INET if packed and len(packed[0]) == 4 else AF_INET6
    return [inet_ntop(family, each) for each in packed]


def longest_match(things: Iterable[tuple[Prefix, T]]) -> Callable[[Prefix], T | None]:
    """A look-up among a few ranges for many prefixes: what belongs to the longest range that covers a prefix.

    Of equal ranges the first one counts.
    """
    order = sorted(things, key=lambda pair: -pair[0].length)
    ranges = [
        (len(cidr.packed), cidr.length, free, int(cidr) >> free, thing)
        for cidr, thing in order
        for free in [cidr.width - cidr.length]
    ]

    def find(prefix: Prefix) -> T | None:
        packed, length = prefix
        size, number = len(packed), int.from_bytes(packed, "big")
        for width, shortest, free, head, thing in ranges:
            if length >= shortest and number >> free == head and size == width:
                return thing
        return None

    return find if ranges else lambda _prefix: None
