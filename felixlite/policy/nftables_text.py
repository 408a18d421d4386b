"""How nftables spells the policy rows, chains and sets as text. Pure; nftables.py runs it.

One table `felixlite` per family.  Where iptables needs marks, two base chains in the same hook do: `accept` ends only
the chain that hangs in the hook, so what comes from a workload is judged in forward-from, what goes to one in
forward-to, and a packet between two local pods passes both.  Dispatch is a verdict map by interface name; an interface
with our prefix that is not in the map is dropped.  Only a policy that may Pass needs a mark, one bit of the mask.

Every rule of a row carries the row's digest and its number in the comment, the last one a full stop:
`fl:Xy..:0`, `fl:Xy..:1.`; a rule that is missing, added or foreign breaks the series.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import assert_never, cast

from felixlite.addresses import Prefix, first_texts
from felixlite.model.policy import ICMP, ICMPV6, PROTOCOL_NAMES, Action, PortRange
from felixlite.policy import rows
from felixlite.policy.members import disjoint
from felixlite.policy.rows import (
    Chained,
    EndpointChain,
    Gates,
    Key,
    Log,
    Match,
    Member,
    Nat,
    PolicyChain,
    SetKind,
    Side,
)

TABLE = "felixlite"
RENDERING = "3"  # raise when the text of any row changes; it is part of the comments
DENY = "deny"
NEIGHBOUR_DISCOVERY = "{ 130, 131, 132, 133, 135, 136 }"  # all but 134: a pod sends no router advertisements

_IP = {4: "ip", 6: "ip6"}
ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


@dataclass(slots=True)
class ChainText:
    rules: list[str] = field(default_factory=list)
    base: str = ""  # type, hook and priority of a chain that hangs in a hook


Chains = dict[str, ChainText]


def family_name(family: int) -> str:
    return _IP[family]


# -- sets ------------------------------------------------------------------------------------------------------------


def set_declaration(kind: SetKind, family: int) -> str:
    address = ADDRESS_TYPE[family]
    match kind:
        case "ip":
            return f"type {address};"
        case "net":
            return f"type {address}; flags interval;"
        case "ip,port":
            return f"type {address} . inet_proto . inet_service;"
        case "iface,ip":
            return f"type ifname . {address};"
        case _:
            assert_never(kind)


def element(member: Member) -> str:
    if isinstance(member, Prefix):
        return rows.host_or_net(member)
    if len(member) == 2:
        interface, own = member
        return f'"{interface}" . {own.first_text}'
    host, protocol, port = member
    return f"{host.first_text} . {protocol} . {port}"


def elements(kind: SetKind, members: Iterable[Member]) -> str:
    if kind == "ip":  # there may be ten thousand
        return ", ".join(first_texts(cast("Iterable[Prefix]", members)))
    return ", ".join(map(element, members))


# -- matches ---------------------------------------------------------------------------------------------------------


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
    subject = f"{_IP[family]} {field_name}"
    if side.nets and all(net.length for net in side.nets):
        yield f"{subject} {_choice(map(rows.host_or_net, disjoint(side.nets)))}"
    if side.not_nets:
        yield f"{subject} != {_choice(map(rows.host_or_net, disjoint(side.not_nets)))}"
    yield from (f"{subject} @{name}" for name in side.sets)
    yield from (f"{subject} != @{name}" for name in side.not_sets)


def _port_words(side: Side, protocol: int | None, family: int, address: str, port: str) -> Iterator[str]:
    header = _protocol(protocol) if protocol in PROTOCOL_NAMES else "th"
    if side.ports:
        yield f"{header} {port} {_choice(map(str, merged(side.ports)))}"
    if side.not_ports:
        yield f"{header} {port} != {_choice(map(str, merged(side.not_ports)))}"
    subject = f"{_IP[family]} {address} . meta l4proto . th {port}"
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


def _choice(items: Iterable[str]) -> str:
    found = list(items)
    return found[0] if len(found) == 1 else "{ " + ", ".join(found) + " }"


# -- chains ----------------------------------------------------------------------------------------------------------


class Spelling:
    """The rules of the rows of one family; what depends on the gates (the mark) is read from them."""

    def __init__(self, family: int, mark_mask: int = 0xFFFF0000) -> None:
        self.family = family
        self.passing = mark_mask & -mark_mask  # its lowest bit
        self.set_passing = f"meta mark set meta mark | {self.passing:#x}"
        self.clear_passing = f"meta mark set meta mark & {0xFFFFFFFF ^ self.passing:#x}"
        self.is_passing = f"meta mark & {self.passing:#x} != 0"
        self.verdicts: Mapping[Action, str] = {  # of all but LOG
            Action.ALLOW: "counter accept",
            Action.DENY: f"counter goto {DENY}",
            Action.PASS: f"counter {self.set_passing} return",
        }

    def chains(self, key: Key, row: Chained) -> Chains:
        """The chains that the row becomes, every rule with its comment."""
        body = row.body
        match body:
            case PolicyChain():
                found = {key.name: ChainText(list(self._policy(body)))}
            case EndpointChain():
                found = self._endpoint(key.name, body)
            case Gates():
                found = gate_chains(body, self.family)
            case Nat():
                found = nat_chains(body, self.family)
            case None:
                raise TypeError(f"{key} was read, not planned")
            case _:
                assert_never(body)
        commented(found, row.digest)
        return found

    def _policy(self, chain: PolicyChain) -> Iterator[str]:
        for match, action, log, _ in chain.rules:
            words, verdict = match_text(match, self.family), self.verdicts.get(action) or _logged(log or Log())
            yield f"{words} {verdict}" if words else verdict
        if not chain.rules:
            yield "return"

    def _endpoint(self, name: str, endpoint: EndpointChain) -> Chains:
        """A tier that may Pass is followed by a chain of its own (`name/2`), to which Pass jumps."""
        current = ChainText()
        found = {name: current}
        if endpoint.mac:
            current.rules.append(f"ether saddr != {endpoint.mac.lower()} counter drop")
        for tier in endpoint.tiers:
            passes = any(step.may_pass for step in tier.policies)
            behind = f"{name}/{len(found) + 1}"
            if passes:
                current.rules.append(self.clear_passing)
            for step in tier.policies:
                current.rules.append(f"jump {step.chain}")
                if step.may_pass:
                    current.rules.append(f"{self.is_passing} goto {behind}")
            if tier.end is Action.DENY:
                current.rules.append(f"counter goto {DENY}")
            elif passes:
                current.rules.append(f"goto {behind}")
            if passes:
                current = found[behind] = ChainText()
            elif tier.end is Action.DENY:
                return found  # nothing gets past here
        current.rules += [f"jump {profile}" for profile in endpoint.profiles]
        current.rules.append(f"counter goto {DENY}")
        return found


def _logged(log: Log) -> str:
    limit = f"limit rate {log.rate} burst {log.burst} packets " if log.rate else ""
    return f'{limit}counter log prefix "{log.prefix[:_LONGEST_PREFIX]}: " level notice'


_LONGEST_PREFIX = 125  # NF_LOG_PREFIXLEN is 128, with ": " and the end


def gate_chains(gates: Gates, family: int) -> Chains:
    """The chains in the hooks, in the order in which a packet meets them."""
    prefixes = [f'"{prefix}*"' for prefix in gates.interfaces]
    own_source = f"iifname . {_IP[family]} saddr != @{rows.OWN_ADDRESSES} counter drop"
    strict = ["fib saddr . mark . iif oif 0 counter drop"] if gates.reverse_path else []
    return {
        "raw-prerouting": ChainText(
            [f"iifname {name} goto own-source" for name in prefixes], "type filter hook prerouting priority raw;"
        ),
        "own-source": ChainText(
            [
                *(f'iifname "{name}" return' for name in gates.spoofers),
                *(["ip6 saddr { ::, fe80::/10 } return"] if family == 6 else []),  # never forwarded
                own_source,
                *strict,
            ]
        ),
        "forward-from": ChainText(
            [f"iifname {name} goto from-workload" for name in prefixes],
            "type filter hook forward priority filter - 10;",
        ),
        "forward-to": ChainText(
            [*_service_loop(gates, family), *(f"oifname {name} goto to-workload" for name in prefixes)],
            "type filter hook forward priority filter - 9;",
        ),
        "input-from": ChainText(
            [
                *_tunnel_guard(gates, family),
                *_discovery(family),
                *(f"iifname {n} goto from-workload" for n in prefixes),
            ],
            "type filter hook input priority filter - 10;",
        ),
        "input-host": ChainText(
            [f"iifname {name} goto to-host" for name in prefixes], "type filter hook input priority filter - 9;"
        ),
        "from-workload": ChainText(
            [*_known_flows(gates), *_pod_guard(gates), "iifname vmap @from-workload", "counter drop"]
        ),
        "to-workload": ChainText([*_known_flows(gates), "oifname vmap @to-workload", "counter drop"]),
        "to-host": ChainText(["ct state established,related accept", *_discovery(family), _TO_HOST[gates.to_host]]),
        DENY: ChainText([gates.deny.lower()]),
    }


_TO_HOST = {"Drop": "counter drop", "Accept": "accept", "Return": "return"}


def _known_flows(gates: Gates) -> list[str]:
    return ["ct state established,related accept", *(["ct state invalid counter drop"] if gates.check_invalid else [])]


def _pod_guard(gates: Gates) -> list[str]:
    """No encapsulated packets out of a pod: who may send them speaks with the voice of a node."""
    found = [] if gates.pods_may_vxlan else [f"udp dport {gates.vxlan_port} counter drop"]
    return found if gates.pods_may_ipip else [*found, "meta l4proto 4 counter drop"]


def _tunnel_guard(gates: Gates, family: int) -> Iterator[str]:
    """Tunnel packets only from hosts that we know, and only to ourselves."""
    known = f"{_IP[family]} saddr @{rows.ALL_HOSTS} fib daddr type local accept"
    if gates.ipip and family == 4:
        yield f"ip protocol 4 {known}"
        yield "ip protocol 4 counter drop"
    if gates.vxlan:
        yield f"udp dport {gates.vxlan_port} {known}"
        yield f"udp dport {gates.vxlan_port} fib daddr type local counter drop"


def _discovery(family: int) -> list[str]:
    return [f"icmpv6 type {NEIGHBOUR_DISCOVERY} accept"] if family == 6 else []


def _service_loop(gates: Gates, family: int) -> list[str]:
    """A service address that still stands in a forwarded packet belongs to nobody: it would travel in a circle."""
    if gates.service_loop == "Disabled" or not gates.service_nets:
        return []
    nets = _choice(map(rows.host_or_net, disjoint(gates.service_nets)))
    return [f"{_IP[family]} daddr {nets} counter {gates.service_loop.lower()}"]


def nat_chains(nat: Nat, family: int) -> Chains:
    return {
        "nat-postrouting": ChainText(list(_nat_rules(nat, family)), "type nat hook postrouting priority srcnat - 5;")
    }


def _nat_rules(nat: Nat, family: int) -> Iterator[str]:
    ip = _IP[family]
    for tunnel in nat.tunnels:
        host = f'oifname "{tunnel.link}" {ip} saddr != {tunnel.address} fib saddr type local'
        yield f"{host} snat to {tunnel.address}{_random(nat)}"
    if nat.keep_inside:  # a mapping to itself: NAT chains that come later leave the connection alone
        yield f"{ip} saddr @{rows.INSIDE} {ip} daddr @{rows.INSIDE} snat to {ip} saddr"
    if nat.outgoing:
        interface = f'oifname "{nat.out_interfaces.replace("+", "*")}" ' if nat.out_interfaces else ""
        leaving = f"{interface}{ip} saddr @{rows.MASQUERADED} {ip} daddr != @{rows.INSIDE}"
        action = f"snat to {nat.to_address}" if nat.to_address else "masquerade"
        if nat.ports:
            to = f":{nat.ports[0]}-{nat.ports[1]}"
            ported = f"{action}{to}" if nat.to_address else f"{action} to {to}"
            yield f"{leaving} meta l4proto {{ tcp, udp }} {ported}{_random(nat)}"
        yield f"{leaving} {action}{_random(nat)}"
    if not (nat.tunnels or nat.keep_inside or nat.outgoing):
        yield "return"


def _random(nat: Nat) -> str:
    return " fully-random" if nat.random_fully else ""


# -- what we have written: comments ------------------------------------------------------------------------------------


def commented(chains: Chains, digest: str) -> None:
    """Number the rules of a row in their comments."""
    comment, number = f' comment "fl{RENDERING}:{digest}:', 0
    last = None
    for chain in chains.values():
        chain.rules = [f'{rule}{comment}{at}"' for at, rule in enumerate(chain.rules, number)]
        number += len(chain.rules)
        last = chain if chain.rules else last
    if last:
        last.rules[-1] = f'{last.rules[-1][:-1]}."'
