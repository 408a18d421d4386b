"""The controllers, one process of them at a time: who holds the lease runs each at its pace, the others stand by.

A controller is an object with a name, a pace and `once()`, which reads the store, does what is needed and answers the
Events: what was done, to what, and why.  It keeps nothing that the store does not have except suspicions, so that a
change of the holder at any moment costs at most a delay.  A failure is told and the next round comes anyway.
"""

import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from felixlite.controllers.lease import Lease
from felixlite.datastore.store import Store, Watch
from felixlite.errors import FelixliteError, StoreError


@dataclass(frozen=True, slots=True)
class Event:
    """Something that a controller did, with its reason; one line of the log."""

    controller: str
    code: str
    subject: str
    reason: str
    failed: bool = False

    def __str__(self) -> str:
        return f"{self.controller}: {self.code}: {self.subject}: {self.reason}"


class Controller(Protocol):
    name: str
    every: float  # seconds from the end of a round to the next one

    def once(self, may_go_on: Callable[[], bool]) -> Sequence[Event]:
        """One round. `may_go_on` turns false when the lease is lost: ask it before every write."""
        ...


Tell = Callable[[Event], None]

SETTLE = 1.0  # seconds: what is deleted together is seen together
PATIENCE = 2.0  # seconds between two attempts to watch


class Runner:
    def __init__(
        self,
        controllers: Iterable[Controller],
        lease: Lease,
        tell: Tell,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.controllers, self.lease, self.tell, self._clock = tuple(controllers), lease, tell, clock
        self._next = dict.fromkeys((c.name for c in self.controllers), float("-inf"))
        self._stopped = threading.Event()
        self.leads = False

    def run(self) -> None:
        """Until stopped. The lease is renewed by a thread of its own: a long round must not lose it."""
        renewing = threading.Thread(target=self._keep_renewing, name="lease", daemon=True)
        renewing.start()
        while not self._stopped.wait(0.2):
            self.step()
        renewing.join(self.lease.duration)
        self.lease.release()

    def stop(self) -> None:
        self._stopped.set()

    def hurry(self, name: str) -> None:
        """From any thread: something happened that this controller should see soon."""
        self._next[name] = min(self._next[name], self._clock() + SETTLE)

    def step(self) -> None:
        """Whatever is due, if the lease is ours."""
        held = self.lease.held
        if held != self.leads:
            self.leads = held
            self.tell(Event("lease", "acquired" if held else "lost", str(self.lease.key), self.lease.identity))
        for controller in self.controllers if held else ():
            if self._clock() >= self._next[controller.name] and not self._stopped.is_set():
                self._next[controller.name] = float("inf")  # a hurry during the round is not lost
                self._round(controller)
                self._next[controller.name] = min(self._next[controller.name], self._clock() + controller.every)

    def _round(self, controller: Controller) -> None:
        try:
            for event in controller.once(self._may_go_on):
                self.tell(event)
        except FelixliteError as error:
            self.tell(Event(controller.name, "failed", controller.name, str(error), failed=True))

    def _may_go_on(self) -> bool:
        return self.lease.held and not self._stopped.is_set()

    def _keep_renewing(self) -> None:
        while True:
            self.lease.renew()
            if self._stopped.wait(self.lease.duration / 3):
                return


class Watching:
    """Calls `tell` when objects of a kind are written or deleted. A thread; a watch that breaks is opened again."""

    def __init__(
        self,
        store: Store,
        kind: str,
        events: tuple[type, ...],
        tell: Callable[[], None],
        patience: float = PATIENCE,
    ) -> None:
        self.store, self.kind, self.events, self.tell, self.patience = store, kind, events, tell, patience
        self._stopped = threading.Event()
        self._watch: Watch | None = None

    def start(self) -> None:
        threading.Thread(target=self.run, name=f"watch of {self.kind}", daemon=True).start()

    def stop(self) -> None:
        self._stopped.set()
        if self._watch:
            self._watch.close()

    def run(self) -> None:
        while not self._stopped.is_set():
            try:
                self._follow()
            except StoreError:
                self._stopped.wait(self.patience)
            self.tell()  # something may have been missed

    def _follow(self) -> None:
        with self.store.watch(self.kind, self.store.list(self.kind).revision) as watch:
            self._watch = watch
            for event in watch:
                if isinstance(event, self.events):
                    self.tell()
