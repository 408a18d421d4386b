"""How sessions go and end: UPDATEs passed on undecoded, a KEEPALIVE after a burst, a farewell, ranges kept apart."""

import time
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from exabgp.bgp.message import KeepAlive, Notify, Update
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.update.attribute import Attributes
from exabgp.reactor import loop as exabgp_loop
from exabgp.reactor import peer as exabgp_peer
from exabgp.reactor.network.connection import Connection
from exabgp.rib import RIB

from felixlite.bgp.engine.telling import sessions_of

DECONFIGURED = (6, 3)  # RFC 4486: cease, peer de-configured
QUIET = 0.02  # a burst of UPDATEs is over when nothing came for so long
AT_REST, LONG_TURN = 1.0, 200  # after a second without work a turn of the loop may take so many milliseconds


def pass_updates_on() -> None:
    """The agent decodes UPDATEs from the packets (20 times faster, RFC 7606); exabgp need not."""
    decode = Update.unpack_message

    def unpack_message(data: bytes, direction: Any, negotiated: Any) -> Any:
        if direction == Direction.IN:
            return Update([], Attributes())
        return decode(data, direction, negotiated)

    Update.unpack_message = staticmethod(unpack_message)


def turn_slowly_at_rest() -> None:
    """exabgp's loop turns twenty times a second for its timers. While every session is up and nothing is to be done, five
    turns will do: what comes in on a session or from the agent ends a turn at once."""
    wait = exabgp_loop.Reactor._wait_for_io  # noqa: SLF001

    def _wait_for_io(self: Any, milliseconds: float) -> Iterator[int]:
        now = time.monotonic()
        if not milliseconds or not self.asynchronous.ready() or not all(map(_is_up, self._peers.values())):
            self.felixlite_worked = now
        elif now - getattr(self, "felixlite_worked", now) > AT_REST:
            milliseconds = LONG_TURN
        for io in wait(self, milliseconds):
            self.felixlite_worked = now
            yield io

    exabgp_loop.Reactor._wait_for_io = _wait_for_io  # noqa: SLF001


def _is_up(peer: Any) -> bool:
    return bool(peer.established())


def nudge_silent_announcers() -> None:
    """BIRD keeps its last, partly filled UPDATE for up to 3 s when nothing comes from us: a KEEPALIVE gets it out."""
    wait, write = exabgp_loop.Reactor._wait_for_io, Connection.writer  # noqa: SLF001

    def _wait_for_io(self: Any, milliseconds: float) -> Iterator[int]:
        now = time.monotonic()
        heard = self.processes.heard
        for address in [address for address, at in heard.items() if now - at > QUIET]:
            del heard[address]
            for name in sessions_of(self, address):
                keep_alive(self._peers[name])
        yield from wait(self, min(milliseconds, QUIET * 1000) if heard else milliseconds)

    def writer(self: Any, data: bytes) -> Iterator[bool]:
        self.felixlite_writing = True
        try:
            yield from write(self, data)
        finally:
            self.felixlite_writing = False

    exabgp_loop.Reactor._wait_for_io = _wait_for_io  # noqa: SLF001
    Connection.writer = writer


def keep_alive(peer: Any) -> None:
    """Between two messages only: a message of which a part is out must not be interrupted."""
    connection = peer.proto.connection if peer.proto else None
    if connection is None or connection.io is None or not peer.established():
        return
    if not getattr(connection, "felixlite_writing", False):
        with suppress(OSError):
            connection.io.send(KeepAlive().message())


def tell_why_sessions_end() -> None:
    """A session's end carries its error, and ends with a NOTIFICATION where we mean the peer to forget our routes."""
    close = exabgp_peer.Peer._close  # noqa: SLF001

    def _close(self: Any, message: str = "", error: Any = "") -> None:
        told = f"{message}: {error}" if error and str(error) not in message else message
        close(self, told, error)

    remove = exabgp_peer.Peer.remove

    def _remove(self: Any) -> None:
        farewell(self, *DECONFIGURED)
        remove(self)

    exabgp_peer.Peer._close = _close  # noqa: SLF001
    exabgp_peer.Peer.remove = _remove


def farewell(peer: Any, code: int, subcode: int) -> None:
    """exabgp leaves without a word when graceful restart was negotiated, and the peer would keep our routes."""
    io = peer.proto.connection.io if peer.proto and peer.proto.connection else None
    if io is not None and peer.established():
        with suppress(OSError):
            io.send(Notify(code, subcode).message())


def remember_ranges() -> None:
    """exabgp's sessions of one range share one outgoing RIB: whoever comes first would eat the others' routes."""
    register = exabgp_loop.Reactor.register_peer

    def register_peer(self: Any, name: str, peer: Any) -> None:
        neighbor = peer.neighbor
        origin = next(n for n in self.configuration.neighbors.values() if n.range_size > 1 and n.rib is neighbor.rib)
        neighbor.felixlite_origin, neighbor.felixlite_range = origin, str(origin["peer-address"])
        neighbor.eor, neighbor.refresh, neighbor.messages = deque(), deque(), deque()
        neighbor.rib = RIB(name, neighbor["adj-rib-in"], neighbor["adj-rib-out"], neighbor.families())
        for change in origin.rib.outgoing.cached_changes():
            neighbor.rib.outgoing.add_to_rib(change, True)
        register(self, name, peer)

    exabgp_loop.Reactor.register_peer = register_peer
