"""One node with pods in network namespaces, and packets between them: what does the kernel really let through?

    with policy_lab("fp", pods) as lab:
        lab.apply(plan)                    # the tables of a backend, made inside of the node's namespace
        lab.arrived(probes)                # the probes that came out at the other end

A probe is one hand-made packet, the first of a connection (a SYN, a datagram, an echo request, an INIT), with a number
inside that nothing on the way looks at; all sockets live in this process, so a thousand probes take some 30 ms.  The
pods answer nothing by themselves (no listener, no echo), and the connection tracking is emptied before every round.
"""

import os
import select
import socket
import struct
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from functools import lru_cache
from itertools import count
from typing import Any, NamedTuple

from felixlite.addresses import Address
from felixlite.mirrors import Failure
from felixlite.model.inside import Workload
from felixlite.model.policy import ICMP, ICMPV6, SCTP, TCP, UDP
from felixlite.policy.backend import PolicyTable
from felixlite.policy.choice import Backend
from felixlite.policy.evaluate import Packet
from felixlite.reconcile import Reconciler
from felixlite.tables import ABSENT
from tests.support.netns import Namespace, namespace

HOST_MAC = "ee:ee:ee:ee:ee:ee"
SO_RCVBUFFORCE = 33  # asm-generic/socket.h; Python does not name it
NETLINK_NETFILTER = 12
PATIENCE = 2.0  # seconds to wait for packets that should arrive
LETTING_GO = 20.0  # ... for the kernel to let go of sets, on a machine that is busy
IPIP = 4
_RECEIVED = (TCP, UDP, ICMP, SCTP, IPIP)
_RECEIVED6 = (TCP, UDP, ICMPV6, SCTP)


class PolicyLab:
    def __init__(self, node: Namespace, pods: Mapping[str, tuple[Workload, Namespace]]) -> None:
        self.node = node
        self.pods = pods
        self.namespaces = {name: space for name, (_, space) in pods.items()}
        self.by_address = {str(net.first): name for name, (w, _) in pods.items() for net in w.addresses}
        self.numbers = count(1)
        self.senders: dict[tuple[str, int], socket.socket] = {}
        self.receivers: dict[socket.socket, tuple[str, int, int]] = {}
        self.seen_from: dict[Packet, str] = {}  # the source under which each probe of the last round arrived
        self.seen_ports: dict[Packet, int] = {}  # and the source's port
        for name, (_, space) in pods.items():
            space.run(self._open, name)
        self.conntrack = node.run(socket.socket, socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)

    def _open(self, name: str) -> None:
        for family, protocols in ((socket.AF_INET, _RECEIVED), (socket.AF_INET6, _RECEIVED6)):
            version = 4 if family == socket.AF_INET else 6
            self.senders[name, version] = socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW)
            for protocol in protocols:
                receiver = socket.socket(family, socket.SOCK_RAW, protocol)
                receiver.setblocking(False)
                receiver.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 4 << 20)
                self.receivers[receiver] = (name, version, protocol)

    def add(self, name: str, space: Namespace, *addresses: str) -> None:
        """Another place that sends and receives: the node itself, a host outside."""
        self.by_address.update(dict.fromkeys(addresses, name))
        space.run(self._open, name)

    def close(self) -> None:
        for sock in (*self.senders.values(), *self.receivers, self.conntrack):
            sock.close()

    # -- policy

    def tables(self, backend: Backend) -> list[PolicyTable]:
        """The tables of a backend."""
        return [PolicyTable(family, backend) for family in (4, 6)]

    def apply(self, reconciler: Reconciler, plan: Mapping[str, Any]) -> None:
        """One round; then more as the agent makes them, for what the kernel was slow to let go of. Writing never is."""
        deadline = time.monotonic() + LETTING_GO
        while failures := self._round(reconciler, plan):
            assert all(failure.row is ABSENT for failure in failures.values()), failures
            assert time.monotonic() < deadline, failures
            time.sleep(max(0.0, (reconciler.retry_at() or 0.0) - time.monotonic()))

    def _round(self, reconciler: Reconciler, plan: Mapping[str, Any]) -> dict[tuple[str, Any], Failure]:
        outcomes = self.node.run(reconciler.converge, plan, time.monotonic(), may_delete=True)
        return {(name, key): f for name, outcome in outcomes.items() for key, f in outcome.failures.items()}

    # -- packets

    def forget_flows(self) -> None:
        """Empty the connection tracking table (IPCTNL_MSG_CT_DELETE without a filter)."""
        message = struct.pack("=IHHIIBBH", 20, (1 << 8) | 2, 5, 1, 0, socket.AF_UNSPEC, 0, 0)
        self.conntrack.send(message)
        answer = self.conntrack.recv(4096)
        assert struct.unpack_from("=i", answer, 16)[0] == 0

    def arrived(self, probes: Sequence[Packet], expected: Collection[Packet] = (), sent_by: str = "") -> set[Packet]:
        """Send all probes; those that came out where they were meant to. Waits for the `expected` ones, not long.

        `sent_by`: the place that sends them, when it is not the owner of the source address.
        """
        self.forget_flows()
        numbered = {next(self.numbers): probe for probe in probes}
        for number, probe in numbered.items():
            sender = self.senders[sent_by or self.by_address[_text(probe.source)], probe.family]
            with suppress(PermissionError):  # the sender's own machine dropped it
                sender.sendto(_template(probe).numbered(number), (_text(probe.destination), 0))
        waiting = {number for number, probe in numbered.items() if probe in expected}
        found: dict[int, tuple[str, str, int]] = {}
        deadline = time.monotonic() + PATIENCE
        while True:
            found.update(self._received(0.002 if not waiting - found.keys() else 0.05))
            if not waiting - found.keys() or time.monotonic() > deadline:
                break
        # where nothing was expected nothing has shown either that the kernel is through with all of them
        found.update(self._received(0.002 if waiting else 0.02))
        strangers = found.keys() - numbered.keys()
        assert not strangers, f"{len(strangers)} packets of an earlier round came late"
        for number, (place, *_) in found.items():
            assert place == self.by_address[_text(numbered[number].destination)]
        self.seen_from = {numbered[number]: source for number, (_, source, _) in found.items()}
        self.seen_ports = {numbered[number]: port for number, (*_, port) in found.items()}
        return {numbered[number] for number in found}

    def overlook(self) -> None:
        """What is there so far: a connection that was really made begins with a SYN as well."""
        self._received(0.05)

    def _received(self, patience: float) -> dict[int, tuple[str, str, int]]:
        found: dict[int, tuple[str, str, int]] = {}
        while True:
            ready, _, _ = select.select(list(self.receivers), [], [], patience)
            if not ready:
                return found
            for receiver in ready:
                name, version, protocol = self.receivers[receiver]
                for data, source in _drained(receiver):
                    number = _number(data, version, protocol)
                    if number is not None:
                        found[number] = (name, source, _port(data, version))
            patience = 0


