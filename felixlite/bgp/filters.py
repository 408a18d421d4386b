"""BGPFilter: what a rule says about one route (reference 2.4, 12.7). Pure.

The first rule that matches decides; when none does, the defaults of import (bgp/rib.py) or export (bgp/announcing.py) do.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase

from felixlite.addresses import Prefix
from felixlite.model.inside import BgpFilter, FilterRule
from felixlite.snapshot import Path


@dataclass(frozen=True, slots=True)
class Route:
    """What a rule can look at besides the prefix."""

    path: Path
    internal: bool  # the peer that told us, or that is to hear it, has our AS
    learned: bool = True  # from a BGP peer; False: our own
    interface: str = ""
    priority: int = 1024


@dataclass(frozen=True, slots=True)
class Verdict:
    accept: bool | None  # None: no rule matched
    path: Path
    rule: int = -1  # the number of the rule in the list


def rules_of(
    names: Iterable[str], filters: Mapping[str, BgpFilter], family: int, *, imports: bool
) -> tuple[FilterRule, ...]:
    """The rules of several filters in the order of the list; a name without a filter is passed over."""
    found = [filters[name] for name in names if name in filters]
    return tuple(rule for f in found for rule in (f.imports if imports else f.exports).get(family, ()))


def judge(rules: Iterable[FilterRule], prefix: Prefix, route: Route) -> Verdict:
    for number, rule in enumerate(rules):
        if matches(rule, prefix, route):
            path = operated(rule, route.path) if rule.accept else route.path
            return Verdict(rule.accept, path, number)
    return Verdict(None, route.path)


def matches(rule: FilterRule, prefix: Prefix, route: Route) -> bool:
    return (
        (rule.cidr is None or _in_cidr(rule, rule.cidr, prefix))
        and not (rule.remote_only and not route.learned)
        and not (rule.interface and not fnmatchcase(route.interface, rule.interface))
        and (rule.peer_type == "" or (rule.peer_type == "iBGP") == route.internal)
        and (not rule.community or rule.community in route.path.communities)
        and (not rule.as_path_prefix or route.path.as_path[: len(rule.as_path_prefix)] == rule.as_path_prefix)
        and (rule.priority is None or rule.priority == (route.path.priority or route.priority))
    )


def _in_cidr(rule: FilterRule, cidr: Prefix, prefix: Prefix) -> bool:
    match rule.operator:
        case "Equal":
            hit = prefix == cidr
        case "NotEqual":
            hit = prefix != cidr
        case "In":
            hit = cidr.covers(prefix)
        case "NotIn":
            hit = not cidr.covers(prefix)
        case _:
            hit = False
    low, high = rule.min_length, rule.max_length
    return hit and (low is None or prefix.length >= low) and (high is None or prefix.length <= high)


def operated(rule: FilterRule, path: Path) -> Path:
    """Several prepends end up in the order in which they are written, each in front of what was there."""
    for operation in rule.operations:
        if operation.add_community and operation.add_community not in path.communities:
            path = replace(path, communities=(*path.communities, operation.add_community))
        if operation.prepend:
            path = replace(path, as_path=(*operation.prepend, *path.as_path))
        if operation.set_priority is not None:
            path = replace(path, priority=operation.set_priority)
    return path
