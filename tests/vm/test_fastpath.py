"""The fast path under packets: what takes it, what does not, and that nothing is lost or let through by it.

Two nodes, one with the kernel's ipip and one with ours by eBPF, policy on nftables and a pod each.
"""

import socket
import time
from contextlib import contextmanager
from dataclasses import replace
from functools import partial

import pytest

from felixlite.ipip.plan import Carrier
from felixlite.lab.probe import Place
from felixlite.lab.traffic import DATAGRAMS, Traffic
from felixlite.policy.fastpath import NAME, TABLE, fast_path
from felixlite.policy.flowtable import FlowTable, fault
from tests.support.cni import eventually
from tests.support.guarded import guarded_stations
from tests.support.netns import connect, namespace
from tests.support.offloading import PODS, SERVICE, SOMEBODYS, devices, hooks_saw, offloaded, past_the_hooks, talk
from tests.support.overlays import pool
from tests.support.sniff import seen

ON, OFF = {"nftablesFlowTableOffload": "All"}, {}


def modes(**more):
    return pool(PODS, **more)


@pytest.fixture(autouse=True, scope="module")
def the_module_is_loaded():
    """Before there is a tunl0 of ours in some namespace: then it could not be loaded, and modprobe would not say so."""
    with namespace("ff-load") as space:
        space.command("modprobe", "ipip")


@pytest.fixture(scope="module")
def made(the_module_is_loaded):
    with guarded_stations([Carrier.KERNEL, Carrier.EBPF], modes(ipip="Always"), "ff") as lan:
        for space in lan.spaces.values():
            space.command("nft", "-f", "-", stdin=SOMEBODYS)
        yield lan


@pytest.fixture
def lan(made):
    """As at first, whatever a test has changed."""
    made.settings, workloads = ON, made.workloads
    switched(made, ipip="Always")
    for space in made.spaces.values():
        space.command("conntrack", "-F")
        flowtable_timeout(space, 30)
    yield made
    made.workloads = workloads


def flowtable_timeout(space, seconds):
    """After which silence of UDP the kernel takes it out."""
    space.command("sysctl", "-qw", f"net.netfilter.nf_flowtable_udp_timeout={seconds}")


def switched(lan, **mode):
    lan.pool, lan.now = modes(**mode), lan.now + 100
    lan.converge()


# -- who talks


@contextmanager
def traffic(lan):
    """Datagrams and a held connection, both ways; afterwards nothing may be missing."""
    places = [Place(name, lan.pods[name].name, lan.pod_address(name), name) for name in lan.pods]
    with Traffic(places, hold=True, rate=50, patience=5.0) as flowing:
        yield
    assert flowing.sent > 50
    assert (flowing.missing, flowing.broken) == ([], [])


# -- the tests


def test_this_kernel_has_what_the_fast_path_needs():
    with namespace("ff-probe") as space:
        assert space.run(fault) == ""
        assert space.command("nft", "list", "ruleset") == ""


def test_running_connections_go_past_the_hooks_and_new_ones_are_judged(lan):
    with traffic(lan):
        for space in lan.spaces.values():
            eventually(partial(past_the_hooks, space), 30)
            assert offloaded(space) == ["tcp", "udp"]
            assert devices(space) == {"cali1", "eth0", "tunl0"}
        with talk(lan.pods["n1"], lan.pods["n2"], lan.pod_address("n2"), port=DATAGRAMS + 100) as denied:
            denied.wait(1.0)
            assert not denied.exchange()


def test_switching_modes_loses_nothing_and_running_connections_take_the_new_way(lan):
    with traffic(lan):
        for mode, on_the_wire in (
            ({"vxlan": "Always"}, "udp port 4789"),
            ({}, f"udp port {DATAGRAMS}"),
            ({"ipip": "Always"}, "ip proto 4"),
        ):
            switched(lan, **mode)
            for space in lan.spaces.values():
                eventually(partial(past_the_hooks, space), 30)
            with seen(lan.spaces["n2"], "eth0", on_the_wire) as packets:
                time.sleep(0.5)
            assert packets


def test_what_somebody_takes_out_comes_back(lan):
    space, station = lan.spaces["n1"], lan.stations["n1"]
    before = space.command("nft", "list", "table", "inet", TABLE)
    for broken in (
        "flush chain inet {} established",
        "delete flowtable inet {} pods { devices = { tunl0 }; }",
        "delete table inet {}",
    ):
        space.command("nft", broken.replace("{}", TABLE, 1))
        station.reconciler.distrust(NAME)
        lan.step("n1")
        assert space.command("nft", "list", "table", "inet", TABLE) == before


