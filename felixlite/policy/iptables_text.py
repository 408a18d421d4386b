"""How iptables spells the policy rows: chains per table, as `iptables-restore --noflush` takes them. Pure.

A verdict inside of a policy must not end the journey, because what leaves one pod may still have to enter another:
Allow goes to a chain that sets the accept mark (and so returns), Pass to one that sets the pass mark, and who called
looks at the marks.  The lowest bits of the mask are: accepted, passed on, and two for matching a rule of several lists
(iptables_match.py).
Dispatch is a tree over the interface names, a new chain at each character where they part.

Our chains begin with `fl-`, sets with `fl4-` or `fl6-`.  Comments are numbered as in nftables_text.py; the jumps into
our chains from the kernel's carry the comment HOOK, and are placed by iptables.py.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import groupby
from typing import assert_never

from felixlite.model.policy import Action
from felixlite.policy import rows
from felixlite.policy.iptables_match import Marks, clears, has, lacks, matched, set_name, sets
from felixlite.policy.members import disjoint
from felixlite.policy.rows import (
    Chained,
    Dispatch,
    EndpointChain,
    Gates,
    Key,
    Nat,
    PolicyChain,
    Row,
    ServiceGates,
)

RENDERING = "4"  # raise when the text of any row changes; it is part of the comments
PREFIX = "fl-"
HOOK = "fl1:hook"  # the same for ever: a jump is removed by its whole text
WIDEST = 16  # interfaces in one dispatch chain
NEIGHBOUR_DISCOVERY = (130, 131, 132, 133, 135, 136)  # all but 134: a pod sends no router advertisements
_STRIDE = 10  # how many more policies a decided packet may run past before it returns

Chains = dict[tuple[str, str], list[str]]  # (table, chain) -> its rules, or the lines that append them


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
        yield clears(marks.accepted | marks.passed)
        if endpoint.mac:
            yield f"-m mac ! --mac-source {endpoint.mac.lower()} -j DROP"
        for tier in endpoint.tiers:
            passes = any(step.may_pass for step in tier.policies)
            if passes:
                yield clears(marks.passed)
            undecided = lacks(marks.accepted | (marks.passed if passes else 0))
            for number, step in enumerate(tier.policies, 1):
                yield f"{undecided} -j {PREFIX}{step.chain}"
                if number % _STRIDE == 0 or step is tier.policies[-1]:
                    yield f"{has(marks.accepted)} -j RETURN"
            if tier.end is Action.DENY:
                yield f"{lacks(marks.passed) + ' ' if passes else ''}-g fl-deny"
                if not passes:
                    return  # nothing gets past here
        for profile in endpoint.profiles:
            yield f"-j {PREFIX}{profile}"
            yield f"{has(marks.accepted)} -j RETURN"
        yield "-g fl-deny"

    def _gates(self, gates: Gates) -> Chains:
        marks = self.marks
        everything = marks.accepted | marks.passed | marks.all_match | marks.one_matches
        names = [f"{prefix}+" for prefix in gates.interfaces]
        accept = f"{has(marks.accepted)} -j ACCEPT"
        return {
            ("raw", "fl-PREROUTING"): [f"-i {name} -g fl-own-source" for name in names],
            ("raw", "fl-own-source"): list(_own_source(gates, self.family)),
            ("filter", "fl-FORWARD"): [
                clears(everything),
                *_service_loop(gates),
                *(f"-i {name} -j fl-from-pods" for name in names),
                *(f"-o {name} -j fl-to-pods" for name in names),
            ],
            ("filter", "fl-accept"): [accept],
            ("filter", "fl-INPUT"): [
                *_tunnel_guard(gates, self.family),
                *(_to_a_service(self.family) if isinstance(gates, ServiceGates) else []),
                *(f"-i {name} -g fl-to-host" for name in names),
            ],
            ("filter", "fl-to-host"): [*_discovery(self.family), "-j fl-from-pods", *_TO_HOST[gates.to_host]],
            ("filter", "fl-from-pods"): [*_known_flows(gates), *_pod_guard(gates), "-g fl-from-workload"],
            ("filter", "fl-to-pods"): [*_known_flows(gates), "-g fl-to-workload"],
            ("filter", "fl-allow"): [sets(marks.accepted)],
            ("filter", "fl-pass"): [sets(marks.passed)],
            ("filter", "fl-deny"): [f"-j {gates.deny.upper()}"],
            **(self._behind_ipvs(gates, names, everything) if isinstance(gates, ServiceGates) else {}),
        }

    def _behind_ipvs(self, gates: Gates, names: list[str], everything: int) -> Chains:
        """What IPVS sends on: the only packets in OUTPUT whose source is not an address of this node.

        In INPUT there is no place behind IPVS. Where pods may not talk to the node, what it answers them in the name of
        a service is dropped here: IPVS left the packet alone, or gave it to a process of the node.
        """
        senders, services = (set_name(name, self.family) for name in (rows.SENDERS, rows.SERVICES))
        answered = f"-m set --match-set {services} src -m conntrack --ctdir REPLY -j DROP"
        known, *invalid = _known_flows(gates)
        return {
            ("filter", "fl-OUTPUT"): [
                *(f"-o {name} {answered}" for name in names if gates.to_host == "Drop"),
                "-m addrtype --src-type LOCAL -j RETURN",
                *(rule.replace("-j ACCEPT", "-j RETURN") for rule in (*_discovery(self.family), known)),
                *invalid,
                clears(everything),
                f"-m set --match-set {senders} src -j fl-from-pod-to-service",
                *(f"-o {name} -j fl-to-workload" for name in names),
            ],
            ("filter", "fl-from-pod-to-service"): [
                *_pod_guard(gates),
                f"-g {PREFIX}{rows.FROM_SENDERS.name}",
            ],
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
    yield from (f"-i {name} -s {net} -j RETURN" for name, nets in gates.spoofers for net in nets)
    if family == 6:  # never forwarded
        yield "-s fe80::/10 -j RETURN"
        yield "-s ::/128 -j RETURN"
    yield f"-m set ! --match-set {set_name(rows.OWN_ADDRESSES, family)} src,src -j DROP"
    if gates.reverse_path:
        yield "-m rpfilter --validmark --invert -j DROP"
    if isinstance(gates, ServiceGates):
        yield from (f"-i {name} -j RETURN" for name in gates.without_mac)
        yield f"-m set ! --match-set {set_name(rows.OWN_MACS, family)} src,src -j DROP"


def _tunnel_guard(gates: Gates, family: int) -> Iterator[str]:
    known = f"-m set --match-set {set_name(rows.ALL_HOSTS, family)} src -m addrtype --dst-type LOCAL -j ACCEPT"
    names = [f"{prefix}+" for prefix in gates.interfaces]  # pods, whatever source they may take
    if gates.ipip and family == 4:
        yield from (f"-i {name} -p 4 -j DROP" for name in names)
        yield f"-p 4 {known}"
        yield "-p 4 -j DROP"
    if gates.vxlan:
        yield from (
            f"-i {n} -p 17 -m udp --dport {gates.vxlan_port} -m addrtype --dst-type LOCAL -j DROP" for n in names
        )
        yield f"-p 17 -m udp --dport {gates.vxlan_port} {known}"
        yield f"-p 17 -m udp --dport {gates.vxlan_port} -m addrtype --dst-type LOCAL -j DROP"


def _to_a_service(family: int) -> Iterator[str]:
    """IPVS takes it behind this chain, when the rules of others have seen it."""
    own, services = (set_name(name, family) for name in (rows.OWN_ADDRESSES, rows.SERVICES))
    yield f"-m set --match-set {own} src,src -m set --match-set {services} dst -j RETURN"


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
    if nat.keep_inside:  # who calls himself by a service is not meant
        yield f"-m set --match-set {set_name(rows.OWN_ADDRESSES, family)} src,dst -j RETURN"
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
    if key == rows.FROM_SENDERS:
        rules = [f"-s {address} -g {PREFIX}{target}" for address, target in sorted(dispatch.chains)]
        return {("filter", PREFIX + key.name): [*rules, "-j DROP"]}
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
    """The lines that append the rules, numbered in their comments."""
    comment, number = f'-m comment --comment "fl{RENDERING}:{digest}:', 0
    found: Chains = {}
    last = None
    for where, rules in chains.items():
        start = f"-A {where[1]} {comment}"
        found[where] = [f'{start}{at}" {rule}' for at, rule in enumerate(rules, number)]
        number += len(rules)
        last = where if rules else last
    if last:
        found[last][-1] = f'-A {last[1]} {comment}{number - 1}." {chains[last][-1]}'
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
        for (where, _), rules in chains.items():
            if where == table:
                lines += rules
        lines += [hook for where, hook in hooks if where == table]
        lines += [f"-X {chain}" for where, chain in removed if where == table]
        lines.append("COMMIT")
    return "\n".join([*lines, ""])