def _drained(receiver: socket.socket) -> Iterator[tuple[bytes, str]]:
    while True:
        try:
            data, address = receiver.recvfrom(2048)
            yield data, address[0]
        except BlockingIOError:
            return


class Template(NamedTuple):
    """A probe's packet without its number; the number goes into the checksum as well, whose sum so far is kept."""

    octets: bytes
    at: int  # where the number is
    checksum: int  # where the checksum is; 0: there is none
    total: int

    def numbered(self, number: int) -> bytes:
        made = bytearray(self.octets)
        struct.pack_into("!I", made, self.at, number)
        if self.checksum:
            struct.pack_into("!H", made, self.checksum, _folded(self.total + (number >> 16) + (number & 0xFFFF)))
        return bytes(made)


@lru_cache(maxsize=4096)
def _template(probe: Packet) -> Template:
    inner, at, checksum = _inner(probe)
    source, destination = probe.source.packed, probe.destination.packed
    if probe.family == 4:
        before = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(inner), 0, 0, 64, probe.protocol, 0)
    else:
        before = struct.pack("!IHBB", 6 << 28, len(inner), probe.protocol, 64)
    header = before + source + destination
    total = _sum(probe, inner) if checksum else 0
    return Template(header + inner, len(header) + at, len(header) + checksum if checksum else 0, total)


def _inner(probe: Packet) -> tuple[bytes, int, int]:
    """What is in the IP packet, where its number goes and where its checksum."""
    ports = struct.pack("!HH", probe.source_port, probe.port)
    match probe.protocol:
        case 6:
            return ports + struct.pack("!IIBBHHH", 0, 0, 5 << 4, 2, 8192, 0, 0), 4, 16
        case 17:
            return ports + struct.pack("!HHI", 12, 0, 0), 8, 6
        case 132:  # INIT: verification tag 0, then the chunk; the number is the initiate tag
            chunk = struct.pack("!BBHIIHHI", 1, 0, 20, 0, 65535, 1, 1, 1)
            return ports + struct.pack("!I", 0) + b"\0\0\0\0" + chunk, 16, 0
        case 1 | 58:  # NAT changes the identifier
            return struct.pack("!BBHII", probe.icmp_type, probe.icmp_code, 0, 1, 0), 8, 2
        case 4:  # a datagram to nobody inside; the number is where its length and checksum would be
            return bytes.fromhex("4500001c00000000401100000a4100010a410002") + b"\0" * 8, 24, 0
    raise ValueError(f"no probe for protocol {probe.protocol}")


