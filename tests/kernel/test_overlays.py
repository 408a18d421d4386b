"""Pods on several nodes through every kind of tunnel that this kernel has, by the real planner and tables."""

import re
import socket
import struct
import subprocess
import sys
import threading
from dataclasses import replace

import pytest

from felixlite.carriers import samples
from felixlite.ipip.plan import Carrier
from felixlite.ipip.rows import OUTER as OUTER_KEY
from felixlite.kernel.host import Host
from felixlite.kernel.links import Links
from felixlite.pathmtu import checksum
from felixlite.rows import AS_INNER, Link, OuterHeader
from tests.support.netns import namespace
from tests.support.overlays import pool
from tests.support.sniff import pinging, seen
from tests.support.stations import HEADERS, Station, headers_on_the_wire, stations

EBPF = [Carrier.EBPF, Carrier.EBPF]
OUTER = "icmp or ip proto 4 or udp port 4789"


def modes(**more):
    return pool("10.65.0.0/16", **more)


@pytest.mark.parametrize(
    ("mode", "outer", "route"),
    [
        ({}, "", "via 192.168.50.2 dev eth0 proto 80"),
        ({"ipip": "Always"}, "proto IPIP (4), length 104) 192.168.50.1 > 192.168.50.2", "via 192.168.50.2 dev tunl0"),
        ({"ipip": "CrossSubnet"}, "", "via 192.168.50.2 dev eth0 proto 80"),
        ({"vxlan": "Always"}, "192.168.50.2.4789: VXLAN, flags [I] (0x08), vni 4096", "via 10.65.2.1 dev vxlan.calico"),
        ({"vxlan": "CrossSubnet"}, "", "via 192.168.50.2 dev eth0 proto 80"),
    ],
)
def test_the_outer_header_is_what_the_mode_says_and_the_inner_source_is_the_pod(mode, outer, route):
    with stations(EBPF, modes(**mode)) as lan:
        lan.converge()
        with seen(lan.spaces["n2"], "eth0", OUTER) as packets:
            lan.ping("n1", "n2")

        table = lan.spaces["n1"].ip("route")
        assert f"10.65.2.0/26 {route}" in table
        assert "blackhole 10.65.1.0/26 proto 80" in table
        request = "\n".join(packets).partition("echo reply")[0]
        assert "10.65.1.10 > 10.65.2.10: ICMP echo request" in request
        assert (outer in request) if outer else not re.search(r"IPIP|VXLAN", request)


def test_a_second_look_finds_nothing_to_do():
    with stations(EBPF, modes(ipip="Always")) as lan:
        lan.converge()
        lan.restart("n1")
        lan.step("n1")
        lan.step("n1")

        assert {name: (o.written, o.removed) for name, o in lan.stations["n1"].outcomes.items() if o.written} == {}


def test_a_restarted_agent_finds_the_programs_and_their_maps_again_and_no_packet_is_lost():
    with stations(EBPF, modes(ipip="Always")) as lan:
        lan.converge()
        with pinging(lan.pods["n1"], lan.pod_address("n2")):
            for _ in range(5):
                for name in ("n1", "n2"):
                    lan.restart(name)
                    lan.step(name)
        counters = lan.stations["n2"].programs.counters()

        told = {sample.labels: sample.value for sample in samples(lan.stations["n2"].reconciler.tables)}
        assert told[(("what", "received"),)] == counters["received"] > 10
        assert counters["unknown sender"] == counters["no route"] == counters["no room"] == 0


def test_a_node_in_user_space_and_one_with_programs_understand_each_other():
    with stations([Carrier.USER_SPACE, Carrier.EBPF], modes(ipip="Always")) as lan:
        lan.converge()
        with seen(lan.spaces["n2"], "eth0", OUTER) as packets:
            lan.ping("n1", "n2")
            lan.ping("n2", "n1")

        assert len(re.findall(r"proto IPIP.*echo request", "\n".join(packets))) == 2


