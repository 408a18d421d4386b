"""The planner of a node as a whole: what it answers is text that a person would type."""

from dataclasses import replace
from ipaddress import ip_address, ip_interface

import pytest

from felixlite.addresses import Prefix
from felixlite.model.inside import Affinity, AffinityState, BgpPeer, Block, Mode, Node, Pool, Workload
from felixlite.plan import NodePlanner, Surroundings
from felixlite.policy.rows import IpSet, Key
from felixlite.rows import RouteKey, blackhole, on, via
from felixlite.show import plan_lines
from felixlite.snapshot import Gone, InSync, Learned, LinkState, Put, Snapshot, fold
from felixlite.tables import merged
from tests.unit.policy.world import policy

P = Prefix.parse
OURS, THEIRS, FAR = P("10.244.0.0/26"), P("10.244.1.0/26"), P("10.244.2.0/26")


def node(name, address, tunnel):
    return Node(
        name,
        ip_interface(address),
        ipip_address=ip_address(tunnel),
        accepts=frozenset({"native", "ipip"}),
        sends=frozenset(),
    )


@pytest.fixture
def snapshot():
    nodes = [
        node("n1", "10.0.1.11/24", "10.244.0.1"),
        node("n2", "10.0.1.12/24", "10.244.1.1"),
        node("n3", "10.0.2.13/24", "10.244.2.1"),
    ]
    return Snapshot(
        "n1",
        pools={"default": Pool("default", P("10.244.0.0/16"), ipip=Mode.CROSS_SUBNET)},
        nodes={n.name: n for n in nodes},
        affinities={("n1", OURS): Affinity("n1", OURS, AffinityState.CONFIRMED)},
        blocks={OURS: Block(OURS, "n1"), THEIRS: Block(THEIRS, "n2"), FAR: Block(FAR, "n3")},
        links={
            "eth0": LinkState("eth0", 2, "", True, 1500, "02:00:00:00:00:01"),
            "tunl0": LinkState("tunl0", 3, "ipip", True, 1480, ""),
        },
        link_addresses={("eth0", "10.0.1.11/24"): P("10.0.1.0/24")},
    )


@pytest.fixture
def planner():
    return NodePlanner(Surroundings())


def test_a_cross_subnet_pool_tunnels_only_to_the_other_subnet(planner, snapshot):
    assert [
        line for line in plan_lines(planner(snapshot, 0).tables) if not line.startswith(("policy", "bgp", "ann"))
    ] == [
        "links         ip link set tunl0 up mtu 1480",
        "addresses     ip address replace 10.244.0.1/32 dev tunl0",
        "sysctls       sysctl -w net.ipv4.conf.eth0.rp_filter=2|0",
        "sysctls       sysctl -w net.ipv4.conf.tunl0.rp_filter=2",
        "sysctls       sysctl -w net.ipv4.ip_forward=1",
        "sysctls       sysctl -w net.ipv6.conf.all.forwarding=1",
        "routes        ip route replace 10.244.0.0/26 blackhole proto 80",
        "routes        ip route replace 10.244.1.0/26 via 10.0.1.12 dev eth0 proto 80",
        "routes        ip route replace 10.244.2.0/26 via 10.0.2.13 dev tunl0 onlink proto 80",
    ]


def test_a_snapshot_that_did_not_change_gives_the_very_same_slices(planner, snapshot):
    first, second = planner(snapshot, 0).tables, planner(snapshot, 1).tables

    for table, slices in first.items():
        assert all(a is b for a, b in zip(slices, second[table], strict=True)), table


def test_the_addresses_of_kube_proxys_ipvs_link_are_services_as_long_as_it_is_there(planner, snapshot):
    def services(snapshot):
        rows = {key: row for part in planner(snapshot, 0).tables["policy/4"] for key, row in part.items()}
        return rows.get(Key("set", "services"))

    link = Put("links", "kube-ipvs0", LinkState("kube-ipvs0", 7, "dummy", False, 1500, ""))
    address = Put("link_addresses", ("kube-ipvs0", "10.96.0.1/32"), P("10.96.0.1"))
    there = fold(snapshot, [link, address])

    assert services(snapshot) is None
    assert services(there) == IpSet("ip", frozenset({P("10.96.0.1")}))
    assert services(fold(there, [Gone("link_addresses", address.key)])) == IpSet("ip")
    assert services(fold(there, [Gone("links", "kube-ipvs0")])) is None


def test_a_pods_link_coming_up_decides_no_route_again(planner, snapshot):
    first = planner(snapshot, 0).tables["routes"]
    busy = fold(snapshot, [Put("links", "cali1", LinkState("cali1", 9, "veth", True, 1480, "ee:ee:ee:ee:ee:ee"))])

    assert all(a is b for a, b in zip(first, planner(busy, 1).tables["routes"], strict=True))


def test_what_bgp_says_about_a_block_of_the_store_is_not_asked_for_twice(planner, snapshot):
    told = Learned((ip_address("10.0.1.12"),), ("10.0.1.12",))
    with_bgp = fold(
        snapshot, [Put("learned", THEIRS, told), Put("learned", P("192.0.2.0/24"), told), Put("learned", OURS, told)]
    )

    routes = [line for line in plan_lines(planner(with_bgp, 0).tables) if line.startswith("routes")]

    assert routes == [
        "routes        ip route replace 10.244.0.0/26 blackhole proto 80",
        "routes        ip route replace 10.244.1.0/26 via 10.0.1.12 dev eth0 proto 80",
        "routes        ip route replace 10.244.2.0/26 via 10.0.2.13 dev tunl0 onlink proto 80",
        "routes        ip route replace 192.0.2.0/24 metric 1024 via 10.0.1.12 proto 80",
    ]