def _sum(probe: Packet, data: bytes) -> int:
    pseudo = b""
    if probe.protocol != ICMP:
        pseudo = probe.source.packed + probe.destination.packed + struct.pack("!II", len(data), probe.protocol)
    whole = pseudo + data
    return sum(struct.unpack(f"!{len(whole) // 2}H", whole))


def _folded(total: int) -> int:
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF or 0xFFFF  # to UDP a zero means that there is none; to the others both are zero


@lru_cache(maxsize=4096)
def _text(address: Address) -> str:
    return str(address)


def _port(data: bytes, version: int) -> int:
    """The source's port, of protocols that have ports."""
    inner = data[(data[0] & 15) * 4 :] if version == 4 else data
    return int.from_bytes(inner[:2], "big")


def _number(data: bytes, version: int, protocol: int) -> int | None:
    """The number in a packet of ours; raw IPv6 sockets get no header."""
    inner = data[(data[0] & 15) * 4 :] if version == 4 else data
    match protocol:
        case 6:
            return struct.unpack_from("!I", inner, 4)[0] if inner[13] == 2 else None
        case 17:
            return struct.unpack_from("!I", inner, 8)[0] if len(inner) == 12 else None
        case 4:
            number: int = struct.unpack_from("!I", inner, 24)[0] if len(inner) == 28 else 0
            return number or None  # without one it is a test's own
        case 132:
            return struct.unpack_from("!I", inner, 16)[0] if inner[12] == 1 else None
        case _:
            errors = {3, 11, 12} if version == 4 else {1, 2, 3, 4, *range(130, 138), 143}
            return struct.unpack_from("!I", inner, 8)[0] if inner[0] not in errors else None


@contextmanager
def policy_lab(prefix: str, pods: Sequence[Workload]) -> Iterator[PolicyLab]:
    with ExitStack() as stack:
        node = stack.enter_context(namespace(prefix))
        _sysctl(node, "net.ipv4.ip_forward=1", "net.ipv6.conf.all.forwarding=1", "net.ipv4.conf.all.rp_filter=0")
        _sysctl(node, "net.netfilter.nf_conntrack_checksum=0")  # nobody computes SCTP's here
        found = {}
        for pod in pods:
            space = stack.enter_context(namespace(prefix))
            plug(node, space, pod)
            found[pod.name] = (pod, space)
        lab = PolicyLab(node, found)
        stack.callback(lab.close)
        yield lab


def _sysctl(space: Namespace, *settings: str) -> None:
    space.command("sysctl", "-qw", *settings)


def plug(node: Namespace, space: Namespace, pod: Workload) -> None:
    """What the CNI plugin would do, with every neighbour known beforehand."""
    mac = pod.mac or f"02:00:00:00:00:{int(pod.addresses[0].packed[-1]):02x}"
    node.ip(f"link add {pod.interface} address {HOST_MAC} type veth peer name eth0 address {mac} netns {space.name}")
    _sysctl(node, f"net.ipv6.conf.{pod.interface}.accept_dad=0", f"net.ipv4.conf.{pod.interface}.proxy_arp=1")
    _sysctl(
        space, "net.ipv6.conf.eth0.accept_dad=0", "net.ipv4.icmp_echo_ignore_all=1", "net.ipv6.icmp.echo_ignore_all=1"
    )
    here, there = [f"link set {pod.interface} up"], ["link set eth0 up"]
    for net in pod.addresses:
        here.append(f"route add {net} dev {pod.interface}")
        here.append(f"neigh replace {net.first} lladdr {mac} dev {pod.interface} nud permanent")
        there.append(f"address add {net} dev eth0" + (" nodad" if net.family == 6 else ""))
        gateway = "169.254.1.1" if net.family == 4 else "fe80::1"
        there.append(f"neigh replace {gateway} lladdr {HOST_MAC} dev eth0 nud permanent")
        there.append(f"route add default via {gateway} dev eth0 onlink")
    node.command("ip", "-batch", "-", stdin="\n".join(here))
    space.command("ip", "-batch", "-", stdin="\n".join(there))


def one_cpu(number: int = 0) -> None:
    """Keep this process on one CPU: packets then stay in the order in which they were sent."""
    there = sorted(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {there[number % len(there)]})
