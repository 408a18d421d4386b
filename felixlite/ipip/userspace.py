"""IPIP by a process of ours, where the kernel has neither ipip nor the programs: slow, but the same on the wire.

What the routing table sends into the TUN device tunl0 is read here, and sent on as protocol 4 to the gateway of its
route; what arrives as protocol 4 is written into tunl0.  Routes, addresses and MTU mean what they mean with the
kernel's own device, and who may send us protocol 4 is decided by the same chains.  Beside the programs of ebpf.py it
only receives: fragments and whatever else they pass on.

    python -m felixlite.ipip.userspace LINK [--receive-only] [--ttl N] [--dont-fragment] [--namespace FD]

When the agent dies it goes on: the next agent's process asks it for its descriptors (by a socket that only the network
namespace's root may use), and no packet is lost between the two.  If nobody asks, it ends after ORPHANED seconds.
`Forwarders` is the table that has it running, and ends it when it is not wanted.
"""

import argparse
import ctypes
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping
from contextlib import suppress
from typing import Final

from felixlite import tun
from felixlite.ipip.rows import Forwarder
from felixlite.rows import OuterHeader
from felixlite.tables import Foreign

_IPIP: Final = 4
_LONGEST_PACKET: Final = 65535
_DF: Final = 0x40  # in the byte at 6 of a header
_MTU_DISCOVER, _NEVER_DF, _ALWAYS_DF = 10, 0, 2  # IP_MTU_DISCOVER, IP_PMTUDISC_DONT, IP_PMTUDISC_DO
_ATTACH_FILTER: Final = 26  # SO_ATTACH_FILTER
_NOTHING = ctypes.create_string_buffer(struct.pack("=HBBI", 0x06, 0, 0, 0), 8)  # the filter `return 0` of BPF
_ROUTE_CHANGES: Final = 0x40  # RTMGRP_IPV4_ROUTE
_GET_ROUTE, _NEW_ROUTE, _DST, _OIF, _GATEWAY = 26, 24, 1, 4, 5
_HEADER, _RTMSG = struct.Struct("=IHHII"), struct.Struct("=BBBBBBBBI")
_MOST_REMEMBERED: Final = 100_000  # destinations
ORPHANED: Final = 3600.0  # as long it goes on without an agent
_LAST_PACKET: Final = 0.05  # for what is in hand when another process has taken over
_HELD: Final = 16  # the exit code when another program has the device
_PATIENCE: Final = 5.0  # for a process before us that still holds the device


# -- the process -----------------------------------------------------------------------------------------------------


def open_tun(link: str) -> int:
    """A descriptor to read from and write packets to."""
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            tun.attach(device, link)
        except OSError:
            if others := tun.strangers(link):
                sys.stderr.write(tun.held_by(others, link) + "\n")
                sys.exit(_HELD)
            if time.monotonic() > until:
                raise
            time.sleep(0.05)
        else:
            return device


class Gateways:
    """The far end for each destination, as the routing table says; asked again whenever a route has changed.

    A packet can wait in tunl0 when its route is replaced by one through another link.  It goes where those before it
    went: what this node stops to send is accepted for a while longer (switch.py).
    """

    def __init__(self, link: str) -> None:
        self._index = socket.if_nametoindex(link)
        self._netlink = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE)
        self._changes = 0
        self._known: dict[bytes, tuple[int, str]] = {}  # destination -> as of which change, far end

    def __call__(self, destination: bytes) -> str:
        """The far end's address; empty where there never was one."""
        changes = self._changes
        asked_at, found = self._known.get(destination, (-1, ""))
        if asked_at != changes:
            found = self._ask(destination) or found
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[destination] = changes, found
        return found

    def _ask(self, destination: bytes) -> str:
        body = _RTMSG.pack(socket.AF_INET, 32, 0, 0, 0, 0, 0, 0, 0)
        body += struct.pack("=HH4s", 8, _DST, destination) + struct.pack("=HHI", 8, _OIF, self._index)
        self._netlink.send(_HEADER.pack(16 + len(body), _GET_ROUTE, 1, 0, 0) + body)
        answer = self._netlink.recv(65536)
        length, kind, *_ = _HEADER.unpack_from(answer)
        position = 16 + _RTMSG.size
        while kind == _NEW_ROUTE and position + 4 <= length:
            size, attribute = struct.unpack_from("=HH", answer, position)
            if attribute == _GATEWAY:
                return socket.inet_ntoa(answer[position + 4 : position + 8])
            position += max(size + 3 & ~3, 4)
        return ""

    def follow(self) -> None:
        """Runs for ever, in a thread of its own."""
        with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, socket.NETLINK_ROUTE) as changes:
            changes.bind((0, _ROUTE_CHANGES))
            while True:
                with suppress(OSError):  # ENOBUFS: so many changes that some were not told
                    changes.recv(65536)
                self._changes += 1


