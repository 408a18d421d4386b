"""What `ip route` shows on a node in each mode: one neighbour on its subnet (n3), one behind a router (n2)."""

import json
from ipaddress import ip_network
from itertools import permutations

import pytest

from felixlite.lab import world
from tests.lab.test_switch import CROSS, IPIP, NATIVE, VXLAN, switched


@pytest.fixture
def crossing(lab):
    yield lab
    switched(lab, CROSS)


def block(lab, node):
    addresses = {ip_network(f"{pod.address}/26", strict=False) for pod in lab.pods() if pod.node == node}
    (found,) = addresses
    return found


def shown(lab, node):
    """The part of the table that is about pods, as `ip` sorts it."""
    table = world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine(node).namespace)
    return [line.strip() for line in table.splitlines() if "10.244." in line]


def vxlan_address(lab, node):
    return json.loads(lab.felixlite("get", "node", node, "-o", "json"))["spec"]["ipv4VXLANTunnelAddr"]


def expected(lab, n2, n3):
    """n1's table: its block as a blackhole, a /32 for every pod of its own, the blocks of the others."""
    links = {p.address: link_to(lab, p.address) for p in lab.pods() if p.node == "n1"}
    own = [f"blackhole {block(lab, 'n1')}", *(f"{address} dev {link} scope link" for address, link in links.items())]
    others = [f"{block(lab, 'n2')} {n2}", f"{block(lab, 'n3')} {n3}"]
    return sorted([*own, *others])


def link_to(lab, address):
    route = world.run(["ip", "-j", "route", "get", address], namespace=lab.machine("n1").namespace)
    return json.loads(route)[0]["dev"]


def test_each_mode_has_the_routing_table_of_the_reference(crossing):
    switched(crossing, IPIP)
    assert sorted(shown(crossing, "n1")) == expected(
        crossing, "via 10.0.2.12 dev tunl0 onlink", "via 10.0.1.13 dev tunl0 onlink"
    )
    switched(crossing, CROSS)
    assert sorted(shown(crossing, "n1")) == expected(
        crossing, "via 10.0.2.12 dev tunl0 onlink", "via 10.0.1.13 dev eth0"
    )
    switched(crossing, NATIVE)
    assert sorted(shown(crossing, "n1")) == expected(crossing, "via 10.0.1.1 dev eth0", "via 10.0.1.13 dev eth0")
    switched(crossing, VXLAN)
    n2, n3 = (f"via {vxlan_address(crossing, node)} dev vxlan.calico onlink" for node in ("n2", "n3"))
    assert sorted(shown(crossing, "n1")) == expected(crossing, n2, n3)


def test_the_doctor_finds_that_large_packets_go_between_all_nodes_and_names_the_pairs_where_they_do_not(lab):
    doctor = [*lab.command, "doctor", "mtu"]

    healthy = world.run(doctor, namespace=lab.topology.switch)
    world.run(["ip", "-n", lab.topology.switch, "link", "set", "n3.eth0", "mtu", "1400"])
    try:
        ill = world.run(doctor, namespace=lab.topology.switch, check=False)
    finally:
        world.run(["ip", "-n", lab.topology.switch, "link", "set", "n3.eth0", "mtu", "1500"])

    rows = [line.split() for line in healthy.splitlines()[1:]]
    assert {(row[0], row[1]) for row in rows} == {*permutations(["n1", "n2", "n3"], 2)}
    assert {row[3] for row in rows} >= {"eth0", "tunl0"}
    assert {row[-1] for row in rows} == {"all"}
    assert "n1 -> n3 (10.0.1.13, eth0): packets of 1500 bytes do not arrive, those of 1400 do" in ill
    assert "vanish without a word between n1 and 10.0.1.13" in ill
    assert "n2 -> n3 (10.0.1.13, eth0): packets of 1500 bytes do not arrive" in ill
    assert "n1 -> n2" not in ill
    assert not any(word in lab.felixlite("get", "nodes", "-o", "json") for word in ("examine", "ways"))
