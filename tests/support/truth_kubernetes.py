"""What the documentation of Kubernetes says about NetworkPolicy, as cases. The documents come in by the agent's door."""

import json
from typing import Any, cast

from felixlite.model.policy import Policy
from felixlite.policy import kubernetes
from tests.support.truth import Scenario
from tests.support.truth_documents import documented, known_from


def k8s(spec: dict[str, Any], namespace: str = "red", name: str = "p") -> Policy:
    known = known_from({f"k8s {namespace}/{name}": spec})
    assert not known.rejected, known.rejected
    return cast(Policy, known.policies[kubernetes.KIND, namespace, name])


def beside(title: str, spec: dict[str, Any], others: str, passes: str = "", denied: str = "") -> Scenario:
    """A policy of Kubernetes in red, beside documents of other kinds."""
    return documented(title, f"k8s red/p: {json.dumps(spec)}\n{others}", passes, denied)


def _from(*peers: dict[str, Any], ports: list[dict[str, Any]] | None = None) -> dict[str, Any]:
    return {"from": list(peers), **({"ports": ports} if ports else {})}


ALL_PODS: dict[str, Any] = {"podSelector": {}}
POD_A = {"podSelector": {"matchLabels": {"app": "a"}}}
POD_B = {"podSelector": {"matchLabels": {"app": "b"}}}
TEAM_Y = {"namespaceSelector": {"matchLabels": {"team": "y"}}}


def _expressions(*expressions: dict[str, Any]) -> dict[str, Any]:
    return {"podSelector": {"matchExpressions": list(expressions)}}


def _namespaces(*expressions: dict[str, Any]) -> dict[str, Any]:
    return {"namespaceSelector": {"matchExpressions": list(expressions)}}


KUBERNETES = [
    Scenario(
        "without policy everything passes",
        (),
        "a>b tcp/80, b>a udp/53, d>a tcp/80, a>b icmp, a>d icmp/6, x>a tcp/80/6, a>x tcp/80",
    ),
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
    # -- peers are pods; addresses are for ipBlock
    beside(
        "podSelector {} is no network set of the namespace",
        {**ALL_PODS, "ingress": [_from(ALL_PODS)]},
        "NetworkSet red/world: {nets: [203.0.113.0/24, '2001:db8::/32']}",
        "b>a tcp/80, b>a tcp/80/6",
        "x>a tcp/80, x>a tcp/80/6, d>a tcp/80",
    ),
    beside(
        "namespaceSelector {} is no network set of any namespace",
        {**ALL_PODS, "ingress": [_from({"namespaceSelector": {}})]},
        "NetworkSet blue/world: {nets: [203.0.113.0/24, '2001:db8::/32'], labels: {projectcalico.org/orchestrator: k8s}}",
        "b>a tcp/80, d>a tcp/80/6",
        "x>a tcp/80, x>a tcp/80/6",
    ),
    beside(
        "namespaceSelector NotIn is no global network set",
        {**ALL_PODS, "ingress": [_from(_namespaces({"key": "team", "operator": "NotIn", "values": ["x"]}))]},
        "GlobalNetworkSet world: {nets: [203.0.113.0/24, '2001:db8::/32'], labels: {team: z}}",
        "d>a tcp/80, e>a tcp/80/6",
        "x>a tcp/80, x>a tcp/80/6, b>a tcp/80",
    ),
    beside(
        "namespaceSelector DoesNotExist is no global network set",
        {**ALL_PODS, "egress": [{"to": [_namespaces({"key": "env", "operator": "DoesNotExist"})]}]},
        "GlobalNetworkSet world: {nets: [203.0.113.0/24, '2001:db8::/32']}",
        "a>d tcp/80, a>e tcp/80/6",
        "a>x tcp/80, a>x tcp/80/6",
    ),
    beside(
        "both selectors in one peer select no network set with such labels",
        {**ALL_PODS, "ingress": [_from({**TEAM_Y, **POD_B})]},
        "NetworkSet blue/world: {nets: [203.0.113.0/24], labels: {app: b}}",
        "e>a tcp/80",
        "x>a tcp/80, d>a tcp/80",
    ),
    beside(
        "an ipBlock is everybody in it, in a network set or not",
        {**ALL_PODS, "ingress": [_from({"ipBlock": {"cidr": "203.0.113.0/24"}})]},
        "NetworkSet red/world: {nets: [203.0.113.0/24]}",
        "x>a tcp/80",
        "b>a tcp/80",
    ),
    Scenario(
        "the policy is about pods and not about other workloads of its namespace",
        (k8s({**ALL_PODS, "policyTypes": ["Ingress"], "ingress": [_from(ALL_PODS)]}),),
        "b>a tcp/80, e>c tcp/80",
        "c>a tcp/80, e>a tcp/80",
        otherwise={"c": {"pod": "", "labels": {"projectcalico.org/orchestrator": "k8s"}}},
    ),
    # -- where something belongs is not for its own labels to say
    Scenario(
        "a pod's own label is no label of its namespace",
        (k8s({**ALL_PODS, "ingress": [_from(_namespaces({"key": "team", "operator": "In", "values": ["z"]}))]}),),
        "",
        "d>a tcp/80, d>a tcp/80/6, e>a tcp/80",
        otherwise={"d": {"labels": {"app": "a", "pcns.team": "z", "pcns.projectcalico.org/name": "red"}}},
    ),
    Scenario(
        "a pod's own label takes it out of no namespace",
        (k8s({**ALL_PODS, "ingress": [_from(TEAM_Y)]}, "blue"),),
        "e>d tcp/80",
        "a>d tcp/80",
        otherwise={"e": {"labels": {"app": "b", "pcns.team": "z"}}, "a": {"labels": {"pcns.team": "y"}}},
    ),
]
