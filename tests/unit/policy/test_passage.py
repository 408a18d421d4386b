"""The gates on a packet's way: which one decides, in whose settings. The kernel's word: tests/kernel/policy/test_explained.py."""

from dataclasses import replace
from ipaddress import IPv4Address, ip_address, ip_interface

import pytest

from felixlite.addresses import Prefix
from felixlite.model.inside import Mode, Node, Pool
from felixlite.model.policy import ICMPV6, TCP, UDP
from felixlite.policy.evaluate import Packet
from felixlite.policy.inputs import Inputs
from felixlite.policy.passage import verdict
from felixlite.policy.settings import PolicySettings
from tests.unit.policy.world import entity, inputs, pod, policy, rule

A, B = pod("a", "10.65.0.1 fd00::1", app="a"), pod("b", "10.65.1.2", app="b", node="there")
POOL = Pool("main", Prefix.parse("10.65.0.0/16"), nat_outgoing=True, ipip=Mode.ALWAYS)
NODES = {
    "here": Node("here", ip_interface("192.0.2.1/24"), ip_interface("fd01::1/64"), ipip_address=IPv4Address("10.65.0.0")),
    "there": Node("there", ip_interface("192.0.2.2/24")),
}  # fmt: skip
WORLD = inputs([A], [policy("p")], remote=[B], pools={"main": POOL}, nodes=NODES)


def packet(source: str, destination: str, port: int = 80, protocol: int = UDP, sender: str = "") -> Packet:
    by = ip_address(sender) if sender else None
    return Packet(ip_address(source), ip_address(destination), protocol, 40000, port, sender=by)


def decided(world: Inputs, asked: Packet) -> str:
    return str(verdict(world, asked).decided)


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (packet("10.65.0.1", "192.0.2.1"), "node here: defaultEndpointToHostAction is Drop: Deny"),
        (packet("10.65.0.1", "10.65.0.0"), "node here: defaultEndpointToHostAction is Drop: Deny"),
        (packet("fd00::1", "fd01::1"), "node here: defaultEndpointToHostAction is Drop: Deny"),
        (packet("192.0.2.1", "10.65.0.1"), "node here: what a node sends to its own pods is not policed: Allow"),
        (packet("10.65.0.0", "10.65.0.1"), "node here: what a node sends to its own pods is not policed: Allow"),
        (packet("10.65.0.1", "10.65.0.1"), "default/a: what a pod sends to itself does not leave it: Allow"),
        (packet("10.65.0.1", "10.65.1.2", protocol=4), "default/a: no IPIP out of a pod (allowIPIPPacketsFromWorkloads is false): Deny"),
        (packet("10.65.0.1", "10.65.1.2", 4789), "default/a: no VXLAN out of a pod (allowVXLANPacketsFromWorkloads is false): Deny"),
        (packet("10.65.1.2", "10.65.0.1", sender="10.65.0.1"), "default/a: what a pod sends to itself does not leave it: Allow"),
        (packet("10.65.0.9", "10.65.1.2", sender="10.65.0.1"), "default/a: 10.65.0.9 is not its address: Deny"),
        (packet("203.0.113.1", "192.0.2.1", protocol=4), "node here: IPIP from 203.0.113.1, which is no node's address and not in externalNodesList: Deny"),
        (packet("192.0.2.2", "192.0.2.1", protocol=4), "node here: IPIP from 192.0.2.2, a node's address: Allow"),
    ],
)  # fmt: skip
def test_the_gate_that_decides_is_named(asked: Packet, said: str) -> None:
    assert decided(WORLD, asked) == said


def test_other_nodes_are_policed() -> None:
    assert decided(WORLD, packet("192.0.2.2", "10.65.0.1")).startswith("default/a ingress: tier default, end of tier")


def test_a_policy_that_denies_comes_before_the_own_host() -> None:
    world = inputs([A], [policy("p", egress=(rule("Deny"),), types=policy("p").types | {"Egress"})], nodes=NODES)
    assert "egress" in decided(world, packet("10.65.0.1", "192.0.2.1"))


def test_neighbours_may_be_found_whatever_is_denied() -> None:
    asked = replace(packet("fd00::1", "fd01::1", 0, ICMPV6), icmp_type=135)
    assert decided(WORLD, asked) == "node here: neighbour discovery: Allow"


def test_each_node_follows_its_own_settings() -> None:
    world = replace(WORLD, policies={})
    at = {"here": PolicySettings(), "there": PolicySettings(to_host="Accept")}
    for asked, action in (("10.65.0.1 192.0.2.1", "Deny"), ("10.65.1.2 192.0.2.2", "Allow")):
        assert verdict(world, packet(*asked.split()), at.__getitem__).action == action


def test_a_services_address_that_is_left_in_a_packet_is_dropped_where_it_is_first_forwarded() -> None:
    world = replace(WORLD, service_nets=(Prefix.parse("10.96.0.0/12"),), policies={})
    said = "serviceLoopPrevention is Drop, and 10.96.7.7 is in 10.96.0.0/12, the services' range: Deny"
    assert decided(world, packet("10.65.1.2", "10.96.7.7")) == f"node there: {said}"
    assert decided(world, packet("203.0.113.1", "10.96.7.7")) == f"every node: {said}"
    off = replace(world, settings=PolicySettings(service_loop="Disabled"))
    assert decided(off, packet("10.65.1.2", "10.96.7.7")).endswith("egress: Profile kns.default: rule 0: Allow")


def test_another_node_sees_what_is_masqueraded_on_the_way() -> None:
    """A workload outside of all pools: its policy is asked about the node that the packet leaves."""
    far = pod("far", "172.20.0.1", node="there", app="far")
    asked = packet("10.65.0.1", "172.20.0.1", protocol=TCP)
    for nets, action in (("192.0.2.1", "Allow"), ("10.65.0.1", "Deny")):
        only = policy("only", selector="app == 'far'", ingress=(rule(source=entity(nets=nets)),))
        assert (
            verdict(replace(inputs([A], [only], remote=[far]), nodes=NODES, pools={"main": POOL}), asked).action
            == action
        )
    here = replace(far, node="here")
    only = policy("only", selector="app == 'far'", ingress=(rule(source=entity(nets="10.65.0.1")),))
    assert verdict(replace(inputs([A, here], [only]), nodes=NODES, pools={"main": POOL}), asked).action == "Allow"


def test_a_pod_that_may_send_as_others_is_no_node() -> None:
    spoofer = replace(A, may_send_as=(Prefix.parse("192.0.2.0/24"), Prefix.parse("198.51.100.0/24")))
    world = replace(WORLD, local_workloads=inputs([spoofer]).local_workloads, policies={})
    loose = replace(world, settings=PolicySettings(may_spoof=True, to_host="Accept", pods_may_ipip=True))
    for source, said in (("198.51.100.9", "rule 0: Allow"), ("198.51.101.9", "is not its address: Deny")):
        assert decided(loose, packet(source, "10.65.1.2", sender="10.65.0.1")).endswith(said)
    assert decided(world, packet("198.51.100.9", "10.65.1.2", sender="10.65.0.1")).endswith("not its address: Deny")
    tunnel = packet("192.0.2.2", "192.0.2.1", protocol=4, sender="10.65.0.1")
    assert decided(loose, tunnel) == "node here: IPIP from 192.0.2.2, a pod of its own: Deny"
