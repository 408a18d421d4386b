"""From what a user wrote in one rule to matches that a packet filter knows: sets by name, one address family. Pure.

A rule becomes several matches only where it offers alternatives that no single match can say (numbered and named
ports), and none when it can never match in the family.  Which set stands for a selector is the planner's business:
`named` is asked for the name of every set that a match needs.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import NamedTuple

from felixlite.addresses import Prefix
from felixlite.model.policy import ANYONE, ICMP, ICMPV6, EntityRule, PolicyRule, Port, PortRange, ServiceRef
from felixlite.model.selector import ALL, Selector
from felixlite.policy.rows import ANYWHERE, Match, Side
from felixlite.policy.selection import peers


class Selected(NamedTuple):
    """The addresses of everything under a selector."""

    selector: Selector


class Ported(NamedTuple):
    """(address, protocol, port) of every port so named of the endpoints under a selector."""

    selector: Selector
    names: frozenset[str]


class Served(NamedTuple):
    """The endpoints of a service: (address, protocol, port), or only addresses."""

    service: ServiceRef
    with_ports: bool


Wanted = Selected | Ported | Served
Named = Callable[[Wanted], str]


def lowered(rule: PolicyRule, namespace: str, family: int, named: Named) -> list[Match]:
    """The matches of one rule; the packet matches the rule when it matches one of them."""
    if not possible(rule, family):
        return []
    sources = sides(rule.source, namespace, family, named, source=True)
    destinations = sides(rule.destination, namespace, family, named, source=False)
    not_protocol = rule.not_protocol if rule.protocol is None else None
    return [
        Match(rule.protocol, not_protocol, rule.icmp, rule.not_icmp, source, destination)
        for source in sources
        for destination in destinations
    ]


def possible(rule: PolicyRule, family: int) -> bool:
    """False for a rule that no packet of the family can match."""
    if rule.family not in (None, family):
        return False
    protocol = rule.protocol
    if protocol is not None and protocol in (ICMPV6 if family == 4 else ICMP, rule.not_protocol):
        return False
    return _reachable(rule.source, family) and _reachable(rule.destination, family)


def _reachable(side: EntityRule, family: int) -> bool:
    if not side.nets and not side.not_nets:
        return True
    excludes_all = any(not net.length for net in of_family(side.not_nets, family))
    return not excludes_all and (not side.nets or bool(of_family(side.nets, family)))


def of_family(nets: tuple[Prefix, ...], family: int) -> tuple[Prefix, ...]:
    if not nets:
        return nets
    return tuple(net for net in nets if net.family == family)


_ANYWHERE_ONLY = (ANYWHERE,)


def sides(entity: EntityRule, namespace: str, family: int, named: Named, *, source: bool) -> Sequence[Side]:
    """The alternatives of one side."""
    if entity is ANYONE:
        return _ANYWHERE_ONLY
    selector = peers(entity, namespace)
    sets = (named(Selected(selector)),) if selector else ()
    ports, names = _by_kind(entity.ports)
    if not (names or entity.nets or entity.not_nets or entity.not_selector or entity.service or entity.not_ports):
        return (Side((), (), sets, (), ports),)  # as most rules are
    port_sets: tuple[str, ...] = ()
    if entity.service:
        served = named(Served(entity.service, with_ports=not source))
        sets, port_sets = ((*sets, served), ()) if source else (sets, (served,))
    nets, not_nets = of_family(entity.nets, family), of_family(entity.not_nets, family)
    not_sets = (named(Selected(entity.not_selector)),) if entity.not_selector else ()
    not_ports, not_names = _by_kind(entity.not_ports)
    not_port_sets = (named(Ported(selector or ALL, not_names)),) if not_names else ()
    found = []
    if ports or not names:
        found.append(Side(nets, not_nets, sets, not_sets, ports, not_ports, port_sets, not_port_sets))
    if names:
        named_ports = (*port_sets, named(Ported(selector or ALL, names)))
        found.append(Side(nets, not_nets, sets, not_sets, (), not_ports, named_ports, not_port_sets))
    return found


@lru_cache(maxsize=8192)
def _by_kind(ports: tuple[Port, ...]) -> tuple[tuple[PortRange, ...], frozenset[str]]:
    """The numbered ones, and the names."""
    names = frozenset([port for port in ports if isinstance(port, str)])
    return tuple([port for port in ports if isinstance(port, PortRange)]), names


def tells_families_apart(rule: PolicyRule) -> bool:
    """False for a rule that reads the same in both families, but for what its sets are called."""
    source, destination = rule.source, rule.destination
    if source.nets or source.not_nets or destination.nets or destination.not_nets:
        return True
    return rule.family is not None or rule.protocol in (ICMP, ICMPV6)
