"""Frames read header by header, tunnels included."""

import struct
from ipaddress import IPv4Address, IPv6Address

import pytest

from felixlite.lab.packets import LINK_RAW, headers, pcap_header, pcap_record

MACS = bytes(12)


def ip(source, destination, protocol, payload):
    total = 20 + len(payload)
    start = struct.pack(">BBHHHBBH", 0x45, 0, total, 0, 0, 64, protocol, 0)
    return start + IPv4Address(source).packed + IPv4Address(destination).packed + payload


def ip6(source, destination, protocol, payload):
    start = struct.pack(">IHBB", 6 << 28, len(payload), protocol, 64)
    return start + IPv6Address(source).packed + IPv6Address(destination).packed + payload


def udp(source, destination, payload=b""):
    return struct.pack(">HHHH", source, destination, 8 + len(payload), 0) + payload


def frame(packet, kind=0x0800):
    return MACS + kind.to_bytes(2, "big") + packet


def told(data):
    return [str(header) for header in headers(data)]


ECHO = ip("10.244.0.1", "10.244.1.1", 1, bytes([8, 0]) + bytes(6))


def test_a_plain_packet_has_one_header():
    assert told(frame(ECHO)) == ["10.244.0.1 > 10.244.1.1  icmp echo request  28"]


def test_an_ipip_packet_has_an_outer_and_an_inner_one():
    outer, inner = headers(frame(ip("10.0.1.11", "10.0.2.12", 4, ECHO)))

    assert (str(outer), outer.tunnel) == ("10.0.1.11 > 10.0.2.12  ipip  48", True)
    assert inner.packet == ECHO


def test_vxlan_is_told_with_its_network_identifier():
    inside = bytes([8, 0, 0, 0]) + (4096).to_bytes(3, "big") + b"\0" + frame(ECHO)

    assert told(frame(ip("10.0.1.11", "10.0.2.12", 17, udp(50000, 4789, inside)))) == [
        "10.0.1.11 > 10.0.2.12  vxlan 4096  78",
        "10.244.0.1 > 10.244.1.1  icmp echo request  28",
    ]


def test_tcp_shows_its_flags_and_ipv6_is_read_too():
    syn = struct.pack(">HHIIBBHHH", 1234, 179, 0, 0, 0x50, 0x02, 0, 0, 0)

    assert told(frame(ip6("fd00::1", "fd00::2", 6, syn), 0x86DD)) == ["fd00::1 > fd00::2  tcp 1234 > 179 S  60"]


def test_what_ethernet_padded_is_not_counted():
    assert told(frame(ip("10.0.0.1", "10.0.0.2", 17, udp(1, 2))) + bytes(32)) == ["10.0.0.1 > 10.0.0.2  udp 1 > 2  28"]


@pytest.mark.parametrize("cut", range(len(frame(ip("10.0.1.11", "10.0.2.12", 4, ECHO)))))
def test_a_frame_that_ends_anywhere_is_no_accident(cut):
    whole = frame(ip("10.0.1.11", "10.0.2.12", 4, ECHO))

    assert len(headers(whole[:cut])) <= 2


def test_arp_is_left_out():
    assert headers(frame(bytes(28), 0x0806)) == []


def test_a_pcap_is_a_header_and_records():
    data = pcap_header(LINK_RAW) + pcap_record(ECHO, 1.5)

    assert struct.unpack("<IHHiIII", data[:24])[-1] == LINK_RAW
    assert struct.unpack("<IIII", data[24:40]) == (1, 500000, 28, 28)
    assert data[40:] == ECHO