class Ends:
    """The two descriptors that are forwarded between: the TUN device and the raw socket."""

    def __init__(self, link: str) -> None:
        self.handed_over = False
        self._name = f"\0felixlite-{link}"
        self.device, self.outside = _inherited(self._name) or (open_tun(link), _raw_socket())

    def hand_over(self) -> None:
        """To the next process that asks for them, and this one is done."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as door:
            if not _bound_soon(door, self._name):
                return  # somebody else has the name: then the next one has to open them anew
            door.listen(1)
            while not self.handed_over:
                asker, _ = door.accept()
                with asker, suppress(OSError):  # it went away: the next one may ask
                    if _is_root(asker):
                        socket.send_fds(asker, [b"take over"], [self.device, self.outside.fileno()])
                        self.handed_over = asker.recv(16) == b"taken"
        time.sleep(_LAST_PACKET)


def _bound_soon(door: socket.socket, name: str) -> bool:
    """The process before us may hold the name until it has ended."""
    until = time.monotonic() + _PATIENCE
    while time.monotonic() < until:
        try:
            door.bind(name)
        except OSError:
            time.sleep(0.02)
        else:
            return True
    return False


def _is_root(peer: socket.socket) -> bool:
    _, user, _ = struct.unpack("=iII", peer.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(user == 0)


def _inherited(name: str) -> tuple[int, socket.socket] | None:
    """The descriptors of a process before us that still runs."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as asking:
        asking.settimeout(_PATIENCE)
        try:
            asking.connect(name)
            if not _is_root(asking):
                return None
            _, found, _, _ = socket.recv_fds(asking, 64, 2)
            device, outside = found
            asking.send(b"taken")
        except (OSError, ValueError):  # nobody is there
            return None
        return device, socket.socket(fileno=outside)


def _raw_socket() -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, _IPIP)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
    # without DF: the routers on the way may fragment what our outer header made too long
    made.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _NEVER_DF)
    return made


def _socket_for_df() -> socket.socket:
    """One that only sends, always with DF: whether a packet has it is a matter of the socket that it leaves by."""
    made = socket.socket(socket.AF_INET, socket.SOCK_RAW, _IPIP)
    made.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, struct.pack("@HP", 1, ctypes.addressof(_NOTHING)))
    made.setsockopt(socket.IPPROTO_IP, _MTU_DISCOVER, _ALWAYS_DF)
    return made


def send_on(ends: Ends, gateway: Callable[[bytes], str], header: OuterHeader) -> None:
    """tunl0 -> protocol 4, until somebody else does."""
    read, device = os.read, ends.device
    send, send_whole, df = ends.outside.sendmsg, _socket_for_df().sendmsg, _DF if header.dont_fragment else 0
    # inner TTL -> the outer one in the form of sendmsg, which refuses 0
    ttls = [((socket.IPPROTO_IP, socket.IP_TTL, struct.pack("=i", header.ttl or n or 1)),) for n in range(256)]
    while not ends.handed_over:
        packet = read(device, _LONGEST_PACKET)
        if packet[0] >> 4 != 4 or not (remote := gateway(packet[16:20])):
            continue
        leave = send_whole if (packet[6] | df) & _DF else send
        try:
            leave((packet,), ttls[packet[8]], 0, (remote, 0))
        except OSError:  # no buffer, no route, no permission: a packet is lost, as in any network
            continue


def receive(ends: Ends) -> None:
    """Protocol 4 -> tunl0, until somebody else does."""
    receive, write, device = ends.outside.recv, os.write, ends.device
    while not ends.handed_over:
        packet = receive(_LONGEST_PACKET)
        inner = packet[(packet[0] & 15) * 4 :]
        if len(inner) >= 20 and inner[0] >> 4 == 4:
            try:
                write(device, inner)
            except OSError:  # tunl0 is down, or the packet is malformed
                continue


