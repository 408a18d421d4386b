"""What becomes of one new connection on its whole way, and why: gates of the nodes, and the policies between. Pure.

`verdict(inputs, packet)` looks at the packet as the two nodes would.  What leaves a pod: its source, packets within
packets, the egress policies, then either its own node (defaultEndpointToHostAction) or the way on (service loops,
ingress policies of the pod that it is for, tunnel packets at another node).  What a node sends to its own pods is
never policed.  Made from the documents (evaluate.py) and the settings, never from the planner's rows, so that it can be
held against the kernel; `felixlite explain` prints its answer.

Translation of service addresses is kube-proxy's and happens before: behind.py.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Final

from felixlite.addresses import Address
from felixlite.model.inside import Node, Workload
from felixlite.model.policy import ICMPV6, UDP, Action, Direction
from felixlite.policy.evaluate import Packet, Step, World, called
from felixlite.policy.gates import guarded, hosts, may_send_as, nat_nets
from felixlite.policy.inputs import Inputs
from felixlite.policy.settings import PolicySettings

IPIP: Final = 4
DISCOVERY: Final = frozenset({130, 131, 132, 133, 135, 136})  # what pods and their node have to say to each other

SettingsAt = Callable[[str], PolicySettings]  # of a node


@dataclass(frozen=True, slots=True)
class Verdict:
    action: Action  # ALLOW or DENY
    decided: Step | None  # None: no workload of the cluster is at either end
    way: tuple[Step, ...] = field(default=())


def verdict(inputs: Inputs, packet: Packet, settings_at: SettingsAt | None = None) -> Verdict:
    """`settings_at`: what nodes are set to; else all as in the inputs."""
    return verdict_in(World(inputs), packet, settings_at)


def verdict_in(world: World, packet: Packet, settings_at: SettingsAt | None = None) -> Verdict:
    """The same, for who has many packets to ask about."""
    way: list[Step] = []
    for step in _Way(world, packet, settings_at or (lambda _: world.inputs.settings)).steps():
        way.append(step)
        if step.action is Action.DENY:
            return Verdict(Action.DENY, step, tuple(way))
    return Verdict(Action.ALLOW, way[-1] if way else None, tuple(way))


def node_at(inputs: Inputs, address: Address) -> Node | None:
    """Whose own address it is, also on a tunnel."""
    return next((node for node in inputs.nodes.values() if address in own_addresses(node)), None)


def own_addresses(node: Node) -> tuple[Address | None, ...]:
    return (node.address(4), node.address(6), node.ipip_address, node.vxlan_address, node.vxlan_address_v6)


def leaves_pools(inputs: Inputs, packet: Packet) -> bool:
    """Whether natOutgoing is about it."""
    masqueraded, inside = nat_nets(inputs, packet.family)
    return any(net.holds(packet.source) for net in masqueraded) and not any(
        net.holds(packet.destination) for net in inside
    )


@dataclass(frozen=True, slots=True)
class _Way:
    world: World
    packet: Packet
    settings_at: SettingsAt

    def steps(self) -> Iterator[Step]:
        packet, inputs = self.packet, self.world.inputs
        sender = self.world.workload_at(packet.sender or packet.source)
        receiver = self.world.workload_at(packet.destination)
        start = None if sender else node_at(inputs, packet.source)
        end = None if receiver else node_at(inputs, packet.destination)
        if sender and sender is receiver and not packet.by_service:
            yield _gate(called(sender), "what a pod sends to itself does not leave it", Action.ALLOW)
        elif sender and end and sender.node == end.name:
            yield from self._to_own_host(sender)
        elif start and receiver and receiver.node == start.name:
            yield _gate(f"node {start.name}", "what a node sends to its own pods is not policed", Action.ALLOW)
        else:
            yield from self._out_of(sender) if sender else ()
            yield from self._in_a_circle(sender or receiver) if sender or receiver or not start else ()
            yield from self._arriving(sender, receiver, end)

    # -- where it leaves

    def _to_own_host(self, sender: Workload) -> Iterator[Step]:
        packet, name = self.packet, f"node {sender.node}"
        yield from self._own_source(sender)
        if guard := self._tunnel_guard(sender.node, packet.source, is_pod=True):
            yield guard
        elif packet.protocol == ICMPV6 and packet.icmp_type in DISCOVERY:
            yield _gate(name, "neighbour discovery", Action.ALLOW)
        else:
            yield from self._pod_guard(sender)
            yield from self.world.steps(sender, Direction.EGRESS, packet)
            action = self.settings_at(sender.node).to_host
            outcome = Action.DENY if action == "Drop" else Action.ALLOW
            rest = ", and the host's own rules follow" if action == "Return" else ""
            yield _gate(name, f"defaultEndpointToHostAction is {action}{rest}", outcome)

    def _out_of(self, sender: Workload) -> Iterator[Step]:
        yield from self._own_source(sender)
        yield from self._pod_guard(sender)
        yield from self.world.steps(sender, Direction.EGRESS, self.packet)

    def _own_source(self, sender: Workload) -> Iterator[Step]:
        source = self.packet.source
        own = (*sender.addresses, *may_send_as(sender, self._at(sender.node)))
        if not any(net.holds(source) for net in own):
            yield _gate(called(sender), f"{source} is not its address", Action.DENY)

    def _pod_guard(self, sender: Workload) -> Iterator[Step]:
        """Who may send packets within packets speaks with the voice of a node."""
        settings = self.settings_at(sender.node)
        tunnel = self._tunnel(settings)
        if tunnel == "VXLAN" and not settings.pods_may_vxlan:
            yield _gate(called(sender), "no VXLAN out of a pod (allowVXLANPacketsFromWorkloads is false)", Action.DENY)
        if tunnel == "IPIP" and not settings.pods_may_ipip:
            yield _gate(called(sender), "no IPIP out of a pod (allowIPIPPacketsFromWorkloads is false)", Action.DENY)

    def _in_a_circle(self, workload: Workload | None) -> Iterator[Step]:
        """A service's address that kube-proxy has not replaced: by the first node that forwards it."""
        node, destination = workload.node if workload else "", self.packet.destination
        action = self.settings_at(node).service_loop
        net = next((net for net in self.world.inputs.service_nets if net.holds(destination)), None)
        if net and action != "Disabled":
            why = f"serviceLoopPrevention is {action}, and {destination} is in {net}, the services' range"
            yield _gate(f"node {node}" if node else "every node", why, Action.DENY)

    # -- where it arrives

    def _arriving(self, sender: Workload | None, receiver: Workload | None, end: Node | None) -> Iterator[Step]:
        name = receiver.node if receiver else end.name if end else ""
        seen = self._seen(sender, name)
        if receiver:
            yield from self.world.steps(receiver, Direction.INGRESS, seen)
        elif end and (guard := self._tunnel_guard(name, seen.source)):
            yield guard

    def _seen(self, sender: Workload | None, node: str) -> Packet:
        """With the source that another node sees: NAT comes after policy where the packet leaves."""
        if sender is None or sender.node == node or not leaves_pools(self._at(sender.node), self.packet):
            return self.packet
        family, chosen = self.packet.family, self.settings_at(sender.node).nat_address
        own = self.world.inputs.nodes.get(sender.node)
        source = chosen if chosen and chosen.version == family else own.address(family) if own else None
        return replace(self.packet, source=source) if source else self.packet

    def _tunnel_guard(self, node: str, source: Address, *, is_pod: bool = False) -> Step | None:
        """What the node says to a tunnel packet that is for itself; None: it is none, or not guarded."""
        inputs, tunnel = self._at(node), self._tunnel(self.settings_at(node))
        ipip, vxlan = guarded(inputs)
        if not (tunnel == "VXLAN" and vxlan) and not (tunnel == "IPIP" and ipip and source.version == 4):
            return None
        if not is_pod and any(net.holds(source) for net in hosts(inputs, source.version)):
            return _gate(f"node {node}", f"{tunnel} from {source}, a node's address", Action.ALLOW)
        stranger = "which is no node's address and not in externalNodesList"
        why = f"{tunnel} from {source}, {'a pod of its own' if is_pod else stranger}"
        return _gate(f"node {node}", why, Action.DENY)

    def _tunnel(self, settings: PolicySettings) -> str:
        packet = self.packet
        if packet.protocol == UDP and packet.port == settings.vxlan_port:
            return "VXLAN"
        return "IPIP" if packet.protocol == IPIP else ""

    def _at(self, node: str) -> Inputs:
        return replace(self.world.inputs, settings=self.settings_at(node))


def _gate(endpoint: str, what: str, action: Action) -> Step:
    return Step(endpoint, None, "", what, None, action)
