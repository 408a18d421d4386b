"""What a node writes back to the store because of what it knows: its tunnel addresses, its address, its readiness.

A duty is a function of the Snapshot that talks to the store; it runs in one thread of its own, so that a slow store
never holds up the kernel.  A duty runs again when an input that it names is a different object, and after a failure
with a growing pause.  What it writes comes back to the core as a Change through the watch, like everybody's writes.
"""

import threading
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from felixlite.backoff import pause
from felixlite.errors import FelixliteError
from felixlite.snapshot import Snapshot


@dataclass(slots=True)
class Duty:
    name: str
    reads: Callable[[Snapshot], tuple[Any, ...]]
    run: Callable[[Snapshot], None]
    needs: Callable[[Snapshot], bool] = lambda _: True  # what must be known before it can be done at all
    done_for: tuple[Any, ...] | None = None  # the inputs it last succeeded with
    error: str = ""
    attempts: int = 0
    retry_at: float = 0.0

    def is_due(self, snapshot: Snapshot, now: float) -> bool:
        return now >= self.retry_at and self.is_called_for(snapshot)

    def is_called_for(self, snapshot: Snapshot) -> bool:
        if not self.needs(snapshot):
            return False
        inputs, done = self.reads(snapshot), self.done_for
        return done is None or any(a is not b for a, b in zip(done, inputs, strict=True))

    def attempt(self, snapshot: Snapshot, now: float) -> None:
        inputs = self.reads(snapshot)
        try:
            self.run(snapshot)
        except FelixliteError as error:
            self.done_for = None  # whatever it was that was done: it may not be so any more
            self.attempts += 1
            self.error, self.retry_at = str(error), now + pause(self.attempts)
        else:
            self.done_for, self.error, self.attempts, self.retry_at = inputs, "", 0, 0.0


class Duties:
    def __init__(self, duties: Iterable[Duty], clock: Callable[[], float] = time.monotonic) -> None:
        self.duties = tuple(duties)
        self._clock = clock
        self._latest: Snapshot | None = None
        self._unseen = False
        self._busy = False
        self._asleep_until = float("inf")
        self._news = threading.Condition()
        self._stopped = False

    def see(self, snapshot: Snapshot) -> None:
        """Called after each round, from the core thread: it wakes the other one only where there is something to do."""
        with self._news:
            self._latest = snapshot
            if self._busy or self._calls_sooner(snapshot):
                self._unseen = True
                self._news.notify()

    def stop(self) -> None:
        with self._news:
            self._stopped = True
            self._news.notify()

    def run(self) -> None:
        while (known := self._awaited()) is not None:
            self.once(known)

    def once(self, snapshot: Snapshot) -> None:
        for duty in self.duties:
            if duty.is_due(snapshot, self._clock()):
                duty.attempt(snapshot, self._clock())

    def patience(self) -> float | None:
        """Until a failed duty is tried again; one that is not called for now waits for news, not for its time."""
        known = self._latest
        waiting = [d.retry_at for d in self.duties if d.attempts and known is not None and d.is_called_for(known)]
        return max(0.0, min(waiting) - self._clock()) if waiting else None

    def _awaited(self) -> Snapshot | None:
        """The latest Snapshot when something is to be done about it; None when told to stop."""
        with self._news:
            self._busy = False
            while not self._stopped:
                patience = self.patience()
                self._asleep_until = float("inf") if patience is None else self._clock() + patience
                self._news.wait_for(lambda: self._stopped or self._unseen, patience)
                if self._latest is not None:
                    break
            self._unseen, self._busy = False, True
            return None if self._stopped else self._latest

    def _calls_sooner(self, snapshot: Snapshot) -> bool:
        """Whether a duty is called for before the thread wakes by itself."""
        return any(duty.retry_at < self._asleep_until and duty.is_called_for(snapshot) for duty in self.duties)
