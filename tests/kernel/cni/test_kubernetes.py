"""An agent whose store is the API of Kubernetes: the Node, the pods and their addresses are where Kubernetes looks for them."""

from collections.abc import Iterator
from functools import partial

import pytest

from felixlite.datastore.store import Key
from felixlite.model.fromkubernetes import interface_name
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


def test_who_annotates_a_pod_takes_over_no_address(node: KubernetesNode) -> None:
    node.a_pod("web-0")
    with pod("ka") as space:
        address = node.add(space, "web-0", "c1")
        mac = space.command("cat", "/sys/class/net/eth0/address").strip()
        assert f"ether saddr != {mac}" in node.rules()
        annotate(node, "web-0", "203.0.113.9/32")
        node.a_pod("web-1")  # not plugged yet
        annotate(node, "web-1", "203.0.113.9/32")
        node.a_pod("web-2")  # another plugin's: when it is known, so are the other two
        node.change(Key("Pod", "web-2", "default"), "status", podIP="198.51.100.2", podIPs=[{"ip": "198.51.100.2"}])
        patiently(lambda: interface_name("default", "web-2") in node.rules())
        assert "203.0.113.9" not in node.rules() + node.routes()
        assert interface_name("default", "web-1") not in node.rules()
        assert f"{address} dev cali" in node.routes()
        assert f"ether saddr != {mac}" in node.rules()


def test_what_has_no_place_in_kubernetes_is_refused_and_leaves_nothing(node: KubernetesNode) -> None:
    """A second interface would overwrite the first one's address; a container that is no pod has no object."""
    node.a_pod("web-0")
    with pod("kn") as space:
        node.add(space, "web-0", "c1")
        before = node.annotations("web-0")
        for name, interface in (("web-0", "net1"), ("", "net2")):
            refused = node.call("ADD", space, name, "c1", interface)
            assert "on Kubernetes" in refused["details"], refused
            assert node.call("DEL", space, name, "c1", interface) == {}
        assert [link["ifname"] for link in space.show("link")] == ["lo", "eth0"]
        assert node.annotations("web-0") == before
    patiently(lambda: not list((node.folder / "cni-notes").iterdir()))
    for interface in ("net1", "net2"):
        assert node.server.store.get(Key("IPAMHandle", f"k8s-pod-network.c1.{interface}")) is None


def annotate(node: KubernetesNode, name: str, addresses: str) -> None:
    claim = {"cni.projectcalico.org/podIP": addresses, "cni.projectcalico.org/podIPs": addresses}
    node.change(Key("Pod", name, "default"), "metadata", annotations={**node.annotations(name), **claim})


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