def test_the_connections_of_an_endpoint_that_is_gone_stop_though_its_link_is_still_there(lan):
    with talk(lan.pods["n1"], lan.pods["n2"], lan.pod_address("n2")) as one:
        one.exchange_until(lambda: offloaded(lan.spaces["n2"]) == ["udp"])
        lan.workloads = {key: workload for key, workload in lan.workloads.items() if workload.node != "n2"}
        lan.step("n2")
        one.wait(1.0)

        assert not one.exchange()
        one.server.sendto(b"from one who is no more", one.seen_from)
        with pytest.raises(TimeoutError):
            one.client.recv(2000)
    assert devices(lan.spaces["n2"]) == {"eth0", "tunl0"}


def test_masqueraded_and_redirected_connections_keep_their_addresses(lan):
    node, other = lan.spaces.values()
    lan.pool = replace(lan.pool, nat_outgoing=True)
    lan.converge()
    with talk(lan.pods["n1"], other, "192.168.50.2") as outgoing:
        outgoing.exchange_until(lambda: offloaded(node) == ["udp"])
        hooks_saw(node)
        assert outgoing.exchange()
        assert hooks_saw(node) == 0
        assert outgoing.seen_from[0] == "192.168.50.1"
    node.command("conntrack", "-F")  # so that what is offloaded is what follows
    with talk(lan.pods["n1"], lan.pods["n2"], lan.pod_address("n2"), to=SERVICE) as service:
        service.exchange_until(lambda: offloaded(node) == ["udp"])
        hooks_saw(node)
        assert service.exchange()
        assert hooks_saw(node) == 0
        assert service.seen_from[0] == lan.pod_address("n1")


def test_a_link_that_carries_less_from_now_on_gets_fragments(lan):
    node = lan.spaces["n1"]
    with talk(lan.pods["n1"], lan.pods["n2"], lan.pod_address("n2")) as one:
        one.client.setsockopt(socket.IPPROTO_IP, 10, 0)  # IP_MTU_DISCOVER: IP_PMTUDISC_DONT
        one.exchange_until(lambda: offloaded(node) == ["udp"])
        assert one.exchange(1400)
        node.ip("link set tunl0 mtu 1200")
        assert one.exchange(1400)


def test_a_connection_that_was_silent_for_long_is_still_known(lan):
    """The kernel takes it out of the flowtable; the other side may be the one who speaks next."""
    for space in lan.spaces.values():
        flowtable_timeout(space, 1)
    with talk(lan.pods["n1"], lan.pods["n2"], lan.pod_address("n2")) as one:
        one.exchange_until(lambda: all(offloaded(space) == ["udp"] for space in lan.spaces.values()))
        eventually(lambda: not any(offloaded(space) for space in lan.spaces.values()), 30)
        one.server.sendto(b"after a while", one.seen_from)  # as a new one it would be denied
        assert one.client.recv(2000) == b"after a while"


def test_both_families_between_pods_of_one_node():
    with namespace("ff-node") as node, namespace("ff-a") as a, namespace("ff-b") as b:
        node.command("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1")
        for number, space in enumerate((a, b), 1):
            connect(node, f"cali{number}", space, "eth0")
            for net in ("10.66.{}.", "fd00:{}::"):
                family = 6 if ":" in net else 4
                length, nodad = (64, " nodad") if family == 6 else (24, "")
                node.ip(f"address add {net.format(number)}1/{length} dev cali{number}{nodad}", family=family)
                space.ip(f"address add {net.format(number)}2/{length} dev eth0{nodad}", family=family)
                space.ip(f"route add default via {net.format(number)}1", family=family)
        table = node.run(FlowTable)
        wanted = fast_path(("cali",), ["cali1", "cali2", "cali3"], {"cali1", "cali2", "eth0"})
        assert node.run(table.upsert, wanted) == {}
        assert node.run(table.read) == wanted
        for address, seen_as in (("10.66.2.2", ["ipv4"]), ("fd00:2::2", ["ipv4", "ipv6"])):
            with talk(a, b, address) as one:
                one.exchange_until(partial(families_offloaded_are, node, seen_as))


def families_offloaded_are(space, families):
    return offloaded(space, word=0) == families
