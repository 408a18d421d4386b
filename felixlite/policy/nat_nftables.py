"""The same question as nat.py for rules that are written in nftables itself (Docker, firewalld): who would rewrite the
source of what one pod sends to another? Pure.

A listing of the ruleset is followed from the base chains of NAT after routing, through every jump that pods' packets
could take.  Where a rule asks for what cannot be judged here (a named set, an interface), it is taken to match: a
warning too much is a line in `status`, one too few costs pods their addresses.  Who asks for a mark chooses connections
himself, as kube-proxy does.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from felixlite.addresses import Prefix
from felixlite.policy.nftables_text import TABLE

_TABLE = re.compile(r"^table (ip|ip6|inet) (\S+) \{")
_CHAIN = re.compile(r"^\tchain (\S+) \{")
_AFTER_ROUTING = "type nat hook postrouting "
_REWRITES = re.compile(r"(?:^| )(?:masquerade|snat)(?: |$)")
_JUMP = re.compile(r"\b(?:jump|goto) ([^\s,}]+)")
_MARK = re.compile(r"\bmark\b")
_COMMENT = re.compile(r' comment "[^"]*"')
_FAMILIES = {4: "ip", 6: "ip6"}


@dataclass(slots=True)
class _Table:
    family: str
    name: str
    chains: dict[str, list[str]] = field(default_factory=dict)


def rewriting(ruleset: str, pools: Iterable[Prefix], known: Iterable[str] = ()) -> Iterator[str]:
    """The rules in what `nft list ruleset` prints that may change the source between two addresses of the pools.

    `known`: tables (`ip nat`) that are judged as iptables' own.
    """
    inside, judged = tuple(pools), {f"ip {TABLE}", f"ip6 {TABLE}", *known}
    for table in _tables(ruleset):
        if f"{table.family} {table.name}" not in judged:
            yield from _of_table(table, inside)


def _tables(ruleset: str) -> Iterator[_Table]:
    table: _Table | None = None
    chain: list[str] | None = None
    for line in ruleset.splitlines():
        if found := _TABLE.match(line):
            table = _Table(found[1], found[2])
        elif line == "}" and table:
            yield table
            table = None
        elif table and (found := _CHAIN.match(line)):
            chain = table.chains.setdefault(found[1], [])
        elif line == "\t}":
            chain = None
        elif chain is not None:
            chain.append(line.strip())


def _of_table(table: _Table, pools: tuple[Prefix, ...]) -> Iterator[str]:
    """A chain is looked at once for each pool that gets there."""
    waiting = [
        (name, pool)
        for name, rules in table.chains.items()
        for pool in pools
        if any(rule.startswith(_AFTER_ROUTING) for rule in rules) and table.family in ("inet", _FAMILIES[pool.family])
    ]
    met, found = set(waiting), dict[str, None]()
    while waiting:
        name, pool = waiting.pop()
        for rule in _passed(table.chains.get(name, []), pool):
            if _REWRITES.search(rule):
                found[f"nft {table.family} {table.name} {name}: {rule}"] = None
            further = {(target, pool) for target in _JUMP.findall(rule)} - met
            met |= further
            waiting += further
    return iter(found)


def _passed(rules: list[str], pool: Prefix) -> Iterator[str]:
    """The rules of a chain that packets between two pods may match, without their comments."""
    for commented in rules:
        rule = _COMMENT.sub("", commented)
        if rule.startswith("type "):
            continue
        if _MARK.search(rule):
            if rule.endswith(" return"):
                return  # only marked connections get further
            continue
        if _may_match(rule, pool):
            yield rule


def _may_match(rule: str, pool: Prefix) -> bool:
    ours, other = ("ip", "ip6") if pool.family == 4 else ("ip6", "ip")
    if re.search(rf"\b{other} [sd]addr\b|nfproto ipv{10 - pool.family}\b", rule):
        return False
    if (source := _asked(rule, ours, "saddr")) and source == _asked(rule, ours, "daddr") and "/" not in source:
        return False  # somebody who talks to himself by another address
    return _admits(rule, f"{ours} saddr", pool) and _admits(rule, f"{ours} daddr", pool)


def _asked(rule: str, family: str, side: str) -> str:
    found = re.search(rf"\b{family} {side} (\S+)", rule)
    return found[1] if found and found[1] not in ("!=", "{") else ""


def _admits(rule: str, subject: str, pool: Prefix) -> bool:
    """Whether some address of the pool passes this match of the rule."""
    for inverted, several, one in re.findall(rf"\b{subject} (!= )?(?:\{{ ([^}}]*) \}}|(\S+))", rule):
        try:
            nets = [Prefix.parse(text.strip()) for text in (several or one).split(",")]
        except ValueError:  # a named set, a range, a map
            continue
        if inverted and any(net.covers(pool) for net in nets):
            return False
        if not inverted and not any(net.overlaps(pool) for net in nets):
            return False
    return True
