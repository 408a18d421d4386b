"""Guards that are about more than ports and addresses, on every backend: the sender's MAC, packets within packets."""

import socket
from dataclasses import replace
from ipaddress import ip_interface

from felixlite.model.inside import Mode, Node
from felixlite.policy.settings import PolicySettings
from tests.support.netns import Namespace
from tests.support.policylab import PolicyLab
from tests.support.policyworld import B_TO_A, NODE, OUTSIDE, POOL, A, Agent, B
from tests.unit.policy.world import inputs

IPIP = 4
INNER = bytes.fromhex("4500001c00000000401100000a4100010a410002") + b"\0" * 8
MAC = "02:00:00:00:00:02"  # B's, as policylab.plug() gave it


def test_a_pod_sends_with_its_own_mac_only(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(inputs([A, replace(B, mac="02:00:00:00:00:77")]))
    assert lab.arrived([B_TO_A]) == set()
    agent.converge(inputs([A, replace(B, mac=MAC)]))
    assert lab.arrived([B_TO_A], [B_TO_A]) == {B_TO_A}


def ipip_arrives(sender: Namespace, receiver: Namespace, destination: str) -> bool:
    """Whether a packet of IPv4 in IPv4 gets from the one to the other."""
    listening = receiver.run(socket.socket, socket.AF_INET, socket.SOCK_RAW, IPIP)
    speaking = sender.run(socket.socket, socket.AF_INET, socket.SOCK_RAW, IPIP)
    with listening, speaking:
        listening.settimeout(0.5)  # it is there at once or never: everything happens on one processor
        speaking.sendto(INNER, (destination, 0))
        try:
            return bool(listening.recv(2048))
        except TimeoutError:
            return False


def test_a_pod_cannot_send_packets_within_packets(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(inputs([A, B]))
    a, b = lab.namespaces["a"], lab.namespaces["b"]
    assert not ipip_arrives(b, a, "10.65.0.1")
    agent.converge(replace(inputs([A, B]), settings=PolicySettings(pods_may_ipip=True)))
    assert ipip_arrives(b, a, "10.65.0.1")


def test_ipip_enters_from_known_hosts_only(lab: PolicyLab, agent: Agent, outside: Namespace) -> None:
    world = inputs([A], pools={"pool": replace(POOL, ipip=Mode.ALWAYS)})
    agent.converge(world)
    assert not ipip_arrives(outside, lab.node, NODE)
    agent.converge(replace(world, nodes={"out": Node("out", ip_interface(f"{OUTSIDE}/24"))}))
    assert ipip_arrives(outside, lab.node, NODE)
