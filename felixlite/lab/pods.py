"""Pods of a lab: a namespace each, given to the CNI plugin exactly as a container runtime does it."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
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
    pools: Sequence[str] = ()  # the only ones that its address may come from; none: as the node does it

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def named(topology: Topology, machine: Machine, name: str, labels: Mapping[str, str], pools: Sequence[str] = ()) -> Pod:
    """A pod that is yet to be attached."""
    namespace = topology.namespace(f"p-{name}")
    return Pod(name, machine.name, namespace, hashlib.sha256(namespace.encode()).hexdigest(), "", labels, pools)


def configuration(run_directory: Path, pod: Pod) -> dict[str, Any]:
    ask = {"ipam": {"type": "felixlite-ipam", "ipv4_pools": list(pod.pools)}} if pod.pools else {}
    return {
        "cniVersion": "1.0.0",
        "name": "k8s-pod-network",
        "type": "felixlite",
        "socket": str(run_directory / "cni.sock"),
        "args": {"cni": {"labels": [{"key": key, "value": value} for key, value in pod.labels.items()]}},
        **ask,
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
    stdin = json.dumps(configuration(run_directory, pod))
    plugin = [*environment(command, pod), str(run_directory / "cni-bin" / "felixlite")]
    printed = world.run(plugin, stdin=stdin, namespace=machine.namespace, check=False)
    answer: dict[str, Any] = json.loads(printed) if printed.strip() else {}
    if "code" in answer:
        raise FelixliteError(f"pod {pod.name}: CNI {command}: {answer.get('msg')} {answer.get('details', '')}".strip())
    return answer


def attach(topology: Topology, machine: Machine, run_directory: Path, wanted: Pod) -> Pod:
    """The pod with its address. When the plugin refuses, no namespace is left."""
    world.make_namespaces(topology.name, [wanted.namespace])
    world.run(["ip", "-n", wanted.namespace, "link", "set", "lo", "up"])
    try:
        result = call("ADD", machine, run_directory, wanted)
    except FelixliteError:
        world.run(["ip", "netns", "delete", wanted.namespace])
        raise
    return replace(wanted, address=result["ips"][0]["address"].partition("/")[0])


def detach(machine: Machine, run_directory: Path, pod: Pod) -> None:
    call("DEL", machine, run_directory, pod)
    world.kill(world.processes(pod.namespace))
    world.run(["ip", "netns", "delete", pod.namespace])
