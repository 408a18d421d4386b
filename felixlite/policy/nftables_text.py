"""How nftables spells the policy rows, chains and sets as text. Pure; nftables.py runs it.

One table `felixlite` per family.  Where iptables needs marks, two base chains in the same hook do: `accept` ends only
the chain that hangs in the hook, so what comes from a workload is judged in forward-from, what goes to one in
forward-to, and a packet between two local pods passes both.  Dispatch is a verdict map by interface name; an interface
with our prefix that is not in the map is dropped.  Only a policy that may Pass needs a mark, one bit of the mask.

Every rule of a row carries the row's digest and its number in the comment, the last one a full stop:
`fl:Xy..:0`, `fl:Xy..:1.`; a rule that is missing, added or foreign breaks the series.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import assert_never, cast

from felixlite.addresses import Prefix, first_texts
from felixlite.model.policy import Action
from felixlite.policy import rows
from felixlite.policy.members import disjoint
from felixlite.policy.nftables_match import IP, choice, match_text
from felixlite.policy.rows import (
    Chained,
    EndpointChain,
    Gates,
    Key,
    Log,
    Member,
    Nat,
    PolicyChain,
    ServiceGates,
    SetKind,
)

TABLE = "felixlite"
RENDERING = "5"  # raise when the text of any row changes; it is part of the comments
DENY = "deny"
NEIGHBOUR_DISCOVERY = "{ 130, 131, 132, 133, 135, 136 }"  # all but 134: a pod sends no router advertisements

ADDRESS_TYPE = {4: "ipv4_addr", 6: "ipv6_addr"}


@dataclass(slots=True)
class ChainText:
    rules: list[str] = field(default_factory=list)
    base: str = ""  # type, hook and priority of a chain that hangs in a hook


Chains = dict[str, ChainText]


def family_name(family: int) -> str:
    return IP[family]


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
        case "mac,ip":
            return f"type ether_addr . {address};"
        case _:
            assert_never(kind)


def map_declaration(name: str, family: int) -> str:
    return f"type {ADDRESS_TYPE[family] if name == rows.FROM_SENDERS.name else 'ifname'} : verdict;"


def element(member: Member) -> str:
    if isinstance(member, Prefix):
        return rows.host_or_net(member)
    if len(member) == 2:
        owner, own = member
        return f'"{owner}" . {own.first_text}'
    host, protocol, port = member
    return f"{host.first_text} . {protocol} . {port}"


def elements(kind: SetKind, members: Iterable[Member]) -> str:
    if kind == "ip":  # there may be ten thousand
        return ", ".join(first_texts(cast("Iterable[Prefix]", members)))
    return ", ".join(map(element, members))


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
    behind_ipvs = gates if isinstance(gates, ServiceGates) else None
    own_source = f"iifname . {IP[family]} saddr != @{rows.OWN_ADDRESSES} counter drop"
    strict = ["fib saddr . mark . iif oif 0 counter drop"] if gates.reverse_path else []
    return {
        "raw-prerouting": ChainText(
            [f"iifname {name} goto own-source" for name in prefixes], "type filter hook prerouting priority raw;"
        ),
        "own-source": ChainText(
            [
                *_spoofers(gates, family),
                *(["ip6 saddr { ::, fe80::/10 } return"] if family == 6 else []),  # never forwarded
                own_source,
                *strict,
                *(_own_mac(behind_ipvs, family) if behind_ipvs else []),
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
                *([_to_a_service(family)] if behind_ipvs else []),
                *(f"iifname {n} goto from-workload" for n in prefixes),
            ],
            "type filter hook input priority filter - 10;",
        ),
        "input-host": ChainText(
            [
                *([_to_a_service(family)] if behind_ipvs else []),
                *(f"iifname {name} goto to-host" for name in prefixes),
            ],
            "type filter hook input priority filter - 9;",
        ),
        **(_behind_ipvs(gates, family, prefixes) if behind_ipvs else {}),
        "from-workload": ChainText(
            [*_known_flows(gates), *_pod_guard(gates), "iifname vmap @from-workload", "counter drop"]
        ),
        "to-workload": ChainText([*_known_flows(gates), "oifname vmap @to-workload", "counter drop"]),
        "to-host": ChainText(["ct state established,related accept", *_discovery(family), _TO_HOST[gates.to_host]]),
        DENY: ChainText([gates.deny.lower()]),
    }


def _own_mac(gates: ServiceGates, family: int) -> Iterator[str]:
    yield from (f'iifname "{name}" return' for name in gates.without_mac)
    yield f"ether saddr . {IP[family]} saddr != @{rows.OWN_MACS} counter drop"


def _to_a_service(family: int) -> str:
    """Wait what IPVS does with it (it takes packets at priority 99 of the input hook)."""
    ip = IP[family]
    return f"iifname . {ip} saddr @{rows.OWN_ADDRESSES} ct original {ip} daddr @{rows.SERVICES} accept"


def _behind_ipvs(gates: Gates, family: int, prefixes: list[str]) -> Chains:
    """What IPVS left alone, or gave to a process of the node, is for the node. What it sends on passes the output hook:
    the only packets there whose source is not an address of this node."""
    ip = IP[family]
    others = f"ct original {ip} daddr != @{rows.SERVICES} accept"  # they were judged before
    hosts_own = ["fib saddr type local accept", *_discovery(family)]
    return {
        "input-late-from": ChainText(
            [others, *(f"iifname {name} goto from-workload" for name in prefixes)],
            "type filter hook input priority 110;",
        ),
        "input-late-host": ChainText(
            [others, *(f"iifname {name} goto to-host" for name in prefixes)], "type filter hook input priority 111;"
        ),
        "output-from": ChainText(
            [
                *hosts_own,
                *_known_flows(gates),
                *(f"{ip} saddr @{rows.SENDERS} {guard}" for guard in _pod_guard(gates)),
                f"{ip} saddr vmap @{rows.FROM_SENDERS.name}",
                f"{ip} saddr @{rows.SENDERS} counter drop",
            ],
            "type filter hook output priority filter - 10;",
        ),
        "output-to": ChainText(
            [*hosts_own, *(f"oifname {name} goto to-workload" for name in prefixes)],
            "type filter hook output priority filter - 9;",
        ),
    }


def _spoofers(gates: Gates, family: int) -> Iterator[str]:
    for name, nets in gates.spoofers:
        source = f"{IP[family]} saddr {choice(map(rows.host_or_net, nets))} " if nets[0].length else ""
        yield f'iifname "{name}" {source}return'


_TO_HOST = {"Drop": "counter drop", "Accept": "accept", "Return": "return"}


def _known_flows(gates: Gates) -> list[str]:
    return ["ct state established,related accept", *(["ct state invalid counter drop"] if gates.check_invalid else [])]


def _pod_guard(gates: Gates) -> list[str]:
    """No encapsulated packets out of a pod: who may send them speaks with the voice of a node."""
    found = [] if gates.pods_may_vxlan else [f"udp dport {gates.vxlan_port} counter drop"]
    return found if gates.pods_may_ipip else [*found, "meta l4proto 4 counter drop"]


def _tunnel_guard(gates: Gates, family: int) -> Iterator[str]:
    """Tunnel packets only from hosts that we know, and only to ourselves."""
    pods = "".join(f'iifname != "{prefix}*" ' for prefix in gates.interfaces)  # whatever source they may take
    known = f"{pods}{IP[family]} saddr @{rows.ALL_HOSTS} fib daddr type local accept"
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
    nets = choice(map(rows.host_or_net, disjoint(gates.service_nets)))
    return [f"{IP[family]} daddr {nets} counter {gates.service_loop.lower()}"]


def nat_chains(nat: Nat, family: int) -> Chains:
    return {
        "nat-postrouting": ChainText(list(_nat_rules(nat, family)), "type nat hook postrouting priority srcnat - 5;")
    }


def _nat_rules(nat: Nat, family: int) -> Iterator[str]:
    ip = IP[family]
    for tunnel in nat.tunnels:
        host = f'oifname "{tunnel.link}" {ip} saddr != {tunnel.address} fib saddr type local'
        yield f"{host} snat to {tunnel.address}{_random(nat)}"
    if nat.keep_inside:  # a mapping to itself: NAT chains that come later leave the connection alone
        yield f"oifname . {ip} saddr @{rows.OWN_ADDRESSES} return"  # who calls himself by a service is not meant
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
