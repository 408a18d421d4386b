from typing import Any

import pytest

from felixlite.model.fromkubernetes import (
    NODE_FIELDS,
    endpoint,
    endpoint_name,
    endpoint_parts,
    interface_name,
    node,
    node_annotations,
    pod_addresses,
    pod_annotations,
    pod_note,
)
from felixlite.model.parse import parse

NODE: dict[str, Any] = {
    "metadata": {
        "name": "n1",
        "uid": "u",
        "resourceVersion": "7",
        "labels": {"rack": "a"},
        "annotations": {
            "projectcalico.org/IPv4Address": "192.0.2.11/24",
            "projectcalico.org/ASNumber": "64513",
            "projectcalico.org/IPv4IPIPTunnelAddr": "10.42.0.1",
            "projectcalico.org/VXLANTunnelMACAddr": "66:9e:12:34:56:78",
            "projectcalico.org/labels": '{"rack": "b", "x": "y"}',
            "projectcalico.org/Interfaces": '[{"name": "eth0", "addresses": ["192.0.2.11"]}]',
            "felixlite.io/accepts": "ipip,none",
            "other": "kept away",
        },
    },
    "spec": {"podCIDRs": ["10.42.0.0/24"]},
    "status": {"addresses": [{"type": "InternalIP", "address": "192.0.2.11"}, {"type": "Hostname", "address": "n1"}]},
}


def pod(**change: Any) -> dict[str, Any]:
    found: dict[str, Any] = {
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"app": "web"}, "annotations": {}},
        "spec": {
            "nodeName": "n-1",
            "serviceAccountName": "robot",
            "containers": [
                {"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 53, "protocol": "UDP"}]}
            ],
        },
        "status": {"phase": "Running", "podIPs": [{"ip": "10.42.0.3"}, {"ip": "fd00::3"}]},
    }
    for part, fields in change.items():
        found[part] = {**found[part], **fields}
    return found


def note(message: str) -> dict[str, str]:
    return {"type": "felixlite.io/Addresses", "status": "True" if message else "False", "message": message}


def plugged(before: dict[str, Any], wanted: dict[str, Any] | None) -> dict[str, Any]:
    """The pod after the CNI plugin's write."""
    annotations = {**before["metadata"]["annotations"], **pod_annotations(wanted)}
    status = {**before["status"], "conditions": [pod_note(wanted)]}
    return {**before, "metadata": {**before["metadata"], "annotations": annotations}, "status": status}


def test_a_node_is_what_its_annotations_say() -> None:
    found = parse(node(NODE), strict=True).inside()
    assert str(found.ipv4) == "192.0.2.11/24"
    assert found.asn == 64513
    assert str(found.ipip_address) == "10.42.0.1"
    assert found.labels == {"rack": "b", "x": "y"}
    assert found.accepts == {"ipip", "none"}


def test_a_node_keeps_its_identity_and_its_addresses() -> None:
    found = node(NODE)
    assert found["metadata"]["resourceVersion"] == "7"
    assert found["spec"]["addresses"] == [
        {"address": "192.0.2.11", "type": "CalicoNodeIP"},
        {"address": "192.0.2.11", "type": "InternalIP"},
    ]
    assert found["spec"]["interfaces"] == [{"name": "eth0", "addresses": ["192.0.2.11"]}]
    assert found["status"] == {"podCIDRs": ["10.42.0.0/24"], "accepts": ["ipip", "none"]}


def test_what_is_written_back_is_what_was_read() -> None:
    written = node_annotations(node(NODE))
    theirs = NODE["metadata"]["annotations"]
    assert written["projectcalico.org/IPv4Address"] == theirs["projectcalico.org/IPv4Address"]
    assert written["felixlite.io/accepts"] == "ipip,none"
    assert written["projectcalico.org/IPv6Address"] is None
    again = {**NODE, "metadata": {**NODE["metadata"], "annotations": {k: v for k, v in written.items() if v}}}
    assert node(again)["spec"] == node(NODE)["spec"]


def test_every_field_of_a_node_that_has_an_annotation_survives_the_way_there_and_back() -> None:
    document: dict[str, Any] = {}
    for number, where in enumerate(NODE_FIELDS.values()):
        inner = document
        for step in where[:-1]:
            inner = inner.setdefault(step, {})
        inner[where[-1]] = str(number)
    annotations = {key: value for key, value in node_annotations(document).items() if value}
    back = node({"metadata": {"name": "n", "annotations": annotations}})
    assert back["spec"]["bgp"] == document["spec"]["bgp"]
    assert back["status"] == document["status"]


def test_a_spoiled_annotation_is_as_good_as_none() -> None:
    spoiled = {
        "metadata": {"name": "n", "annotations": {"projectcalico.org/labels": "{", "projectcalico.org/Interfaces": "3"}}
    }
    assert node(spoiled)["metadata"]["labels"] == {}


def test_a_pod_is_a_workload_endpoint() -> None:
    document = endpoint(pod())
    assert document is not None
    found = parse(document, strict=True).inside()
    assert (found.name, found.namespace, found.node) == ("n--1-k8s-web--1-eth0", "shop", "n-1")
    assert [str(address) for address in found.addresses] == ["10.42.0.3/32", "fd00::3/128"]
    assert found.profiles == ("kns.shop", "ksa.shop.robot")
    assert found.interface == interface_name("shop", "web-1")
    assert found.labels == {
        "app": "web",
        "projectcalico.org/namespace": "shop",
        "projectcalico.org/orchestrator": "k8s",
        "projectcalico.org/serviceaccount": "robot",
    }
    assert [(port.name, port.protocol, port.port) for port in found.ports] == [("http", "TCP", 80), ("", "UDP", 53)]


