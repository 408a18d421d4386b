"""What a lab consists of, by arithmetic: names, addresses and cables of nodes, routers and pods. Pure.

    outside ── router(s) ── subnet 1 ── n1, n3, ...
                        └── subnet 2 ── n2, n4, ...
    and a management network of its own, on which only the store talks

Every namespace's name begins with the lab's name and a dash; that is how `lab down` knows its own.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface, IPv4Network
from typing import Any, Literal

from felixlite.errors import Problem, Rejected

RouterKind = Literal["bird", "frr", "gobgp"]
ROUTER_KINDS: tuple[RouterKind, ...] = ("bird", "frr", "gobgp")
StoreKind = Literal["etcd", "kubernetes"]
STORE_KINDS: tuple[StoreKind, ...] = ("etcd", "kubernetes")
MANAGEMENT = IPv4Network("172.31.255.0/24")
OUTSIDE = IPv4Network("203.0.113.0/24")
POOL = "10.244.0.0/16"
CLUSTER_AS, ROUTER_AS = 64512, 65000
MOST_NODES, MOST_MEMBERS = 200, 5


@dataclass(frozen=True, slots=True)
class Port:
    """One cable into the lab's switch: the interface, its address, and the switch's bridge."""

    link: str
    address: IPv4Interface
    bridge: str


@dataclass(frozen=True, slots=True)
class Machine:
    name: str
    namespace: str
    ports: tuple[Port, ...]
    routes: tuple[tuple[str, IPv4Address], ...] = ()  # (destination, gateway)

    @property
    def address(self) -> IPv4Address:
        return self.ports[0].address.ip


@dataclass(frozen=True, slots=True)
class Topology:
    name: str = "lab"
    nodes: int = 3
    pods: int = 2  # on each node
    routers: int = 1
    router: RouterKind = "bird"
    subnets: int = 2
    store: StoreKind = "etcd"  # kubernetes: the same etcd behind `felixlite apiserver`
    members: int = 1  # of etcd
    hold: int = 30  # seconds of silence after which a router and a node take each other for dead
    settings: Mapping[str, str] = field(default_factory=dict)  # FELIXLITE_* for every agent
    gone: Sequence[int] = ()  # numbers of nodes that were removed

    def problems(self) -> Iterator[Problem]:
        def wrong(name: str, value: object, remedy: str) -> Problem:
            return Problem("Lab", self.name, name, value, remedy)

        if not self.name.isalnum() or not self.name.islower() or len(self.name) > 8:
            yield wrong("name", self.name, "must be 1 to 8 lower-case letters and digits")
        for name, value, low, high in (
            ("nodes", self.nodes, 1, MOST_NODES),
            ("pods", self.pods, 0, 250),
            ("routers", self.routers, 1, 4),
            ("subnets", self.subnets, 1, 20),
            ("members", self.members, 1, MOST_MEMBERS),
            ("hold", self.hold, 3, 240),
        ):
            if not low <= value <= high:
                yield wrong(name, value, f"must be from {low} to {high}")
        if self.router not in ROUTER_KINDS:
            yield wrong("router", self.router, "must be one of " + ", ".join(ROUTER_KINDS))
        if self.store not in STORE_KINDS:
            yield wrong("store", self.store, "must be one of " + ", ".join(STORE_KINDS))

    def checked(self) -> "Topology":
        if problems := list(self.problems()):
            raise Rejected(problems)
        return self

    def namespace(self, part: str) -> str:
        return f"{self.name}-{part}"

    def with_one_more(self) -> "tuple[Topology, int]":
        """And the number of the new node: a gap is filled first."""
        if self.gone:
            number = min(self.gone)
            return replace(self, gone=[each for each in self.gone if each != number]), number
        return replace(self, nodes=self.nodes + 1).checked(), self.nodes + 1

    def without(self, node: Machine) -> "Topology":
        return replace(self, gone=[*self.gone, int(node.name[1:])])

    # -- networks

    def subnet(self, number: int) -> IPv4Network:
        return IPv4Network(f"10.0.{number}.0/24")

    @property
    def bridges(self) -> list[str]:
        return [*(f"subnet{s}" for s in range(1, self.subnets + 1)), "outside", "mgmt"]

    @property
    def store_addresses(self) -> list[IPv4Interface]:
        return [IPv4Interface((MANAGEMENT[number], 24)) for number in range(1, self.members + 1)]

    # -- machines

    def router_machines(self) -> list[Machine]:
        found = []
        for r in range(1, self.routers + 1):
            ports = [
                Port(f"s{s}", IPv4Interface((self.subnet(s)[r], 24)), f"subnet{s}") for s in range(1, self.subnets + 1)
            ]
            ports.append(Port("out", IPv4Interface((OUTSIDE[r], 24)), "outside"))
            found.append(Machine(f"r{r}", self.namespace(f"r{r}"), tuple(ports)))
        return found

    def node_machines(self) -> list[Machine]:
        return [self.node_machine(number) for number in range(1, self.nodes + 1) if number not in self.gone]

    def node_machine(self, number: int) -> Machine:
        at = (number - 1) % self.subnets + 1
        ports = (
            Port("eth0", IPv4Interface((self.subnet(at)[10 + number], 24)), f"subnet{at}"),
            Port("mgmt0", IPv4Interface((MANAGEMENT[10 + number], 24)), "mgmt"),
        )
        return Machine(f"n{number}", self.namespace(f"n{number}"), ports, (("default", self.subnet(at)[1]),))

    @property
    def outside(self) -> Machine:
        """A host that knows the way to the nodes but has never heard of pods."""
        port = Port("eth0", IPv4Interface((OUTSIDE[100], 24)), "outside")
        return Machine("outside", self.namespace("out"), (port,), (("10.0.0.0/16", OUTSIDE[1]),))

    @property
    def switch(self) -> str:
        return self.namespace("sw")

    def pod_names(self, node: Machine) -> list[str]:
        return [f"{node.name}-{chr(ord('a') + i)}" if i < 26 else f"{node.name}-p{i}" for i in range(self.pods)]

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name, "nodes": self.nodes, "pods": self.pods, "routers": self.routers,
            "router": self.router, "subnets": self.subnets, "store": self.store, "members": self.members, "hold": self.hold,
            "settings": dict(self.settings), "gone": list(self.gone),
        }  # fmt: skip