def test_a_block_that_two_claim_is_the_remote_ones_and_no_contradiction(planner, snapshot):
    claimed = fold(snapshot, [Put("blocks", OURS, Block(OURS, "n2"))])

    assert "routes        ip route replace 10.244.0.0/26 via 10.0.1.12 dev eth0 proto 80" in list(
        plan_lines(planner(claimed, 0).tables)
    )


def test_an_own_node_record_deleted_under_the_agent_changes_and_removes_nothing(planner, snapshot):
    before = planner(snapshot, 0)

    after = planner(fold(snapshot, [Gone("nodes", "n1")]), 1)

    assert after.tables == before.tables
    assert not after.may_remove
    assert "there is no Node n1" in after.notes(0.0)[0]


def test_what_is_not_enforced_is_among_the_notes(planner, snapshot):
    found = planner(fold(snapshot, [Put("unenforced", ("HostEndpoint", "h"), "host endpoints are not")]), 0)
    assert "HostEndpoint h: host endpoints are not" in found.notes(0.0)
    assert not any("HostEndpoint" in note for note in planner(snapshot, 1).notes(1.0))


def test_the_plan_depends_only_on_what_is_known_not_on_the_way_there(snapshot):
    wandering = NodePlanner(Surroundings())
    told = Learned((ip_address("10.0.1.1"),), ("10.0.1.1",))
    states = [
        snapshot,
        fold(snapshot, [Put("learned", P("192.0.2.0/24"), told)]),
        fold(snapshot, [Gone("blocks", THEIRS)]),
        fold(snapshot, [Put("nodes", "n2", replace(snapshot.nodes["n2"], ipv4=ip_interface("10.0.1.99/24")))]),
    ]
    for turn in (0, 1, 0, 2, 3, 1, 2, 0, 3, 0):
        fresh = NodePlanner(Surroundings())(states[turn], 0).tables
        assert list(plan_lines(wandering(states[turn], 0).tables)) == list(plan_lines(fresh))


def test_until_the_peers_had_their_say_routes_to_elsewhere_are_spared(planner, snapshot):
    before = planner(snapshot, 0)
    after = planner(fold(snapshot, [InSync("bgp")]), 0)
    learned, own = via(ip_address("10.0.1.1"), "eth0"), blackhole()

    assert before.spare("routes", RouteKey(FAR), learned)
    assert not before.spare("routes", RouteKey(FAR), own)
    assert after.spare is None


def test_what_a_bgp_peer_may_do_here_is_a_setting(snapshot):
    def row(**environment):
        tables = NodePlanner(Surroundings(environment=environment))(snapshot, 0).tables
        return tables["bgp peers"][0]["10.0.1.12"]

    assert (row().accept_default, bool(row().protects), row().max_prefixes) == (False, True, None)
    assert row(FELIXLITE_BGPACCEPTDEFAULTROUTE="true").accept_default
    assert not row(FELIXLITE_BGPACCEPTOWNSUBNET="true").protects
    assert row(FELIXLITE_BGPMAXPREFIXES="7").max_prefixes == 7


def workload(name, interface, address):
    return Workload(name, "default", "n1", interface, (P(address),), mac="02:00:00:00:00:02")


@pytest.mark.parametrize("interface", ["eth0", "tunl0", "lo"])
def test_a_workload_on_an_interface_of_the_node_itself_is_left_alone_and_named(planner, snapshot, interface):
    lo = LinkState("lo", 1, "", True, 65536, "")
    odd = workload("odd", interface, "10.244.0.9/32")
    without = fold(snapshot, [Put("links", "lo", lo)])
    planned = planner(fold(without, [Put("local_workloads", ("default", "odd"), odd)]), 0)
    plain = NodePlanner(Surroundings())(without, 0)

    for table in ("links", "sysctls", "routes", "neighbours"):
        assert merged(planned.tables[table]) == merged(plain.tables[table])
    assert any(interface in note and "WorkloadEndpoint default/odd" in note for note in planned.notes(0))


def test_a_pod_with_the_address_of_a_peer_behind_a_gateway_keeps_its_route(planner, snapshot):
    peer = BgpPeer("odd", peer_ip=ip_address("10.244.0.9"), asn=65000, reachable_by=ip_address("10.0.1.1"))
    there = fold(snapshot, [Put("bgp_peers", "odd", peer)])
    assert merged(planner(there, 0).tables["routes"])[RouteKey(P("10.244.0.9/32"))] == via(ip_address("10.0.1.1"))

    link = LinkState("cali1", 9, "veth", True, 1480, "ee:ee:ee:ee:ee:ee")
    pod = Put("local_workloads", ("default", "w"), workload("w", "cali1", "10.244.0.9/32"))
    routes = merged(planner(fold(there, [Put("links", "cali1", link), pod]), 0).tables["routes"])
    assert routes[RouteKey(P("10.244.0.9/32"))] == on("cali1")


def test_a_planner_that_stumbled_remembers_nothing_of_it(planner, snapshot):
    pod = workload("w", "cali1", "10.244.0.9/32")
    before = fold(snapshot, [Put("local_workloads", ("default", "w"), pod)])
    planner(before, 0)
    odd = replace(policy("odd"), namespace_selector="no selector at all")
    puts = [Put("policies", ("NetworkPolicy", "default", one.name), one) for one in (odd, policy("good"))]
    with pytest.raises(AttributeError):
        planner(fold(before, puts), 1)

    after = fold(before, [puts[1]])
    assert list(plan_lines(planner(after, 2).tables)) == list(plan_lines(NodePlanner(Surroundings())(after, 2).tables))
