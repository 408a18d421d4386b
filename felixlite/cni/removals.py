"""Removing veth pairs behind the answer's back: the kernel takes about 20 ms for one, and hardly more for fifty.

A thread takes all that wait, puts them into a group of links and deletes the group in one message (one grace period of
the kernel for all of them).  Whoever is about to make a link of the same name waits for it here first.
"""

import logging
import queue
import threading
from collections.abc import Callable
from typing import Final

from felixlite.cni import wiring

GROUP: Final = 0xFE11

log = logging.getLogger(__name__)


class Removals:
    def __init__(self) -> None:
        self._queue: queue.SimpleQueue[tuple[str, Callable[[], None]] | None] = queue.SimpleQueue()
        self._pending: dict[str, int] = {}
        self._changed = threading.Condition()

    def start(self, link: str, done: Callable[[], None]) -> None:
        with self._changed:
            self._pending[link] = self._pending.get(link, 0) + 1
        self._queue.put((link, done))

    def wait(self, link: str) -> None:
        """Until nothing of that name is being removed."""
        with self._changed:
            self._changed.wait_for(lambda: link not in self._pending)

    def wait_for_all(self) -> bool:
        """Until what is being removed now is gone. Answers whether there was anything."""
        with self._changed:
            waiting = set(self._pending)
            self._changed.wait_for(lambda: not waiting & self._pending.keys())
        return bool(waiting)

    def stop(self) -> None:
        self._queue.put(None)

    def run(self) -> None:
        while (first := self._queue.get()) is not None:
            batch, ends = [first], False
            while not self._queue.empty():
                item = self._queue.get()
                if item is None:
                    ends = True
                else:
                    batch.append(item)
            self._remove(batch)
            if ends:
                return

    def _remove(self, batch: list[tuple[str, Callable[[], None]]]) -> None:
        try:
            gone = wiring.detach_all([link for link, _ in batch])
        except OSError:
            gone = set()
        for link, done in batch:
            if link in gone:  # else the note stays, and it is tried again
                try:
                    done()
                except OSError as error:
                    log.warning("%s is gone, its note cannot be removed: %s", link, error)
            with self._changed:
                self._pending[link] -= 1
                if not self._pending[link]:
                    del self._pending[link]
                self._changed.notify_all()
