"""How nftables spells which packets a rule is about: one match as the words before the verdict. Pure.

What nft 1.0.6 would merge or refuse is spelled so that it does not: ranges without overlaps, comparisons kept apart.
"""

import re
from collections.abc import Iterable, Iterator
from functools import lru_cache

from felixlite.model.policy import ICMP, ICMPV6, PROTOCOL_NAMES, PortRange
from felixlite.policy import rows
from felixlite.policy.members import disjoint
from felixlite.policy.rows import Match, Side

IP = {4: "ip", 6: "ip6"}


@lru_cache(maxsize=8192)
def match_text(match: Match, family: int) -> str:
    """Policies of one cluster say the same things over and over; what was spelled once is remembered."""
    return " ".join(_match_words(match, family))


def _match_words(match: Match, family: int) -> Iterator[str]:
    source, destination = match.source, match.destination
    if match.protocol is not None and not _implied(match):
        yield f"meta l4proto {_protocol(match.protocol)}"
    if match.not_protocol is not None:
        yield f"meta l4proto != {_protocol(match.not_protocol)}"
    yield from _icmp_words(match, family)
    ports = [*_port_words(source, match.protocol, family, "saddr", "sport")]
    ports += _port_words(destination, match.protocol, family, "daddr", "dport")
    yield from _unmerged(ports)  # a number is compared faster than a set is searched
    yield from _address_words(source, family, "saddr")
    yield from _address_words(destination, family, "daddr")


_NOT_ONE_PORT = re.compile(r"(\w+) (sport|dport) != (\d+)")


def _unmerged(words: list[str]) -> list[str]:
    """nft 1.0.6 merges `sport != 80 dport != 80` into one comparison of both, which excludes only 80 to 80.

    A concatenation is never merged.
    """
    alone = [found for word in words if (found := _NOT_ONE_PORT.fullmatch(word))]
    if len(alone) < 2:
        return words
    protocol, port, number = alone[1].groups()
    separate = f"meta l4proto . th {port} != {{ {protocol} . {number} }}"
    return [separate if word == alone[1][0] else word for word in words]


def _implied(match: Match) -> bool:
    """True when a word of the match says the protocol anyway (`tcp dport 80`)."""
    ports = (match.source.ports, match.source.not_ports, match.destination.ports, match.destination.not_ports)
    return any(ports) or bool(match.icmp and match.icmp.type is not None)


def _protocol(number: int) -> str:
    return {ICMP: "icmp", ICMPV6: "ipv6-icmp"}.get(number) or PROTOCOL_NAMES.get(number, str(number)).lower()


def _icmp_words(match: Match, family: int) -> Iterator[str]:
    name = "icmp" if family == 4 else "icmpv6"
    if match.icmp and match.icmp.type is not None:
        yield f"{name} type {match.icmp.type}"
        if match.icmp.code is not None:
            yield f"{name} code {match.icmp.code}"
    if match.not_icmp and match.not_icmp.type is not None:
        if match.not_icmp.code is None:
            yield f"{name} type != {match.not_icmp.type}"
        else:  # type and code are the first two bytes of the header
            yield f"@th,0,16 != {match.not_icmp.type << 8 | match.not_icmp.code:#06x}"


def _address_words(side: Side, family: int, field_name: str) -> Iterator[str]:
    subject = f"{IP[family]} {field_name}"
    if side.nets and all(net.length for net in side.nets):
        yield f"{subject} {choice(map(rows.host_or_net, disjoint(side.nets)))}"
    if side.not_nets:
        yield f"{subject} != {choice(map(rows.host_or_net, disjoint(side.not_nets)))}"
    yield from (f"{subject} @{name}" for name in side.sets)
    yield from (f"{subject} != @{name}" for name in side.not_sets)


def _port_words(side: Side, protocol: int | None, family: int, address: str, port: str) -> Iterator[str]:
    header = _protocol(protocol) if protocol in PROTOCOL_NAMES else "th"
    if side.ports:
        yield f"{header} {port} {choice(map(str, merged(side.ports)))}"
    if side.not_ports:
        yield f"{header} {port} != {choice(map(str, merged(side.not_ports)))}"
    subject = f"{IP[family]} {address} . meta l4proto . th {port}"
    yield from (f"{subject} @{name}" for name in side.port_sets)
    yield from (f"{subject} != @{name}" for name in side.not_port_sets)


def merged(ports: Iterable[PortRange]) -> Iterator[PortRange]:
    """The ranges without overlaps; interval sets refuse them."""
    last: PortRange | None = None
    for port in sorted(ports):
        if last and port.first <= last.last + 1:
            last = PortRange(last.first, max(last.last, port.last))
        else:
            if last:
                yield last
            last = port
    if last:
        yield last


def choice(items: Iterable[str]) -> str:
    found = list(items)
    return found[0] if len(found) == 1 else "{ " + ", ".join(found) + " }"
