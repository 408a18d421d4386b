"""Calico's Node as a core/v1 Node, there and back."""

from felixlite.apiserver.nodes import shown, taken

CALICO = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "Node",
    "metadata": {"name": "n1", "labels": {"rack": "r1"}},
    "spec": {
        "bgp": {"ipv4Address": "10.0.0.1/24", "asNumber": "64512"},
        "ipv4VXLANTunnelAddr": "10.2.0.1",
        "addresses": [{"address": "10.0.0.1/24", "type": "CalicoNodeIP"}],
        "orchRefs": [{"orchestrator": "k8s", "nodeName": "n1"}],
    },
    "status": {"accepts": ["ipip"]},
}


def test_it_is_the_same_again() -> None:
    back = taken(shown(CALICO), CALICO)
    assert set(back["metadata"].pop("annotations")) == {"felixlite.io/kubernetes-node"}
    assert back == CALICO


def test_what_only_kubernetes_knows_is_kept() -> None:
    node = shown(CALICO)
    node["metadata"]["annotations"]["mine"] = "yes"
    node["spec"] = {"taints": [{"key": "a", "effect": "NoSchedule"}]}
    node["status"]["conditions"] = [{"type": "Ready", "status": "True"}]
    again = shown(taken(node, CALICO))
    assert again["metadata"]["annotations"] == node["metadata"]["annotations"]
    assert again["spec"] == node["spec"]
    assert again["status"] == node["status"]


def test_an_annotation_taken_away_takes_the_field_away() -> None:
    node = shown(CALICO)
    del node["metadata"]["annotations"]["projectcalico.org/IPv4VXLANTunnelAddr"]
    assert "ipv4VXLANTunnelAddr" not in taken(node, CALICO)["spec"]


def test_an_address_is_shown_where_calico_has_only_its_own() -> None:
    assert shown(CALICO)["status"]["addresses"] == [{"type": "InternalIP", "address": "10.0.0.1"}]


def test_a_spoiled_annotation_is_as_good_as_none() -> None:
    spoiled = {**CALICO, "metadata": {"name": "n1", "annotations": {"felixlite.io/kubernetes-node": "{"}}}
    assert shown(spoiled)["spec"] == {}
