"""The kernel's own ipip under our tables, and with the other two ways of carrying IPIP beside it."""

import re
from itertools import permutations

import pytest

from felixlite.carriers import chosen
from felixlite.ipip.plan import Carrier
from felixlite.kernel.host import Host
from tests.support.netns import namespace
from tests.support.overlays import pool
from tests.support.sniff import pinging, seen
from tests.support.stations import HEADERS, fallback_tunnels, headers_on_the_wire, stations


def modes(**more):
    return pool("10.65.0.0/16", **more)


@pytest.fixture(autouse=True, scope="module")
def the_module_is_loaded():
    """As it is on a machine where IPIP was used before."""
    with namespace("fo-load") as space:
        space.command("modprobe", "ipip")


def test_the_kernels_ipip_is_chosen_where_there_is_one():
    with namespace("fo-choice") as space, Host(space.fd) as host:
        assert chosen(host).carrier is Carrier.KERNEL


def test_a_tun_of_ours_is_not_exchanged_for_the_kernels_device_in_a_running_machine():
    with fallback_tunnels(wanted=False), namespace("fo-tun") as space, Host(space.fd) as host:
        space.ip("tuntap add dev tunl0 mode tun")

        assert chosen(host).carrier is Carrier.EBPF


@pytest.fixture(scope="module")
def lan(the_module_is_loaded):
    """One node of each kind; making it anew for each test would take most of the time."""
    with stations([Carrier.KERNEL, Carrier.EBPF, Carrier.USER_SPACE], modes(ipip="Always")) as made:
        yield made


def switched(lan, **mode):
    lan.pool = modes(**mode)
    lan.now += 1
    lan.converge(rounds=2)


def test_the_kernels_tunl0_carries_pods_as_the_reference_shows_it(lan):
    switched(lan, ipip="Always")
    with seen(lan.spaces["n2"], "eth0", "ip proto 4") as packets:
        lan.ping("n1", "n2")

    assert lan.spaces["n1"].ip("route").splitlines() == [
        "blackhole 10.65.1.0/26 proto 80 ",
        "10.65.1.10 dev cali1 scope link ",
        "10.65.2.0/26 via 192.168.50.2 dev tunl0 proto 80 onlink ",
        "10.65.3.0/26 via 192.168.50.3 dev tunl0 proto 80 onlink ",
        "192.168.50.0/24 dev eth0 proto kernel scope link src 192.168.50.1 ",
    ]
    tunl0 = lan.spaces["n1"].ip("address show tunl0")
    assert re.search(r"<NOARP,UP,LOWER_UP> mtu 1480 ", tunl0)
    assert re.findall(r"inet \S+", tunl0) == ["inet 10.65.1.0/32"]
    request = next(line for line in packets if "echo request" in line)
    assert "proto IPIP (4), length 104) 192.168.50.1 > 192.168.50.2: IP" in request
    assert "10.65.1.10 > 10.65.2.10: ICMP echo request" in request


def test_the_kernel_the_programs_and_the_process_talk_to_each_other(lan):
    switched(lan, ipip="Always")
    with seen(lan.spaces["n2"], "eth0", "ip proto 4") as packets:
        for source, target in permutations(["n1", "n2", "n3"], 2):
            lan.ping(source, target, "-c", "2", "-i", "0.1", "-s", "1400")

    assert len([line for line in packets if "echo re" in line]) == 4 * 2 * 2  # all but those between n1 and n3


def test_switching_with_the_kernels_tunl0_loses_no_packet(lan):
    switched(lan, ipip="Always")
    with pinging(lan.pods["n1"], lan.pod_address("n2"), "0.02"):
        for mode in ({"vxlan": "Always"}, {}, {"ipip": "Always"}):
            switched(lan, **mode)


def test_the_kernels_tunl0_takes_ttl_and_df_from_the_inner_header_or_as_configured(lan):
    switched(lan, ipip="Always")

    assert headers_on_the_wire(lan, "n1", "n2") == [header for _, _, header in HEADERS]


def test_ttl_and_df_that_somebody_changed_are_set_again_and_a_second_start_changes_nothing(lan):
    switched(lan, ipip="Always")
    with pinging(lan.pods["n1"], lan.pod_address("n2"), "0.02"):
        lan.spaces["n1"].ip("tunnel change tunl0 mode ipip ttl 9 pmtudisc")
        lan.stations["n1"].reconciler.distrust("links")
        lan.converge()
        tunl0 = lan.spaces["n1"].ip("-d link show tunl0")
        lan.restart("n1")
        lan.step("n1")

    assert "ttl inherit nopmtudisc" in tunl0
    assert lan.stations["n1"].outcomes["links"].written == 0


def test_tunl0_loses_its_address_and_stays_when_no_pool_needs_it_any_more(lan):
    switched(lan)
    lan.now += 100
    lan.converge(rounds=2)

    tunl0 = lan.spaces["n1"].ip("address show tunl0")
    assert "inet " not in tunl0
    assert "tunl0" in tunl0


def test_the_programs_work_on_uplinks_with_a_vlan_tag_and_without_a_link_header():
    """One after the other on the same nodes: an uplink that changes is followed."""
    with stations([Carrier.EBPF, Carrier.KERNEL], modes(ipip="Always")) as made:
        for move in (to_a_vlan, to_gre):
            for number, name in enumerate(("n1", "n2"), 1):
                move(made.spaces[name], number)
            made.converge(rounds=2)
            made.ping("n1", "n2", "-c", "1", "-s", "1200")

        counters = made.stations["n1"].programs.counters()
        assert (counters["sent"], counters["received"]) == (2, 2)


def to_a_vlan(space, number):
    space.ip(f"address delete 192.168.50.{number}/24 dev eth0")
    space.ip("link add link eth0 name eth0.7 type vlan id 7")
    space.ip("link set eth0.7 up")
    space.ip(f"address add 192.168.50.{number}/24 dev eth0.7")


def to_gre(space, number):
    """As a stand-in for all links that carry bare IP packets."""
    space.ip("link delete eth0.7")
    space.ip(f"address add 172.30.0.{number}/24 dev eth0")
    space.ip(f"link add up0 type gre local 172.30.0.{number} remote 172.30.0.{3 - number}")
    space.ip("link set up0 up mtu 1450")
    space.ip(f"address add 192.168.50.{number}/24 dev up0")
