"""What `felixlite explain` says, and what it says when it cannot."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.errors import FelixliteError
from felixlite.intake import Intake
from felixlite.model.inside import Node, Pool, ServiceAddresses
from felixlite.model.policy import ICMP, TCP, UDP, Backend, Service
from felixlite.policy.evaluate import Packet
from felixlite.policy.explain import Known, counted, explained, lines
from felixlite.policy.inputs import Inputs
from felixlite.policy.settings import PolicySettings
from felixlite.snapshot import Put, Snapshot, fold
from tests.unit.policy.world import entity, inputs, pod, policy, rule

A, B = pod("a", "10.65.0.1", app="a"), pod("b", "10.65.0.2", app="b", node="there")
POOL = Pool("main", Prefix.parse("10.65.0.0/16"), nat_outgoing=True)
WORLD = inputs(
    [A],
    [policy("p", selector="app == 'a'", ingress=(rule(source=entity(selector="app == 'b'")),))],
    remote=[B],
    pools={"main": POOL},
)


def said(source: str, destination: str) -> str:
    packet = Packet(ip_address(source), ip_address(destination), TCP, 40000, 80)
    return "\n".join(lines(explained(Known(WORLD), packet)))


def test_it_names_the_rule_that_decided() -> None:
    assert "is allowed\n  by default/a ingress: tier default, NetworkPolicy default/p: rule 0: Allow" in said(
        "10.65.0.2", "10.65.0.1"
    )


def test_it_names_the_end_of_the_tier_that_denied() -> None:
    assert "is DENIED\n  by default/a ingress: tier default, end of tier default" in said("192.0.2.1", "10.65.0.1")


def test_it_says_what_nat_does() -> None:
    assert "the source is masqueraded" in said("10.65.0.1", "192.0.2.1")
    assert "the destination is inside of a pool" in said("10.65.0.2", "10.65.0.1")


def test_two_strangers_are_none_of_our_business() -> None:
    assert "is allowed\n  by no workload of the cluster is at either end" in said("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize(
    ("packet", "first", "source"),
    [
        (Packet(ip_address("10.65.0.2"), ip_address("10.65.0.1"), 4), "10.65.0.2 -> 10.65.0.1 protocol 4 is DENIED", "default/b, on there"),
        (
            Packet(ip_address("10.9.9.9"), ip_address("10.65.0.1"), TCP, 40000, 80, sender=ip_address("10.65.0.2")),
            "10.9.9.9 -> 10.65.0.1 TCP port 80, sent by 10.65.0.2, is DENIED",
            "default/b, on there",
        ),
    ],
)  # fmt: skip
def test_who_sends_what_is_said(packet: Packet, first: str, source: str) -> None:
    said = list(lines(explained(Known(WORLD), packet)))
    assert said[0] == first
    assert f"source       {source}, by calib, pool main" in said


# -- services

WEB = {("default", "web"): ServiceAddresses(cluster=(Prefix.parse("10.96.0.7"),))}


def asked_of(service: Service | None, protocol: int = TCP, port: int = 80) -> dict[str, Any]:
    services = {("default", "web"): service} if service else {}
    packet = Packet(ip_address("10.65.0.2"), ip_address("10.96.0.7"), protocol, 40000, port, icmp_type=8)
    return explained(Known(replace(WORLD, services=services), WEB), packet)


def test_a_service_is_named_and_what_stands_behind_it_is_judged() -> None:
    found = asked_of(Service("web", "default", (Backend(ip_address("10.65.0.1"), TCP, 8080),)))
    assert (found["packet"]["destination"], found["packet"]["port"], found["action"]) == ("10.65.0.1", 8080, "Allow")
    assert found["nat"] == "the source address is kept: the destination is inside of a pool"
    said = "service      default/web at 10.96.0.7 port 80: kube-proxy sends it to 10.65.0.1 port 8080"
    assert said in list(lines(found))
    assert not any("a node's address" in line for line in lines(found))
    assert any("a node's address" in line for line in lines({**found, "source": {**found["source"], "pod": None}}))


@pytest.mark.parametrize(("address", "action"), [("10.65.0.1", "Allow"), ("10.96.0.7", "Deny")])
def test_a_pod_that_calls_itself_by_a_service_leaves_and_comes_back(address: str, action: str) -> None:
    service = Service("web", "default", (Backend(ip_address("10.65.0.1"), TCP, 80),))
    known = Known(replace(WORLD, services={("default", "web"): service}), WEB)
    assert explained(known, Packet(ip_address("10.65.0.1"), ip_address(address), TCP, 40000, 80))["action"] == action


def test_of_several_backends_one_that_is_denied_is_shown() -> None:
    closed = pod("closed", "10.65.0.7", app="closed")
    deny = policy("deny", selector="app == 'closed'")
    world = replace(WORLD, local_workloads={**WORLD.local_workloads, ("default", "closed"): closed})
    world = replace(world, policies={**WORLD.policies, ("NetworkPolicy", "default", "deny"): deny})
    ends = tuple(Backend(ip_address(text), TCP, 80) for text in ("10.65.0.1", "10.65.0.7"))
    world = replace(world, services={("default", "web"): Service("web", "default", ends)})
    found = explained(Known(world, WEB), Packet(ip_address("10.65.0.2"), ip_address("10.96.0.7"), TCP, 40000, 80))
    assert (found["action"], found["packet"]["destination"]) == ("Deny", "10.65.0.7")
    assert "1 of 2 are allowed, this is one that is not" in "\n".join(lines(found))


@pytest.mark.parametrize("service", [None, Service("web", "default", (Backend(ip_address("10.65.0.1"), UDP, 53),))])
def test_nothing_behind_a_service_is_said(service: Service | None) -> None:
    found = asked_of(service)
    assert found["decided_by"] == "service default/web: nothing stands behind it, and kube-proxy refuses: Deny"


def test_a_service_of_several_ports_says_what_to_ask_instead() -> None:
    ends = tuple(Backend(ip_address("10.65.0.1"), TCP, port) for port in (53, 9153))
    with pytest.raises(FelixliteError, match=r"default/web.*10\.65\.0\.1 --protocol TCP --port 53, .* --port 9153"):
        asked_of(Service("web", "default", ends))


def test_what_kube_proxy_does_not_translate_is_judged_as_it_is() -> None:
    found = asked_of(Service("web", "default", (Backend(ip_address("10.65.0.1"), TCP, 80),)), ICMP, 0)
    assert found["packet"]["destination"] == "10.96.0.7"
    assert "service      default/web at 10.96.0.7: nothing that kube-proxy would send this to" in list(lines(found))


# -- invalid policies

BAD = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "NetworkPolicy",
    "metadata": {"name": "bad", "namespace": "default"},
    "spec": {"selector": "all()", "types": ["Ingress"], "ingress": [{"action": "Frob"}]},
}
GOOD = {**BAD, "spec": {"selector": "all()", "types": ["Ingress"], "ingress": [{"action": "Deny"}]}}
KEY = ("NetworkPolicy", "bad", "default")


def known_after(*documents: dict[str, Any]) -> Known:
    intake, snapshot = Intake("here"), fold(Snapshot("here"), [Put("local_workloads", ("default", "a"), A)])
    for document in documents:
        snapshot = fold(snapshot, intake.changes(KEY, document))
    return Known.of(snapshot)


@pytest.mark.parametrize(
    ("documents", "by", "looked_at"),
    [
        ([BAD], "bad: invalid: closes what it selects: Deny", "bad (invalid: closes what it selects): Deny"),
        ([GOOD], "bad: rule 0: Deny", "bad rule 0: Deny"),
        ([GOOD, BAD], "bad: rule 0: Deny", "bad (its last good version: the one in the store is invalid) rule 0: Deny"),
        ([BAD, GOOD], "bad: rule 0: Deny", "bad rule 0: Deny"),
    ],
)  # fmt: skip
def test_which_version_of_a_policy_stands_is_said(documents: list[dict[str, Any]], by: str, looked_at: str) -> None:
    packet = Packet(ip_address("192.0.2.1"), ip_address("10.65.0.1"), TCP, 40000, 80)
    found = explained(known_after(*documents), packet)
    assert found["decided_by"] == f"default/a ingress: tier default, NetworkPolicy default/{by}"
    assert list(lines(found))[-1] == f"  * default/a ingress: tier default, NetworkPolicy default/{looked_at}"


def test_what_a_stand_in_has_denied_is_counted_as_its_own() -> None:
    packet = Packet(ip_address("192.0.2.1"), ip_address("10.65.0.1"), TCP, 40000, 80)
    hit = {"owner": "NetworkPolicy default/bad", "direction": "ingress", "rule": 0, "packets": 7}
    shown = counted(explained(known_after(BAD), packet), {"rules": [hit], "unmatched": []})
    assert [step["packets"] for step in shown["way"]] == [7]


# -- whose settings


def test_an_agent_answers_with_its_own_settings_and_with_the_stores_for_others() -> None:
    configured = {"node.there": {"defaultEndpointToHostAction": "Return"}, "default": {"vxlanPort": 4790}}
    snapshot = Snapshot("here", felix_configurations=configured)
    planned = Inputs.of(snapshot, PolicySettings(to_host="Accept"))  # from its environment
    at = Known.of(snapshot, planned).settings_at
    assert at is not None
    assert [(at(node).to_host, at(node).vxlan_port) for node in ("here", "there", "else")] == [
        ("Accept", 4789),
        ("Return", 4790),
        ("Drop", 4790),
    ]


# -- values


def test_the_keys_are_always_the_same() -> None:
    asked = [("192.0.2.1", "192.0.2.2"), ("10.65.0.2", "10.65.0.1"), ("10.65.0.1", "10.65.0.1")]
    found = [explained(Known(WORLD), Packet(ip_address(a), ip_address(b), TCP, 40000, 80)) for a, b in asked]
    assert {tuple(one) for one in found} == {
        ("packet", "source", "destination", "service", "nat", "tunnel", "route", "action", "decided_by", "way")
    }
    steps = {tuple(step) for one in found for step in one["way"]}
    assert steps == {
        ("endpoint", "direction", "tier", "owner", "rule", "action", "note", "decides", "packets"),
    }


def test_what_stays_on_the_node_is_not_masqueraded() -> None:
    world = replace(WORLD, nodes={"here": Node("here", ip_interface("192.0.2.1/24"))})
    packet = Packet(ip_address("10.65.0.1"), ip_address("192.0.2.1"), TCP, 40000, 80)
    assert explained(Known(world), packet)["nat"] == "the source address is kept: it does not leave the node"
