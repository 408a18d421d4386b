"""An agent whose store is the API of Kubernetes: the Node, the pods and their addresses are where Kubernetes looks for them."""

from collections.abc import Iterator
from functools import partial

import pytest

from felixlite.datastore.store import Key
from tests.support.cni import eventually, pod
from tests.support.kubernode import NODE, KubernetesNode, kubernetes_node

patiently = partial(eventually, seconds=60.0)  # a busy machine is no failure


@pytest.fixture
def node(plugins: dict[str, bytes]) -> Iterator[KubernetesNode]:
    with kubernetes_node(plugins["compiled"]) as found:
        yield found


def test_a_node_and_its_pods_are_in_kubernetes_and_in_the_kernel(node: KubernetesNode) -> None:
    bgp = node.stored(NODE)["spec"]["bgp"]
    assert bgp["ipv4Address"] == "192.0.2.1/24"
    assert node.stored(Key("IPPool", "default-ipv4-ippool"))["spec"]["ipipMode"] == "Always"
    patiently(lambda: "ipv4IPIPTunnelAddr" in node.stored(NODE)["spec"]["bgp"])

    node.a_pod("web-0")
    with pod("kn") as space:
        address = node.add(space, "web-0", "c1")
        assert node.annotations("web-0") == {
            "cni.projectcalico.org/podIP": f"{address}/32",
            "cni.projectcalico.org/podIPs": f"{address}/32",
            "cni.projectcalico.org/containerID": "c1",
            "felixlite.io/most-mtu": "1500",
        }
        assert f"{address} dev cali" in node.routes()
        handle = node.stored(Key("IPAMHandle", "k8s-pod-network.c1"))
        assert sum(handle["spec"]["block"].values()) == 1

        # a sandbox made anew, as after a reboot, while the kubelet still tells the old address
        assert node.call("DEL", space, "web-0", "c1") == {}
        assert node.annotations("web-0")["cni.projectcalico.org/podIP"] == ""
        patiently(lambda: f"{address} dev" not in node.routes())
        node.change(Key("Pod", "web-0", "default"), "status", podIP=address, podIPs=[{"ip": address}])
        again = node.add(space, "web-0", "c2")
        assert again != address
        assert f"{again} dev cali" in node.routes()
        assert f"{address} dev" not in node.routes()

        assert node.call("DEL", space, "web-0", "c2") == {}
    patiently(lambda: f"{again} dev" not in node.routes())
    assert node.server.store.get(Key("IPAMHandle", "k8s-pod-network.c2")) is None


def conditions(node: KubernetesNode) -> dict[str, str]:
    code, found = node.net.run(node.server.ask, "GET", "/api/v1/nodes/n1")
    assert code == 200
    return {one["type"]: one["status"] for one in found["status"].get("conditions") or ()}


def test_the_scheduler_is_told_whether_the_node_has_a_network(node: KubernetesNode) -> None:
    patiently(lambda: conditions(node).get("NetworkUnavailable") == "False")
    told = node.net.command(*node.agent.command[:3], "--store", node.store_url, "node", "shutdown", "--node-name", "n1")
    assert told == "Node n1: NetworkUnavailable\n"
    assert conditions(node)["NetworkUnavailable"] == "True"


def test_a_pool_edited_through_the_api_is_followed(node: KubernetesNode) -> None:
    patiently(lambda: "tunl0" in node.net.command("ip", "-br", "address"))
    node.change(Key("IPPool", "default-ipv4-ippool"), "spec", ipipMode="Never", vxlanMode="Always")
    patiently(lambda: "vxlan.calico" in node.net.command("ip", "-br", "address"))
    patiently(lambda: "ipv4VXLANTunnelAddr" in node.stored(NODE)["spec"])
