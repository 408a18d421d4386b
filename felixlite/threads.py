"""Threads whose death is noticed: when one ends with an exception the whole process ends, loudly.

A half-dead agent is worse than a dead one: starting is cheap and safe because tables read reality, so the supervisor
(systemd, the kubelet, the lab) starts it again.
"""

import logging
import threading
from collections.abc import Callable

from felixlite.errors import FelixliteError

log = logging.getLogger("felixlite")


class Threads:
    def __init__(self) -> None:
        self.stopping = threading.Event()
        self.died: str | None = None
        self._threads: list[threading.Thread] = []

    def start(self, name: str, target: Callable[[], None]) -> None:
        thread = threading.Thread(target=self._guarded, args=(name, target), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _guarded(self, name: str, target: Callable[[], None]) -> None:
        try:
            target()
        except FelixliteError as error:  # its sentence says what to do
            log.error("%s: %s", name, error)  # noqa: TRY400
            self.died = name
            self.stopping.set()
        except Exception:
            log.exception("thread %s died; ending the process so that it is started afresh", name)
            self.died = name
            self.stopping.set()

    def join(self, seconds: float) -> None:
        for thread in self._threads:
            thread.join(seconds)
