"""How connections come about: pauses between tries, who is held off, GTSM and MD5 for those that the peer opens."""

import errno
import os
import select
import socket
import struct
import time
from base64 import b64decode
from collections.abc import Callable, Iterator
from typing import Any

from exabgp.protocol.family import AFI
from exabgp.protocol.ip import IP
from exabgp.reactor import listener as exabgp_listener
from exabgp.reactor import peer as exabgp_peer
from exabgp.reactor.delay import Delay
from exabgp.reactor.network import outgoing as exabgp_outgoing
from exabgp.reactor.network.tcp import set_minimum_ttl, set_sending_ttl

TCP_MD5SIG_EXT, TCP_MD5SIG_FLAG_PREFIX = 32, 1  # linux/tcp.h
GTSM_TTL = 255  # RFC 5082
FIRST_RETRY, LONGEST_RETRY = 0.25, 5.0  # seconds between two tries to connect
CONNECT_TIME = 5.0  # a SYN without an answer is given up after this

held: dict[str, float] = {}  # neighbour -> not before


def pace_connections(say: Callable[..., None]) -> None:
    """exabgp tries again at every turn of its loop, 100 times a second; and says nothing of why it failed."""

    def establish(self: Any) -> Iterator[bool]:
        pause, not_before, said = FIRST_RETRY, 0.0, ""
        while True:
            while time.time() < max(not_before, held.get(self.peer, 0.0)):
                yield False
            trouble: Any = self._setup()
            trouble = trouble or begin(self.io, self.peer, self.port)
            deadline = time.time() + CONNECT_TIME
            while not trouble and time.time() < deadline:
                if writable(self.io):
                    trouble = self.io.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not trouble:
                        self.success()
                        self.local = self.local or self.io.getsockname()[0]
                        yield True
                        return
                else:
                    yield False
            words = os.strerror(trouble) if isinstance(trouble, int) and trouble else str(trouble or "no answer")
            if words != said:
                said = words
                say(trouble={"peer": self.peer, "error": f"cannot connect to port {self.port}: {words}"})
            if self.io is not None:
                self.io.close()
                self.io = None
            not_before, pause = time.time() + pause, min(LONGEST_RETRY, pause * 2)

    exabgp_outgoing.Outgoing.establish = establish


def bound_pauses() -> None:
    """After a session's end exabgp's pause grows to a minute: a router that is back would be called that late."""
    grow = Delay.increase

    def increase(self: Any) -> None:
        grow(self)
        self._next = min(self._next, int(LONGEST_RETRY))

    Delay.increase = increase


def begin(io: socket.socket, peer: str, port: int) -> int:
    """The number of the error, 0 if the connection is under way."""
    trouble = io.connect_ex((peer, port))
    return 0 if trouble in (0, errno.EINPROGRESS) else trouble


def writable(io: socket.socket) -> bool:
    poller = select.poll()
    poller.register(io, select.POLLOUT)
    return bool(poller.poll(0))


def refuse_the_held() -> None:
    handle = exabgp_peer.Peer.handle_connection

    def handle_connection(self: Any, connection: Any) -> Any:
        if time.time() < held.get(connection.peer, 0.0):
            connection.close()
            return True  # denied
        return handle(self, connection)

    exabgp_peer.Peer.handle_connection = handle_connection


def guard_accepted_connections() -> None:
    """GTSM's minimum for connections that the peer opened, and the range that a session came from."""
    set_accepted = exabgp_listener.set_accepted_ttl

    def set_accepted_ttl(connection: Any, neighbor: Any) -> None:
        if neighbor["incoming-ttl"]:
            set_minimum_ttl(connection.io, connection.afi, connection.peer, neighbor["incoming-ttl"])
            set_sending_ttl(connection.io, connection.afi, connection.peer, GTSM_TTL)
        else:
            set_sending_ttl(connection.io, connection.afi, connection.peer, 64)
        set_accepted(connection, neighbor)

    exabgp_listener.set_accepted_ttl = set_accepted_ttl


def protect_listeners(reactor: Any) -> None:
    """Keys for whole ranges, and answers to a SYN that a GTSM peer accepts."""
    for listening in reactor.listener._sockets:  # noqa: SLF001
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            if listening.family == socket.AF_INET6
            else (socket.IPPROTO_IP, socket.IP_TTL)
        )
        listening.setsockopt(level, option, GTSM_TTL)
        for neighbor in reactor.configuration.neighbors.values():
            if neighbor["md5-password"] and neighbor.range_size > 1:
                md5_for_range(listening, neighbor)


def md5_for_range(listening: socket.socket, neighbor: Any) -> None:
    """TCP_MD5SIG_EXT with a prefix length (tcp(7)); exabgp installs the key for the first address only."""
    address = neighbor["peer-address"]
    if (address.afi == AFI.ipv6) != (listening.family == socket.AF_INET6):
        return
    packed = IP.pton(address.top())
    bits = 8 * len(packed) - (neighbor.range_size.bit_length() - 1)
    key = b64decode(neighbor["md5-password"])
    place = struct.pack("=HH4s120x", socket.AF_INET, 0, packed)
    if address.afi == AFI.ipv6:
        place = struct.pack("=HHI16sI100x", socket.AF_INET6, 0, 0, packed, 0)
    listening.setsockopt(
        socket.IPPROTO_TCP,
        TCP_MD5SIG_EXT,
        place + struct.pack("=BBHI80s", TCP_MD5SIG_FLAG_PREFIX, bits, len(key), 0, key),
    )
