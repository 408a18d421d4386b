"""A round of the core: with nothing to do, and with one changed key in a large slice. On tables that are dicts.

The limits are the project's own: 5 ms for each.
"""

import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Any

from felixlite.addresses import Prefix
from felixlite.reconcile import Reconciler
from felixlite.rows import Neighbour, NeighbourKey, Route, RouteKey, on, via
from felixlite.tables import Plan

WORKLOADS, ROUTES, LARGE = 250, 10_000, 50_000
LIMIT_MS = 5.0
BEST_OF = 5


class Memory:
    """A table that remembers, and refuses to be written when nothing should be."""

    guard = False

    def __init__(self, name: str) -> None:
        self.name = name
        self.rows: dict[Any, Any] = {}
        self.writes = 0

    def read(self) -> dict[Any, Any]:
        return dict(self.rows)

    def upsert(self, items: Mapping[Any, Any]) -> dict[Any, Exception]:
        self.rows.update(items)
        self.writes += len(items)
        return {}

    def delete(self, keys: Any) -> dict[Any, Exception]:
        for key in keys:
            self.rows.pop(key, None)
        self.writes += len(keys)
        return {}


def remote(count: int) -> dict[RouteKey, Route]:
    hops = [ip_address(f"192.0.2.{n}") for n in range(2, 130)]
    return {
        RouteKey(Prefix.from_int((10 << 24) + (i << 6), 26, 4)): via(hops[i % len(hops)], "eth0") for i in range(count)
    }


def local() -> tuple[dict[str, str], dict[NeighbourKey, Neighbour], dict[RouteKey, Route]]:
    pods = [(f"cali{n:04}", ip_address(f"10.255.{n >> 8}.{n & 255}")) for n in range(WORKLOADS)]
    sysctls = {
        f"net/ipv4/conf/{link}/{name}": "1" for link, _ in pods for name in ("proxy_arp", "forwarding", "rp_filter")
    }
    neighbours = {NeighbourKey(link, address): Neighbour("02:00:00:00:00:01") for link, address in pods}
    return sysctls, neighbours, {RouteKey(Prefix.host(address)): on(link) for link, address in pods}


def plan(routes: dict[RouteKey, Route]) -> Plan:
    sysctls, neighbours, own = local()
    return {"sysctls": (sysctls,), "neighbours": (neighbours,), "routes": (own, routes)}


def copied(old: Plan) -> Plan:
    """The same plan as other objects: the worst that a planner can do without a change."""
    return {table: tuple(dict(piece) for piece in slices) for table, slices in old.items()}


def ready(wanted: Plan) -> tuple[Reconciler, list[Memory]]:
    tables = [Memory(name) for name in wanted]
    reconciler = Reconciler(tables)
    reconciler.converge(wanted, 0.0, may_delete=True)
    for table in tables:
        table.writes = 0
    return reconciler, tables


def milliseconds(reconciler: Reconciler, plans: Callable[[], Plan]) -> float:
    best = float("inf")
    for _ in range(BEST_OF):
        wanted = plans()
        start = time.perf_counter()
        reconciler.converge(wanted, 1.0, may_delete=True)
        best = min(best, time.perf_counter() - start)
    return best * 1000


def row(name: str, ours: float) -> dict[str, Any]:
    return {"name": name, "ours": ours, "yardstick": LIMIT_MS, "ratio": ours / LIMIT_MS, "unit": "ms, limit"}


def main() -> list[dict[str, Any]]:
    wanted = plan(remote(ROUTES))
    reconciler, tables = ready(wanted)
    idle = row(f"idle round, {ROUTES:,} routes, {WORKLOADS} workloads", milliseconds(reconciler, lambda: wanted))
    again = row("the same, all slices new objects", milliseconds(reconciler, lambda: copied(wanted)))
    assert not any(table.writes for table in tables)

    large = plan(remote(LARGE))
    reconciler, tables = ready(large)
    versions = iter(range(100))

    def one_changed() -> Plan:
        routes = dict(large["routes"][1])
        key = list(routes)[LARGE // 2 + next(versions)]
        routes[key] = via(ip_address("192.0.2.200"), "eth0")
        return {**large, "routes": (large["routes"][0], routes)}

    one = row(f"one changed of {LARGE:,} routes", milliseconds(reconciler, one_changed))
    assert sum(table.writes for table in tables) <= 2 * BEST_OF
    return [idle, again, one]
