"""What a person asks about, and what does not fit together."""

import json
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.errors import FelixliteError
from felixlite.model.inside import Node
from felixlite.model.policy import ICMP, ICMPV6, TCP, UDP, NetworkSet
from felixlite.policy.question import Question, as_values, from_values, packet, resolved
from tests.unit.policy.world import inputs, pod

DUAL, FOUR = pod("dual", "10.65.0.1 fd00::1"), pod("four", "10.65.0.2")
SETS = [
    NetworkSet("mine", "default", (Prefix.parse("198.51.100.0/24"),)),
    NetworkSet("office", "", (Prefix.parse("203.0.113.0/24"),)),
    NetworkSet("theirs", "backend", (Prefix.parse("192.0.2.128/25"),)),
]
WORLD = inputs([DUAL, FOUR], network_sets=SETS, nodes={"n1": Node("n1", ip_interface("192.0.2.1/24"))})


@pytest.mark.parametrize(
    ("name", "address"),
    [
        ("dual", "10.65.0.1"),
        ("default/four", "10.65.0.2"),
        ("192.0.2.9", "192.0.2.9"),
        ("n1", "192.0.2.1"),
        ("mine", "198.51.100.0"),
        ("default/mine", "198.51.100.0"),
        ("office", "203.0.113.0"),
        ("backend/theirs", "192.0.2.128"),
    ],
)
def test_names_and_addresses_are_understood(name: str, address: str) -> None:
    assert str(resolved(WORLD, name)) == address


@pytest.mark.parametrize("name", ["nobody", "theirs", "backend/dual"])
def test_an_unknown_name_says_what_would_do(name: str) -> None:
    with pytest.raises(FelixliteError, match=rf"'{name}'.*\[NAMESPACE/\]NAME"):
        resolved(WORLD, name)


@pytest.mark.parametrize(
    ("words", "more", "ends"),
    [
        ("dual four", {}, "10.65.0.1 10.65.0.2"),
        ("dual dual", {"ipv6": True}, "fd00::1 fd00::1"),
        ("dual fd00::7", {}, "fd00::1 fd00::7"),
        ("fd00::7 dual", {}, "fd00::7 fd00::1"),
        ("four dual", {"source_address": "10.9.9.9"}, "10.9.9.9 10.65.0.1"),
    ],
)
def test_both_ends_are_of_one_family(words: str, more: dict[str, Any], ends: str) -> None:
    found = packet(WORLD, Question(*words.split(), **more))
    assert f"{found.source} {found.destination}" == ends


@pytest.mark.parametrize(
    ("more", "protocol", "icmp_type"),
    [
        ({}, ICMP, 8),
        ({"ipv6": True}, ICMPV6, 128),
        ({"port": 80}, TCP, 0),
        ({"port": 80, "protocol": "udp"}, UDP, 0),
        ({"icmp_type": 3, "icmp_code": 1}, ICMP, 3),
        ({"protocol": "4"}, 4, 0),
    ],
)
def test_the_protocol_follows_from_what_is_said(more: dict[str, Any], protocol: int, icmp_type: int) -> None:
    found = packet(WORLD, Question("dual", "dual", **more))
    assert (found.protocol, found.icmp_type) == (protocol, icmp_type)


def test_a_spoofing_pod_is_kept_apart_from_the_source() -> None:
    found = packet(WORLD, Question("four", "dual", source_address="10.9.9.9"))
    assert found.sender == ip_address("10.65.0.2")


@pytest.mark.parametrize("more", [{}, {"port": 80}, {"ipv6": True}, {"source_address": "10.9.9.9"}])
def test_a_packet_survives_the_way_to_the_agent(more: dict[str, Any]) -> None:
    found = packet(WORLD, Question("dual", "dual", **more))
    assert from_values(json.loads(json.dumps(as_values(found)))) == found


@pytest.mark.parametrize(
    ("words", "more", "error"),
    [
        ("10.65.0.1 fd00::1", {}, "fd00::1 is IPv6, and the question is about IPv4"),
        ("10.65.0.1 dual", {"ipv6": True}, "10.65.0.1 is IPv4, and the question is about IPv6"),
        ("fd00::1 four", {}, "'four' has no IPv6 address; it has 10.65.0.2"),
        ("four dual", {"protocol": "ICMPv6"}, "ICMPv6 is not of IPv4; ICMP is"),
        ("dual dual", {"protocol": "ICMP", "ipv6": True}, "ICMP is not of IPv6; ICMPv6 is"),
        ("four dual", {"protocol": "UDP"}, "UDP needs a --port"),
        ("four dual", {"protocol": "ICMP", "port": 80}, "ICMP has no ports"),
        ("four dual", {"protocol": "4", "port": 80}, "4 has no ports"),
        ("four dual", {"port": 80, "icmp_type": 8}, "--icmp-type and --icmp-code are for ICMP, and this is TCP"),
        ("four dual", {"icmp_code": 1}, "--icmp-code needs an --icmp-type"),
        ("four dual", {"protocol": "nonsense"}, "--protocol: 'nonsense'"),
        ("four dual", {"source_address": "dual"}, "--source-address: 'dual' is not an address"),
        ("four dual", {"source_address": "fd00::9"}, "'four' has no IPv6 address"),
        ("n1 dual", {"source_address": "10.9.9.9"}, "'n1' must be a pod"),
    ],
)
def test_what_does_not_fit_together_is_refused(words: str, more: dict[str, Any], error: str) -> None:
    with pytest.raises(FelixliteError, match=error):
        packet(WORLD, Question(*words.split(), **more))
