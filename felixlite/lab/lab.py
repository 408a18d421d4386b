"""A whole rack on one machine: etcd, routers, one real agent a node, pods through the CNI plugin; and what one does to it.

`Lab.up` builds in the order in which a rack comes to life and says so on the way; `Lab.load` finds a lab that is up.
Nothing is simulated: namespaces for machines, veth for cables, the programs themselves.
"""

import json
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from felixlite import control
from felixlite.cni.install import install_plugin
from felixlite.errors import FelixliteError, Misconfigured, Unreachable
from felixlite.lab import etcd, kube, matrix, rack, routers, world
from felixlite.lab.pods import NAMESPACE, Pod, attach, detach, named
from felixlite.lab.probe import Cell, Place, Prober
from felixlite.lab.topology import POOL, ROUTER_AS, Machine, Topology

FELIXLITE = (sys.executable, "-m", "felixlite")
AGENT_PATIENCE = 90.0  # a start takes one second; a machine with other work may take its time


class Lab:
    def __init__(self, topology: Topology, say: Callable[[str], None] = lambda _line: None) -> None:
        self.topology = topology
        self.directory = world.directory(topology.name)
        self.say = say
        self.began = time.monotonic()

    # -- finding

    @classmethod
    def load(cls, name: str, say: Callable[[str], None] = lambda _line: None) -> "Lab":
        try:
            kept = json.loads((world.directory(name) / "lab.json").read_text())
        except FileNotFoundError:
            raise FelixliteError(f"there is no lab {name!r}: `felixlite lab up` makes one") from None
        return cls(Topology(**kept), say)

    @property
    def store_url(self) -> str:
        """What agents and commands are given."""
        if self.topology.store == "kubernetes":
            return f"kubernetes://{self.directory / 'kubeconfig'}"
        return etcd.url(self.topology)

    @property
    def is_served(self) -> bool:
        """As Kubernetes: then a pod that is not in the API is no pod for the agents, whatever their store."""
        return self.topology.store == "kubernetes" or (self.directory / "kubeconfig").exists()

    def kubeconfig(self) -> Path:
        return kube.kubeconfig(self.topology, self.directory, [*FELIXLITE, "--store", etcd.url(self.topology)])

    def kubectl(self, *arguments: str) -> list[str]:
        return kube.kubectl(self.topology, self.kubeconfig(), *arguments)

    def run_directory(self, node: str) -> Path:
        return self.directory / node

    # -- up and down

    def up(self) -> None:
        """Everything, in order. What was begun is taken down again by `down`, wherever this stops."""
        world.need_root_and_iproute2()
        self._need_programs()
        self.topology.checked()
        if (self.directory / "lab.json").exists():
            raise FelixliteError(
                f"lab {self.topology.name!r} is up already: `felixlite lab down` first, or another --name"
            )
        self.directory.mkdir(mode=0o711, parents=True, exist_ok=True)  # FRR's daemons, who are not root, have to get in
        self._keep_topology()
        world.build(self.topology)
        self._tell(f"{self.topology.nodes} nodes, {self.topology.subnets} subnets, the cables between them")
        self.start_etcd()
        if self.topology.store == "kubernetes":
            self.kubeconfig()
        self._tell(f"{self.store_url} answers")
        self._configure()
        self._start_routers()
        self._start_agents()
        self.add_pods()
        self._tell(f"{self.topology.nodes * self.topology.pods} pods have an address")
        self.wait_until_green()

    def _keep_topology(self) -> None:
        fresh = self.directory / "lab.json.new"
        fresh.write_text(json.dumps(self.topology.as_dict()))
        fresh.replace(self.directory / "lab.json")

    def down(self) -> int:
        return world.clean(self.topology.name)

    def _tell(self, what: str) -> None:
        self.say(f"{time.monotonic() - self.began:6.2f} s  {what}")

    def _need_programs(self) -> None:
        kubernetes = {"kubectl": "kubernetes-client"} if self.topology.store == "kubernetes" else {}
        needed = {"etcd": "etcd-server", **kubernetes, **routers.PROGRAMS[self.topology.router]}
        missing = [package for program, package in needed.items() if not shutil.which(program)]
        if missing:
            raise Misconfigured(f"missing for this lab: apt-get install {' '.join(missing)}")

    def start_etcd(self) -> None:
        etcd.start(self.topology, self.directory)

    @property
    def command(self) -> list[str]:
        """`felixlite` against this lab's store."""
        return [*FELIXLITE, "--store", self.store_url]

    def felixlite(self, *arguments: str, stdin: str | None = None) -> str:
        """A felixlite command against this lab's store, run where the store can be reached."""
        return world.run(
            [*FELIXLITE, "--store", self.store_url, *arguments], stdin=stdin, namespace=self.topology.switch
        )

    def _configure(self) -> None:
        """What a person would apply: a pool, and the routers of the rack as global peers of their nodes."""
        self.felixlite(
            "apply", "-f", "-", stdin="---\n".join(json.dumps(document) + "\n" for document in self.documents())
        )
        if self.topology.store == "kubernetes":
            nodes = [kube.node(machine.name, self.labels_of(machine)) for machine in self.topology.node_machines()]
            kube.apply(self.topology, self.kubeconfig(), nodes)

    def documents(self) -> Iterator[dict[str, Any]]:
        api = "projectcalico.org/v3"
        pool = {"cidr": POOL, "ipipMode": "CrossSubnet", "natOutgoing": True, "nodeSelector": "all()"}
        yield {"apiVersion": api, "kind": "IPPool", "metadata": {"name": "default-ipv4-ippool"}, "spec": pool}
        for subnet in range(1, self.topology.subnets + 1):
            for router in range(1, self.topology.routers + 1):
                spec = {
                    "nodeSelector": f"subnet == 's{subnet}'",
                    "peerIP": str(self.topology.subnet(subnet)[router]),
                    "asNumber": ROUTER_AS,
                    "holdTime": f"{self.topology.hold}s",
                    "numAllowedLocalASNumbers": 1,  # a node of the other subnet has our own AS, behind the router's
                }
                yield {"apiVersion": api, "kind": "BGPPeer", "metadata": {"name": f"r{router}-s{subnet}"}, "spec": spec}
        if self.topology.store == "etcd":
            for machine in self.topology.node_machines():
                yield self.node_document(machine)

    def node_document(self, machine: Machine) -> dict[str, Any]:
        spec = {"bgp": {"ipv4Address": str(machine.ports[0].address)}}
        metadata = {"name": machine.name, "labels": self.labels_of(machine)}
        return {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": metadata, "spec": spec}

    def labels_of(self, machine: Machine) -> dict[str, str]:
        return {"subnet": machine.ports[0].bridge.replace("subnet", "s")}

    def _start_routers(self) -> None:
        for machine in self.topology.router_machines():
            world.forward(machine.namespace)
            self.start_router(machine)

    def start_router(self, machine: Machine) -> None:
        text = rack.configuration(self.topology, machine)
        routers.start(self.topology.router, machine.namespace, self.directory / machine.name, text)

    def _start_agents(self) -> None:
        machines = self.topology.node_machines()
        for machine in machines:
            self.start_agent(machine)
        for machine in machines:
            self.wait_for_agent(machine)
        self._tell(f"{len(machines)} agents are ready; IPIP is carried by {self.status(machines[0].name)['ipip']}")

    def start_agent(self, machine: Machine) -> int:
        directory = self.run_directory(machine.name)
        directory.mkdir(mode=0o700, exist_ok=True)
        install_plugin(directory / "cni-bin")
        command = [
            *FELIXLITE,
            "--store",
            self.store_url,
            "agent",
            "--node-name",
            machine.name,
            "--run-dir",
            str(directory),
            "--state-dir",
            str(directory),
        ]
        environment = {"FELIXLITE_IPAUTODETECTIONMETHOD": "interface=eth0", **self.topology.settings}
        return world.start(machine.namespace, command, self.directory / f"{machine.name}.log", environment)

    def wait_for_agent(self, machine: Machine) -> None:
        try:
            world.wait_for(
                lambda: self.agent_is_ready(machine.name), f"agent {machine.name} getting ready", AGENT_PATIENCE
            )
        except FelixliteError as error:
            log = (self.directory / f"{machine.name}.log").read_text().splitlines()[-5:]
            raise FelixliteError("\n".join([str(error), *log])) from None

    def agent_is_ready(self, node: str) -> bool:
        try:
            return bool(self.status(node)["ready"])
        except (Unreachable, OSError):
            return False

    def status(self, node: str) -> dict[str, Any]:
        found: dict[str, Any] = control.ask(self.run_directory(node) / "agent.sock", "status")
        return found

    # -- nodes come and go

    def add_node(self) -> Machine:
        """One more node with its pods, on the subnet whose turn it is."""
        self.topology, number = self.topology.with_one_more()
        machine = self.topology.node_machine(number)
        world.plug(self.topology, machine)
        self._keep_topology()
        if self.topology.store == "kubernetes":
            kube.apply(self.topology, self.kubeconfig(), [kube.node(machine.name, self.labels_of(machine))])
        else:
            self.felixlite("apply", "-f", "-", stdin=json.dumps(self.node_document(machine)))
        self.start_agent(machine)
        self.wait_for_agent(machine)
        for name in self.topology.pod_names(machine):
            self.add_pod(machine, name)
        return machine

    def remove_node(self, machine: Machine) -> None:
        """Its pods first, then the machine, then what the store has about it."""
        if len(self.topology.node_machines()) == 1:
            raise FelixliteError(f"{machine.name} is the last node: `felixlite lab down` takes down the whole lab")
        for pod in [pod for pod in self.pods() if pod.node == machine.name]:
            self.remove_pod(pod.name)
        self._take_leave_of_routers(machine)
        world.kill(world.processes(machine.namespace))
        world.run(["ip", "netns", "delete", machine.namespace])
        self.topology = self.topology.without(machine)
        self._keep_topology()
        if self.topology.store == "kubernetes":
            world.run(self.kubectl("delete", "node", machine.name))
        else:
            self.felixlite("delete", "node", machine.name)
        # what `felixlite controllers` would do in time: its blocks and its tunnel's address are free at once
        release = [*self.command, "ipam", "check", "--fix", "--grace", "0"]
        world.run(release, namespace=self.topology.switch, check=False)

    def _take_leave_of_routers(self, machine: Machine) -> None:
        """Who ends without a word is waited for (RFC 4724): its routers would tell of its blocks for two minutes more."""
        if not self.agent_is_ready(machine.name):
            return
        if self.topology.store == "kubernetes":
            world.run(self.kubectl("label", "node", machine.name, "subnet-"))
        else:
            self.felixlite("label", "node", machine.name, "subnet-")
        routers = {str(port.address.ip) for router in self.topology.router_machines() for port in router.ports}
        world.wait_for(
            lambda: not routers & self.status(machine.name)["sessions"].keys(),
            f"the end of {machine.name}'s sessions with the routers",
            AGENT_PATIENCE,
        )

    # -- pods

    def add_pods(self) -> None:
        wanted = [
            (machine, name) for machine in self.topology.node_machines() for name in self.topology.pod_names(machine)
        ]
        for machine, name in wanted:
            self.add_pod(machine, name)

    def add_pod(
        self, machine: Machine, name: str, labels: Mapping[str, str] | None = None, pools: Sequence[str] = ()
    ) -> Pod:
        wanted = named(self.topology, machine, name, labels or {"app": name}, pools)
        if self.is_served:
            scheduled = kube.pod(name, NAMESPACE, machine.name, wanted.labels)
            kube.apply(self.topology, self.kubeconfig(), [scheduled])
        pod = attach(self.topology, machine, self.run_directory(machine.name), wanted)
        self._remember([*(p for p in self.pods() if p.name != name), pod])
        return pod

    def remove_pod(self, name: str) -> None:
        pod = self.pod(name)
        detach(self.machine(pod.node), self.run_directory(pod.node), pod)
        if self.is_served:
            gone = ["--ignore-not-found", "--grace-period=0", "--force"]
            world.run(self.kubectl("delete", "pod", "-n", NAMESPACE, name, *gone))
        self._remember([each for each in self.pods() if each.name != name])

    def label_pod(self, name: str, changes: Sequence[str]) -> Pod:
        """KEY=VALUE sets a label, KEY- removes it; of the endpoint in the store and of what is remembered here."""
        pod = self.pod(name)
        if self.topology.store == "kubernetes":
            world.run(self.kubectl("label", "pod", "-n", NAMESPACE, name, *changes, "--overwrite"))
        else:
            self.felixlite("label", "workloadendpoint", self._endpoint(pod), *changes, "--overwrite", "-n", NAMESPACE)
        gone = {change.removesuffix("-") for change in changes if "=" not in change}
        labels = {**pod.labels, **dict(change.split("=", 1) for change in changes if "=" in change)}
        labelled = replace(pod, labels={key: value for key, value in labels.items() if key not in gone})
        self._remember([labelled if each.name == name else each for each in self.pods()])
        return labelled

    def _endpoint(self, pod: Pod) -> str:
        """The name of its WorkloadEndpoint."""
        found = json.loads(self.felixlite("get", "workloadendpoints", "-n", NAMESPACE, "-o", "json"))
        for each in found.get("items", [found]):
            if each["spec"].get("pod") == pod.name:
                return str(each["metadata"]["name"])
        raise FelixliteError(f"pod {pod.name!r} has no WorkloadEndpoint: was it removed behind the lab's back?")

    def pods(self) -> list[Pod]:
        kept = self.directory / "pods.json"
        return [Pod(**each) for each in json.loads(kept.read_text())] if kept.exists() else []

    def pod(self, name: str) -> Pod:
        for pod in self.pods():
            if pod.name == name:
                return pod
        raise FelixliteError(f"there is no pod {name!r}; there are {', '.join(p.name for p in self.pods())}")

    def _remember(self, them: Sequence[Pod]) -> None:
        fresh = self.directory / "pods.json.new"
        fresh.write_text(json.dumps([pod.as_dict() for pod in them]))
        fresh.replace(self.directory / "pods.json")

    def machine(self, name: str) -> Machine:
        for machine in self.machines():
            if machine.name == name:
                return machine
        raise FelixliteError(f"there is no machine {name!r}; there are {', '.join(m.name for m in self.machines())}")

    def namespace_of(self, name: str) -> str:
        """Of a pod, a machine or the store."""
        pods = {"store": self.topology.switch, **{pod.name: pod.namespace for pod in self.pods()}}
        places = pods | {machine.name: machine.namespace for machine in self.machines()}
        if name not in places:
            raise FelixliteError(f"there is no machine and no pod {name!r}; there are {', '.join(sorted(places))}")
        return places[name]

    def machines(self) -> list[Machine]:
        return [*self.topology.node_machines(), *self.topology.router_machines(), self.topology.outside]

    # -- the matrix

    def pod_places(self) -> list[Place]:
        addresses = {machine.name: str(machine.address) for machine in self.topology.node_machines()}
        return [Place(pod.name, pod.namespace, pod.address, addresses[pod.node]) for pod in self.pods()]

    def other_places(self) -> list[Place]:
        machines = [*self.topology.router_machines(), self.topology.outside]
        return [Place(machine.name, machine.namespace, str(machine.address)) for machine in machines]

    def ping(self, count: int = 1, patience: float = 1.0) -> list[Cell]:
        """Pod to pod, pod to the outside and routers to pods."""
        places = [*self.pod_places(), *self.other_places()]
        with Prober(places) as prober:
            return prober.matrix(self._pairs(places), count, patience)

    def wait_until_green(self, seconds: float = 60.0) -> None:
        places = [*self.pod_places(), *self.other_places()]
        with Prober(places) as prober:
            matrix.wait_until_green(prober, self._pairs(places), seconds)
        self._tell("every pod reaches every pod, the routers and the outside")

    def _pairs(self, places: list[Place]) -> list[matrix.Pair]:
        return matrix.pairs(places, forward=self.topology.router != "gobgp")
