"""Answering CalicoNodeStatus: whoever makes one for this node gets what it knows of BGP written into it, every so often.

The body of a thread of its own, as a slow store must not hold up anything. A request comes and goes with the
Snapshot (`status_requests`); what is written comes back through the watch as the same request, and changes nothing.
What is written: bgp/report.py.
"""

import threading
import time
from collections.abc import Callable, Mapping
from copy import deepcopy
from typing import Any

from felixlite.addresses import Prefix
from felixlite.bgp.exabgp import Speaker
from felixlite.bgp.plan import router_id
from felixlite.bgp.report import View, report
from felixlite.bgp.tell import peers
from felixlite.datastore.store import Document, Key, Store
from felixlite.errors import NotFound, StoreError
from felixlite.loop import Loop
from felixlite.model.inside import AffinityState, StatusRequest
from felixlite.registration import update
from felixlite.tables import merged


def about(loop: Loop, speaker: Speaker, in_kernel: Callable[[Prefix], bool]) -> View:
    """What this node knows now. From any thread."""
    known = loop.snapshot
    here = known.nodes.get(known.here)
    told = merged(loop.planned.tables.get(speaker.announcements.name, ({},)))
    with speaker.lock:
        sessions = peers(speaker.sessions, told)
    subnets: dict[str, list[Prefix]] = {}
    for (link, _), subnet in known.link_addresses.items():
        subnets.setdefault(link, []).append(subnet)
    return View(
        speaker.engine(str(router_id(here)) if here else ""),
        tuple(family for family in (4, 6) if here and here.address(family)),
        sessions,
        {a.cidr for a in known.affinities.values() if a.node == known.here and a.state is AffinityState.CONFIRMED},
        known.learned,
        subnets,
        in_kernel,
    )


LOOK = 1.0  # seconds between two looks at who wants to know; the shortest period there is


class NodeReports:
    def __init__(
        self,
        store: Store,
        requests: Callable[[], Mapping[str, StatusRequest]],
        view: Callable[[], View],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.store, self._requests, self._view, self._clock = store, requests, view, clock
        self.error = ""
        self._answered: dict[
            str, tuple[StatusRequest, float]
        ] = {}  # what was asked when it was answered last, and when
        self._stopped = threading.Event()

    def stop(self) -> None:
        self._stopped.set()

    def run(self) -> None:
        while not self._stopped.wait(LOOK):
            self.once()

    def once(self) -> None:
        """Answer all who are due. One that fails is tried again at the next look."""
        requests, now = self._requests(), self._clock()
        self._answered = {name: said for name, said in self._answered.items() if name in requests}
        errors = []
        for name, request in requests.items():
            if self._is_due(name, request, now):
                try:
                    self._answer(name, request, now)
                except NotFound:
                    continue  # deleted a moment ago
                except StoreError as error:
                    errors.append(f"CalicoNodeStatus {name} cannot be written: {error}")
        self.error = "; ".join(errors)

    def _is_due(self, name: str, request: StatusRequest, now: float) -> bool:
        if not request.period:
            return False
        asked, at = self._answered.get(name, (None, 0.0))
        return asked != request or not 0 <= now - at < request.period

    def _answer(self, name: str, request: StatusRequest, now: float) -> None:
        status = report(request.classes, self._view(), now)

        def told(document: Document | None) -> Document:
            found: dict[str, Any] = deepcopy(document or {})
            found["status"] = status
            return found

        update(self.store, Key("CalicoNodeStatus", name), told)
        self._answered[name] = (request, now)
