"""How long a route that somebody removed by hand stays away, with 1,000 and with 50,000 routes beside it.

The limit is the project's own: one second.
"""

import threading
import time
from typing import Any

from bench.routes import rows
from felixlite.kernel.events import SOURCE, Events
from felixlite.kernel.host import Host
from felixlite.kernel.routes import Routes
from felixlite.loop import Loop, Planned
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Snapshot
from tests.support.netns import Namespace, namespace

SIZES = (1_000, 50_000)
BEST_OF = 5
LIMIT = 1.0


def healed(net: Namespace, prefix: str) -> float:
    """Seconds from the removal until the route is shown again; asking takes a few milliseconds of it."""
    net.ip(f"route del {prefix}")
    start = time.perf_counter()
    while not net.ip(f"route show {prefix}"):
        assert time.perf_counter() - start < 20, "not healed"
    return time.perf_counter() - start


def measured(count: int) -> dict[str, Any]:
    with namespace("fk-bench") as net, Host(net.fd) as host:
        net.ip("link add b0 type bridge")
        net.ip("link set b0 up")
        net.ip("address add 192.0.2.1/24 dev b0")
        wanted, routes, ready = rows(count), Routes(host), threading.Event()
        loop = Loop(
            Snapshot("n1"),
            lambda _snapshot, _now: Planned({"routes": (wanted,)}),
            Reconciler([routes]),
            needs=[SOURCE],
            report=lambda _round, _snapshot: ready.set(),
        )
        events = Events(host, loop.put, loop.touched, routes.owns)
        threads = [threading.Thread(target=target) for target in (loop.run, events.run)]
        for thread in threads:
            thread.start()
        try:
            assert ready.wait(60)
            seconds = min(healed(net, str(next(iter(wanted)).prefix)) for _ in range(BEST_OF))
        finally:
            events.stop()
            loop.stop()
            for thread in threads:
                thread.join()
            events.close()
    name = f"a removed route of {count:,} is back"
    return {"name": name, "ours": seconds, "yardstick": LIMIT, "ratio": seconds / LIMIT, "unit": "s, limit"}


def main() -> list[dict[str, Any]]:
    return [measured(count) for count in SIZES]
