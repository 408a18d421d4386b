"""Random worlds of policies over a fixed set of pods, and the packets that tell them apart.

Everything is drawn from a `random.Random`, which may be hypothesis' own (`st.randoms()`), so that a failure shrinks.
The vocabulary is small on purpose: few labels, nets and ports, so that rules meet packets often.
"""

from dataclasses import replace
from random import Random
from typing import Any

from felixlite.addresses import Prefix
from felixlite.model.inside import NamedPort, Workload
from felixlite.model.policy import (
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    Action,
    Backend,
    Direction,
    EntityRule,
    Icmp,
    NetworkSet,
    Policy,
    PolicyRule,
    Port,
    PortRange,
    Profile,
    Service,
    ServiceAccounts,
    ServiceRef,
    Tier,
    namespace_profile,
    service_account_profile,
)
from felixlite.model.selector import Selector, parse
from felixlite.policy import kubernetes
from felixlite.policy.evaluate import Packet
from felixlite.policy.inputs import Inputs

NAMESPACES = ("red", "blue")
PORTS = (80, 81, 443)
SOURCE_PORTS = (1000, 2000)
SELECTORS = (
    "all()",
    "app == 'a'",
    "app != 'a'",
    "app in {'a', 'b'}",
    "app not in {'b'}",
    "has(tier)",
    "!has(tier)",
    "tier == 'front' || app == 'c'",
    "app starts with 'a'",
    "pcns.team == 'x'",
    "!(app == 'b' && has(tier))",
    "nobody == 'has this'",
)
NAMESPACE_SELECTORS = ("all()", "global()", "team == 'x'", "has(team)", "projectcalico.org/name == 'blue'")
NETS4 = ("10.65.0.0/30", "10.65.0.4/31", "10.65.0.1/32", "10.65.0.0/16", "0.0.0.0/0", "192.0.2.0/24")
NETS6 = ("fd00::/126", "fd00::4/127", "fd00::2", "::/0", "2001:db8::/32")


def pods() -> list[Workload]:
    """Six pods in two namespaces; their labels are drawn anew for every world."""
    return [
        Workload(
            name=f"p{n}",
            namespace=NAMESPACES[n % 2],
            node="here",
            interface=f"cali{n}",
            addresses=(Prefix.parse(f"10.65.0.{n}"), Prefix.parse(f"fd00::{n}")),
            mac=f"02:00:00:00:00:0{n}",
            pod=f"p{n}",
        )
        for n in range(1, 7)
    ]


def world(random: Random, base: list[Workload]) -> Inputs:
    workloads = [_dressed(random, workload) for workload in base]
    local = {(w.namespace, w.name): w for w in workloads}
    policies = [_policy(random, number) for number in range(random.randint(1, 5))]
    policies += [of_kubernetes(random, number) for number in range(random.choice((0, 0, 1, 2)))]
    tiers = {name: Tier(name, random.choice((None, 1.0, 5e6)), _tier_end(random)) for name in ("early", "late")}
    profiles = [
        namespace_profile("red", {"team": "x"}),
        namespace_profile("blue", {"team": random.choice("xy")} if random.random() < 0.5 else {}),
        service_account_profile("red", "robot", {"role": "admin"}),
        Profile("custom", tuple(_rules(random, "", Direction.INGRESS)), tuple(_rules(random, "", Direction.EGRESS))),
    ]
    return Inputs(
        local_workloads=local,
        policies={(p.kind, p.namespace, p.name): p for p in policies},
        tiers=tiers,
        network_sets={(s.namespace, s.name): s for s in _network_sets(random)},
        profiles={profile.name: profile for profile in profiles},
        services={("red", "svc"): _service(random, workloads)},
    )


def packets(base: list[Workload]) -> list[Packet]:
    """All pairs, both families, every protocol that rules speak of."""
    found = []
    for source in base:
        for destination in base:
            for ours, theirs in zip(source.addresses, destination.addresses, strict=True):
                if source is not destination:
                    found += _between(Packet(ours.first, theirs.first, 0))
    return found


def strays(random: Random, base: list[Workload], count: int = 20) -> list[Packet]:
    """Packets between pods with ports of all kinds."""
    found = []
    for _ in range(count):
        source, destination = random.sample(base, 2)
        ours, theirs = random.choice(list(zip(source.addresses, destination.addresses, strict=True)))
        ports = random.choice((*SOURCE_PORTS, 1, 1500, 65535)), random.choice((*PORTS, 1, 79, 82, 442, 8080, 65535))
        found.append(Packet(ours.first, theirs.first, random.choice((TCP, UDP, SCTP)), *ports))
    return list(dict.fromkeys(found))


