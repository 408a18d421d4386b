"""How iptables spells which packets a rule is about: marks, sets, and one match as one rule or several. Pure.

A rule of iptables has room for one list of networks and fifteen ports. What does not fit becomes a block of rules that
take notes in two bits of the mark: everything matched so far, and one item of the list at hand did.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

from felixlite.model.policy import ICMPV6, Icmp, PortRange
from felixlite.policy.members import disjoint
from felixlite.policy.nftables_match import merged
from felixlite.policy.rows import Match, Side

_MULTIPORT = 15  # slots of -m multiport; a range takes two


def set_name(name: str, family: int) -> str:
    return f"fl{family}-{name}"


class Marks(NamedTuple):
    accepted: int
    passed: int
    all_match: int
    one_matches: int

    @classmethod
    def of(cls, mask: int) -> "Marks":
        """The four lowest bits of the mask."""
        bits = [1 << n for n in range(32) if mask >> n & 1]
        if len(bits) < 4:
            raise ValueError(f"markMask {mask:#x}: must have at least four bits set")
        return cls(*bits[:4])


def sets(bits: int) -> str:
    return f"-j MARK --set-xmark {bits:#x}/{bits:#x}"


def clears(bits: int) -> str:
    return f"-j MARK --set-xmark 0x0/{bits:#x}"


def has(bit: int) -> str:
    return f"-m mark --mark {bit:#x}/{bit:#x}"


def lacks(bit: int) -> str:
    return f"-m mark --mark 0x0/{bit:#x}"


@dataclass(slots=True)
class _Spelled:
    """A match in words: those of one rule, and lists of which one has to match, or none may."""

    words: list[str] = field(default_factory=list)
    any_of: list[list[str]] = field(default_factory=list)
    none_of: list[list[str]] = field(default_factory=list)


def spelled(match: Match, family: int) -> _Spelled:
    found = _Spelled()
    if match.protocol is not None:
        found.words.append(f"-p {match.protocol}")
    if match.not_protocol is not None:
        found.words.append(f"! -p {match.not_protocol}")
    if match.icmp and match.icmp.type is not None:
        found.words.append(_icmp(match.icmp, match.protocol, ""))
    if match.not_icmp and match.not_icmp.type is not None:
        found.words.append(_icmp(match.not_icmp, match.protocol, "! "))
    _spell_side(match.source, match.protocol, family, _SOURCE, found)
    _spell_side(match.destination, match.protocol, family, _DESTINATION, found)
    return found


def _icmp(icmp: Icmp, protocol: int | None, inverted: str) -> str:
    what = f"{icmp.type}" if icmp.code is None else f"{icmp.type}/{icmp.code}"
    if protocol == ICMPV6:
        return f"-m icmp6 {inverted}--icmpv6-type {what}"
    return f"-m icmp {inverted}--icmp-type {what}"


@dataclass(frozen=True, slots=True)
class _Words:
    """What the options of one side are called."""

    net: str
    direction: str
    ports: str


_SOURCE = _Words("-s", "src", "--sports")
_DESTINATION = _Words("-d", "dst", "--dports")


def _spell_side(side: Side, protocol: int | None, family: int, words: _Words, found: _Spelled) -> None:
    nets = [f"{words.net} {net}" for net in disjoint(side.nets)] if all(net.length for net in side.nets) else []
    not_nets = [f"{words.net} {net}" for net in disjoint(side.not_nets)]
    if len(nets) == 1:
        found.words += nets
    elif nets:
        found.any_of.append(nets)
    if len(not_nets) == 1 and len(nets) != 1:
        found.words.append(f"! {not_nets[0]}")
    elif not_nets:
        found.none_of.append(not_nets)
    for names, inverted, way in (
        (side.sets, "", words.direction),
        (side.not_sets, "! ", words.direction),
        (side.port_sets, "", f"{words.direction},{words.direction}"),
        (side.not_port_sets, "! ", f"{words.direction},{words.direction}"),
    ):
        found.words += [f"-m set {inverted}--match-set {set_name(name, family)} {way}" for name in names]
    proto = f"-p {protocol} " if protocol is not None else ""
    slots = [f"-m multiport {words.ports} {ports}" for ports in _multiports(side.ports)]
    if len(slots) == 1:
        found.words += slots
    elif slots:
        found.any_of.append([f"{proto}{slot}" for slot in slots])
    found.words += [f"-m multiport ! {words.ports} {ports}" for ports in _multiports(side.not_ports)]


def _multiports(ports: Iterable[PortRange]) -> Iterator[str]:
    """The ports in as many lists as multiport needs."""
    batch: list[str] = []
    room = _MULTIPORT
    for port in merged(ports):
        slots = 1 if port.first == port.last else 2
        if slots > room:
            yield ",".join(batch)
            batch, room = [], _MULTIPORT
        batch.append(str(port.first) if slots == 1 else f"{port.first}:{port.last}")
        room -= slots
    if batch:
        yield ",".join(batch)


@lru_cache(maxsize=8192)
def matched(match: Match, target: str, family: int, marks: Marks) -> Sequence[str]:
    """The rules that send what matches to the target; policies of one cluster say the same over and over."""
    words = spelled(match, family)
    if not words.any_of and not words.none_of:
        return (" ".join([*words.words, target]),)
    return tuple(_in_blocks(words, target, marks))


def _in_blocks(words: _Spelled, target: str, marks: Marks) -> Iterator[str]:
    """Lists, one rule an item: all_match says that everything did so far, one_matches that an item of a list did."""
    so_far, one = marks.all_match, marks.one_matches
    yield clears(so_far | one)
    yield " ".join([*words.words, sets(so_far)])
    for alternatives in words.any_of:
        yield from (f"{alternative} {sets(one)}" for alternative in alternatives)
        yield f"{lacks(one)} {clears(so_far)}"
        yield clears(one)
    for excluded in words.none_of:
        yield from (f"{item} {clears(so_far)}" for item in excluded)
    yield f"{has(so_far)} {target}"
