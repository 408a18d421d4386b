"""The API of Kubernetes in a lab: `felixlite apiserver` beside the lab's etcd, and kubectl to it.

It listens on the management network, which only the lab's namespaces can reach: kubectl runs in there.  With `lab up
--store kubernetes` the agents use it as their store, and what a kubelet or a scheduler would write, nodes and pods, is
written here; otherwise it is started when somebody first asks for it.
"""

import json
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from felixlite.errors import FelixliteError, Misconfigured
from felixlite.lab import world
from felixlite.lab.topology import Topology

PORT = 6443


def kubeconfig(topology: Topology, directory: Path, command: Sequence[str]) -> Path:
    """The path of a kubeconfig whose server answers. `command`: felixlite against the etcd below."""
    path = directory / "kubeconfig"
    if not _running(topology):
        path.unlink(missing_ok=True)
        world.start(topology.switch, _server(topology, directory, path, command), directory / "apiserver.log")
        world.wait_for(lambda: path.exists() and _listens(topology, directory), "an answer of the API server", 60)
    return path


def kubectl(topology: Topology, config: Path, *arguments: str) -> list[str]:
    """The command; for whoever runs it in the place of this process."""
    if not shutil.which("kubectl"):
        raise Misconfigured("there is no kubectl here: apt-get install kubernetes-client")
    return world.inside(topology.switch, ["kubectl", "--kubeconfig", str(config), *arguments])


def node(name: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What a kubelet registers."""
    return {"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": dict(labels)}}


def pod(name: str, namespace: str, on: str, labels: Mapping[str, str]) -> dict[str, Any]:
    """What a scheduler has given to a node."""
    spec = {"nodeName": on, "containers": [{"name": "main", "image": "none"}]}
    metadata = {"name": name, "namespace": namespace, "labels": dict(labels)}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec}


def apply(topology: Topology, config: Path, documents: Sequence[Mapping[str, Any]]) -> None:
    together = {"apiVersion": "v1", "kind": "List", "items": list(documents)}
    world.run(kubectl(topology, config, "apply", "--validate=false", "-f", "-"), stdin=json.dumps(together))


def _server(topology: Topology, directory: Path, path: Path, command: Sequence[str]) -> list[str]:
    address = str(topology.store_addresses[0].ip)
    state = ["--state-dir", str(directory / "apiserver"), "--kubeconfig-out", str(path)]
    return [*command, "apiserver", "--host", address, "--port", str(PORT), "--name", address, *state]


def _running(topology: Topology) -> bool:
    mark = f" apiserver --host {topology.store_addresses[0].ip} "
    return any(mark in world.command_of(pid) for pid in world.processes(topology.switch))


def _listens(topology: Topology, directory: Path) -> bool:
    if not _running(topology):
        log = (directory / "apiserver.log").read_text().splitlines()[-3:]
        raise FelixliteError("\n".join(["the API server of the lab ended:", *log]))
    return f":{PORT} " in world.run(["ss", "-Hltn"], namespace=topology.switch)
