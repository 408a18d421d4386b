"""Nodes without an agent: a namespace each, the real planner and the real tables, and a pod that answers.

    with stations(3, pool(ipip="Always")) as lan:      # n1, n2, n3 on one switch, 192.168.50.1/24 ...
        lan.converge()
        lan.pods["n1"].command("ping", "-c", "1", lan.pod_address("n2"))

What the store would say is made here and given to all of them; what a node publishes goes back into it.  Time is
counted by hand, so that waiting costs none.
"""

from collections.abc import Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field, replace
from ipaddress import IPv4Address, IPv4Interface
from pathlib import Path
from typing import Any

from felixlite.addresses import Prefix
from felixlite.ipip.ebpf import Ends, Programs
from felixlite.ipip.plan import Carrier
from felixlite.ipip.userspace import Forwarders
from felixlite.kernel.addresses import Addresses, every_address
from felixlite.kernel.classifiers import Classifiers, attached
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links, every_link
from felixlite.kernel.neighbours import ForwardingEntries, Neighbours
from felixlite.kernel.routes import Routes
from felixlite.kernel.sysctls import Sysctls
from felixlite.model.inside import Affinity, AffinityState, Block, Node, Pool, Workload
from felixlite.model.policy import Policy
from felixlite.plan import NodePlanner, Surroundings
from felixlite.policy.flowtable import FlowTable
from felixlite.policy.nftables import NftablesTable, Ruleset
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Learned, LinkState, Snapshot
from felixlite.turn import Outcome
from tests.support.netns import Namespace, connect, namespace, switch
from tests.support.sniff import outer_header, seen


class Station:
    """One node: what an agent has, without its threads. Making another one of the same name is a restart."""

    def __init__(self, name: str, space: Namespace, carrier: Carrier, *, filters: bool = False) -> None:
        self.name, self.space, self.carrier, self.filters = name, space, carrier, filters
        self.host = Host(space.fd)
        self.programs = Programs(lambda: [found.program_id for found in attached(self.host)])
        self.classifiers = Classifiers(self.host, self.programs.program)
        self.planner = NodePlanner(Surroundings(carrier=carrier))
        tables = [Links(self.host), Addresses(self.host), Sysctls(self.host), Neighbours(self.host)]
        tables += [ForwardingEntries(self.host)]
        if carrier is Carrier.EBPF:
            tables += [Ends(self.programs, self.host.index, self.host.name), self.classifiers]
        self.forwarders = Forwarders(self.host.namespace)
        tables += [self.forwarders]
        tables += [Routes(self.host)]
        if filters:
            tables = [NftablesTable(4, space.run(Ruleset)), *tables, FlowTable(space.run(Ruleset))]
        self.reconciler = Reconciler(tables)
        self.outcomes: dict[str, Outcome] = {}

    def step(self, snapshot: Snapshot, now: float) -> None:
        """One round, and the next one when its own links have changed, as the monitor would have told."""
        for _ in range(2):
            here = {key: workload for key, workload in snapshot.local_workloads.items() if workload.node == self.name}
            seen = replace(snapshot, here=self.name, links=self.links(), link_addresses=self.link_addresses())
            seen = replace(seen, local_workloads=here)
            planned = self.planner(seen, now)
            self.outcomes = self.reconciler.converge(planned.tables, now, may_delete=True)
            failures = {name: dict(o.failures) for name, o in self.outcomes.items() if o.failures}
            assert not failures, f"{self.name}: {failures}"

    def links(self) -> dict[str, LinkState]:
        return {name: link.state for name, link in every_link(self.host).items()}

    def link_addresses(self) -> dict[tuple[str, str], Prefix]:
        names = {state.index: name for name, state in self.links().items()}
        return {(names[a.link], str(a.address)): a.subnet for a in every_address(self.host)}

    def close(self) -> None:
        self.forwarders.close()
        self.close_all_but_the_tunnel()

    def close_all_but_the_tunnel(self) -> None:
        self.programs.close()
        self.host.close()


@dataclass
class Lan:
    """The cluster, and the one place that every node reads."""

    spaces: dict[str, Namespace]
    pods: dict[str, Namespace]
    stations: dict[str, Station]
    nodes: dict[str, Node]
    pool: Pool
    now: float = 0.0
    learned: Mapping[Prefix, Learned] = None  # type: ignore[assignment]
    settings: Mapping[str, Any] = field(default_factory=dict)  # of FelixConfiguration default
    workloads: Mapping[tuple[str, str], Workload] = field(default_factory=dict)  # that the store knows, of all nodes
    policies: Mapping[Any, Policy] = field(default_factory=dict)

    def snapshot(self) -> Snapshot:
        names = list(self.nodes)
        return Snapshot(
            here="",
            pools={self.pool.name: self.pool},
            nodes=dict(self.nodes),
            blocks={block(i): Block(block(i), name) for i, name in enumerate(names, 1)},
            affinities={
                (name, block(i)): Affinity(name, block(i), AffinityState.CONFIRMED) for i, name in enumerate(names, 1)
            },
            learned=self.learned or {},
            felix_configurations={"default": self.settings},
            local_workloads=self.workloads,
            policies=self.policies,
        )

    def step(self, name: str) -> None:
        """One node looks at the store, makes it so, and publishes."""
        station = self.stations[name]
        station.step(self.snapshot(), self.now)
        accepts, sends = station.planner.published
        self.nodes[name] = replace(self.nodes[name], accepts=accepts, sends=sends)

    def converge(self, rounds: int = 3) -> None:
        for _ in range(rounds):
            for name in self.stations:
                self.step(name)

    def restart(self, name: str) -> None:
        """The agent dies and another one starts; the node goes on."""
        old = self.stations[name]
        old.close()
        self.stations[name] = Station(name, self.spaces[name], old.carrier, filters=old.filters)

    def pod_address(self, name: str) -> str:
        return str(pod_address(list(self.nodes).index(name) + 1))

    def ping(self, source: str, target: str, *options: str) -> str:
        return self.pods[source].command("ping", "-n", "-W", "5", *(options or ("-c", "1")), self.pod_address(target))


