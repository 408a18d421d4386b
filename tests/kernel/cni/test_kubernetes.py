"""An agent whose store is the API of Kubernetes: the Node, the pods and their addresses are where Kubernetes looks for them."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from felixlite.datastore.store import Document, Key
from felixlite.kernel.namespaces import visiting
from felixlite.model.kinds import CALICO_VERSION
from tests.support.agent import RunningAgent, agent
from tests.support.apiserver import ApiServer, apiserver
from tests.support.cni import eventually, pod
from tests.support.netns import Namespace, namespace

NODE = Key("Node", "n1")


@dataclass
class KubernetesNode:
    net: Namespace
    folder: Path
    agent: RunningAgent
    server: ApiServer
    plugin: Path

    def call(self, command: str, space: Namespace, name: str, container: str) -> dict[str, Any]:
        config = {"cniVersion": "1.1.0", "name": "k8s-pod-network", "type": "felixlite"}
        config["socket"] = str(self.folder / "cni.sock")
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(space.path),
            "CNI_IFNAME": "eth0",
            "CNI_ARGS": f"K8S_POD_NAMESPACE=default;K8S_POD_NAME={name}",
        }
        done = subprocess.run(
            [str(self.plugin)], input=json.dumps(config), env=environment, capture_output=True, text=True, check=False
        )
        answer: dict[str, Any] = json.loads(done.stdout) if done.stdout.strip() else {}
        return answer

    def add(self, space: Namespace, name: str, container: str) -> str:
        answer = self.call("ADD", space, name, container)
        assert "code" not in answer, (answer, self.agent.log[-2000:])
        address: str = answer["ips"][0]["address"]
        return address.partition("/")[0]

    def stored(self, key: Key) -> Document:
        entry = self.server.store.get(key)
        assert entry, f"there is no {key}"
        return entry.document

    def annotations(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.stored(Key("Pod", name, "default"))["metadata"].get("annotations") or {}
        return found

    def routes(self) -> str:
        return self.net.command("ip", "route", "show", "proto", "80")

    def a_pod(self, name: str, **spec: Any) -> None:
        key = Key("Pod", name, "default")
        metadata = {"name": name, "namespace": "default", "labels": {"app": name}}
        spec = {"nodeName": "n1", "serviceAccountName": "default", "containers": [{"name": "c"}], **spec}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": spec,
            "status": {"phase": "Pending"},
        }
        self.server.store.create(key, document)


@pytest.fixture
def node(plugins: dict[str, bytes]) -> Iterator[KubernetesNode]:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-kube-"))
    plugin = folder / "felixlite"
    plugin.write_bytes(plugins["compiled"])
    plugin.chmod(0o755)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    with namespace("kn") as net:
        net.ip("link add eth0 type bridge")
        net.ip("addr add 192.0.2.1/24 dev eth0")
        net.ip("link set eth0 up")
        with visiting(net.fd), apiserver() as server:
            # what a kubelet makes
            server.store.create(
                NODE, {"apiVersion": CALICO_VERSION, "kind": "Node", "metadata": {"name": "n1"}, "spec": {}}
            )
            with agent(f"kubernetes://{server.kubeconfig}", folder) as running, visiting(outside):
                yield KubernetesNode(net, folder, running, server, plugin)
    os.close(outside)
    shutil.rmtree(folder)


def test_a_node_and_its_pods_are_in_kubernetes_and_in_the_kernel(node: KubernetesNode) -> None:
    bgp = node.stored(NODE)["spec"]["bgp"]
    assert bgp["ipv4Address"] == "192.0.2.1/24"
    assert node.stored(Key("IPPool", "default-ipv4-ippool"))["spec"]["ipipMode"] == "Always"
    eventually(lambda: "ipv4IPIPTunnelAddr" in node.stored(NODE)["spec"]["bgp"])

    node.a_pod("web-0")
    with pod("kn") as space:
        address = node.add(space, "web-0", "c1")
        assert node.annotations("web-0") == {
            "cni.projectcalico.org/podIP": f"{address}/32",
            "cni.projectcalico.org/podIPs": f"{address}/32",
            "cni.projectcalico.org/containerID": "c1",
        }
        assert f"{address} dev cali" in node.routes()
        handle = node.stored(Key("IPAMHandle", "k8s-pod-network.c1"))
        assert sum(handle["spec"]["block"].values()) == 1

        # a sandbox made anew, as after a reboot, while the kubelet still tells the old address
        assert node.call("DEL", space, "web-0", "c1") == {}
        assert node.annotations("web-0")["cni.projectcalico.org/podIP"] == ""
        eventually(lambda: f"{address} dev" not in node.routes())
        stale = node.stored(Key("Pod", "web-0", "default"))
        entry = node.server.store.get(Key("Pod", "web-0", "default"))
        assert entry
        status = {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}]}
        node.server.store.update(entry.key, {**stale, "status": status}, entry.revision)
        again = node.add(space, "web-0", "c2")
        assert again != address
        assert f"{again} dev cali" in node.routes()
        assert f"{address} dev" not in node.routes()

        assert node.call("DEL", space, "web-0", "c2") == {}
    eventually(lambda: f"{again} dev" not in node.routes())
    assert node.server.store.get(Key("IPAMHandle", "k8s-pod-network.c2")) is None
    assert node.server.store.list("BlockAffinity").entries[0].document["spec"]["deleted"] != "true"


def test_a_pool_edited_through_the_api_is_followed(node: KubernetesNode) -> None:
    pool = Key("IPPool", "default-ipv4-ippool")
    eventually(lambda: "tunl0" in node.net.command("ip", "-br", "address"))
    entry = node.server.store.get(pool)
    assert entry
    spec = {**entry.document["spec"], "ipipMode": "Never", "vxlanMode": "Always"}
    node.server.store.update(pool, {**entry.document, "spec": spec}, entry.revision)
    eventually(lambda: "vxlan.calico" in node.net.command("ip", "-br", "address"))
    eventually(lambda: "ipv4VXLANTunnelAddr" in node.stored(NODE)["spec"])
