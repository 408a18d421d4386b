"""A node whose agent has the API of Kubernetes as its store: a namespace, our API server, an agent, the CNI plugin.

with kubernetes_node(plugin) as node:
    node.a_pod("web-0")                          # as a scheduler leaves it
    node.add(space, "web-0", "c1")               # as a container runtime does it
    node.server.audited                          # what was asked
"""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from felixlite.datastore.store import Document, Key
from felixlite.kernel.namespaces import visiting
from felixlite.model.kind import CALICO_VERSION
from tests.support.agent import RunningAgent, end_tunnel_processes
from tests.support.apiserver import ApiServer, apiserver
from tests.support.netns import Namespace, namespace

NODE = Key("Node", "n1")


@dataclass
class KubernetesNode:
    net: Namespace
    folder: Path
    agent: RunningAgent
    server: ApiServer
    plugin: Path

    @property
    def store_url(self) -> str:
        return f"kubernetes://{self.server.kubeconfig}"

    def call(
        self, command: str, space: Namespace, name: str, container: str, interface: str = "eth0", **more: Any
    ) -> dict[str, Any]:
        config = {"cniVersion": "1.1.0", "name": "k8s-pod-network", "type": "felixlite", **more}
        config["socket"] = str(self.folder / "cni.sock")
        environment = {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": container,
            "CNI_NETNS": str(space.path),
            "CNI_IFNAME": interface,
            "CNI_PATH": str(self.folder),
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

    def change(self, key: Key, part: str, **fields: Any) -> None:
        """Fields of the spec or of the status."""
        entry = self.server.store.get(key)
        assert entry, f"there is no {key}"
        changed = {**entry.document, part: {**(entry.document.get(part) or {}), **fields}}
        self.server.store.update(key, changed, entry.revision)

    def annotations(self, name: str) -> dict[str, str]:
        found: dict[str, str] = self.stored(Key("Pod", name, "default"))["metadata"].get("annotations") or {}
        return found

    def routes(self) -> str:
        return self.net.command("ip", "route", "show", "proto", "80")

    def rules(self) -> str:
        return self.net.command("nft", "list", "ruleset")

    def a_pod(self, name: str) -> None:
        key = Key("Pod", name, "default")
        metadata = {"name": name, "namespace": "default", "labels": {"app": name}}
        spec = {"nodeName": "n1", "serviceAccountName": "default", "containers": [{"name": "c"}]}
        document = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": metadata,
            "spec": spec,
            "status": {"phase": "Pending"},
        }
        self.server.store.create(key, document)


Wrap = Callable[[list[str], Path], list[str]]  # the agent's command and its folder -> the command that is started


@contextmanager
def started(store: str, folder: Path, wrap: Wrap | None) -> Iterator[RunningAgent]:
    running = RunningAgent(store, folder, "n1")
    running.command = wrap(running.command, folder) if wrap else running.command
    running.start()
    try:
        running.wait_until_ready()
        yield running
    finally:
        running.stop()
        end_tunnel_processes()


@contextmanager
def kubernetes_node(plugin: bytes, wrap: Wrap | None = None, **settings: Any) -> Iterator[KubernetesNode]:
    """`settings` are the API server's."""
    folder = Path(tempfile.mkdtemp(prefix="felixlite-kube-"))
    path = folder / "felixlite"
    path.write_bytes(plugin)
    path.chmod(0o755)
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with namespace("kn") as net:
            net.ip("link add eth0 type bridge")
            net.ip("addr add 192.0.2.1/24 dev eth0")
            net.ip("link set eth0 up")
            with visiting(net.fd), apiserver(**settings) as server:
                # what a kubelet makes
                kubelets = {"apiVersion": CALICO_VERSION, "kind": "Node", "metadata": {"name": "n1"}, "spec": {}}
                server.store.create(NODE, kubelets)
                with started(f"kubernetes://{server.kubeconfig}", folder, wrap) as running, visiting(outside):
                    yield KubernetesNode(net, folder, running, server, path)
    finally:
        os.close(outside)
        shutil.rmtree(folder)
