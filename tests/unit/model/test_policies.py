from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.errors import Rejected
from felixlite.model.parse import completed, parse
from felixlite.model.policy import TCP, Action, Direction, PortRange


def policy(kind: str = "NetworkPolicy", **spec: Any) -> dict[str, Any]:
    metadata = {"name": "p"} if "Global" in kind else {"name": "p", "namespace": "default"}
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def faults(document: dict[str, Any], *, strict: bool = False) -> list[str]:
    with pytest.raises(Rejected) as rejected:
        parse(document, strict=strict)
    return [f"{problem.field}: {problem.remedy}" for problem in rejected.value.problems]


def rule(**fields: Any) -> dict[str, Any]:
    return policy(ingress=[{"action": "Allow", **fields}])


def test_a_policy_means_what_it_says() -> None:
    document = policy(
        order=10,
        selector="app == 'web'",
        ingress=[
            {
                "action": "Allow",
                "protocol": "TCP",
                "source": {"nets": ["10.0.0.0/8"], "selector": "app == 'lb'"},
                "destination": {"ports": [80, "8000:8080", "http"]},
            }
        ],
    )
    found = parse(document).inside()
    assert str(found.selector) == "app == 'web'"
    assert found.order == 10.0
    assert found.types == {Direction.INGRESS}
    assert found.tier == "default"
    (only,) = found.ingress
    assert only.action is Action.ALLOW
    assert only.protocol == TCP
    assert only.source.nets == (Prefix.parse("10.0.0.0/8"),)
    assert only.destination.ports == (PortRange(80, 80), PortRange(8000, 8080), "http")


@pytest.mark.parametrize(
    ("spec", "types"),
    [
        ({}, {"Ingress"}),
        ({"ingress": [{"action": "Deny"}]}, {"Ingress"}),
        ({"egress": [{"action": "Deny"}]}, {"Egress"}),
        ({"ingress": [{"action": "Deny"}], "egress": [{"action": "Deny"}]}, {"Ingress", "Egress"}),
        ({"types": ["Egress"]}, {"Egress"}),
        ({"types": []}, {"Ingress"}),
        ({"types": [], "egress": [{"action": "Deny"}]}, {"Egress"}),
    ],
)
def test_left_out_types_are_those_with_rules(spec: dict[str, Any], types: set[str]) -> None:
    assert parse(policy(**spec)).inside().types == set(map(Direction, types))
    assert set(completed(policy(**spec))["spec"]["types"]) == types


def test_what_is_stored_says_its_types_and_its_tier() -> None:
    document = completed(policy(egress=[{"action": "Deny"}]))
    assert document["spec"]["types"] == ["Egress"]
    assert document["spec"]["tier"] == "default"
    assert document["metadata"]["labels"] == {"projectcalico.org/tier": "default"}


