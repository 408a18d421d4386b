from dataclasses import replace

import pytest

from felixlite.ipip import devices
from felixlite.ipip.devices import Tunnel
from felixlite.ipip.plan import Carrier
from felixlite.rows import OuterHeader
from tests.support.overlays import A, P, link, node, typed

PATTERN = r"^eth.*"
EVERY = frozenset(Tunnel)
HERE = node("n1", "192.0.2.11/24", ipip_address=A("10.42.19.64"), vxlan_address=A("10.42.19.65"))
THERE = node("n2", "192.0.2.12/24", vxlan_address=A("10.42.20.1"))


def mtus(open_tunnels, uplink=1500, configured=None):
    return devices.mtus(open_tunnels, {"eth0": link("eth0", mtu=uplink)}, ["eth0"], PATTERN, configured or {})


def test_an_open_ipip_tunnel_is_tunl0_with_the_uplinks_mtu_less_20_and_one_address():
    rows = devices.links({Tunnel.IPIP}, HERE, {4: "eth0"}, mtus({Tunnel.IPIP}))

    assert [row.text(name) for name, row in rows.items()] == ["ip link set tunl0 up mtu 1480"]
    assert list(map(str, devices.addresses({Tunnel.IPIP}, HERE, {}))) == ["ip address replace 10.42.19.64/32 dev tunl0"]


def test_where_the_kernel_has_no_ipip_tunl0_is_a_tun():
    rows = devices.links({Tunnel.IPIP}, HERE, {4: "eth0"}, mtus({Tunnel.IPIP}), Carrier.EBPF)

    assert rows["tunl0"].kind == "tun"


@pytest.mark.parametrize(
    ("carrier", "row"),
    [
        (Carrier.KERNEL, "ip link set tunl0 up mtu 1480 && ip tunnel change tunl0 mode ipip ttl 64 pmtudisc"),
        (Carrier.EBPF, "source 192.0.2.11 link tunl0 ttl 64 pmtudisc"),
        (Carrier.USER_SPACE, "send and receive ttl 64 pmtudisc"),
    ],
)
def test_the_outer_header_is_a_row_of_whatever_carries_ipip(carrier, row):
    header, opened = OuterHeader(64, dont_fragment=True), {Tunnel.IPIP}
    link = devices.links(opened, HERE, {4: "eth0"}, mtus(opened), carrier, header=header)["tunl0"].text("tunl0")
    ends = devices.ends(opened, HERE, {}, (), carrier, header)
    processes = devices.forwarders(opened, carrier, header)

    assert [line for line in (link, *map(str, [*ends.values(), *processes.values()])) if "ttl" in line] == [row]


def test_an_open_vxlan_has_static_entries_for_every_other_node():
    nodes = {"n1": HERE, "n2": THERE, "n3": node("n3", "192.0.2.13/24")}
    rows = devices.links({Tunnel.VXLAN}, HERE, {4: "eth0"}, mtus({Tunnel.VXLAN}))

    assert [row.text(name) for name, row in rows.items()] == [
        (
            f"ip link set vxlan.calico up mtu 1450 address {devices.mac_of('n1', 4)}"
            " type vxlan id 4096 dstport 4789 local 192.0.2.11 dev eth0 nolearning"
        )
    ]
    mac = devices.mac_of("n2", 4)
    assert typed(devices.neighbours({Tunnel.VXLAN}, HERE, nodes)) == (
        f"ip neighbour replace 10.42.20.1 dev vxlan.calico lladdr {mac} nud permanent\n"
    )
    assert typed(devices.forwarding({Tunnel.VXLAN}, HERE, nodes)) == (
        f"bridge fdb replace {mac} dev vxlan.calico dst 192.0.2.12 self permanent\n"
    )


def test_nothing_is_left_of_a_tunnel_that_is_closed():
    nodes = {"n1": HERE, "n2": THERE}

    assert not devices.links((), HERE, {4: "eth0"}, mtus(()))
    assert not devices.addresses((), HERE, {("tunl0", "10.42.19.64/32"): P("10.42.19.64/32")})
    assert not devices.neighbours((), HERE, nodes)
    assert not devices.forwarding((), HERE, nodes)


def test_a_vxlan_address_is_made_of_the_nodes_name_and_differs_per_family():
    assert devices.mac_of("n1", 4).startswith("66:")
    assert devices.mac_of("n1", 4) == devices.mac_of("n1", 4) != devices.mac_of("n1", 6)


