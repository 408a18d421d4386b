"""How iptables spells the policy rows: chains per table, as `iptables-restore --noflush` takes them. Pure.

A verdict inside of a policy must not end the journey, because what leaves one pod may still have to enter another:
Allow goes to a chain that sets the accept mark (and so returns), Pass to one that sets the pass mark, and who called
looks at the marks.  The lowest bits of the mask are: accepted, passed on, and two for matching a rule of several lists
(`_in_blocks`).
Dispatch is a tree over the interface names, a new chain at each character where they part.

Our chains begin with `fl-`, sets with `fl4-` or `fl6-`.  Comments are numbered as in nftables_text.py; the jumps into
our chains from the kernel's carry the comment HOOK, and are placed by iptables.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import groupby
from typing import NamedTuple, assert_never

from felixlite.model.policy import ICMPV6, Action, Icmp, PortRange
from felixlite.policy import rows
from felixlite.policy.members import disjoint
from felixlite.policy.nftables_text import merged
from felixlite.policy.rows import (
    Chained,
    Dispatch,
    EndpointChain,
    Gates,
    Key,
    Match,
    Nat,
    PolicyChain,
    Row,
    Side,
)

RENDERING = "2"  # raise when the text of any row changes; it is part of the comments
PREFIX = "fl-"
HOOK = "fl1:hook"  # the same for ever: a jump is removed by its whole text
WIDEST = 16  # interfaces in one dispatch chain
NEIGHBOUR_DISCOVERY = (130, 131, 132, 133, 135, 136)  # all but 134: a pod sends no router advertisements
_STRIDE = 10  # how many more policies a decided packet may run past before it returns
_MULTIPORT = 15  # slots of -m multiport; a range takes two

Chains = dict[tuple[str, str], list[str]]  # (table, chain) -> its rules


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


def _set(bits: int) -> str:
    return f"-j MARK --set-xmark {bits:#x}/{bits:#x}"


def _clear(bits: int) -> str:
    return f"-j MARK --set-xmark 0x0/{bits:#x}"


def _has(bit: int) -> str:
    return f"-m mark --mark {bit:#x}/{bit:#x}"


def _lacks(bit: int) -> str:
    return f"-m mark --mark 0x0/{bit:#x}"


# -- matches ---------------------------------------------------------------------------------------------------------


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
    yield _clear(so_far | one)
    yield " ".join([*words.words, _set(so_far)])
    for alternatives in words.any_of:
        yield from (f"{alternative} {_set(one)}" for alternative in alternatives)
        yield f"{_lacks(one)} {_clear(so_far)}"
        yield _clear(one)
    for excluded in words.none_of:
        yield from (f"{item} {_clear(so_far)}" for item in excluded)
    yield f"{_has(so_far)} {target}"


# -- chains ----------------------------------------------------------------------------------------------------------


class Spelling:
    def __init__(self, family: int, mark_mask: int = 0xFFFF0000) -> None:
        self.family = family
        self.marks = Marks.of(mark_mask)

    def chains(self, key: Key, row: Row) -> Chains:
        """The chains that a row becomes, every rule with its comment."""
        match row:
            case Chained():
                found = self._of_body(key, row)
                mark = row.digest
            case Dispatch():
                found = dispatch_chains(key, row)
                mark = rows.digest(sorted(row.chains))
            case _:
                raise TypeError(f"{key} is a set")
        return commented(found, mark)

    def _of_body(self, key: Key, row: Chained) -> Chains:
        name = PREFIX + key.name
        match row.body:
            case PolicyChain():
                return {("filter", name): list(self._policy(row.body))}
            case EndpointChain():
                return {("filter", name): list(self._endpoint(row.body))}
            case Gates():
                return self._gates(row.body)
            case Nat():
                return {("nat", "fl-POSTROUTING"): list(nat_rules(row.body, self.family))}
            case None:
                raise TypeError(f"{key} was read, not planned")
            case _:
                assert_never(row.body)

    def _policy(self, chain: PolicyChain) -> Iterator[str]:
        for rule in chain.rules:
            yield from self.rule(rule)
        if not chain.rules:
            yield "-j RETURN"

    def rule(self, rule: rows.Rule) -> Sequence[str]:
        """The last of these acts; what is before it finds out whether the packet matches."""
        target = _TARGETS.get(rule.action) or _logged(rule.log or rows.Log())
        return matched(rule.match, target, self.family, self.marks)

    def _endpoint(self, endpoint: EndpointChain) -> Iterator[str]:
        """A policy is asked while none before it has decided; half as many rules as a return behind each one."""
        marks = self.marks
        yield _clear(marks.accepted | marks.passed)
        if endpoint.mac:
            yield f"-m mac ! --mac-source {endpoint.mac.lower()} -j DROP"
        for tier in endpoint.tiers:
            passes = any(step.may_pass for step in tier.policies)
            if passes:
                yield _clear(marks.passed)
            undecided = _lacks(marks.accepted | (marks.passed if passes else 0))
            for number, step in enumerate(tier.policies, 1):
                yield f"{undecided} -j {PREFIX}{step.chain}"
                if number % _STRIDE == 0 or step is tier.policies[-1]:
                    yield f"{_has(marks.accepted)} -j RETURN"
            if tier.end is Action.DENY:
                yield f"{_lacks(marks.passed) + ' ' if passes else ''}-g fl-deny"
                if not passes:
                    return  # nothing gets past here
        for profile in endpoint.profiles:
            yield f"-j {PREFIX}{profile}"
            yield f"{_has(marks.accepted)} -j RETURN"
        yield "-g fl-deny"

    def _gates(self, gates: Gates) -> Chains:
        marks = self.marks
        everything = marks.accepted | marks.passed | marks.all_match | marks.one_matches
        names = [f"{prefix}+" for prefix in gates.interfaces]
        accept = f"{_has(marks.accepted)} -j ACCEPT"
        return {
            ("raw", "fl-PREROUTING"): [f"-i {name} -g fl-own-source" for name in names],
            ("raw", "fl-own-source"): list(_own_source(gates, self.family)),
            ("filter", "fl-FORWARD"): [
                _clear(everything),
                *_service_loop(gates),
                *(f"-i {name} -j fl-from-pods" for name in names),
                *(f"-o {name} -j fl-to-pods" for name in names),
            ],
            ("filter", "fl-accept"): [accept],
            ("filter", "fl-INPUT"): [
                *_tunnel_guard(gates, self.family),
                *(f"-i {name} -g fl-to-host" for name in names),
            ],
            ("filter", "fl-to-host"): [*_discovery(self.family), "-j fl-from-pods", *_TO_HOST[gates.to_host]],
            ("filter", "fl-from-pods"): [*_known_flows(gates), *_pod_guard(gates), "-g fl-from-workload"],
            ("filter", "fl-to-pods"): [*_known_flows(gates), "-g fl-to-workload"],
            ("filter", "fl-allow"): [_set(marks.accepted)],
            ("filter", "fl-pass"): [_set(marks.passed)],
            ("filter", "fl-deny"): [f"-j {gates.deny.upper()}"],
        }


_TARGETS: Mapping[Action, str] = {  # of all but LOG
    Action.ALLOW: "-g fl-allow",
    Action.PASS: "-g fl-pass",
    Action.DENY: "-g fl-deny",
}


def _logged(log: rows.Log) -> str:
    limit = f"-m limit --limit {log.rate} --limit-burst {log.burst} " if log.rate else ""
    return f'{limit}-j LOG --log-prefix "{log.prefix[:_LONGEST_PREFIX]}: " --log-level 5'


_LONGEST_PREFIX = 27  # xt_LOG keeps 30, with ": " and the end

_TO_HOST = {"Drop": ["-j DROP"], "Accept": ["-j ACCEPT"], "Return": []}


def _known_flows(gates: Gates) -> list[str]:
    known = "-m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT"
    return [known, *(["-m conntrack --ctstate INVALID -j DROP"] if gates.check_invalid else [])]


def _pod_guard(gates: Gates) -> list[str]:
    found = [] if gates.pods_may_vxlan else [f"-p 17 -m udp --dport {gates.vxlan_port} -j DROP"]
    return found if gates.pods_may_ipip else [*found, "-p 4 -j DROP"]


def _own_source(gates: Gates, family: int) -> Iterator[str]:
    yield from (f"-i {name} -j RETURN" for name in gates.spoofers)
    if family == 6:  # never forwarded
        yield "-s fe80::/10 -j RETURN"
        yield "-s ::/128 -j RETURN"
    yield f"-m set ! --match-set {set_name(rows.OWN_ADDRESSES, family)} src,src -j DROP"
    if gates.reverse_path:
        yield "-m rpfilter --validmark --invert -j DROP"


def _tunnel_guard(gates: Gates, family: int) -> Iterator[str]:
    known = f"-m set --match-set {set_name(rows.ALL_HOSTS, family)} src -m addrtype --dst-type LOCAL -j ACCEPT"
    if gates.ipip and family == 4:
        yield f"-p 4 {known}"
        yield "-p 4 -j DROP"
    if gates.vxlan:
        yield f"-p 17 -m udp --dport {gates.vxlan_port} {known}"
        yield f"-p 17 -m udp --dport {gates.vxlan_port} -m addrtype --dst-type LOCAL -j DROP"


def _discovery(family: int) -> list[str]:
    return [f"-p 58 -m icmp6 --icmpv6-type {kind} -j ACCEPT" for kind in NEIGHBOUR_DISCOVERY] if family == 6 else []


def _service_loop(gates: Gates) -> list[str]:
    if gates.service_loop == "Disabled":
        return []
    return [f"-d {net} -j {gates.service_loop.upper()}" for net in disjoint(gates.service_nets)]


def nat_rules(nat: Nat, family: int) -> Iterator[str]:
    masqueraded, inside = set_name(rows.MASQUERADED, family), set_name(rows.INSIDE, family)
    for tunnel in nat.tunnels:
        yield (
            f"-o {tunnel.link} ! -s {tunnel.address} -m addrtype --src-type LOCAL "
            f"-j SNAT --to-source {tunnel.address}{_random(nat)}"
        )
    for net in nat.keep_inside:  # mapped to itself, so that NAT of whatever program comes later leaves it alone
        yield f"-s {net} -m set --match-set {inside} dst -j NETMAP --to {net}"
    if nat.outgoing:
        out = f"-o {nat.out_interfaces} " if nat.out_interfaces else ""
        leaving = f"{out}-m set --match-set {masqueraded} src -m set ! --match-set {inside} dst"
        for protocol in (6, 17) if nat.ports else ():
            yield f"{leaving} -p {protocol} {_outgoing(nat, ported=True)}"
        yield f"{leaving} {_outgoing(nat, ported=False)}"
    if not (nat.tunnels or nat.keep_inside or nat.outgoing):
        yield "-j RETURN"


def _outgoing(nat: Nat, *, ported: bool) -> str:
    ports = f"{nat.ports[0]}-{nat.ports[1]}" if nat.ports and ported else ""
    if nat.to_address:
        return f"-j SNAT --to-source {nat.to_address}{':' + ports if ports else ''}{_random(nat)}"
    return f"-j MASQUERADE{' --to-ports ' + ports if ports else ''}{_random(nat)}"


def _random(nat: Nat) -> str:
    return " --random-fully" if nat.random_fully else ""


# -- dispatch --------------------------------------------------------------------------------------------------------


def dispatch_chains(key: Key, dispatch: Dispatch) -> Chains:
    """`fl-from-workload` and, where there are many interfaces, a chain for each way in which their names go on."""
    option = "-i" if key == rows.FROM_WORKLOADS else "-o"
    letter = "f" if key == rows.FROM_WORKLOADS else "t"
    found: Chains = {}

    def grow(chain: str, pairs: list[tuple[str, str]], known: int) -> None:
        rules = found[("filter", chain)] = []
        if len(pairs) <= WIDEST:
            rules += [f"{option} {name} -g {PREFIX}{target}" for name, target in pairs]
        else:
            depth = _common(pairs, known) + 1
            for start, group in groupby(pairs, key=lambda pair: pair[0][:depth]):
                inner = list(group)
                if len(inner) == 1:
                    rules.append(f"{option} {inner[0][0]} -g {PREFIX}{inner[0][1]}")
                else:
                    child = f"{PREFIX}{letter}d-{start}"
                    rules.append(f"{option} {start}+ -g {child}")
                    grow(child, inner, depth)
        rules.append("-j DROP")

    grow(PREFIX + key.name, sorted(dispatch.chains), 0)
    return found


def _common(pairs: list[tuple[str, str]], known: int) -> int:
    """How many leading characters all the names share; they are sorted, so the ends tell."""
    first, last = pairs[0][0], pairs[-1][0]
    while known < len(first) and first[: known + 1] == last[: known + 1]:
        known += 1
    return known


# -- comments --------------------------------------------------------------------------------------------------------


def commented(chains: Chains, digest: str) -> Chains:
    comment, number = f'-m comment --comment "fl{RENDERING}:{digest}:', 0
    found: Chains = {}
    last = None
    for where, rules in chains.items():
        found[where] = [f'{comment}{at}" {rule}' for at, rule in enumerate(rules, number)]
        number += len(rules)
        last = where if rules else last
    if last:
        found[last][-1] = f'{comment}{number - 1}." {chains[last][-1]}'
    return found


def restore_text(
    chains: Mapping[tuple[str, str], list[str]],
    gone: Iterable[tuple[str, str]] = (),
    hooks: Iterable[tuple[str, str]] = (),
) -> str:
    """One input for `iptables-restore --noflush`: named chains are emptied and filled, `gone` ones are removed."""
    removed = list(gone)
    tables = {table for table, _ in (*chains, *removed, *hooks)}
    lines: list[str] = []
    for table in sorted(tables):
        lines.append(f"*{table}")
        lines += [f":{chain} - [0:0]" for where, chain in (*chains, *removed) if where == table]
        for (where, chain), rules in chains.items():
            if where == table:
                lines += [f"-A {chain} {rule}" for rule in rules]
        lines += [hook for where, hook in hooks if where == table]
        lines += [f"-X {chain}" for where, chain in removed if where == table]
        lines.append("COMMIT")
    return "\n".join([*lines, ""])
