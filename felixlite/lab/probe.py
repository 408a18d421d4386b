"""Who reaches whom, how fast, and under which source address the receiver saw it: all pairs at once.

A socket stays in the network namespace in which it was made, so one process holds a UDP socket in every machine of the
lab and plays both sender and receiver everywhere: no process per pair, no clock to compare, 900 pairs in a fraction of a
second.  A probe is a datagram with a number; the receiver notes where it came from and sends it back.
"""

import selectors
import socket
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Self

from felixlite.errors import FelixliteError
from felixlite.lab.world import within

PORT = 4242


@dataclass(frozen=True, slots=True)
class Place:
    """Something with an address that can send and answer."""

    name: str
    namespace: str
    address: str
    node: str = ""  # of a pod: its node's address, under which the outside is to see it


@dataclass(slots=True)
class Cell:
    """What became of the probes from one place to another."""

    source: Place
    target: Place
    sent: int = 0
    arrived: int = 0
    answered: int = 0
    best_ms: float | None = None
    seen_from: str = ""  # the source address that the receiver saw, of the last one

    @property
    def loss(self) -> float:
        return 1 - self.answered / self.sent if self.sent else 1.0

    @property
    def is_right(self) -> bool:
        """Everything arrived; a pod is seen under its own address inside, and under its node's (once) outside."""
        if self.answered != self.sent:
            return False
        if not self.source.node:
            return True  # nobody translates what a router or the outside sends
        return self.seen_from == (self.source.address if self.target.node else self.source.node)


@dataclass(frozen=True, slots=True)
class Missing:
    """A probe that was not answered: `arrived` tells whether it was lost on the way there or on the way back."""

    source: str
    target: str
    at: float  # monotonic
    arrived: bool

    def __str__(self) -> str:
        return f"{self.source} -> {self.target}: {'the answer' if self.arrived else 'the probe'} of {self.at:.3f} s"


class Prober:
    """Sockets in all places. Use as a context manager."""

    def __init__(self, places: Iterable[Place], port: int = PORT) -> None:
        self.port = port
        self.selector = selectors.DefaultSelector()
        self.senders: dict[Place, socket.socket] = {}
        self.sockets: list[socket.socket] = []
        self.number = 0
        for place in places:
            self._open(place)

    def _open(self, place: Place) -> None:
        try:
            # bound to its address, so that an answer comes from the address that was asked
            receiver = within(place.namespace, lambda: _socket(place.address, self.port))
            sender = within(place.namespace, lambda: _socket("0.0.0.0", 0))  # noqa: S104  inside the lab
        except OSError as error:
            raise FelixliteError(f"{place.name}: cannot open a probe socket: {error.strerror}") from None
        self.senders[place] = sender
        self.sockets += [receiver, sender]
        self.selector.register(receiver, selectors.EVENT_READ, self._reflect)
        self.selector.register(sender, selectors.EVENT_READ, self._collect)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.selector.close()
        for each in self.sockets:
            each.close()

    def matrix(self, pairs: Sequence[tuple[Place, Place]], count: int = 1, patience: float = 1.0) -> list[Cell]:
        """`count` probes for every pair; waits for stragglers no longer than `patience` after the last one."""
        self.begin(pairs)
        for _ in range(count):
            self.round()
        self.settle(patience)
        return self.cells

    def begin(self, pairs: Sequence[tuple[Place, Place]]) -> None:
        self.cells = [Cell(source, target) for source, target in pairs]
        self.sent_at: dict[int, float] = {}  # of probes without an answer
        self.arrived: set[int] = set()  # of those, the ones that their target has seen
        self.first = self.number  # an answer to an earlier number is a straggler

    def round(self) -> None:
        """One probe for every pair."""
        for cell in self.cells:
            self._send(cell)
            self.turn(0)

    def settle(self, patience: float) -> None:
        deadline = time.monotonic() + patience
        # what has arrived counts, however late we look: a busy machine is not a loss
        while self.sent_at and (self.turn(0.01) or time.monotonic() < deadline):
            pass

    def missing(self) -> Iterator[Missing]:
        for number, at in self.sent_at.items():
            cell = self._cell(number)
            yield Missing(cell.source.name, cell.target.name, at, number in self.arrived)

    def _cell(self, number: int) -> Cell:
        return self.cells[(number - self.first) % len(self.cells)]

    def _send(self, cell: Cell) -> None:
        number = self.number
        self.number += 1
        cell.sent += 1
        self.sent_at[number] = time.monotonic()
        with suppress(OSError):  # no route: a lost probe like any other
            self.senders[cell.source].sendto(number.to_bytes(8, "big"), (cell.target.address, self.port))

    def turn(self, patience: float) -> bool:
        """Whether there was anything to do."""
        found = self.selector.select(patience)
        for ready, _ in found:
            ready.data(ready.fileobj)
        return bool(found)

    def _reflect(self, receiver: socket.socket) -> None:
        try:
            datagram, origin = receiver.recvfrom(64)
        except OSError:
            return  # an ICMP error that belongs to an earlier answer
        number = int.from_bytes(datagram, "big")
        if number in self.sent_at:
            cell = self._cell(number)
            cell.arrived += 1
            cell.seen_from = origin[0]
            self.arrived.add(number)
        with suppress(OSError):  # no way back: a lost probe
            receiver.sendto(datagram, origin)

    def _collect(self, sender: socket.socket) -> None:
        try:
            datagram, _ = sender.recvfrom(64)
        except OSError:
            return
        number = int.from_bytes(datagram, "big")
        began = self.sent_at.pop(number, None)
        if began is None:
            return  # a straggler of an earlier matrix, or a duplicate
        self.arrived.discard(number)
        cell = self._cell(number)
        cell.answered += 1
        took = (time.monotonic() - began) * 1000
        cell.best_ms = took if cell.best_ms is None else min(cell.best_ms, took)


def _socket(address: str, port: int) -> socket.socket:
    made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind((address, port))
    made.setblocking(False)
    return made
