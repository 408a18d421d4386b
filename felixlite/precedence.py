"""Who is waited for goes first: a runtime waits for its pod, nobody waits for an echo of what that pod's making changed.

A Python process computes one thing at a time.  While a pod is made the kernel and the store tell what was just done to
them; to hear that at once would take a third of the time in which the pod is made, and it says nothing new.  So the
threads that listen let whoever has precedence finish, but only for a moment after the quiet ended: in a burst of pods,
or when the store is slow, everybody works side by side again.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

MOMENT: Final = 0.015  # seconds; a pod is made in less than ten milliseconds


class Precedence:
    """Safe to use from any thread."""

    def __init__(self, moment: float = MOMENT) -> None:
        self._moment = moment
        self._lock = threading.Lock()
        self._free = threading.Event()
        self._free.set()
        self._holders = 0
        self._until = 0.0

    @contextmanager
    def taken(self) -> Iterator[None]:
        with self._lock:
            self._holders += 1
            if self._holders == 1:
                self._until = time.monotonic() + self._moment
                self._free.clear()
        try:
            yield
        finally:
            with self._lock:
                self._holders -= 1
                if not self._holders:
                    self._free.set()

    def give_way(self) -> None:
        """Returns at once when nobody has precedence, or when the moment is over."""
        if not self._free.is_set() and (left := self._until - time.monotonic()) > 0:
            self._free.wait(left)