def _between(packet: Packet) -> list[Packet]:
    icmp, echo = (ICMP, 8) if packet.family == 4 else (ICMPV6, 128)
    return [
        *(replace(packet, protocol=TCP, source_port=1000, port=port) for port in PORTS),
        *(replace(packet, protocol=UDP, source_port=port, port=80) for port in SOURCE_PORTS),
        replace(packet, protocol=SCTP, source_port=1000, port=80),
        replace(packet, protocol=icmp, icmp_type=echo),
        replace(packet, protocol=icmp, icmp_type=echo, icmp_code=1),
    ]


def _dressed(random: Random, workload: Workload) -> Workload:
    labels = {"app": random.choice("abc")}
    if random.random() < 0.5:
        labels["tier"] = random.choice(("front", "back"))
    labels |= _forged(random)
    names = [("web", "TCP", 80), ("web", "UDP", 80), ("alt", "TCP", 81), ("web", "TCP", 443)]
    profiles = (f"kns.{workload.namespace}", *(["custom"] if random.random() < 0.2 else []))
    robot = workload.namespace == "red" and random.random() < 0.5
    if random.random() < 0.1:
        profiles = random.choice((("nosuch", *profiles), (*profiles, "nosuch"), ("nosuch",), ()))
    return replace(
        workload,
        pod=workload.pod if random.random() < 0.9 else "",
        labels=labels,
        ports=tuple(NamedPort(*name) for name in random.sample(names, random.randint(0, 2))),
        profiles=("custom",) if random.random() < 0.15 else (*profiles, *(["ksa.red.robot"] if robot else [])),
        service_account="robot" if robot else "",
    )


def _forged(random: Random) -> dict[str, str]:
    """Own labels that say where something belongs, which is not for them to say."""
    if random.random() < 0.8:
        return {}
    names = {
        "pcns.team": random.choice("xyz"),
        "pcns.projectcalico.org/name": random.choice(NAMESPACES),
        "pcsa.role": "admin",
        "projectcalico.org/namespace": random.choice(NAMESPACES),
        "projectcalico.org/serviceaccount": "robot",
        "projectcalico.org/orchestrator": random.choice(("k8s", "cni")),
    }
    return {name: names[name] for name in random.sample(sorted(names), random.randint(1, len(names)))}


def _policy(random: Random, number: int) -> Policy:
    namespace = random.choice((*NAMESPACES, ""))
    types = random.choice((frozenset(Direction), frozenset({Direction.INGRESS}), frozenset({Direction.EGRESS})))
    return Policy(
        kind="NetworkPolicy" if namespace else "GlobalNetworkPolicy",
        name=f"n{number}",
        namespace=namespace,
        tier=random.choice(("default", "default", "early", "late", "missing")),
        order=random.choice((None, 1.0, 2.0)),
        selector=_selector(random),
        namespace_selector=None
        if namespace or random.random() < 0.7
        else parse(random.choice(NAMESPACE_SELECTORS[2:])),
        service_account_selector=parse("role == 'admin'") if random.random() < 0.1 else None,
        types=types,
        ingress=tuple(_rules(random, namespace, Direction.INGRESS)),
        egress=tuple(_rules(random, namespace, Direction.EGRESS)),
    )


def of_kubernetes(random: Random, number: int) -> Policy:
    types = random.choice((["Ingress"], ["Egress"], ["Ingress", "Egress"]))
    rules = {
        direction: [
            {
                far: [_peer(random) for _ in range(random.randint(0, 2))],
                "ports": random.choice(([], [], [{"port": 80}], [{"protocol": "UDP"}, {"port": "web"}])),
            }
            for _ in range(random.randint(0, 2))
        ]
        for direction, far in (("ingress", "from"), ("egress", "to"))
        if direction.title() in types
    }
    metadata = {"name": f"k{number}", "namespace": random.choice(NAMESPACES)}
    return kubernetes.policy(
        {"metadata": metadata, "spec": {"podSelector": _labels(random), "policyTypes": types, **rules}}
    )


