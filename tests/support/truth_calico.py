"""What the documentation of Calico says about its policies, as cases."""

from felixlite.addresses import Prefix
from felixlite.model.policy import (
    ICMP,
    ICMPV6,
    TCP,
    UDP,
    Backend,
    Direction,
    Icmp,
    NetworkSet,
    Service,
    ServiceAccounts,
    ServiceRef,
    Tier,
)
from felixlite.model.selector import parse
from tests.support.truth import PODS, Scenario
from tests.unit.policy.world import BOTH, entity, policy, rule

EGRESS = frozenset({Direction.EGRESS})
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
