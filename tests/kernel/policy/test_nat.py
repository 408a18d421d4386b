"""natOutgoing with each of its settings, and tunnels, on every backend, by the source that packets have at the far end."""

from collections.abc import Iterator
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.model.inside import Node, Pool
from felixlite.model.policy import TCP
from felixlite.policy.choice import Backend
from felixlite.policy.evaluate import Packet
from felixlite.policy.inputs import Inputs
from felixlite.policy.rows import Tunnel
from felixlite.policy.settings import PolicySettings
from tests.support.netns import Namespace, connect
from tests.support.policylab import PolicyLab
from tests.support.policyworld import NODE, OUTSIDE, POOL, A, Agent, udp
from tests.unit.policy.world import inputs

POD = str(A.addresses[0].first)
OUT = udp(POD, OUTSIDE)


def world(**settings: Any) -> Inputs:
    return replace(inputs([A], pools={"pool": POOL}), settings=PolicySettings(**settings))


def source(lab: PolicyLab, agent: Agent, wanted: Inputs) -> str:
    agent.converge(wanted)
    assert lab.arrived([OUT], [OUT]) == {OUT}
    return lab.seen_from[OUT]


def test_a_pool_without_nat_outgoing_keeps_its_addresses(lab: PolicyLab, agent: Agent) -> None:
    assert source(lab, agent, inputs([A], pools={"pool": replace(POOL, nat_outgoing=False)})) == POD


def test_hosts_of_the_cluster_are_outside_unless_they_are_excluded(lab: PolicyLab, agent: Agent) -> None:
    there = {"there": Node("there", ip_interface(f"{OUTSIDE}/24"))}
    assert source(lab, agent, replace(world(), nodes=there)) == NODE
    assert source(lab, agent, replace(world(nat_excludes_hosts=True), nodes=there)) == POD


@pytest.mark.parametrize(("interfaces", "seen"), [("eth+", NODE), ("eth0", NODE), ("wlan+", POD)])
def test_only_what_leaves_by_the_chosen_interfaces_is_masqueraded(
    lab: PolicyLab, agent: Agent, interfaces: str, seen: str
) -> None:
    assert source(lab, agent, world(nat_interfaces=interfaces)) == seen


def test_a_disabled_pool_is_inside_as_well(lab: PolicyLab, agent: Agent) -> None:
    retired = Pool("retired", Prefix.parse(f"{OUTSIDE}/32"), disabled=True)
    assert source(lab, agent, replace(world(), pools={"pool": POOL, "retired": retired})) == POD


def test_the_ports_of_masqueraded_connections_are_chosen_from_the_range(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(world(nat_ports=(41000, 41015)))
    probes = [OUT, Packet(OUT.source, OUT.destination, TCP, 1000, 80)]
    assert lab.arrived(probes, probes) == set(probes)
    assert set(lab.seen_from.values()) == {NODE}
    assert all(41000 <= port <= 41015 for port in lab.seen_ports.values()), lab.seen_ports


def test_ports_are_drawn_at_random(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    agent.converge(world())
    listing, word = {
        "nftables": ("nft list chain ip felixlite nat-postrouting", "fully-random"),
        "legacy": ("iptables-legacy -t nat -S fl-POSTROUTING", "--random-fully"),
        "nft": ("iptables-nft -t nat -S fl-POSTROUTING", "--random-fully"),
    }[backend]
    assert word in lab.node.command(*listing.split())


TUNNEL, FAR_POD = "10.65.0.64", "10.65.7.1"


@pytest.fixture
def tunnel(lab: PolicyLab, outside: Namespace) -> Iterator[str]:
    """A second way to the host outside, where a pod is; to the rules it is a tunnel."""
    connect(lab.node, "tun", outside, "tun")
    lab.node.ip(f"address add {TUNNEL}/32 dev tun")
    lab.node.ip(f"route add {FAR_POD}/32 via {OUTSIDE} dev tun onlink")
    outside.ip(f"address add {FAR_POD}/32 dev lo")
    lab.by_address[FAR_POD] = "outside"
    yield "tun"
    del lab.by_address[FAR_POD]
    outside.ip(f"address delete {FAR_POD}/32 dev lo")
    lab.node.ip("link delete tun")


def test_what_a_node_sends_into_a_tunnel_has_the_tunnels_address_and_a_pod_its_own(
    lab: PolicyLab, agent: Agent, tunnel: str
) -> None:
    agent.converge(replace(world(), tunnels=(Tunnel(tunnel, ip_address(TUNNEL)),)))
    from_node, from_pod = udp(NODE, FAR_POD), udp(POD, FAR_POD)
    assert lab.arrived([from_node, from_pod], [from_node, from_pod]) == {from_node, from_pod}
    assert lab.seen_from == {from_node: TUNNEL, from_pod: POD}
