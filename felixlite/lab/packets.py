"""A frame as it was on the wire, in one line a header: who to whom, what, and what is inside a tunnel. Pure.

    10.0.1.11 > 10.0.2.12  ipip  104
      10.244.0.1 > 10.244.46.65  icmp echo request  84

Knows Ethernet, IPv4, IPv6, and of tunnels IPIP and VXLAN.  What it does not know it names by its number.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address

ETHER_IPV4, ETHER_IPV6, ETHER_ARP = 0x0800, 0x86DD, 0x0806
ICMP, IPIP, TCP, UDP, ICMPV6 = 1, 4, 6, 17, 58
VXLAN_PORT = 4789
NAMES = {ICMP: "icmp", IPIP: "ipip", TCP: "tcp", UDP: "udp", ICMPV6: "icmp6"}
ICMP_TYPES = {0: "echo reply", 3: "unreachable", 8: "echo request", 11: "time exceeded"}
FLAGS = ((0x02, "S"), (0x10, "."), (0x08, "P"), (0x01, "F"), (0x04, "R"))


@dataclass(frozen=True, slots=True)
class Header:
    """One IP header, what follows it, and where the bytes of this packet are."""

    source: str
    destination: str
    what: str
    packet: bytes  # from this header on
    tunnel: bool = False

    def __str__(self) -> str:
        return f"{self.source} > {self.destination}  {self.what}  {len(self.packet)}"


def headers(frame: bytes, vxlan_port: int = VXLAN_PORT) -> list[Header]:
    """The outer header and, if it is a tunnel's, those inside. Nothing for what is neither IPv4 nor IPv6."""
    return list(_of_frame(frame, vxlan_port))


def _of_frame(frame: bytes, vxlan_port: int) -> Iterator[Header]:
    if len(frame) >= 14 and int.from_bytes(frame[12:14], "big") in (ETHER_IPV4, ETHER_IPV6):
        yield from _of_packet(frame[14:], vxlan_port)


def _of_packet(packet: bytes, vxlan_port: int) -> Iterator[Header]:
    if len(packet) >= 20 and packet[0] >> 4 == 4:
        length, protocol = (packet[0] & 15) * 4, packet[9]
        total = min(len(packet), int.from_bytes(packet[2:4], "big"))
        source, destination = str(IPv4Address(packet[12:16])), str(IPv4Address(packet[16:20]))
    elif len(packet) >= 40 and packet[0] >> 4 == 6:
        length, protocol = 40, packet[6]
        total = min(len(packet), 40 + int.from_bytes(packet[4:6], "big"))
        source, destination = str(IPv6Address(packet[8:24])), str(IPv6Address(packet[24:40]))
    else:
        return
    packet = packet[:total]  # Ethernet pads what is short
    payload = packet[length:]
    inner = list(_inside(protocol, payload, vxlan_port))
    yield Header(source, destination, _what(protocol, payload, vxlan_port), packet, tunnel=bool(inner))
    yield from inner


def _inside(protocol: int, payload: bytes, vxlan_port: int) -> Iterator[Header]:
    if protocol == IPIP:
        yield from _of_packet(payload, vxlan_port)
    elif protocol == UDP and len(payload) > 16 and _port(payload) == vxlan_port:
        yield from _of_frame(payload[16:], vxlan_port)


def _port(payload: bytes) -> int:
    return int.from_bytes(payload[2:4], "big")


def _what(protocol: int, payload: bytes, vxlan_port: int) -> str:
    name = NAMES.get(protocol, f"protocol {protocol}")
    if protocol == ICMP and payload:
        return f"icmp {ICMP_TYPES.get(payload[0], f'type {payload[0]}')}"
    if protocol == UDP and len(payload) > 15 and _port(payload) == vxlan_port:
        return f"vxlan {int.from_bytes(payload[12:15], 'big')}"
    if protocol in (TCP, UDP) and len(payload) >= 8:
        ports = f"{name} {int.from_bytes(payload[:2], 'big')} > {_port(payload)}"
        return ports + (f" {_flags(payload[13])}" if protocol == TCP and len(payload) > 13 else "")
    return name


def _flags(bits: int) -> str:
    return "".join(letter for bit, letter in FLAGS if bits & bit)


# -- pcap: https://www.ietf.org/archive/id/draft-ietf-opsawg-pcap-04.html

LINK_ETHERNET, LINK_RAW = 1, 101
SNAP = 262144


def pcap_header(link: int) -> bytes:
    return struct.pack("<IHHiIII", 0xA1B2C3D4, 2, 4, 0, 0, SNAP, link)


def pcap_record(data: bytes, at: float) -> bytes:
    seconds = int(at)
    return struct.pack("<IIII", seconds, int((at - seconds) * 1e6), len(data), len(data)) + data
