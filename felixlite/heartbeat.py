"""A sign of life in the store: a Lease for each node, written again every `reportingInterval`. IO.

`felixlite status --cluster` reads them all; controllers/departed.py removes those of nodes that are gone.  The heart beats
only while the core answers, so an agent that hangs is not taken for alive; it says at once when the node becomes ready or
is ready no more.  Nobody watches these objects: 5,000 nodes at 30 s are 167 small writes a second and no event to anybody.
They are in a namespace of their own, so that whoever may write them may write no other Lease.
"""

import random
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from felixlite import __version__
from felixlite.datastore.store import Document, Key, Store, metadata
from felixlite.errors import StoreError
from felixlite.registration import update

NAMESPACE = "felixlite-nodes"
VERSION, NOT_READY = "felixlite.io/version", "felixlite.io/not-ready"
SPACED = 1.0  # seconds between two writes at least, however often a node becomes ready and unready
OFF = 10.0  # seconds until a heart that is switched off looks again whether it is


@dataclass(frozen=True, slots=True)
class Sign:
    """What a node said last about itself."""

    at: datetime
    lasts: float  # seconds after which its silence means that it is gone
    version: str
    not_ready: str

    def age(self, now: datetime) -> float:
        return max(0.0, (now - self.at).total_seconds())  # a clock that is a little ahead is no miracle

    def is_alive(self, now: datetime) -> bool:
        return self.age(now) <= self.lasts


def sign(document: Document) -> Sign | None:
    """None: not a Lease as we write them."""
    spec, notes = document.get("spec") or {}, metadata(document).get("annotations") or {}
    try:
        at = datetime.fromisoformat(str(spec["renewTime"])).astimezone(UTC)
        lasts = float(spec["leaseDurationSeconds"])
    except (KeyError, TypeError, ValueError):
        return None
    return Sign(at, lasts, str(notes.get(VERSION, "")), str(notes.get(NOT_READY, "")))


def signs(store: Store) -> Mapping[str, Sign]:
    """By node."""
    entries = store.list("Lease", namespace=NAMESPACE).entries
    return {entry.key.name: found for entry in entries if (found := sign(entry.document))}


@dataclass(frozen=True, slots=True)
class Pace:
    interval: float  # 0: no sign of life is wanted
    lasts: float


class Heartbeat:
    def __init__(self, store: Store, here: str, pace: Callable[[], Pace], answers: Callable[[], bool]) -> None:
        """`answers`: whether the core takes part in life."""
        self.store, self.here, self._pace, self._answers = store, here, pace, answers
        self.error = ""
        self._not_ready = "its agent has just started"
        self._news = threading.Event()
        self._stopped = threading.Event()

    def hear(self, not_ready: str) -> None:
        """From the core thread, after each round: empty when the node is ready."""
        if not_ready != self._not_ready:
            self._not_ready = not_ready
            self._news.set()

    def stop(self) -> None:
        self._stopped.set()
        self._news.set()

    def run(self) -> None:
        self._news.wait(SPACED)
        while not self._stopped.is_set():
            self._news.clear()
            pace = self._pace()
            if pace.interval:
                self.beat(pace)
            self._stopped.wait(SPACED)
            # not all nodes of a cluster that was switched on at once in the same instant
            self._news.wait(max(0.0, pace.interval * random.uniform(0.9, 1.1) - SPACED) if pace.interval else OFF)  # noqa: S311

    def beat(self, pace: Pace) -> None:
        if not self._answers():
            return
        try:
            update(self.store, Key("Lease", self.here, NAMESPACE), lambda _: self._document(pace), make_missing=True)
        except StoreError as error:
            self.error = str(error)
        else:
            self.error = ""

    def _document(self, pace: Pace) -> dict[str, Any]:
        notes = {VERSION: __version__, **({NOT_READY: self._not_ready} if self._not_ready else {})}
        return {
            "apiVersion": "coordination.k8s.io/v1",
            "kind": "Lease",
            "metadata": {"name": self.here, "namespace": NAMESPACE, "annotations": notes},
            "spec": {
                "holderIdentity": self.here,
                "leaseDurationSeconds": round(pace.lasts),
                "renewTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
            },
        }