@pytest.mark.parametrize(
    "change",
    [
        {"spec": {"nodeName": ""}},
        {"spec": {"hostNetwork": True}},
        {"status": {"podIPs": []}},
        {"status": {"phase": "Succeeded"}},
        {"status": {"phase": "Failed"}},
        {"metadata": {"deletionTimestamp": "now", "annotations": {"cni.projectcalico.org/podIP": ""}}},
    ],
)
def test_a_pod_without_a_place_or_an_address_is_none(change: dict[str, Any]) -> None:
    assert endpoint(pod(**change)) is None


@pytest.mark.parametrize(
    ("status", "annotations", "addresses"),
    [
        ({"podIPs": [], "podIP": "10.0.0.1"}, {}, ["10.0.0.1/32"]),
        ({}, {}, ["10.42.0.3/32", "fd00::3/128"]),
        ({"conditions": [note("10.0.0.2/32,fd00::2/128")], "podIPs": []}, {}, ["10.0.0.2/32", "fd00::2/128"]),
        # a sandbox made anew
        (
            {"conditions": [{"type": "Ready"}, note("10.9.9.9/32 02:00:00:00:00:01")]},
            {"cni.projectcalico.org/podIP": "10.9.9.9/32"},
            ["10.9.9.9/32"],
        ),
        ({"conditions": [note("")]}, {"cni.projectcalico.org/podIP": ""}, []),  # given back
        # another plugin has taken over
        (
            {"conditions": [note("10.9.9.9/32")]},
            {"cni.projectcalico.org/podIP": "10.42.0.3/32"},
            ["10.42.0.3/32", "fd00::3/128"],
        ),
    ],
)
def test_the_note_of_the_plugin_and_the_status_say_the_address(
    status: dict[str, Any], annotations: dict[str, str], addresses: list[str]
) -> None:
    assert pod_addresses(pod(status=status, metadata={"annotations": annotations})) == addresses


@pytest.mark.parametrize(
    "claim", ["10.9.9.9/32", "10.42.0.3/32,10.9.9.9/32", "192.0.2.11", "", "no address", "0.0.0.0/0"]
)
@pytest.mark.parametrize("conditions", [[], [note("10.42.0.3/32,fd00::3/128 02:00:00:00:00:01")]])
def test_who_may_annotate_a_pod_gets_no_address_by_it(claim: str, conditions: list[dict[str, Any]]) -> None:
    names = ["cni.projectcalico.org/podIPs", "cni.projectcalico.org/podIP", "vpc.amazonaws.com/pod-ips"]
    annotations = {"annotations": dict.fromkeys(names, claim)}
    known = pod(status={"conditions": conditions}, metadata=annotations)
    assert pod_addresses(known) == ["10.42.0.3/32", "fd00::3/128"]
    fresh = pod(status={"podIPs": []}, metadata=annotations)  # scheduled, and the plugin has not been called yet
    assert pod_addresses(fresh) == []


@pytest.mark.parametrize("parts", [("n1", "k8s", "web", "eth0"), ("n-1", "k8s", "web-7d-x", "eth0")])
def test_the_name_of_an_endpoint_leads_back_to_its_pod(parts: tuple[str, str, str, str]) -> None:
    assert endpoint_parts(endpoint_name(*parts)) == parts


@pytest.mark.parametrize("name", ["", "n1-k8s-web", "n1-k8s-a-b-eth0", "-k8s-web-eth0"])
def test_a_name_of_no_endpoint_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not the name of a WorkloadEndpoint"):
        endpoint_parts(name)


def test_an_endpoint_written_to_its_pod_is_read_again() -> None:
    fresh = pod(status={"podIPs": [], "phase": "Pending"})
    assert endpoint(fresh) is None
    said = {"annotations": {"felixlite.io/most-mtu": "1500"}}
    spec = {"ipNetworks": ["10.42.0.9/32", "fd00::9/128"], "containerID": "c1", "mac": "02:00:00:00:00:01"}
    written = endpoint(plugged(fresh, {"metadata": said, "spec": spec}))
    assert written
    assert {name: written["spec"][name] for name in spec} == spec
    assert written["metadata"]["annotations"] == said["annotations"]
    assert endpoint(plugged(pod(), None)) is None
    found = parse(written, strict=True).inside()
    assert found.mac == "02:00:00:00:00:01"


def test_the_mac_is_that_of_the_sandbox_with_these_addresses() -> None:
    left = plugged(pod(), {"spec": {"ipNetworks": ["10.42.0.9/32"], "mac": "02:00:00:00:00:01"}})
    taken_over = pod(status=left["status"], metadata={"annotations": {"cni.projectcalico.org/podIP": "10.42.0.3/32"}})
    written = endpoint(taken_over)
    assert written
    assert "mac" not in written["spec"]


def test_the_interface_of_a_pod_is_named_as_the_reference_does() -> None:
    assert interface_name("default", "nginx") == "calic440f455693"  # printf default.nginx | sha1sum | cut -c1-11
