"""The agent's end of the plugin: a unix socket for root, a queue, a few workers. Fair, bounded, never silent.

Every caller is greeted at once, so that the plugin can tell a busy agent from none; then the requests are worked off
in the order in which they came.  When the queue is full nobody else is greeted until there is room: the plugins wait in the
kernel's backlog and at last say "try again later"; memory does not grow with the burst.

Threads: one accepts, `workers` work, one removes links, one works off notes.  agent.py starts them and notices their
death.
"""

import array
import json
import logging
import os
import queue
import select
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, Final

from felixlite.cni import request as requests
from felixlite.cni import result
from felixlite.cni.attachments import Asked, Attachments
from felixlite.cni.errors import CniError, Code
from felixlite.cni.stages import Stages, Stopwatch
from felixlite.errors import FelixliteError

WORKERS: Final = 8
QUEUE: Final = 512
BACKLOG: Final = 1024
PAUSE: Final = 0.05
LONGEST_REQUEST: Final = 8 << 20
READ_PATIENCE: Final = 5.0
NOTES_EVERY: Final = 10.0
GREETING: Final = b"."

log = logging.getLogger(__name__)

Answer = dict[str, Any] | None


class Server:
    """`listening`: a bound socket (control.bound makes one with the right mode)."""

    def __init__(self, listening: socket.socket, attachments: Attachments, *, workers: int = WORKERS) -> None:
        self.attachments = attachments
        self.workers = workers
        self._listening = listening
        self._listening.listen(BACKLOG)
        self._queue: queue.SimpleQueue[tuple[socket.socket, Stopwatch] | None] = queue.SimpleQueue()
        self.stages = Stages()
        self._stopped = threading.Event()
        self._verbs: dict[str, Callable[[Asked], Answer]] = {
            "ADD": attachments.add,
            "DEL": self._delete,
            "CHECK": self._check,
            "GC": self._collect,
            "STATUS": self._status,
        }

    def threads(self) -> Iterator[tuple[str, Callable[[], None]]]:
        """Names and functions of the threads that make it live."""
        yield "cni-accept", self.accept
        yield "cni-removals", self.attachments.removals.run
        yield "cni-notes", self.work_off_notes
        for number in range(self.workers):
            yield f"cni-{number}", self.work

    def stop(self) -> None:
        self._stopped.set()
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        for _ in range(self.workers):
            self._queue.put(None)
        self.attachments.removals.stop()

    # -- the threads

    def accept(self) -> None:
        while not self._stopped.is_set():
            if self._queue.qsize() >= QUEUE:
                self._stopped.wait(PAUSE)
                continue
            try:
                caller, _ = self._listening.accept()
                stopwatch = Stopwatch()
            except OSError:
                if self._stopped.is_set():
                    break
                self._stopped.wait(PAUSE)  # out of descriptors: workers are about to close some
                continue
            with suppress(OSError):
                caller.settimeout(READ_PATIENCE)
                caller.send(GREETING)
            self._queue.put((caller, stopwatch))
        self._listening.close()

    def work(self) -> None:
        while (item := self._queue.get()) is not None:
            caller, stopwatch = item
            stopwatch.lap("queue")
            with self.attachments.core.precedence.taken(), caller, suppress(OSError):  # the caller went away
                self._serve(caller, stopwatch)

    def work_off_notes(self) -> None:
        while not self._stopped.is_set():
            if self.attachments.core.state()[0] != Code.NOT_AVAILABLE:
                try:
                    self.attachments.work_off_notes()
                except OSError as error:
                    log.warning("the notes cannot be read: %s", error)
            self._stopped.wait(NOTES_EVERY)

    # -- one request

    def _serve(self, caller: socket.socket, stopwatch: Stopwatch) -> None:
        data, descriptors = _received(caller)
        try:
            if _hung_up(caller):  # killed or out of patience while it waited in the queue
                return
            failed, text = self.answer(data, descriptors[0] if descriptors else None, stopwatch)
        finally:
            _close(descriptors)
        caller.sendall((b"1" if failed else b"0") + text)
        stopwatch.lap("answer")
        if not failed and "rows" in stopwatch.laps:
            self.stages.add(stopwatch)

    def answer(self, data: bytes, netns: int | None = None, stopwatch: Stopwatch | None = None) -> tuple[bool, bytes]:
        """Whether the plugin has to fail, and what it has to print."""
        try:
            request = requests.parse(data)
            answer = self._verbs[request.command](Asked(request, data, netns, stopwatch or Stopwatch()))
            return False, json.dumps(answer).encode() + b"\n" if answer is not None else b""
        except CniError as problem:
            found = problem
        except FelixliteError as error:
            found = CniError(Code.FAILED, "the pod's network could not be made", str(error))
        except Exception as error:  # one odd request must not take the agent of the whole node down
            log.exception("a request of the CNI plugin failed")
            found = CniError(Code.FAILED, "the felixlite agent stumbled over this", repr(error))
        return True, _refusal(data, found)

    def _delete(self, asked: Asked) -> None:
        self.attachments.delete(asked)

    def _check(self, asked: Asked) -> None:
        self.attachments.check(asked)

    def _collect(self, asked: Asked) -> None:
        self.attachments.collect(asked)

    def _status(self, _asked: Asked) -> None:
        code, why = self.attachments.core.state()
        if code:
            raise CniError(Code(code), "the felixlite agent is not ready to attach pods", why)


def _refusal(data: bytes, problem: CniError) -> bytes:
    log.warning("%s: %s", _title(data), problem)
    return json.dumps(result.error(requests.version_of(data), problem)).encode() + b"\n"


def _title(data: bytes) -> str:
    """Command and container, for the log."""
    head = data.partition(b"\0\0")[0].decode(errors="replace").split("\0")
    given = dict(line.partition("=")[::2] for line in head)
    return f"CNI {given.get('CNI_COMMAND', '?')} {given.get('CNI_CONTAINERID', '')[:12]}"


def _received(caller: socket.socket) -> tuple[bytes, list[int]]:
    """All that the plugin sent, and the descriptors that came along."""
    data, ancillary, _, _ = caller.recvmsg(65536, socket.CMSG_LEN(16), socket.MSG_CMSG_CLOEXEC)
    descriptors = array.array("i")
    for level, kind, content in ancillary:
        if (level, kind) == (socket.SOL_SOCKET, socket.SCM_RIGHTS):
            descriptors.frombytes(content[: len(content) // 4 * 4])
    try:
        return data + (_rest(caller, len(data)) if data else b""), list(descriptors)
    except OSError:  # nobody else knows of them
        _close(descriptors)
        raise


def _rest(caller: socket.socket, size: int) -> bytes:
    parts, deadline = [], time.monotonic() + READ_PATIENCE  # of all of it: who sends byte by byte holds up a worker
    while data := caller.recv(65536):
        caller.settimeout(max(deadline - time.monotonic(), 0.001))
        parts.append(data)
        size += len(data)
        if size > LONGEST_REQUEST:
            raise OSError("too long a request")
    caller.settimeout(READ_PATIENCE)
    return b"".join(parts)


def _close(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


def _hung_up(caller: socket.socket) -> bool:
    watch = select.poll()
    watch.register(caller, 0)  # POLLHUP is always told: both directions are closed
    return bool(watch.poll(0))