@pytest.mark.parametrize("carrier", [Carrier.USER_SPACE, Carrier.EBPF])
def test_packets_that_were_fragmented_on_the_way_arrive(carrier):
    with stations([Carrier.USER_SPACE, carrier], modes(ipip="Always")) as lan:
        lan.converge()
        for name in ("n1", "n2"):
            lan.spaces[name].ip("link set eth0 mtu 1000")
        lan.step("n2")  # n1 does not know yet: its outer packets no longer fit, and are fragmented

        lan.ping("n1", "n2", "-c", "1", "-M", "dont", "-s", "1300")

        if carrier is Carrier.EBPF:
            assert lan.stations["n2"].programs.counters()["fragment"] > 0


def test_a_tunnel_process_that_dies_is_started_again():
    with stations([Carrier.USER_SPACE, Carrier.USER_SPACE], modes(ipip="Always")) as lan:
        died = threading.Event()
        station = lan.stations["n1"]
        station.forwarders.died = died.set
        lan.converge()
        lan.ping("n1", "n2")
        process = next(process for _, process in station.forwarders._running.values())
        process.kill()
        assert died.wait(5)
        station.reconciler.distrust("forwarders")
        lan.step("n1")

        lan.ping("n1", "n2")


@pytest.mark.parametrize("carrier", [Carrier.EBPF, Carrier.USER_SPACE])
@pytest.mark.parametrize("mode", [{}, {"vxlan": "Always"}])
def test_a_packet_that_is_in_tunl0_when_its_route_is_replaced_is_not_lost(carrier, mode):
    """That is a matter of microseconds; a socket bound to tunl0 puts a packet there whenever one likes."""
    with stations([carrier, carrier], modes(ipip="Always")) as lan:
        lan.converge()
        lan.ping("n1", "n2")
        lan.pool = modes(**mode)
        lan.converge()
        assert "dev tunl0" not in lan.spaces["n1"].ip("route show 10.65.2.0/26")

        arrived, into_tunl0 = lan.pods["n2"].run(datagrams), lan.spaces["n1"].run(datagrams, "tunl0")
        with arrived, into_tunl0:
            into_tunl0.sendto(b"late", (lan.pod_address("n2"), arrived.getsockname()[1]))

            assert arrived.recv(64) == b"late"
        if carrier is Carrier.EBPF:
            assert lan.stations["n1"].programs.counters()["rerouted"] == 1


def datagrams(link=""):
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.bind(("0.0.0.0", 0))
    made.settimeout(10)
    if link:
        made.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
    return made


def test_a_tunnel_process_outlives_its_agent_until_the_next_one_takes_over_and_no_packet_is_lost():
    with stations([Carrier.USER_SPACE, Carrier.USER_SPACE], modes(ipip="Always")) as lan:
        lan.converge()
        first = running(lan, "n1")
        with pinging(lan.pods["n1"], lan.pod_address("n2")):
            for _ in range(3):
                killed = lan.stations["n1"].forwarders
                killed._running["tunl0"][1].stdin.close()  # as the kernel does it when the agent is gone
                lan.stations["n1"].close_all_but_the_tunnel()
                lan.stations["n1"] = Station("n1", lan.spaces["n1"], Carrier.USER_SPACE)
                lan.step("n1")

        assert first.wait(10) == 0
        assert running(lan, "n1").poll() is None


def running(lan, name):
    return lan.stations[name].forwarders._running["tunl0"][1]


RING = [{"ipip": "Always"}, {"ipip": "CrossSubnet"}, {}, {"vxlan": "Always"}]