def test_an_address_that_the_node_published_wins_over_its_name():
    assert devices.mac(node("n1", vxlan_mac="66:00:00:00:00:09"), 4) == "66:00:00:00:00:09"


@pytest.mark.parametrize(
    ("open_tunnels", "pod"),
    [((), 1500), ([Tunnel.IPIP], 1480), ([Tunnel.VXLAN], 1450), ([Tunnel.IPIP, Tunnel.VXLAN], 1450), (EVERY, 1430)],
)
def test_a_pods_mtu_fits_through_every_tunnel_that_is_open(open_tunnels, pod):
    assert mtus(open_tunnels).pod == pod


def test_a_configured_mtu_wins():
    assert mtus({Tunnel.IPIP}, configured={Tunnel.IPIP: 1440}).pod == 1440
    assert mtus({Tunnel.IPIP}, configured={Tunnel.IPIP: 0}).pod == 1480


def test_the_smallest_uplink_counts_and_what_is_down_or_a_tunnel_does_not():
    found = {
        "eth0": link("eth0", mtu=9000),
        "eth1": link("eth1", mtu=1400, up=False),
        "eth2": link("eth2", mtu=1600),
        "ethernet.tunl0": link("x", mtu=9000),
        "docker0": link("docker0", mtu=576),
        "bond7": link("bond7", mtu=1550),
    }

    assert devices.uplink_mtu(found, ["bond7"], PATTERN) == 1550
    assert devices.uplink_mtu(found, [], PATTERN) == 1600
    assert devices.uplink_mtu({}, [], PATTERN) == 1460


def test_the_reverse_path_check_is_loose_on_tunnels():
    links = {name: link(name) for name in ("tunl0", "eth0")}

    assert devices.sysctls({Tunnel.IPIP, Tunnel.VXLAN}, links, {4: "eth0"}, {"eth0"}) == {
        "net/ipv4/conf/tunl0/rp_filter": "2",
        "net/ipv4/conf/eth0/rp_filter": "2|0",
    }


def test_where_programs_do_the_work_they_are_on_the_uplink_and_know_every_other_node():
    nodes = {"n1": HERE, "n2": THERE, "n6": node("n6")}
    links = {"eth0": link("eth0")}

    assert sorted(map(str, devices.classifiers({Tunnel.IPIP}, links, {4: "eth0"}, ["eth0"], Carrier.EBPF))) == [
        "tc filter replace dev eth0 ingress",
        "tc filter replace dev tunl0 egress",
    ]
    ends = devices.ends({Tunnel.IPIP}, HERE, nodes, [P("198.51.100.9/32")], Carrier.EBPF)
    assert sorted(f"{key} {row}".strip() for key, row in ends.items()) == [
        "accept ipip from 192.0.2.12 to 192.0.2.11",
        "accept ipip from 198.51.100.9 to 192.0.2.11",
        "outer source 192.0.2.11 link tunl0 ttl inherit nopmtudisc",
    ]


def test_a_node_address_on_a_dummy_is_reached_through_every_other_link():
    links = {"lo0": link("lo0", "dummy"), "eth0": link("eth0"), "eth1": link("eth1"), "tunl0": link("tunl0", "tun")}

    rows = devices.classifiers({Tunnel.IPIP}, links, {4: "lo0"}, ["lo0", "eth0", "eth1", "tunl0", "lo"], Carrier.EBPF)

    assert {key.link for key in rows if key.direction == "ingress"} == {"lo0", "eth0", "eth1"}


@pytest.mark.parametrize("carrier", [Carrier.KERNEL, Carrier.USER_SPACE])
def test_there_are_no_programs_where_something_else_does_the_work(carrier):
    assert not devices.classifiers({Tunnel.IPIP}, {"eth0": link("eth0")}, {4: "eth0"}, ["eth0"], carrier)
    assert not devices.ends({Tunnel.IPIP}, HERE, {"n2": THERE}, (), carrier)


def test_an_open_tunnel_keeps_its_address_until_the_node_has_another():
    there = {("tunl0", "10.42.19.64/32"): P("10.42.19.64/32"), ("eth0", "192.168.50.1/24"): P("192.168.50.0/24")}
    nameless = replace(HERE, ipip_address=None)
    moved = replace(HERE, ipip_address=A("10.42.19.70"))

    assert list(map(str, devices.addresses({Tunnel.IPIP}, nameless, there))) == [
        "ip address replace 10.42.19.64/32 dev tunl0"
    ]
    assert list(map(str, devices.addresses({Tunnel.IPIP}, moved, there))) == [
        "ip address replace 10.42.19.70/32 dev tunl0"
    ]
