"""One right document of every kind, with most of its fields: what the tests take apart."""

from typing import Any

CALICO = "projectcalico.org/v3"
META = {"name": "x", "labels": {"a": "b"}, "annotations": {"felixlite.io/note": "c"}}
IN_NAMESPACE = {**META, "namespace": "default"}
RULE = {
    "action": "Allow",
    "ipVersion": 4,
    "protocol": "TCP",
    "source": {"nets": ["10.0.0.0/8"], "notNets": ["10.1.0.0/16"], "selector": "a == 'b'", "ports": [1, "2:3", "web"]},
    "destination": {"namespaceSelector": "global()", "serviceAccounts": {"names": ["n"], "selector": "has(a)"}},
    "metadata": {"annotations": {"k": "v"}},
}
PING = {"action": "Log", "protocol": "ICMP", "icmp": {"type": 8, "code": 0}, "notICMP": {"type": 3}}
POLICY = {
    "tier": "default",
    "order": 10.5,
    "selector": "app == 'x'",
    "serviceAccountSelector": "all()",
    "types": ["Ingress", "Egress"],
    "ingress": [RULE, PING],
    "egress": [{"action": "Pass", "destination": {"services": {"name": "s", "namespace": "n"}}}],
    "performanceHints": ["AssumeNeededOnEveryNode"],
}
KUBERNETES_POLICY = {
    "podSelector": {"matchLabels": {"a": "b"}, "matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]},
    "policyTypes": ["Ingress", "Egress"],
    "ingress": [
        {"from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}], "ports": [{"protocol": "TCP", "port": 80, "endPort": 90}]}
    ],
    "egress": [{"to": [{"podSelector": {}, "namespaceSelector": {}}]}],
}
FILTER_RULE = {
    "action": "Accept",
    "cidr": "10.0.0.0/8",
    "matchOperator": "In",
    "prefixLength": {"min": 8, "max": 24},
    "source": "RemotePeers",
    "interface": "eth*",
    "peerType": "eBGP",
    "communities": {"values": ["65000:1"]},
    "asPathPrefix": [65000, "1.10"],
    "priority": 100,
    "operations": [
        {"addCommunity": {"value": "65000:2:3"}},
        {"prependASPath": {"prefix": [65000]}},
        {"setPriority": {"value": 5}},
    ],
}

SPECS: dict[str, dict[str, Any]] = {
    "IPPool": {
        "cidr": "10.42.0.0/16",
        "ipipMode": "CrossSubnet",
        "vxlanMode": "Never",
        "natOutgoing": True,
        "disabled": False,
        "disableBGPExport": False,
        "blockSize": 26,
        "nodeSelector": "rack == 'a'",
        "allowedUses": ["Workload", "Tunnel"],
        "assignmentMode": "Automatic",
    },
    "IPReservation": {"reservedCIDRs": ["10.42.0.0/30", "10.42.0.9"]},
    "IPAMConfiguration": {"strictAffinity": True, "maxBlocksPerHost": 4, "autoAllocateBlocks": False},
    "BGPConfiguration": {
        "asNumber": "1.10",
        "nodeToNodeMeshEnabled": True,
        "listenPort": 1179,
        "communities": [{"name": "blue", "value": "65000:1"}],
        "prefixAdvertisements": [{"cidr": "10.42.0.0/16", "communities": ["blue", "65000:2"]}],
        "nodeMeshPassword": {"secretKeyRef": {"name": "bgp", "key": "mesh"}},
        "nodeMeshMaxRestartTime": "60s",
        "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
        "bindMode": "NodeIP",
        "ignoredInterfaces": ["docker*"],
    },
    "BGPPeer": {
        "nodeSelector": "rack == 'a'",
        "peerIP": "192.0.2.1:1179",
        "asNumber": 65000,
        "localASNumber": "1.1",
        "nextHopMode": "Self",
        "password": {"secretKeyRef": {"name": "bgp", "key": "tor"}},
        "sourceAddress": "UseNodeIP",
        "maxRestartTime": "2m",
        "keepaliveTime": "3s",
        "holdTime": "9s",
        "ttlSecurity": 1,
        "reachableBy": "192.0.2.254",
        "filters": ["f"],
        "passive": True,
        "maxPrefixes": 1000,
    },
    "BGPFilter": {
        "exportV4": [FILTER_RULE],
        "importV6": [{"action": "Reject", "cidr": "fd00::/8", "matchOperator": "Equal"}],
    },
    "Node": {
        "bgp": {
            "asNumber": 64513,
            "ipv4Address": "192.0.2.11/24",
            "ipv6Address": "2001:db8::1/64",
            "ipv4IPIPTunnelAddr": "10.42.0.1",
            "routeReflectorClusterID": "1.0.0.1",
        },
        "ipv4VXLANTunnelAddr": "10.42.0.2",
        "vxlanTunnelMACAddr": "66:9e:12:34:56:78",
        "addresses": [{"address": "192.0.2.11", "type": "CalicoNodeIP"}],
        "orchRefs": [{"orchestrator": "k8s", "nodeName": "x"}],
        "interfaces": [{"name": "eth0", "addresses": ["192.0.2.11"]}],
    },
    "FelixConfiguration": {"vxlanPort": 4790, "ipipMTU": 1400, "healthEnabled": True, "bpfEnabled": False},
    "NetworkPolicy": POLICY,
    "GlobalNetworkPolicy": {**POLICY, "namespaceSelector": "has(a)", "applyOnForward": True},
    "StagedNetworkPolicy": {**POLICY, "stagedAction": "Set"},
    "StagedGlobalNetworkPolicy": {**POLICY, "stagedAction": "Learn"},
    "StagedKubernetesNetworkPolicy": {**KUBERNETES_POLICY, "stagedAction": "Set"},
    "Tier": {"order": 5, "defaultAction": "Pass"},
    "NetworkSet": {"nets": ["10.0.0.0/8", "fd00::1"]},
    "GlobalNetworkSet": {"nets": ["10.0.0.0/8", "fd00::1"]},
    "HostEndpoint": {
        "node": "n1",
        "interfaceName": "eth0",
        "expectedIPs": ["192.0.2.11"],
        "ports": [{"name": "web", "protocol": "TCP", "port": 80}],
    },
    "Profile": {"ingress": [RULE], "egress": [PING], "labelsToApply": {"a": "b"}},
    "WorkloadEndpoint": {
        "orchestrator": "k8s",
        "node": "n1",
        "pod": "p",
        "endpoint": "eth0",
        "containerID": "c",
        "ipNetworks": ["10.42.0.3/32", "fd00::3/128"],
        "ipNATs": [{"internalIP": "10.42.0.3", "externalIP": "192.0.2.3"}],
        "profiles": ["kns.default"],
        "interfaceName": "cali123",
        "mac": "66:9e:12:34:56:78",
        "ports": [{"name": "web", "protocol": "TCP", "port": 80, "hostPort": 8080, "hostIP": ""}],
        "qosControls": {"ingressBandwidth": 1000000, "dscp": "AF21"},
    },
    "BlockAffinity": {"state": "confirmed", "node": "n1", "cidr": "10.42.0.0/26", "deleted": "false", "type": "host"},
    "IPAMBlock": {
        "cidr": "10.42.0.0/30",
        "affinity": "host:n1",
        "allocations": [0, None, None, 1],
        "unallocated": [1, 2],
        "attributes": [
            {"handle_id": "h", "secondary": {"node": "n1"}},
            {"handle_id": "i", "secondary": {"node": "n2"}},
        ],
        "sequenceNumber": 7,
        "sequenceNumberForAllocation": {"0": 5, "3": 6},
        "deleted": False,
    },
    "IPAMHandle": {"handleID": "h", "block": {"10.42.0.0/30": 1}, "deleted": False},
    "ClusterInformation": {"clusterGUID": 32 * "0", "clusterType": "felixlite", "datastoreReady": True},
    "KubeControllersConfiguration": {
        "controllers": {"node": {"leakGracePeriod": "15m", "hostEndpoint": {"autoCreate": "Disabled"}}}
    },
    "CalicoNodeStatus": {"node": "n1", "classes": ["Agent", "BGP"], "updatePeriodSeconds": 10},
    "KubernetesNetworkPolicy": KUBERNETES_POLICY,
}
CLUSTER_WIDE_DEFAULT = {"IPAMConfiguration", "ClusterInformation", "KubeControllersConfiguration"}


def documents() -> dict[str, dict[str, Any]]:
    from felixlite.model.kinds import KINDS

    found = {}
    for name, spec in SPECS.items():
        kind = KINDS[name]
        metadata: dict[str, Any] = dict(IN_NAMESPACE if kind.namespaced else META)
        if name in CLUSTER_WIDE_DEFAULT:
            metadata["name"] = "default"
        found[name] = {"apiVersion": kind.api_version, "kind": kind.document_kind, "metadata": metadata, "spec": spec}
    return found