def block(number: int) -> Prefix:
    return Prefix.parse(f"10.65.{number}.0/26")


def pod_address(number: int) -> IPv4Address:
    return IPv4Address(f"10.65.{number}.10")


def node_of(number: int, name: str) -> Node:
    return Node(
        name,
        ipv4=IPv4Interface(f"192.168.50.{number}/24"),
        ipip_address=IPv4Address(f"10.65.{number}.0"),
        vxlan_address=IPv4Address(f"10.65.{number}.1"),
    )


def wire_pod(node: Namespace, pod: Namespace, address: IPv4Address) -> None:
    """As the CNI does it: /32 behind 169.254.1.1; the neighbour is static, the node may have no default route."""
    connect(node, "cali1", pod, "eth0")
    mac = node.show("link show cali1")[0]["address"]
    pod.ip(f"address add {address}/32 dev eth0")
    pod.ip(f"neighbour replace 169.254.1.1 dev eth0 lladdr {mac} nud permanent")
    pod.ip("route add 169.254.1.1 dev eth0 scope link")
    pod.ip("route add default via 169.254.1.1 dev eth0")
    node.ip(f"route add {address}/32 dev cali1 scope link")


@contextmanager
def fallback_tunnels(wanted: bool) -> Iterator[None]:
    """Whether a new namespace gets a tunl0 from the kernel, where the kernel has ipip loaded (net/core sysctl)."""
    setting = Path("/proc/sys/net/core/fb_tunnels_only_for_init_net")
    before = setting.read_text()
    setting.write_text("0" if wanted else "1")
    try:
        yield
    finally:
        setting.write_text(before)


def node_namespace(stack: ExitStack, prefix: str, carrier: Carrier) -> Namespace:
    if not Path("/sys/module/ipip").exists():
        return stack.enter_context(namespace(prefix))
    with fallback_tunnels(carrier is Carrier.KERNEL):
        return stack.enter_context(namespace(prefix))


@contextmanager
def stations(carriers: Iterable[Carrier], pool: Pool, prefix: str = "fo", *, filters: bool = False) -> Iterator[Lan]:
    """`filters`: with the policy tables of IPv4, on nftables, and the fast path."""
    with ExitStack() as stack:
        lan = Lan({}, {}, {}, {}, pool)
        middle = stack.enter_context(namespace(f"{prefix}-sw"))
        switch("br0", middle)
        for number, carrier in enumerate(carriers, 1):
            name = f"n{number}"
            node = node_namespace(stack, f"{prefix}-n{number}", carrier)
            pod = stack.enter_context(namespace(f"{prefix}-p{number}"))
            connect(node, "eth0", middle, f"v{number}")
            middle.ip(f"link set v{number} master br0")
            node.ip(f"address add 192.168.50.{number}/24 dev eth0")
            node.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
            wire_pod(node, pod, pod_address(number))
            lan.spaces[name], lan.pods[name] = node, pod
            lan.nodes[name] = node_of(number, name)
            station = Station(name, node, carrier, filters=filters)
            lan.stations[name] = station
        stack.callback(lambda: [station.close() for station in lan.stations.values()])
        yield lan


HEADERS = [  # settings, -M of a ping with TTL 33 from a pod, TTL and flags of the outer header
    ({}, "do", ("32", "DF")),
    ({}, "dont", ("32", "none")),
    ({"ipipPMTUDiscovery": True}, "dont", ("32", "DF")),
    ({"ipipPMTUDiscovery": True, "ipipTTL": 77}, "dont", ("77", "DF")),
    ({}, "dont", ("32", "none")),
]


def headers_on_the_wire(lan: Lan, source: str, target: str) -> list[tuple[str, str]]:
    """The outer header for each of HEADERS."""
    found = []
    for settings, fragments, _ in HEADERS:
        lan.settings = settings
        lan.step(source)
        with seen(lan.spaces[target], "eth0", "ip proto 4") as packets:
            lan.ping(source, target, "-c", "1", "-t", "33", "-M", fragments)
        found.append(outer_header(packets))
    return found
