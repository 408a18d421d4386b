from ipaddress import ip_address

import pytest

from felixlite.addresses import Prefix
from felixlite.cni.plan import plan, sysctls
from felixlite.model.inside import Workload
from felixlite.rows import Link, Neighbour, NeighbourKey, RouteKey, on
from felixlite.snapshot import LinkState


def link(name: str, mtu: int = 1500, *, up: bool = True) -> LinkState:
    return LinkState(name, 1, "veth", up, mtu, "ee:ee:ee:ee:ee:ee")


def workload(
    *addresses: str,
    interface: str = "cali1",
    mac: str | None = "02:00:00:00:00:01",
    may_send_as: tuple[Prefix, ...] = (),
    most_mtu: int | None = None,
) -> Workload:
    found = tuple(map(Prefix.parse, addresses or ("10.0.0.9/32",)))
    return Workload("n1-k8s-a-eth0", "default", "n1", interface, found, mac, may_send_as=may_send_as, most_mtu=most_mtu)


LINKS = {"cali1": link("cali1"), "eth0": link("eth0")}


def test_each_address_is_routed_to_the_host_end_and_needs_no_question() -> None:
    wanted = plan([workload("10.0.0.9/32", "fd00::9/128")], LINKS)
    assert wanted.routes == {RouteKey(Prefix.parse(a)): on("cali1") for a in ("10.0.0.9/32", "fd00::9/128")}
    assert wanted.neighbours[NeighbourKey("cali1", ip_address("10.0.0.9"))] == Neighbour("02:00:00:00:00:01")
    assert len(wanted.neighbours) == 2


def test_a_workload_whose_host_end_is_missing_wants_nothing() -> None:
    assert not any(plan([workload()], {"eth0": link("eth0")}, uplink="eth0"))


def test_without_a_known_hardware_address_the_neighbour_is_left_to_arp() -> None:
    assert plan([workload(mac=None)], LINKS).neighbours == {}


def test_the_host_end_answers_arp_and_believes_the_pod_only() -> None:
    found = sysctls("cali1", {4})
    assert found["net/ipv4/conf/cali1/proxy_arp"] == "1"
    assert found["net/ipv4/neigh/cali1/proxy_delay"] == "0"
    assert found["net/ipv4/conf/cali1/rp_filter"] == "1"
    assert not [path for path in found if "route_localnet" in path]  # portmap's affair
    assert found["net/ipv6/conf/cali1/accept_ra"] == "0"
    assert "net/ipv6/conf/cali1/forwarding" not in found


def test_a_workload_that_may_spoof_is_not_filtered_by_its_path() -> None:
    wanted = plan([workload(may_send_as=(Prefix.parse("198.51.100.0/24"),))], LINKS)
    assert wanted.sysctls["net/ipv4/conf/cali1/rp_filter"] == "0"


def test_a_machine_without_ipv6_is_asked_for_none_of_its_settings() -> None:
    assert not [path for path in sysctls("cali1", {4}, ipv6=False) if "ipv6" in path]


def test_the_gateway_gets_a_route_that_makes_the_kernel_answer_for_it() -> None:
    routes = plan([workload()], LINKS, uplink="eth0").routes
    assert routes[RouteKey(Prefix.parse("169.254.1.1"), metric=32767)] == on("eth0")
    assert len(plan([], LINKS, uplink="eth0").routes) == 0


@pytest.mark.parametrize(("right", "most", "becomes"), [(1480, 1500, 1480), (1500, 1500, 1500), (9000, 1500, 1500)])
def test_a_lowered_mtu_goes_up_again_but_not_above_what_the_pod_was_made_for(
    right: int, most: int, becomes: int
) -> None:
    lowered = {"cali1": link("cali1", mtu=1450)}
    wanted = plan([workload(most_mtu=most)], lowered, mtu=right)
    assert (wanted.links["cali1"].mtu, wanted.pod_mtus["cali1"]) == (becomes, becomes)
    assert plan([workload(most_mtu=most)], lowered, mtu=None).pod_mtus == {"cali1": 1450}


def test_an_mtu_that_was_asked_for_stays() -> None:
    asked = {"cali1": link("cali1", mtu=1400)}
    assert plan([workload(most_mtu=1400)], asked, mtu=1500).pod_mtus == {"cali1": 1400}


def test_an_mtu_goes_down_on_both_ends_and_without_a_limit_never_up() -> None:
    lowered = plan([workload()], LINKS, mtu=1450)
    assert lowered.links["cali1"] == Link("adopt", mtu=1450, mac="ee:ee:ee:ee:ee:ee")
    assert lowered.pod_mtus == {"cali1": 1450}
    assert plan([workload()], LINKS, mtu=9000).pod_mtus == {"cali1": 1500}
    assert plan([workload()], LINKS, mtu=None).pod_mtus == {"cali1": 1500}
