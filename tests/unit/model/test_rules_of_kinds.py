"""Every rule of the reference 2, kind by kind: what is changed in a right document, and what is said about it."""

from copy import deepcopy
from typing import Any

import pytest

from felixlite.errors import Rejected
from felixlite.model.parse import parse
from tests.unit.model.examples import documents

DOCUMENTS = documents()
GONE = object()

CASES: list[tuple[str, dict[str, Any], list[str]]] = [
    # IPPool
    ("IPPool", {"cidr": GONE}, ["cidr: is required"]),
    ("IPPool", {"cidr": "10.42.0.1/16"}, ["cidr: has bits set beyond its prefix length; write 10.42.0.0/16"]),
    ("IPPool", {"cidr": "10.42.0.0"}, ["cidr: must be a CIDR"]),
    ("IPPool", {"cidr": "169.254.0.0/17"}, ["cidr: must not overlap 169.254.0.0/16"]),
    ("IPPool", {"cidr": "fe80::/64", "blockSize": 122, "ipipMode": "Never"}, ["cidr: must not overlap fe80::/10"]),
    ("IPPool", {"cidr": "10.42.0.0/27"}, ["cidr: is smaller than one block (/26)"]),
    ("IPPool", {"cidr": "10.42.0.0/27", "disabled": True}, []),
    ("IPPool", {"blockSize": 19}, ["blockSize: must be from 20 to 32 for IPv4"]),
    ("IPPool", {"blockSize": 33}, ["blockSize: must be from 20 to 32 for IPv4"]),
    ("IPPool", {"cidr": "fd00::/64", "ipipMode": "Never"}, ["blockSize: must be from 116 to 128 for IPv6"]),
    ("IPPool", {"cidr": "fd00::/64", "blockSize": GONE}, ["ipipMode: must be Never for an IPv6 pool"]),
    ("IPPool", {"cidr": "fd00::/64", "blockSize": 122, "ipipMode": "Never", "vxlanMode": "Always"}, []),
    (
        "FelixConfiguration",
        {"ipipTTL": 64},
        ["ipipTTL: needs ipipPMTUDiscovery: true; without it only ipipTTL 0 goes"],
    ),
    ("IPPool", {"vxlanMode": "Always"}, ["ipipMode: must be Never while vxlanMode is Always"]),
    ("IPPool", {"ipipMode": False}, ["ipipMode: must be 'Never', 'Always' or 'CrossSubnet'"]),
    ("IPPool", {"nodeSelector": "global()"}, ["nodeSelector: must not use global()"]),
    ("IPPool", {"nodeSelector": "a == 'global()'"}, []),
    ("IPPool", {"namespaceSelector": "a == 'b'"}, ["namespaceSelector: needs allowedUses without Tunnel"]),
    ("IPPool", {"namespaceSelector": "a == 'b'", "allowedUses": ["Workload"]}, []),
    ("IPPool", {"allowedUses": []}, ["allowedUses: must name at least one"]),
    ("IPPool", {"allowedUses": ["Tunnel", "Tunnel"]}, ["allowedUses: must name each use once"]),
    (
        "IPPool",
        {"allowedUses": ["LoadBalancer", "Tunnel"], "disableBGPExport": True},
        [
            "allowedUses: LoadBalancer excludes every other use",
            "ipipMode: must be Never in a pool for LoadBalancer",
            "nodeSelector: must be all() in a pool for LoadBalancer",
            "disableBGPExport: must be false in a pool for LoadBalancer",
        ],
    ),
    ("IPPool", {"allowedUses": ["LoadBalancer"], "ipipMode": "Never", "nodeSelector": "all()"}, []),
    # IPReservation, IPAMConfiguration
    ("IPReservation", {"reservedCIDRs": ["10.0.0.1/8"]}, ["reservedCIDRs[0]: has bits set"]),
    (
        "IPAMConfiguration",
        {"strictAffinity": False, "maxBlocksPerHost": 0},
        ["autoAllocateBlocks: needs strictAffinity"],
    ),
    (
        "IPAMConfiguration",
        {"strictAffinity": False, "autoAllocateBlocks": True},
        ["maxBlocksPerHost: needs strictAffinity"],
    ),
    ("IPAMConfiguration", {"maxBlocksPerHost": 1_000_001}, ["maxBlocksPerHost: must be at most 1000000"]),
    ("IPAMConfiguration", {"ipCooldownSeconds": 1201}, ["ipCooldownSeconds: must be at most 1200"]),
    # BGPConfiguration
    ("BGPConfiguration", {"asNumber": 0}, ["asNumber: must be an AS number"]),
    ("BGPConfiguration", {"asNumber": "70000.1"}, ["asNumber: must be an AS number"]),
    ("BGPConfiguration", {"listenPort": 0}, ["listenPort: must be at least 1"]),
    ("BGPConfiguration", {"prefixAdvertisements": []}, ["communities[0].name: is used by none"]),
    (
        "BGPConfiguration",
        {"communities": []},
        ["prefixAdvertisements[0].communities[0]: must be a community or one of"],
    ),
    (
        "BGPConfiguration",
        {"communities": [{"name": "blue", "value": "x"}]},
        ["communities[0].value: must be a community"],
    ),
    (
        "BGPConfiguration",
        {"nodeToNodeMeshEnabled": False},
        ["nodeMeshPassword: needs nodeToNodeMeshEnabled", "nodeMeshMaxRestartTime: needs nodeToNodeMeshEnabled"],
    ),
    ("BGPConfiguration", {"nodeMeshMaxRestartTime": "90"}, ["nodeMeshMaxRestartTime: must be a duration"]),
    (
        "BGPConfiguration",
        {"nodeMeshMaxRestartTime": "2h"},
        ["nodeMeshMaxRestartTime: must be a duration from 1s to 4095s"],
    ),
    ("BGPConfiguration", {"ignoredInterfaces": ["a b"]}, ["ignoredInterfaces[0]: must be the name of a network"]),
    ("BGPConfiguration", {"ipv4NormalRoutePriority": 0}, ["ipv4NormalRoutePriority: must be at least 1"]),
    # BGPPeer
    ("BGPPeer", {"node": "n1"}, ["nodeSelector: cannot be given together with node"]),
    ("BGPPeer", {"peerIP": GONE, "reachableBy": GONE}, [": must have one of peerIP, peerSelector"]),
    (
        "BGPPeer",
        {"peerSelector": "all()"},
        ["peerSelector: cannot be given together with peerIP", "asNumber: must be left out with peerSelector"],
    ),
    ("BGPPeer", {"peerIP": GONE, "reachableBy": GONE, "asNumber": GONE, "peerSelector": "has(rr)"}, []),
    ("BGPPeer", {"asNumber": GONE}, ["asNumber: is required with peerIP"]),
    ("BGPPeer", {"asNumber": "external"}, []),
    ("BGPPeer", {"asNumber": "foreign"}, ["asNumber: must be an AS number"]),
    ("BGPPeer", {"peerIP": "192.0.2.1"}, []),
    ("BGPPeer", {"peerIP": "[2001:db8::1]:179"}, ["reachableBy: must be IPv6, as peerIP is"]),
    ("BGPPeer", {"peerIP": "2001:db8::1", "reachableBy": GONE}, []),
    ("BGPPeer", {"peerIP": "192.0.2.1:0"}, ["peerIP: must have a port from 1 to 65535"]),
    ("BGPPeer", {"peerIP": "tor.example"}, ["peerIP: must be an address"]),
    ("BGPPeer", {"peerIP": "127.0.0.1"}, ["peerIP: must be an address that a router can have"]),
    ("BGPPeer", {"peerIP": "192.0.2.0/24"}, ["reachableBy: needs peerIP to be one address"]),
    ("BGPPeer", {"peerIP": "192.0.2.0/24", "reachableBy": GONE}, []),
    ("BGPPeer", {"keepOriginalNextHop": True}, ["keepOriginalNextHop: cannot be given together with nextHopMode"]),
    ("BGPPeer", {"holdTime": "2s", "keepaliveTime": GONE}, ["holdTime: must be 0s (never expires) or from 3s"]),
    ("BGPPeer", {"holdTime": "5s"}, ["keepaliveTime: must be at most half of holdTime, 5s"]),
    ("BGPPeer", {"ttlSecurity": 256}, ["ttlSecurity: must be at most 255"]),
    ("BGPPeer", {"maxPrefixes": 0}, ["maxPrefixes: must be at least 1"]),
    ("BGPPeer", {"filters": ["f", "f"]}, ["filters: must name each filter once"]),
    ("BGPPeer", {"password": {"secretKeyRef": {"name": "a"}}}, ["password.secretKeyRef.key: is required"]),
    # BGPFilter
    ("BGPFilter", {"exportV4": [{}]}, ["exportV4[0].action: is required"]),
    (
        "BGPFilter",
        {"exportV4": [{"action": "Accept", "cidr": "10.0.0.0/8"}]},
        ["exportV4[0].matchOperator: is required"],
    ),
    ("BGPFilter", {"exportV4": [{"action": "Accept", "matchOperator": "In"}]}, ["exportV4[0].cidr: is required"]),
    (
        "BGPFilter",
        {"exportV4": [{"action": "Accept", "cidr": "fd00::/8", "matchOperator": "In"}]},
        ["exportV4[0].cidr: must be IPv4 in this list"],
    ),
    (
        "BGPFilter",
        {"exportV4": [{"action": "Accept", "prefixLength": {"min": 33}}]},
        ["exportV4[0].prefixLength: needs a cidr", "exportV4[0].prefixLength.min: must be from 0 to 32"],
    ),
    (
        "BGPFilter",
        {"exportV4": [{"action": "Reject", "operations": [{"setPriority": {"value": 1}}]}]},
        ["exportV4[0].operations: need action Accept"],
    ),
    (
        "BGPFilter",
        {"exportV4": [{"action": "Accept", "operations": [{}]}]},
        ["exportV4[0].operations[0]: must have exactly one of"],
    ),
    (
        "BGPFilter",
        {"exportV4": [{"action": "Accept", "communities": {"values": ["1:1", "1:2"]}}]},
        ["exportV4[0].communities.values: has 2 entries; at most 1"],
    ),
    # Node
    ("Node", {"bgp": {}}, ["bgp: must have ipv4Address or ipv6Address"]),
    (
        "Node",
        {"bgp": {"ipv4Address": "127.0.0.1/8"}},
        ["bgp.ipv4Address: must be an address that other nodes can reach"],
    ),
    ("Node", {"bgp": {"ipv4Address": "fd00::1/64"}}, ["bgp.ipv4Address: must be an IPv4 address"]),
    ("Node", {"bgp": {"ipv4Address": "192.0.2.11"}}, []),
    (
        "Node",
        {"bgp": {"ipv6Address": "2001:db8::1/64", "ipv4IPIPTunnelAddr": "10.42.0.1"}},
        ["bgp.ipv4IPIPTunnelAddr: needs ipv4Address"],
    ),
    ("Node", {"vxlanTunnelMACAddr": "66:9e"}, ["vxlanTunnelMACAddr: must be a MAC address"]),
    # FelixConfiguration
    ("FelixConfiguration", {"vxlanPort": 70000}, ["vxlanPort: must be a number from 1 to 65535"]),
    ("FelixConfiguration", {"defaultEndpointToHostAction": "Perhaps"}, ["defaultEndpointToHostAction: must be one of"]),
    # Tier, sets
    ("Tier", {"defaultAction": "Allow"}, ["defaultAction: must be 'Deny' or 'Pass'"]),
    ("NetworkSet", {"nets": ["x"]}, ["nets[0]: must be a CIDR"]),
    # endpoints
    (
        "HostEndpoint",
        {"interfaceName": GONE, "expectedIPs": []},
        ["interfaceName: interfaceName or expectedIPs is required"],
    ),
    ("HostEndpoint", {"node": ""}, ["node: must not be empty"]),
    ("HostEndpoint", {"interfaceName": "eth*"}, ["interfaceName: must be one interface's name, or * alone"]),
    ("HostEndpoint", {"interfaceName": "*"}, []),
    ("WorkloadEndpoint", {"ipNetworks": ["10.0.0.0/24"]}, ["ipNetworks[0]: must be one address, /32"]),
    (
        "WorkloadEndpoint",
        {"interfaceName": "a-name-that-is-too-long"},
        ["interfaceName: must be the name of a network"],
    ),
    (
        "WorkloadEndpoint",
        {"ipNATs": [{"internalIP": "10.0.0.1", "externalIP": "fd00::1"}]},
        ["ipNATs[0].externalIP: must be IPv4, as internalIP is"],
    ),
    (
        "WorkloadEndpoint",
        {"qosControls": {"ingressPacketRate": 0}},
        ["qosControls.ingressPacketRate: must be at least 1"],
    ),
    # IPAM
    ("IPAMBlock", {"allocations": [None], "unallocated": [0]}, ["allocations: must have 4 entries"]),
    ("IPAMBlock", {"allocations": [7, None, None, 1]}, ["allocations[0]: must be null or an index into attributes"]),
    ("IPAMBlock", {"unallocated": [0]}, ["unallocated[0]: is allocated"]),
    ("BlockAffinity", {"state": "perhaps"}, ["state: must be 'pending', 'confirmed' or 'pendingDeletion'"]),
    # the rest
    ("CalicoNodeStatus", {"updatePeriodSeconds": GONE}, ["updatePeriodSeconds: is required"]),
    ("CalicoNodeStatus", {"updatePeriodSeconds": 86401}, ["updatePeriodSeconds: must be at most 86400"]),
    (
        "KubernetesNetworkPolicy",
        {"egress": [{"ports": [{"port": "web", "endPort": 9}]}]},
        ["egress[0].ports[0].endPort: needs port to be a number"],
    ),
    (
        "KubernetesNetworkPolicy",
        {"ingress": [{"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}, "podSelector": {}}]}]},
        ["ingress[0].from[0].ipBlock: cannot be given together"],
    ),
]


@pytest.mark.parametrize(("kind", "change", "expected"), CASES)
def test_what_is_wrong_is_said_and_nothing_more(kind: str, change: dict[str, Any], expected: list[str]) -> None:
    document = deepcopy(DOCUMENTS[kind])
    for field, value in change.items():
        if value is GONE:
            del document["spec"][field]
        else:
            document["spec"][field] = value
    found = said(document)
    assert len(found) == len(expected), found
    for fault in expected:
        where = "spec" if fault.startswith(":") else "spec."
        assert any(one.startswith(where + fault) for one in found), found


def said(document: dict[str, Any]) -> list[str]:
    try:
        parse(document, strict=True)
    except Rejected as rejected:
        return [f"{problem.field}: {problem.remedy}" for problem in rejected.problems]
    return []


@pytest.mark.parametrize(
    ("name", "spec", "fault"),
    [
        ("a.b", {}, "metadata.name: must have no dots"),
        (64 * "a", {}, "metadata.name: must have no dots and at most 63"),
        ("default", {"order": 5}, "spec.order: must be 1e+06 for the built-in tier default"),
        ("kube-admin", {"order": 1000, "defaultAction": "Deny"}, "spec.defaultAction: must be Pass"),
    ],
)
def test_tiers_have_short_names_and_built_in_ones_stay_as_they_are(name: str, spec: dict[str, Any], fault: str) -> None:
    document = {**DOCUMENTS["Tier"], "metadata": {"name": name}, "spec": spec}
    assert any(one.startswith(fault) for one in said(document))


@pytest.mark.parametrize("kind", ["IPAMConfiguration", "ClusterInformation", "KubeControllersConfiguration"])
def test_there_is_one_of_what_is_for_the_whole_cluster(kind: str) -> None:
    document = {**DOCUMENTS[kind], "metadata": {"name": "other"}}
    assert said(document) == ["metadata.name: must be default: there is one for the cluster"]
