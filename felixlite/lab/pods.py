"""Pods of a lab: a namespace each, given to the CNI plugin exactly as a container runtime does it."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from felixlite.errors import FelixliteError
from felixlite.lab import world
from felixlite.lab.topology import Machine, Topology

NAMESPACE = "default"


@dataclass(frozen=True, slots=True)
class Pod:
    name: str
    node: str
    namespace: str  # the network namespace
    container: str
    address: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def configuration(run_directory: Path, labels: Mapping[str, str]) -> dict[str, Any]:
    return {
        "cniVersion": "1.0.0",
        "name": "k8s-pod-network",
        "type": "felixlite",
        "socket": str(run_directory / "cni.sock"),
        "args": {"cni": {"labels": [{"key": key, "value": value} for key, value in labels.items()]}},
    }


def environment(command: str, pod: Pod) -> list[str]:
    """As `env` wants it: the plugin reads all of its parameters from there."""
    return [
        "env",
        f"CNI_COMMAND={command}",
        f"CNI_CONTAINERID={pod.container}",
        f"CNI_NETNS={world.NETNS / pod.namespace}",
        "CNI_IFNAME=eth0",
        "CNI_PATH=/opt/cni/bin",
        f"CNI_ARGS=IgnoreUnknown=1;K8S_POD_NAMESPACE={NAMESPACE};K8S_POD_NAME={pod.name}",
    ]


def call(command: str, machine: Machine, run_directory: Path, pod: Pod) -> dict[str, Any]:
    """One exec of the plugin in the node's namespace."""
    stdin = json.dumps(configuration(run_directory, pod.labels))
    plugin = [*environment(command, pod), str(run_directory / "cni-bin" / "felixlite")]
    printed = world.run(plugin, stdin=stdin, namespace=machine.namespace, check=False)
    answer: dict[str, Any] = json.loads(printed) if printed.strip() else {}
    if "code" in answer:
        raise FelixliteError(f"pod {pod.name}: CNI {command}: {answer.get('msg')} {answer.get('details', '')}".strip())
    return answer


def attach(topology: Topology, machine: Machine, run_directory: Path, name: str, labels: Mapping[str, str]) -> Pod:
    namespace = topology.namespace(f"p-{name}")
    world.make_namespaces(topology.name, [namespace])
    world.run(["ip", "-n", namespace, "link", "set", "lo", "up"])
    pod = Pod(name, machine.name, namespace, hashlib.sha256(namespace.encode()).hexdigest(), labels=labels)
    result = call("ADD", machine, run_directory, pod)
    return Pod(pod.name, pod.node, pod.namespace, pod.container, result["ips"][0]["address"].partition("/")[0], labels)


def detach(machine: Machine, run_directory: Path, pod: Pod) -> None:
    call("DEL", machine, run_directory, pod)
    world.kill(world.processes(pod.namespace))
    world.run(["ip", "netns", "delete", pod.namespace])