def main(argv: list[str]) -> int:
    words = argparse.ArgumentParser(prog="felixlite.ipip.userspace")
    words.add_argument("link")
    words.add_argument("--receive-only", action="store_true")
    words.add_argument("--ttl", type=int, default=0)
    words.add_argument("--dont-fragment", action="store_true")
    words.add_argument("--namespace", type=int)
    given = words.parse_args(argv)
    if given.namespace is not None and ctypes.CDLL(None, use_errno=True).setns(given.namespace, 0x40000000):
        raise OSError(ctypes.get_errno(), "setns")
    gateways = Gateways(given.link)  # before the descriptors: from then on this process is the one that forwards
    ends = Ends(given.link)
    work: list[Callable[[], None]] = [lambda: receive(ends)]
    if not given.receive_only:
        header = OuterHeader(given.ttl, given.dont_fragment)
        work += [gateways.follow, lambda: send_on(ends, gateways, header)]
    for task in work:
        threading.Thread(target=_to_the_end, args=(task, ends), daemon=True).start()
    threading.Thread(target=_handed_over, args=(ends,), daemon=True).start()
    os.write(1, b"ready\n")
    while os.read(0, 4096):
        pass
    time.sleep(ORPHANED)
    return 0


def _handed_over(ends: Ends) -> None:
    ends.hand_over()
    if ends.handed_over:
        os._exit(0)


def _to_the_end(task: Callable[[], None], ends: Ends) -> None:
    """A part that breaks takes the process down; the table starts another."""
    try:
        task()
    finally:
        if not ends.handed_over:
            os._exit(1)


# -- the table -------------------------------------------------------------------------------------------------------


class HeldByAnother(OSError, Foreign):
    """The device is another program's."""


class Forwarders:
    """The processes that forward, by the link that they hold. `died` is called from another thread."""

    name = "forwarders"
    guard = False

    def __init__(self, namespace: int | None = None, died: Callable[[], None] = lambda: None) -> None:
        self.namespace = namespace
        self.died = died
        self._running: dict[str, tuple[Forwarder, subprocess.Popen[bytes]]] = {}

    def read(self) -> dict[str, Forwarder]:
        return {link: row for link, (row, process) in self._running.items() if process.poll() is None}

    def upsert(self, items: Mapping[str, Forwarder]) -> dict[str, Exception]:
        """A process that runs is asked for its descriptors by the one that takes its place, and ends by itself."""
        failed: dict[str, Exception] = {}
        for link, row in items.items():
            _, before = self._running.pop(link, (None, None))
            try:
                self._start(link, row)
                if before:
                    with suppress(subprocess.TimeoutExpired):  # it is ended then
                        before.wait(_PATIENCE)
            except OSError as error:
                failed[link] = error
            finally:
                if before:
                    _end(before)
        return failed

    def delete(self, keys: Collection[str]) -> dict[str, Exception]:
        for link in keys:
            self._stop(link)
        return {}

    def close(self) -> None:
        self.delete(list(self._running))

    def _start(self, link: str, row: Forwarder) -> None:
        argv = [sys.executable, "-m", "felixlite.ipip.userspace", link]
        argv += [] if row.sends else ["--receive-only"]
        argv += ["--ttl", str(row.header.ttl), *(["--dont-fragment"] if row.header.dont_fragment else [])]
        argv += ["--namespace", str(self.namespace)] if self.namespace is not None else []
        process = subprocess.Popen(
            argv,
            start_new_session=True,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=[self.namespace] if self.namespace is not None else [],
        )
        assert process.stdout  # noqa: S101  it is a pipe because we asked for one
        if process.stdout.readline() != b"ready\n":
            said = process.communicate()[1].decode(errors="replace").strip().rpartition("\n")[2]
            raise (
                HeldByAnother(said)
                if process.returncode == _HELD
                else ChildProcessError(f"the tunnel process of {link} did not start: {said}")
            )
        self._running[link] = row, process
        threading.Thread(target=self._watch, args=(process,), daemon=True).start()

    def _watch(self, process: subprocess.Popen[bytes]) -> None:
        process.wait()
        if any(process is mine for _, mine in list(self._running.values())):
            self.died()

    def _stop(self, link: str) -> None:
        _, process = self._running.pop(link, (None, None))
        if process:
            _end(process)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    process.communicate()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
