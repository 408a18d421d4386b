"""Traffic that flows all the while something else happens: numbered datagrams and held TCP connections between pods.

    with Traffic(lab.pod_places(), hold=True) as flowing:
        ...                                     # edit a pool, kill an agent
    flowing.missing, flowing.broken             # every datagram without an answer, every connection that did not last

A datagram counts as lost when no answer has come until `patience` after the last one was sent.  Every connection carries
small messages back and forth; one that is reset, closed or silent at the end is broken.
"""

import selectors
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from felixlite.lab.probe import Missing, Place, Prober
from felixlite.lab.world import within

DATAGRAMS, MESSAGES = 4243, 4244  # ports
CONNECTED_WITHIN = 10.0
_PAUSE = 0.001  # between two rounds, so that the answers keep up


class Traffic:
    """Runs in a thread until the body is left."""

    def __init__(
        self, places: Sequence[Place], *, hold: bool = False, patience: float = 0.5, rate: float | None = None
    ) -> None:
        """`hold`: connections as well, so all is well at first. `rate`: datagrams a second for every pair; without it
        as many as the machine makes."""
        self.pairs = [(a, b) for a in places for b in places if a != b]
        self.sent = 0
        self.rounds = 0  # datagrams of every pair so far
        self.seconds = 0.0
        self.missing: list[Missing] = []
        self.broken: list[str] = []
        self._held_pairs = self.pairs if hold else []
        self._patience = patience
        self._interval = 1 / rate if rate else 0.0
        self._places = places
        self._stop = threading.Event()
        self._flows = threading.Event()
        self._thread = threading.Thread(target=self._run)

    def __enter__(self) -> Self:
        self._thread.start()
        self._flows.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    @property
    def lost(self) -> int:
        return len(self.missing)

    def _run(self) -> None:
        try:
            with Prober(self._places, DATAGRAMS) as prober, Connections(self._held_pairs, prober.selector) as held:
                prober.begin(self.pairs)
                self._flow(prober, held)
                prober.settle(self._patience)
                held.settle(self._patience)
                self.sent = sum(cell.sent for cell in prober.cells)
                self.missing, self.broken = list(prober.missing()), held.broken()
        finally:
            self._flows.set()

    def _flow(self, prober: Prober, held: "Connections") -> None:
        began = due = time.monotonic()
        while not self._stop.is_set():
            prober.round()
            held.speak()
            self._flows.set()
            self.rounds += 1
            due += self._interval  # a delay is caught up with
            prober.turn(_PAUSE)
            while (left := due - time.monotonic()) > 0:
                prober.turn(left)
        self.seconds = time.monotonic() - began


@dataclass(slots=True)
class _Held:
    name: str
    socket: socket.socket
    waiting: bool = False  # for the echo of the last message
    end: str = ""  # why there is no connection any more


class Connections:
    """A TCP connection for every pair, made at once. Served and read by whoever turns the selector."""

    def __init__(self, pairs: Sequence[tuple[Place, Place]], selector: selectors.BaseSelector) -> None:
        self._selector = selector
        self._sockets: list[socket.socket] = []
        for place in {target for _, target in pairs}:
            self._listen(place)
        self._held = [self._connect(source, target) for source, target in pairs]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for each in self._sockets:
            each.close()

    def speak(self) -> None:
        """A message on every connection whose last one was echoed."""
        for held in self._held:
            if not held.waiting and not held.end:
                held.waiting = True
                try:
                    held.socket.send(b"\1")
                except OSError as error:
                    self._ended(held, error.strerror or "")

    def settle(self, patience: float) -> None:
        """One more message on each, so that one that broke without a word is found."""
        deadline = time.monotonic() + patience
        for last in (False, True):
            if last:
                self.speak()
            while any(h.waiting and not h.end for h in self._held) and time.monotonic() < deadline:
                for ready, _ in self._selector.select(0.01):
                    ready.data(ready.fileobj)

    def broken(self) -> list[str]:
        return list(self._broken())

    def _broken(self) -> Iterator[str]:
        for held in self._held:
            if held.end or held.waiting:
                yield f"{held.name}: {held.end or 'no answer'}"

    def _listen(self, place: Place) -> None:
        def serve(listener: socket.socket) -> None:
            made, _ = listener.accept()
            made.setblocking(False)
            self._sockets.append(made)
            self._selector.register(made, selectors.EVENT_READ, self._echo)

        listener = within(place.namespace, lambda: socket.create_server((place.address, MESSAGES)))
        self._sockets.append(listener)
        self._selector.register(listener, selectors.EVENT_READ, serve)

    def _connect(self, source: Place, target: Place) -> _Held:
        made = within(
            source.namespace,
            lambda: socket.create_connection((target.address, MESSAGES), CONNECTED_WITHIN, (source.address, 0)),
        )
        made.setblocking(False)
        made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        held = _Held(f"{source.name} -> {target.name}", made)
        self._sockets.append(made)
        self._selector.register(made, selectors.EVENT_READ, lambda _: self._hear(held))
        return held

    def _echo(self, server: socket.socket) -> None:
        try:
            message = server.recv(64)
        except OSError:
            message = b""
        if not message:
            self._selector.unregister(server)
            return
        with suppress(OSError):  # the other end will say that it broke
            server.send(message)

    def _hear(self, held: _Held) -> None:
        try:
            message = held.socket.recv(64)
        except OSError as error:
            self._ended(held, error.strerror or "")
            return
        if message:
            held.waiting = False
        else:
            self._ended(held, "closed by the other end")

    def _ended(self, held: _Held, why: str) -> None:
        held.end = held.end or why
        with suppress(KeyError):
            self._selector.unregister(held.socket)