@pytest.mark.parametrize("reverse_path_check", ["0", "1"])
def test_twenty_switches_lose_no_packet(reverse_path_check):
    with stations([Carrier.EBPF] * 3, modes(ipip="Always")) as lan:
        for space in lan.spaces.values():
            space.command("sysctl", "-qw", f"net.ipv4.conf.eth0.rp_filter={reverse_path_check}")
        lan.converge()
        with (
            pinging(lan.pods["n1"], lan.pod_address("n2")),
            pinging(lan.pods["n2"], lan.pod_address("n3")),
            pinging(lan.pods["n3"], lan.pod_address("n1")),
        ):
            for number in range(1, 21):
                lan.pool = modes(**RING[number % 4])
                lan.now += 1
                order = ["n1", "n2", "n3"][number % 3 :] + ["n1", "n2", "n3"][: number % 3]
                for name in order + order[::-1] + order:
                    lan.step(name)

        sends = lan.nodes["n1"].sends
    assert sends == {"ipip"}


@pytest.mark.parametrize("carrier", [Carrier.EBPF, Carrier.USER_SPACE])
def test_ttl_and_df_of_the_outer_header_are_the_inner_ones_or_as_configured(carrier):
    with stations([carrier, Carrier.EBPF], modes(ipip="Always")) as lan:
        lan.converge()
        assert headers_on_the_wire(lan, "n1", "n2") == [header for _, _, header in HEADERS]


def test_an_outer_header_that_somebody_changed_is_set_again_and_a_second_start_changes_nothing():
    with stations(EBPF, modes(ipip="Always")) as lan:
        lan.settings = {"ipipPMTUDiscovery": True, "ipipTTL": 77}
        lan.converge()
        ends = lan.stations["n1"].reconciler.tables[5]
        ours = ends.read()[OUTER_KEY]
        ends.upsert({OUTER_KEY: replace(ours, header=AS_INNER)})
        lan.stations["n1"].reconciler.distrust("ipip ends")
        lan.step("n1")

        assert ends.read()[OUTER_KEY] == ours
        assert ours.header == OuterHeader(77, dont_fragment=True)
        lan.restart("n1")
        lan.step("n1")
        assert lan.stations["n1"].outcomes["ipip ends"].written == 0


def test_an_outer_header_that_the_kernel_refuses_is_an_error_with_its_remedy():
    """lo stands for a tunl0 that does not know the ioctl."""
    with namespace("fo-lo") as space, Host(space.fd) as host:
        failed = Links(host).upsert({"lo": Link("adopt", outer=OuterHeader(64, dont_fragment=True))})

    assert "does not give lo `ttl 64 pmtudisc`; set ipipTTL to 0 and ipipPMTUDiscovery to false" in str(failed["lo"])


def test_a_tunnel_process_with_another_outer_header_takes_over_and_no_packet_is_lost():
    with stations([Carrier.USER_SPACE, Carrier.USER_SPACE], modes(ipip="Always")) as lan:
        lan.converge()
        with pinging(lan.pods["n1"], lan.pod_address("n2")):
            for ttl in (77, 78, 0):
                lan.settings = {"ipipPMTUDiscovery": True, "ipipTTL": ttl}
                lan.converge(rounds=1)


def test_ipip_with_options_in_its_outer_header_arrives():
    with stations(EBPF, modes(ipip="Always")) as lan:
        lan.converge()
        arrived = lan.pods["n2"].run(datagrams)
        with arrived, lan.spaces["n1"].run(socket.socket, socket.AF_INET, socket.SOCK_RAW, 4) as raw:
            raw.setsockopt(socket.IPPROTO_IP, socket.IP_OPTIONS, bytes([1, 1, 1, 0]))  # no operation, end of list
            raw.sendto(udp_packet("10.65.1.10", lan.pod_address("n2"), arrived.getsockname()[1]), ("192.168.50.2", 0))

            assert arrived.recv(64) == b"with options"


def udp_packet(source, target, port, payload=b"with options"):
    """Without a UDP checksum, which IPv4 allows."""
    udp = struct.pack("!HHHH", 9, port, 8 + len(payload), 0) + payload
    head = struct.pack(
        "!BBHHHBBH4s4s", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0, *map(socket.inet_aton, (source, target))
    )
    return head[:10] + struct.pack("!H", checksum(head)) + head[12:] + udp


