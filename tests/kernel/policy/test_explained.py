"""What `felixlite explain` says of a packet, and what becomes of it, on every backend, where gates decide."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import NamedTuple

import pytest

from felixlite.addresses import Prefix
from felixlite.model.inside import Mode, Node
from felixlite.model.policy import Direction
from felixlite.policy.evaluate import Packet
from felixlite.policy.explain import Known, explained
from felixlite.policy.inputs import Inputs
from felixlite.policy.settings import PolicySettings
from tests.support.netns import Namespace
from tests.support.policylab import IPIP, PolicyLab
from tests.support.policyworld import NODE, OUTSIDE, POOL, A, Agent, B, C, udp
from tests.unit.policy.world import inputs, policy

SERVICE = "198.51.100.1"
HERE, OTHER = Node("here", ip_interface(f"{NODE}/24")), Node("there", ip_interface(f"{OUTSIDE}/24"))
CLOSED = policy("closed", selector="app == 'b'")
MUTE = policy("mute", selector="app == 'c'", types=frozenset({Direction.EGRESS}))
WORLD = replace(
    inputs([A, B, C], [CLOSED, MUTE]), nodes={"here": HERE}, service_nets=(Prefix.parse("198.51.100.0/24"),)
)
TUNNELS = replace(WORLD, pools={"pool": replace(POOL, ipip=Mode.ALWAYS, vxlan=Mode.ALWAYS)})


def ipip(source: str, destination: str) -> Packet:
    return Packet(ip_address(source), ip_address(destination), IPIP)


def sent_as(packet: Packet, source: str) -> Packet:
    return replace(packet, source=ip_address(source), sender=packet.source)


def to_host(action: str) -> Inputs:
    return replace(WORLD, settings=PolicySettings(to_host=action))  # type: ignore[arg-type]  # one of its words


def known_there(world: Inputs) -> Inputs:
    return replace(world, nodes={"here": HERE, "there": OTHER})


class Case(NamedTuple):
    title: str
    world: Inputs
    packet: Packet
    arrives: bool


A_IS, B_IS, C_IS = (str(pod.addresses[0].first) for pod in (A, B, C))
OPEN = replace(TUNNELS, settings=PolicySettings(pods_may_ipip=True, pods_may_vxlan=True))
CASES = [
    Case("pod to its node, Drop", WORLD, udp(A_IS, NODE), False),
    Case("pod to its node, Accept", to_host("Accept"), udp(A_IS, NODE), True),
    Case("pod to its node, Return", to_host("Return"), udp(A_IS, NODE), True),
    Case("pod to its node, Accept, egress denied", to_host("Accept"), udp(C_IS, NODE), False),
    Case("pod to its node with VXLAN", replace(TUNNELS, settings=PolicySettings(to_host="Accept")), udp(A_IS, NODE, 4789), False),
    Case("pod to its node with VXLAN that pods may send", replace(OPEN, settings=replace(OPEN.settings, to_host="Accept")), udp(A_IS, NODE, 4789), False),
    Case("node to its own pod under deny", WORLD, udp(NODE, B_IS), True),
    Case("another node to a pod under deny", known_there(WORLD), udp(OUTSIDE, B_IS), False),
    Case("another node to a pod", known_there(WORLD), udp(OUTSIDE, A_IS), True),
    Case("VXLAN out of a pod", WORLD, udp(C_IS, A_IS, 4789), False),
    Case("VXLAN out of a pod that may", replace(OPEN, policies={}), udp(C_IS, A_IS, 4789), True),
    Case("IPIP out of a pod", replace(WORLD, policies={}), ipip(C_IS, A_IS), False),
    Case("IPIP out of a pod that may", replace(OPEN, policies={}), ipip(C_IS, A_IS), True),
    Case("a pod with its own address", WORLD, udp(B_IS, A_IS), True),
    Case("a pod with another's address", WORLD, sent_as(udp(B_IS, A_IS), C_IS), False),
    Case("IPIP from a stranger to the node", TUNNELS, ipip(OUTSIDE, NODE), False),
    Case("IPIP from a node to the node", known_there(TUNNELS), ipip(OUTSIDE, NODE), True),
    Case("IPIP from a stranger, no tunnel", WORLD, ipip(OUTSIDE, NODE), True),
    Case("VXLAN from a stranger to the node", TUNNELS, udp(OUTSIDE, NODE, 4789), False),
    Case("VXLAN from a node to the node", known_there(TUNNELS), udp(OUTSIDE, NODE, 4789), True),
    Case("a service's address", WORLD, udp(A_IS, SERVICE), False),
    Case("a service's address, loops allowed", replace(WORLD, settings=PolicySettings(service_loop="Disabled")), udp(A_IS, SERVICE), True),
    Case("pod to another node", known_there(WORLD), udp(A_IS, OUTSIDE), True),
    Case("a pod to itself under deny", WORLD, udp(B_IS, B_IS), True),
]  # fmt: skip


@pytest.fixture(scope="module")
def with_a_service(lab: PolicyLab, outside: Namespace) -> Iterator[PolicyLab]:
    """Behind the host outside there is an address of the services' range that answers."""
    lab.add("outside", outside, SERVICE)
    lab.node.ip(f"route replace 198.51.100.0/24 via {OUTSIDE}")
    outside.ip(f"address replace {SERVICE}/32 dev lo")
    yield lab
    lab.node.ip("route delete 198.51.100.0/24")


def place(lab: PolicyLab, packet: Packet) -> str:
    return lab.by_address[str(packet.sender)] if packet.sender else ""


def test_what_explain_says_is_what_happens(with_a_service: PolicyLab, agent: Agent) -> None:
    lab, wrong = with_a_service, []
    for case in CASES:
        agent.converge(case.world)
        expected = [case.packet] if case.arrives else []
        arrived = lab.arrived([case.packet], expected, place(lab, case.packet)) == {case.packet}
        found = explained(Known(case.world), case.packet)
        if not ((found["action"] == "Allow") is arrived is case.arrives):
            wrong.append(f"{case.title}: arrived {arrived}, said {found['action']} by {found['decided_by']}")
    assert wrong == []