@pytest.mark.parametrize(
    ("document", "fault"),
    [
        (rule(destination={"ports": [80]}), "spec.ingress[0].destination.ports: needs protocol to be one of"),
        (rule(protocol="ICMP", source={"ports": ["http"]}), "spec.ingress[0].source.ports: needs protocol"),
        (rule(protocol="TCP", destination={"ports": [65536]}), "spec.ingress[0].destination.ports[0]: must be a port"),
        (rule(protocol="TCP", destination={"ports": ["9:8"]}), "spec.ingress[0].destination.ports[0]: must be a port"),
        (rule(protocol="TCP", destination={"ports": ["a b"]}), "spec.ingress[0].destination.ports[0]: must be a port"),
        (rule(protocol="TCQ"), "spec.ingress[0].protocol: must be one of TCP"),
        (rule(protocol=256), "spec.ingress[0].protocol: must be one of TCP"),
        (rule(icmp={"type": 8}), "spec.ingress[0].icmp: needs protocol"),
        (rule(protocol="ICMP", icmp={"code": 1}), "spec.ingress[0].icmp.code: needs a type"),
        (rule(protocol="ICMP", icmp={"type": 255}), "spec.ingress[0].icmp.type: must be at most 254"),
        (rule(protocol="ICMP", ipVersion=6), "spec.ingress[0].ipVersion: must be 4 with protocol ICMP"),
        (rule(protocol="ICMPv6", ipVersion=4), "spec.ingress[0].ipVersion: must be 6 with protocol ICMPv6"),
        (rule(ipVersion=5), "spec.ingress[0].ipVersion: must be 4 or 6"),
        (rule(source={"nets": ["10.0.0.0/8", "fd00::/8"]}), "spec.ingress[0]: nets of IPv4 and of IPv6"),
        (rule(ipVersion=4, source={"nets": ["fd00::/8"]}), "spec.ingress[0].ipVersion: must be 6"),
        (rule(source={"nets": ["10.0.0.1/8"]}), "spec.ingress[0].source.nets[0]: has bits set"),
        (rule(source={"notNets": ["0.0.0.0/0"]}), "spec.ingress[0].source.notNets[0]: would match nothing"),
        (rule(source={"selector": "global()"}), "spec.ingress[0].source.selector: global() may only"),
        (
            rule(source={"namespaceSelector": "global() || a == 'b'"}),
            "spec.ingress[0].source.namespaceSelector: global() must stand alone",
        ),
        (
            rule(source={"services": {"name": "s"}, "selector": "a == 'b'"}),
            "spec.ingress[0].source.services: cannot be given together with selector",
        ),
        (
            rule(protocol="TCP", source={"services": {"name": "s"}, "ports": [80]}),
            "spec.ingress[0].source.ports: cannot be given together with services",
        ),
        (
            rule(destination={"services": {"name": "s"}}),
            "spec.ingress[0].destination.services: belongs into source",
        ),
        (rule(action="Reject"), "spec.ingress[0].action: must be 'Allow', 'Deny', 'Log' or 'Pass'"),
        (rule(action="Deny", http={"methods": ["GET"]}), "spec.ingress[0].http: needs action Allow"),
        (
            policy(egress=[{"action": "Allow", "protocol": "TCP", "http": {}}]),
            "spec.egress[0].http: is possible in ingress rules only",
        ),
        (policy(tier="a.b"), "spec.tier: must be the name of a tier"),
        (policy(tier='x"\naccept #'), "spec.tier: must be the name of a tier"),
        (policy(tier=64 * "x"), "spec.tier: must be the name of a tier"),
        (policy(tier=""), "spec.tier: must be the name of a tier"),
        (
            rule(source={"serviceAccounts": {"names": ["robot", "a'\"b"]}}),
            "spec.ingress[0].source.serviceAccounts.names[1]: must be a DNS name",
        ),
        (policy(selector="a ="), "spec.selector: is not a selector: at column 3"),
        (policy(selector="a == '" + 1024 * "x" + "'"), "spec.selector: is longer than 1024 characters"),
        (policy(selector="global()"), "spec.selector: global() may only"),
        (policy(order="first"), "spec.order: must be a number"),
        (policy(order=float("nan")), "spec.order: "),
        (policy(types=["Ingress", "Ingress"]), "spec.types: must name each direction once"),
        (policy(types=["Sideways"]), "spec.types[0]: must be 'Ingress' or 'Egress'"),
        (policy(ingress=[{}]), "spec.ingress[0].action: is required"),
        (policy(ingress=1025 * [{"action": "Allow"}]), "spec.ingress: has 1025 entries; at most 1024"),
        (rule(source={"nets": 257 * ["10.0.0.1"]}), "spec.ingress[0].source.nets: has 257 entries; at most 256"),
        (rule(protocol="TCP", destination={"ports": 51 * [1]}), "spec.ingress[0].destination.ports: has 51 entries"),
        (policy("GlobalNetworkPolicy", doNotTrack=True), "spec.applyOnForward: must be true with doNotTrack"),
        (
            policy("GlobalNetworkPolicy", doNotTrack=True, preDNAT=True, applyOnForward=True),
            "spec.preDNAT: cannot be given together with doNotTrack",
        ),
        (
            policy("GlobalNetworkPolicy", preDNAT=True, applyOnForward=True, egress=[{"action": "Allow"}]),
            "spec.egress: must be empty with preDNAT",
        ),
        (
            policy("GlobalNetworkPolicy", ingress=[{"action": "Allow", "source": {"services": {"name": "s"}}}]),
            "spec.ingress[0].source.services.namespace: is required in a global policy",
        ),
        (
            policy("StagedNetworkPolicy", stagedAction="Delete", ingress=[{"action": "Allow"}]),
            "spec.stagedAction: cannot have rules",
        ),
    ],
)
def test_every_rule_of_the_reference_is_checked(document: dict[str, Any], fault: str) -> None:
    found = faults(document)
    assert len(found) == 1
    assert found[0].startswith(fault)


def test_all_errors_are_reported_at_once_and_none_twice() -> None:
    document = policy(
        selector="a =",
        oder=3,
        ingress=[
            {"action": "Allow", "destination": {"ports": [80]}},
            {"protocol": "TCP", "source": {"nets": ["x"], "notNets": ["0.0.0.0/0"]}},
        ],
    )
    assert sorted(fault.partition(":")[0] for fault in faults(document, strict=True)) == [
        "spec.ingress[0].destination.ports",
        "spec.ingress[1].action",
        "spec.ingress[1].source.nets[0]",
        "spec.ingress[1].source.notNets[0]",
        "spec.oder",
        "spec.selector",
    ]


def test_a_policy_for_host_endpoints_alone_is_nothing_inside() -> None:
    assert parse(policy("GlobalNetworkPolicy", doNotTrack=True, applyOnForward=True)).inside() is None


def test_a_rule_about_http_allows_nothing() -> None:
    assert parse(rule(protocol="TCP", http={"methods": ["GET"]})).inside().ingress == ()


def test_a_service_is_in_the_policys_namespace_unless_it_says_otherwise() -> None:
    found = parse(policy(egress=[{"action": "Allow", "destination": {"services": {"name": "dns"}}}])).inside()
    assert found.egress[0].destination.service.namespace == "default"
