"""What the documents of Kubernetes and Calico say about policy, as cases: policies, packets, and what becomes of them.

Five pods: a, b, c in namespace red (team x), d and e in blue (team y); `web` is port 80/TCP of a and d.  A probe reads
`b>a tcp/80`: from, to, protocol, port (udp, sctp; icmp alone is an echo request; `/6` at the end: over IPv6).
tests/unit/policy/test_truth.py asks the evaluator, tests/kernel/policy/test_truth.py real packets on every backend.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from felixlite.addresses import Prefix
from felixlite.model.inside import NamedPort, Workload
from felixlite.model.policy import (
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    Backend,
    Direction,
    Icmp,
    NetworkSet,
    Policy,
    Service,
    ServiceAccounts,
    ServiceRef,
    Tier,
    namespace_profile,
    service_account_profile,
)
from felixlite.model.selector import parse
from felixlite.policy import kubernetes
from felixlite.policy.evaluate import Packet
from felixlite.policy.inputs import Inputs
from tests.unit.policy.world import BOTH, entity, inputs, pod, policy, rule

EGRESS = frozenset({Direction.EGRESS})
WEB = (NamedPort("web", "TCP", 80),)


def _pods() -> list[Workload]:
    found = [
        pod("a", "10.65.0.1 fd00::1", namespace="red", app="a"),
        pod("b", "10.65.0.2 fd00::2", namespace="red", app="b"),
        pod("c", "10.65.0.3 fd00::3", namespace="red", app="c", tier="front"),
        pod("d", "10.65.0.4 fd00::4", namespace="blue", app="a"),
        pod("e", "10.65.0.5 fd00::5", namespace="blue", app="b"),
    ]
    accounts = {"b": "robot"}
    return [
        replace(
            workload,
            ports=WEB if workload.name in "ad" else (),
            service_account=accounts.get(workload.name, ""),
            profiles=(f"kns.{workload.namespace}", *(["ksa.red.robot"] if workload.name in accounts else [])),
        )
        for workload in found
    ]


PODS = _pods()
_BY_NAME = {workload.name: workload for workload in PODS}
PROFILES = {
    profile.name: profile
    for profile in (
        namespace_profile("red", {"team": "x"}),
        namespace_profile("blue", {"team": "y"}),
        service_account_profile("red", "robot", {"role": "worker"}),
    )
}


@dataclass(frozen=True)
class Scenario:
    title: str
    policies: tuple[Policy, ...]
    passes: str = ""
    denied: str = ""
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def inputs(self) -> Inputs:
        return inputs(PODS, self.policies, profiles=PROFILES, **self.more)

    @property
    def expected(self) -> dict[Packet, bool]:
        found = {packet(text): True for text in _split(self.passes)}
        return found | {packet(text): False for text in _split(self.denied)}


def _split(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def packet(text: str) -> Packet:
    ends, what = text.split(" ", 1)
    source, destination = ends.split(">")
    protocol, *rest = what.split("/")
    family = 1 if rest and rest[-1] == "6" else 0
    start, end = (_BY_NAME[name].addresses[family].first for name in (source, destination))
    if protocol == "icmp":
        return Packet(start, end, ICMPV6 if family else ICMP, icmp_type=128 if family else 8)
    number = {"tcp": TCP, "udp": UDP, "sctp": SCTP}[protocol]
    return Packet(start, end, number, 1000, int(rest[0]))


def k8s(spec: dict[str, Any], namespace: str = "red", name: str = "p") -> Policy:
    return kubernetes.policy({"metadata": {"name": name, "namespace": namespace}, "spec": spec})


def _from(*peers: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"from": list(peers), **({"ports": ports} if ports else {})}


ALL_PODS: dict[str, Any] = {"podSelector": {}}
POD_A = {"podSelector": {"matchLabels": {"app": "a"}}}
POD_B = {"podSelector": {"matchLabels": {"app": "b"}}}
TEAM_Y = {"namespaceSelector": {"matchLabels": {"team": "y"}}}


def _expressions(*expressions: dict[str, Any]) -> dict[str, Any]:
    return {"podSelector": {"matchExpressions": list(expressions)}}


KUBERNETES = [
    Scenario("without policy everything passes", (), "a>b tcp/80, b>a udp/53, d>a tcp/80, a>b icmp, a>d icmp/6"),
    Scenario(
        "default deny all ingress isolates every pod of the namespace for what comes in",
        (k8s({**ALL_PODS, "policyTypes": ["Ingress"]}),),
        "a>d tcp/80, d>e tcp/80",
        "b>a tcp/80, d>a tcp/80, b>a icmp, b>a udp/53/6",
    ),
    Scenario(
        "allow all ingress opens the isolated pods again",
        (k8s({**ALL_PODS, "policyTypes": ["Ingress"]}), k8s({**ALL_PODS, "ingress": [{}]}, name="open")),
        "b>a tcp/80, d>a udp/53, e>c icmp, d>a sctp/7",
    ),
    Scenario(
        "default deny all egress isolates every pod of the namespace for what goes out",
        (k8s({**ALL_PODS, "policyTypes": ["Egress"]}),),
        "d>a tcp/80, d>e tcp/80",
        "a>b tcp/80, a>d tcp/80, b>a icmp/6",
    ),
    Scenario(
        "allow all egress opens it again",
        (
            k8s({**ALL_PODS, "policyTypes": ["Egress"]}),
            k8s({**ALL_PODS, "policyTypes": ["Egress"], "egress": [{}]}, name="o"),
        ),
        "a>b tcp/80, a>d udp/53",
    ),
    Scenario(
        "default deny all of both directions",
        (k8s({**ALL_PODS, "policyTypes": ["Ingress", "Egress"]}),),
        "d>e tcp/80",
        "a>b tcp/80, a>d tcp/80, d>a tcp/80",
    ),
    Scenario(
        "policyTypes left out means ingress, although nothing is allowed",
        (k8s(ALL_PODS),),
        "a>d tcp/80",
        "b>a tcp/80",
    ),
    Scenario(
        "policyTypes left out with egress rules means both",
        (k8s({**POD_A, "egress": [{"to": [POD_B]}]}),),
        "a>b tcp/80",
        "a>c tcp/80, b>a tcp/80",
    ),
    Scenario(
        "a podSelector peer means pods of the policy's own namespace",
        (k8s({**POD_A, "ingress": [_from(POD_B)]}),),
        "b>a tcp/80, b>a udp/9",
        "c>a tcp/80, e>a tcp/80, d>a tcp/80",
    ),
    Scenario(
        "a namespaceSelector peer means all pods of such namespaces",
        (k8s({**POD_A, "ingress": [_from(TEAM_Y)]}),),
        "d>a tcp/80, e>a tcp/80",
        "b>a tcp/80",
    ),
    Scenario(
        "both selectors in one peer have to hold together",
        (k8s({**POD_A, "ingress": [_from({**TEAM_Y, **POD_B})]}),),
        "e>a tcp/80",
        "d>a tcp/80, b>a tcp/80",
    ),
    Scenario(
        "two peers are alternatives",
        (k8s({**POD_A, "ingress": [_from(TEAM_Y, POD_B)]}),),
        "e>a tcp/80, d>a tcp/80, b>a tcp/80",
        "c>a tcp/80",
    ),
    Scenario(
        "an empty namespaceSelector means all namespaces",
        (k8s({**POD_A, "ingress": [_from({"namespaceSelector": {}, **POD_B})]}),),
        "b>a tcp/80, e>a tcp/80",
        "c>a tcp/80, d>a tcp/80",
    ),
    Scenario(
        "an ipBlock without its exceptions",
        (k8s({**POD_A, "ingress": [_from({"ipBlock": {"cidr": "10.65.0.0/29", "except": ["10.65.0.2/31"]}})]}),),
        "d>a tcp/80, e>a tcp/80",
        "b>a tcp/80, c>a tcp/80, d>a tcp/80/6",
    ),
    Scenario(
        "an ipBlock of IPv6",
        (k8s({**POD_A, "ingress": [_from({"ipBlock": {"cidr": "fd00::/125", "except": ["fd00::2/128"]}})]}),),
        "c>a tcp/80/6",
        "b>a tcp/80/6, c>a tcp/80",
    ),
    Scenario(
        "a port means TCP unless it says otherwise",
        (k8s({**POD_A, "ingress": [{"ports": [{"port": 80}]}]}),),
        "b>a tcp/80, e>a tcp/80/6",
        "b>a tcp/81, b>a udp/80, b>a icmp",
    ),
    Scenario(
        "ports of several protocols",
        (k8s({**POD_A, "ingress": [{"ports": [{"port": 53, "protocol": "UDP"}, {"port": 7, "protocol": "SCTP"}]}]}),),
        "b>a udp/53, b>a sctp/7",
        "b>a tcp/53, b>a udp/7, b>a sctp/53",
    ),
    Scenario(
        "a protocol without a port is all of its ports",
        (k8s({**POD_A, "ingress": [{"ports": [{"protocol": "UDP"}]}]}),),
        "b>a udp/1, b>a udp/65535",
        "b>a tcp/80",
    ),
    Scenario(
        "endPort makes a range",
        (k8s({**POD_A, "ingress": [{"ports": [{"port": 8000, "endPort": 8010}]}]}),),
        "b>a tcp/8000, b>a tcp/8005, b>a tcp/8010",
        "b>a tcp/7999, b>a tcp/8011",
    ),
    Scenario(
        "a named port is whatever the pod calls so",
        (k8s({**ALL_PODS, "ingress": [{"ports": [{"port": "web"}]}]}),),
        "b>a tcp/80, b>a tcp/80/6",
        "a>b tcp/80, b>a tcp/81, b>a udp/80",
    ),
    Scenario(
        "a named port in egress is the destination's",
        (k8s({**POD_B, "policyTypes": ["Egress"], "egress": [{"ports": [{"port": "web"}]}]}),),
        "b>a tcp/80, b>d tcp/80",
        "b>c tcp/80, b>a tcp/443",
    ),
    Scenario(
        "peers and ports of one rule have to hold together",
        (k8s({**POD_A, "ingress": [_from(POD_B, ports=[{"port": 80}])]}),),
        "b>a tcp/80",
        "b>a tcp/81, c>a tcp/80",
    ),
    Scenario(
        "rules are alternatives",
        (k8s({**POD_A, "ingress": [_from(POD_B), {"ports": [{"port": 443}]}]}),),
        "b>a tcp/80, c>a tcp/443",
        "c>a tcp/80",
    ),
    Scenario(
        "policies add up",
        (k8s({**POD_A, "ingress": [_from(POD_B)]}), k8s({**POD_A, "ingress": [_from(TEAM_Y)]}, name="q")),
        "b>a tcp/80, e>a tcp/80",
        "c>a tcp/80",
    ),
    Scenario(
        "both ends have to agree",
        (
            k8s({**POD_B, "policyTypes": ["Egress"], "egress": [{"to": [POD_A]}]}),
            k8s({**POD_A, "ingress": [_from(POD_B)]}, name="q"),
        ),
        "b>a tcp/80",
        "b>c tcp/80, c>a tcp/80",
    ),
    Scenario(
        "In, NotIn, Exists and DoesNotExist",
        (
            k8s(
                {
                    **POD_A,
                    "ingress": [
                        _from(_expressions({"key": "app", "operator": "In", "values": ["b", "z"]})),
                        _from(_expressions({"key": "tier", "operator": "Exists"})),
                    ],
                }
            ),
            k8s({**_expressions({"key": "tier", "operator": "DoesNotExist"}), "policyTypes": ["Egress"]}, "blue", "q"),
        ),
        "b>a tcp/80, c>a tcp/80",
        "e>a tcp/80, d>b tcp/80",
    ),
    Scenario(
        "NotIn selects pods without the label as well",
        (k8s({**_expressions({"key": "tier", "operator": "NotIn", "values": ["front"]}), "policyTypes": ["Ingress"]}),),
        "a>c tcp/80",
        "c>a tcp/80, c>b tcp/80",
    ),
]

CALICO = [
    Scenario(
        "the first rule that matches decides",
        (policy("p", namespace="red", selector="app == 'a'", ingress=(rule("Deny", protocol=TCP), rule())),),
        "b>a udp/53, b>a icmp",
        "b>a tcp/80",
    ),
    Scenario(
        "lower order comes first",
        (
            policy("late", namespace="red", order=20.0, ingress=(rule(),)),
            policy("early", namespace="red", order=10.0, ingress=(rule("Deny", protocol=TCP),)),
        ),
        "b>a udp/53",
        "b>a tcp/80",
    ),
    Scenario(
        "without an order a policy comes last; then the name decides",
        (
            policy("a-none", namespace="red", ingress=(rule("Deny"),)),
            policy("z-one", namespace="red", order=1.0, ingress=(rule(protocol=TCP),)),
            policy("b-none", namespace="red", ingress=(rule(protocol=UDP),)),
        ),
        "b>a tcp/80",
        "b>a udp/53",
    ),
    Scenario(
        "Pass leaves the tier, and the profile allows",
        (policy("p", namespace="red", ingress=(rule("Pass", protocol=TCP),)),),
        "b>a tcp/80",
        "b>a udp/53",
    ),
    Scenario(
        "Pass skips later policies of its tier, not of the next",
        (
            policy("one", namespace="", tier="security", order=1.0, ingress=(rule("Pass"),)),
            policy("two", namespace="", tier="security", order=2.0, ingress=(rule("Deny"),)),
            policy("p", namespace="red", ingress=(rule(protocol=TCP),)),
        ),
        "b>a tcp/80, a>d udp/53",
        "b>a udp/53",
        {"tiers": {"security": Tier("security", 1.0)}},
    ),
    Scenario(
        "a tier that applies and decides nothing denies at its end",
        (
            policy("one", namespace="", tier="security", selector="app == 'a'", ingress=(rule(protocol=TCP),)),
            policy("p", namespace="red", ingress=(rule(),)),
        ),
        "b>a tcp/80, a>b udp/53",
        "b>a udp/53",
        {"tiers": {"security": Tier("security", 1.0)}},
    ),
    Scenario(
        "a tier whose defaultAction is Pass hands on",
        (
            policy("one", namespace="", tier="security", selector="app == 'a'", ingress=(rule("Deny", protocol=TCP),)),
            policy("p", namespace="red", ingress=(rule(protocol=UDP),)),
        ),
        "b>a udp/53",
        "b>a tcp/80, b>a icmp",
        {"tiers": {"security": Tier("security", 1.0, rule("Pass").action)}},
    ),
    Scenario(
        "a policy does not decide about a direction that is not among its types",
        (policy("p", namespace="red", types=EGRESS, egress=(rule(protocol=TCP),)),),
        "d>a udp/53, a>b tcp/80",
        "a>b udp/53",
    ),
    Scenario(
        "Log goes on to the next rule",
        (policy("p", namespace="red", ingress=(rule("Log"), rule(protocol=TCP))),),
        "b>a tcp/80",
        "b>a udp/53",
    ),
    Scenario(
        "a selector in a namespaced policy means its own namespace",
        (policy("p", namespace="red", ingress=(rule(source=entity(selector="app == 'b'")),)),),
        "b>a tcp/80",
        "e>a tcp/80, c>a tcp/80",
    ),
    Scenario(
        "a selector in a global policy means every namespace",
        (policy("p", namespace="", selector="app == 'a'", ingress=(rule(source=entity(selector="app == 'b'")),)),),
        "b>a tcp/80, e>a tcp/80, b>d tcp/80",
        "c>a tcp/80",
    ),
    Scenario(
        "a namespaceSelector reaches into other namespaces",
        (
            policy(
                "p",
                namespace="red",
                ingress=(rule(source=entity(namespace_selector="team == 'y'", selector="app == 'b'")),),
            ),
        ),
        "e>a tcp/80",
        "b>a tcp/80, d>a tcp/80",
    ),
    Scenario(
        "projectcalico.org/name is a label of every namespace",
        (
            policy(
                "p",
                namespace="red",
                ingress=(rule(source=entity(namespace_selector="projectcalico.org/name == 'blue'")),),
            ),
        ),
        "d>a tcp/80",
        "b>a tcp/80",
    ),
    Scenario(
        "a rule of nets only is not confined to the namespace",
        (policy("p", namespace="red", ingress=(rule(source=entity(nets="10.65.0.4/31")),)),),
        "d>a tcp/80, e>a tcp/80",
        "b>a tcp/80, d>a tcp/80/6",
    ),
    Scenario(
        "notNets takes out of nets",
        (
            policy(
                "p",
                namespace="red",
                ingress=(rule(source=entity(nets="10.65.0.0/16", not_nets="10.65.0.2 10.65.0.4/31")),),
            ),
        ),
        "c>a tcp/80",
        "b>a tcp/80, e>a tcp/80",
    ),
    Scenario(
        "notSelector",
        (policy("p", namespace="", selector="app == 'a'", ingress=(rule(source=entity(not_selector="app == 'b'")),)),),
        "c>a tcp/80, d>a tcp/80",
        "b>a tcp/80, e>a tcp/80",
    ),
    Scenario(
        "not in and != select those without the label",
        (policy("p", namespace="", selector="app == 'a'", ingress=(rule(source=entity(selector="tier != 'front'")),)),),
        "b>a tcp/80, e>a tcp/80",
        "c>a tcp/80",
    ),
    Scenario(
        "notProtocol",
        (policy("p", namespace="red", ingress=(rule(not_protocol=TCP),)),),
        "b>a udp/53, b>a icmp, b>a sctp/7",
        "b>a tcp/80",
    ),
    Scenario(
        "notPorts",
        (policy("p", namespace="red", ingress=(rule(protocol=TCP, destination=entity(not_ports="80 90:99")),)),),
        "b>a tcp/81, b>a tcp/100",
        "b>a tcp/80, b>a tcp/95, b>a udp/81",
    ),
    Scenario(
        "source ports",
        (
            policy(
                "p",
                namespace="red",
                ingress=(
                    rule(protocol=TCP, source=entity(ports="1000")),
                    rule(protocol=UDP, source=entity(not_ports="1000")),
                ),
            ),
        ),
        "b>a tcp/80",
        "b>a udp/53",
    ),
    Scenario(
        "more ports than one multiport match holds",
        (
            policy(
                "p",
                namespace="red",
                ingress=(rule(protocol=TCP, destination=entity(ports=" ".join(str(2 * n) for n in range(40, 80)))),),
            ),
        ),
        "b>a tcp/80, b>a tcp/100, b>a tcp/158",
        "b>a tcp/81, b>a tcp/160",
    ),
    Scenario(
        "several nets on both sides",
        (
            policy(
                "p",
                namespace="",
                selector="has(app)",
                ingress=(
                    rule(source=entity(nets="10.65.0.2 10.65.0.5"), destination=entity(nets="10.65.0.1 10.65.0.4")),
                ),
            ),
        ),
        "b>a tcp/80, e>d tcp/80, e>a tcp/80",
        "c>a tcp/80, b>c tcp/80",
    ),
    Scenario(
        "ICMP by type and code",
        (
            policy(
                "p",
                namespace="red",
                ingress=(rule(protocol=ICMP, icmp=Icmp(8, 0)), rule(protocol=ICMPV6, icmp=Icmp(128))),
            ),
        ),
        "b>a icmp, b>a icmp/6",
        "b>a tcp/80",
    ),
    Scenario(
        "notICMP",
        (
            policy(
                "p",
                namespace="red",
                ingress=(rule(protocol=ICMP, not_icmp=Icmp(8)), rule(protocol=ICMPV6, not_icmp=Icmp(3))),
            ),
        ),
        "b>a icmp/6",
        "b>a icmp",
    ),
    Scenario(
        "ipVersion",
        (policy("p", namespace="red", ingress=(rule(family=6),)),),
        "b>a tcp/80/6",
        "b>a tcp/80",
    ),
    Scenario(
        "named and numbered ports are alternatives",
        (policy("p", namespace="red", ingress=(rule(protocol=TCP, destination=entity(ports="web 443")),)),),
        "b>a tcp/80, b>a tcp/443, a>b tcp/443",
        "a>b tcp/80",
    ),
    Scenario(
        "a global network set by its labels",
        (
            policy(
                "p", namespace="", selector="app == 'a'", ingress=(rule(source=entity(selector="kind == 'office'")),)
            ),
        ),
        "b>a tcp/80, c>a tcp/80, b>d tcp/80",
        "e>a tcp/80",
        {"network_sets": [NetworkSet("office", "", (Prefix.parse("10.65.0.2/31"),), {"kind": "office"})]},
    ),
    Scenario(
        "global() means what has no namespace",
        (
            policy(
                "p",
                namespace="red",
                ingress=(rule(source=entity(namespace_selector="global()", selector="kind == 'office'")),),
            ),
        ),
        "b>a tcp/80",
        "c>a tcp/80",
        {
            "network_sets": [
                NetworkSet("office", "", (Prefix.parse("10.65.0.2"),), {"kind": "office"}),
                NetworkSet("inner", "red", (Prefix.parse("10.65.0.3"),), {"kind": "office"}),
            ]
        },
    ),
    Scenario(
        "a network set of the own namespace",
        (policy("p", namespace="red", ingress=(rule(source=entity(selector="kind == 'office'")),)),),
        "c>a tcp/80",
        "b>a tcp/80",
        {
            "network_sets": [
                NetworkSet("office", "", (Prefix.parse("10.65.0.2"),), {"kind": "office"}),
                NetworkSet("inner", "red", (Prefix.parse("10.65.0.3"),), {"kind": "office"}),
            ]
        },
    ),
    Scenario(
        "service accounts by name and by label",
        (
            policy(
                "p",
                namespace="red",
                selector="app == 'a'",
                ingress=(rule(source=entity(service_accounts=ServiceAccounts(("robot",)))),),
            ),
            policy(
                "q",
                namespace="red",
                selector="app == 'c'",
                ingress=(rule(source=entity(service_accounts=ServiceAccounts((), parse("role == 'worker'")))),),
            ),
        ),
        "b>a tcp/80, b>c tcp/80",
        "c>a tcp/80, a>c tcp/80",
    ),
    Scenario(
        "a policy for the pods of a service account",
        (policy("p", namespace="red", service_account_selector=parse("role == 'worker'"), types=EGRESS),),
        "a>c tcp/80",
        "b>a tcp/80",
    ),
    Scenario(
        "a global policy for namespaces by label",
        (policy("p", namespace="", namespace_selector="team == 'x'"),),
        "a>d tcp/80",
        "d>a tcp/80, b>a tcp/80",
    ),
    Scenario(
        "a service is its endpoints and their ports",
        (
            policy(
                "p",
                namespace="red",
                selector="app == 'b'",
                types=EGRESS,
                egress=(rule(destination=entity(service=ServiceRef("db", "red"))),),
            ),
        ),
        "b>a tcp/80",
        "b>a tcp/81, b>c tcp/80, b>a udp/80",
        {"services": {("red", "db"): Service("db", "red", (Backend(PODS[0].addresses[0].first, TCP, 80),))}},
    ),
    Scenario(
        "a label that nobody has selects nobody",
        (policy("p", namespace="red", ingress=(rule(source=entity(selector="nobody == 'x'")),)),),
        "",
        "b>a tcp/80, d>a tcp/80",
    ),
    Scenario(
        "a policy that selects nobody changes nothing",
        (policy("p", namespace="red", selector="app == 'zzz'", types=BOTH),),
        "b>a tcp/80, a>b tcp/80",
    ),
    Scenario(
        "a tier that does not exist still denies",
        (policy("p", namespace="red", tier="gone", ingress=(rule(protocol=UDP),)),),
        "b>a udp/53",
        "b>a tcp/80",
    ),
]

SCENARIOS = KUBERNETES + CALICO
CASES = sum(len(scenario.expected) for scenario in SCENARIOS)