def test_ipip_from_a_stranger_is_left_alone():
    """Another program may receive it; here nobody does, and the kernel says so to the sender."""
    with stations(EBPF, modes(ipip="Always")) as lan:
        lan.converge()
        programs = lan.stations["n1"].programs
        del lan.nodes["n2"]
        lan.step("n1")
        lan.pods["n2"].command("sh", "-c", "ping -c 1 -W 1 10.65.1.10 || true")

        assert programs.counters()["unknown sender"] == 1


def test_a_link_that_is_gone_takes_its_classifier_along_without_an_error():
    with stations([Carrier.EBPF], modes(ipip="Always")) as lan:
        lan.converge()
        table = lan.stations["n1"].classifiers
        keys = list(table.read())
        lan.spaces["n1"].ip("link delete eth0")

        assert not table.delete(keys)
        assert not table.read()


def test_a_node_that_never_says_that_it_accepts_is_waited_for_as_long_as_configured_and_then_no_more():
    with stations(EBPF, modes()) as lan:
        lan.converge()
        lan.pool = modes(ipip="Always")
        lan.step("n1")
        lan.step("n1")
        assert "10.65.2.0/26 via 192.168.50.2 dev eth0" in lan.spaces["n1"].ip("route")
        lan.ping("n1", "n2")
        assert "native to n2 until it says that it can accept ipip (5 of 10 s)" in notes(lan, 5)

        lan.now += 10
        lan.step("n1")
        assert "10.65.2.0/26 via 192.168.50.2 dev tunl0" in lan.spaces["n1"].ip("route")
        assert "ipip to n2, which never said that it accepts it; 10 s were up" in notes(lan, 0)

        lan.step("n2")
        lan.ping("n1", "n2")


def notes(lan, later):
    return "\n".join(lan.stations["n1"].planner.last.notes(lan.now + later))


HOLD_A_TUN = """
import os, struct, fcntl, sys
device = os.open("/dev/net/tun", os.O_RDWR)
fcntl.ioctl(device, 0x400454CA, struct.pack("16sH22x", b"tunl0", 0x1001))
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("carrier", [Carrier.EBPF, Carrier.USER_SPACE])
@pytest.mark.parametrize("looks_like_ours", [False, True])
def test_a_tunl0_of_another_program_is_named_and_left_alone_until_it_is_gone(carrier, looks_like_ours):
    """Its address too, of which we would keep exactly one."""
    with stations([carrier, carrier], modes(ipip="Always")) as lan:
        n1 = lan.spaces["n1"]
        with n1.process(sys.executable, "-c", HOLD_A_TUN, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as vpn:
            assert vpn.stdout.readline() == b"held\n"
            n1.ip("link set tunl0 addrgenmode none")  # the kernel's own address changes its looks while we compare
            n1.ip(f"link set tunl0 up mtu {1480 if looks_like_ours else 1400}")
            n1.ip("address add 10.8.0.2/24 dev tunl0")
            before = everything_about(n1)

            with pytest.raises(
                AssertionError, match=rf"held by python\S* \(pid {vpn.pid}\), not by felixlite: end that"
            ):
                lan.converge()
            assert "dev tunl0 proto 80" not in n1.ip("route")
            assert everything_about(n1) == before
            vpn.stdin.close()
            vpn.wait(10)

        lan.now += 100
        for station in lan.stations.values():
            station.reconciler.distrust()
        lan.converge()
        lan.ping("n1", "n2")


def everything_about(space):
    setting = space.command("sysctl", "net.ipv4.conf.tunl0.rp_filter")
    return space.ip("address show tunl0"), space.command("tc", "filter", "show", "dev", "tunl0", "egress"), setting
