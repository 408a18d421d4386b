"""What the log says of the rounds: a line where something was done, a warning when a row begins to fail, and its end."""

import logging
from collections.abc import Mapping
from typing import Any

from felixlite.bgp.child import Starting
from felixlite.bgp.tell import news
from felixlite.loop import Round
from felixlite.snapshot import SessionState

log = logging.getLogger("felixlite")


class RoundLog:
    def __init__(self) -> None:
        self._failing: set[tuple[str, Any]] = set()
        self._sessions: Mapping[str, SessionState] = {}  # as they were told

    def hear(self, told: Round, sessions: Mapping[str, SessionState]) -> None:
        failing = {
            (name, key): failure
            for name, each in told.failures.items()
            for key, failure in each.items()
            if not isinstance(failure.error, Starting)
        }
        for (name, key), failure in failing.items():
            if (name, key) not in self._failing:
                log.warning("%s: %s: %s", name, key, failure.error)
        for name, key in self._failing - failing.keys():
            log.info("%s: %s: works again", name, key)
        self._failing = set(failing)
        if not told.quiet:
            log.info("round %d (%s): %s in %.1f ms", told.number, told.cause, _counts(told), told.seconds * 1000)
        for each in news(self._sessions, sessions):
            log.log(logging.WARNING if each.bad else logging.INFO, "bgp: %s", each.sentence)
        self._sessions = sessions


def _counts(told: Round) -> str:
    return " ".join(f"{name}+{o.written}-{o.removed}" for name, o in told.outcomes.items() if o.written or o.removed)
