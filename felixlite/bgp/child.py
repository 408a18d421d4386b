"""The exabgp process and our end of its socket: lines out, lines in, and the answers to numbered orders.

It lives in the network namespace of the thread that starts it, and ends with us: without a NOTIFICATION, so that with
graceful restart the peers keep our routes for the one that comes next.  Nothing of its configuration is in an argument.
"""

import os
import select
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as NoAnswer
from pathlib import Path
from typing import Any

from felixlite.bgp import wire
from felixlite.errors import FelixliteError

PATIENCE = 10.0  # for its answer to an order
BURST = 4 * 1024 * 1024  # read at most so much before the core hears of it
SOCKET_BUFFER = 16 * 1024 * 1024


class Silent(FelixliteError):
    """The child does not answer: it is starting, or gone."""


class Starting(Silent):
    """The first child of this agent is about to be there: nothing is wrong, the tables are written when it is."""


class Child:
    """The process and our end of its socket."""

    def __init__(self, config: Path) -> None:
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
                end.setsockopt(socket.SOL_SOCKET, option, SOCKET_BUFFER)
        with theirs:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "felixlite.bgp.engine", str(theirs.fileno()), str(config)],
                pass_fds=[theirs.fileno()],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=None if os.environ.get("FELIXLITE_EXABGP_LOG") else subprocess.DEVNULL,
                cwd="/",
                env={k: v for k, v in os.environ.items() if not k.lower().startswith("exabgp")},
            )
        self.link = ours
        self._sending = threading.Lock()
        self._answers: dict[int, Future[Mapping[str, Any]]] = {}
        self._number = 0
        self._partial = b""

    def send(self, lines: Sequence[bytes]) -> None:
        with self._sending:
            try:
                self.link.sendall(b"".join(lines))
            except OSError as error:
                raise Silent(f"the exabgp process is gone: {error}") from None

    def order(self, do: str, **members: Any) -> "Future[Mapping[str, Any]]":
        answer: Future[Mapping[str, Any]] = Future()
        with self._sending:
            self._number += 1
            self._answers[self._number] = answer
        self.send([wire.order(self._number, do, **members)])
        return answer

    def ask(self, do: str, **members: Any) -> Mapping[str, Any]:
        try:
            return self.order(do, **members).result(PATIENCE)
        except NoAnswer:
            raise Silent(f"the exabgp process did not answer {do!r} within {PATIENCE:.0f} s") from None

    def lines(self, patience: float) -> list[bytes] | None:
        """What it said, a burst at most; None when it is gone."""
        chunks = [self._partial]
        size = 0
        readable, _, _ = select.select([self.link], [], [], patience)
        while readable and size < BURST:
            try:
                data = self.link.recv(1 << 20)
            except OSError:
                data = b""
            if not data:
                return None
            chunks.append(data)
            size += len(data)
            readable, _, _ = select.select([self.link], [], [], 0)
        *lines, self._partial = b"".join(chunks).split(b"\n")
        return lines

    def answered(self, answer: wire.Answer) -> None:
        waiting = self._answers.pop(answer.number, None)
        if waiting is not None:
            waiting.set_result(answer.members)

    def end(self) -> None:
        """Without a NOTIFICATION: with graceful restart the peers keep our routes for the one that comes next."""
        self.link.close()
        self.process.kill()
        self.process.wait()
        for waiting in self._answers.values():
            waiting.set_exception(Silent("the exabgp process ended before it answered"))