def _peer(random: Random) -> dict[str, Any]:
    pods, namespaces = {"podSelector": _labels(random)}, {"namespaceSelector": _labels(random, "team", "xy")}
    return random.choice((pods, namespaces, {**pods, **namespaces}, {"ipBlock": {"cidr": random.choice(NETS4)}}))


def _labels(random: Random, key: str = "app", values: str = "abc") -> dict[str, Any]:
    """A label selector of Kubernetes."""
    value, expression = random.choice(values), {"key": key, "operator": random.choice(("Exists", "DoesNotExist"))}
    among = {"key": key, "operator": random.choice(("In", "NotIn")), "values": [value]}
    return random.choice(
        ({}, {"matchLabels": {key: value}}, {"matchExpressions": [random.choice((expression, among))]})
    )


def _rules(random: Random, namespace: str, direction: Direction) -> list[PolicyRule]:
    return [_rule(random, namespace, direction) for _ in range(random.randint(0, 3))]


def _rule(random: Random, namespace: str, direction: Direction) -> PolicyRule:
    protocol = random.choice((None, None, TCP, TCP, UDP, SCTP, ICMP, ICMPV6))
    found = PolicyRule(
        action=random.choice((Action.ALLOW, Action.ALLOW, Action.DENY, Action.PASS, Action.LOG)),
        family=random.choice((None, None, None, 4, 6)),
        protocol=protocol,
        not_protocol=random.choice((TCP, UDP)) if protocol is None and random.random() < 0.2 else None,
        source=_side(random, protocol),
        destination=_side(random, protocol),
    )
    if protocol in (ICMP, ICMPV6) and random.random() < 0.7:
        echo = 8 if protocol == ICMP else 128
        field = random.choice(("icmp", "not_icmp"))
        found = replace(found, **{field: random.choice((Icmp(), *(Icmp(echo, code) for code in (None, 0, 1))))})
    if random.random() < 0.1:
        side = EntityRule(service=ServiceRef("svc", "red"))
        found = replace(found, **({"source": side} if direction is Direction.INGRESS else {"destination": side}))
    return found


def _side(random: Random, protocol: int | None) -> EntityRule:
    def maybe(chance: float) -> bool:
        return random.random() < chance

    with_ports = protocol in (TCP, UDP, SCTP)
    accounts = ServiceAccounts(("robot",) if maybe(0.5) else (), parse("role == 'admin'") if maybe(0.5) else None)
    return EntityRule(
        nets=_nets(random) if maybe(0.2) else (),
        not_nets=tuple(net for net in _nets(random) if net.length) if maybe(0.15) else (),
        selector=_selector(random) if maybe(0.4) else None,
        not_selector=_selector(random) if maybe(0.15) else None,
        namespace_selector=parse(random.choice(NAMESPACE_SELECTORS)) if maybe(0.2) else None,
        service_accounts=accounts if maybe(0.1) else None,
        ports=_ports(random) if with_ports and maybe(0.3) else (),
        not_ports=_ports(random) if with_ports and maybe(0.15) else (),
    )


def _selector(random: Random) -> Selector:
    return parse(random.choice(SELECTORS))


def _nets(random: Random) -> tuple[Prefix, ...]:
    """Of one family, as the reference wants it."""
    return tuple(Prefix.parse(net) for net in random.sample(random.choice((NETS4, NETS6)), random.randint(1, 3)))


def _ports(random: Random) -> tuple[Port, ...]:
    choices: list[Port] = [
        PortRange(80, 80),
        PortRange(80, 81),
        PortRange(1000, 2000),
        PortRange(443, 443),
        "web",
        "alt",
    ]
    return tuple(random.sample(choices, random.randint(1, 3)))


def _tier_end(random: Random) -> Action:
    return random.choice((Action.DENY, Action.PASS))


def _network_sets(random: Random) -> list[NetworkSet]:
    return [
        NetworkSet(
            f"s{number}",
            random.choice((*NAMESPACES, "")),
            (*_nets(random), *_nets(random)),
            {"app": random.choice("abc"), **_forged(random)},
        )
        for number in range(random.randint(0, 2))
    ]


def _service(random: Random, workloads: list[Workload]) -> Service:
    behind = random.sample(workloads, 2)
    return Service(
        "svc", "red", tuple(Backend(net.first, TCP, random.choice(PORTS)) for w in behind for net in w.addresses)
    )
