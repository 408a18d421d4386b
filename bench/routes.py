"""Kernel routes: written by the routes table against `ip -batch`, read back against `ip -j route show`.

Each pair runs in the same fresh network namespace, one right after the other; the goal of the project is twice the
speed of `ip -batch`, and to read no slower than `ip -j`.
"""

import subprocess
import time
from collections.abc import Callable
from ipaddress import ip_address
from typing import Any

from felixlite.addresses import Prefix
from felixlite.kernel.host import Host
from felixlite.kernel.routes import Routes
from felixlite.rows import Route, RouteKey, via
from tests.support.netns import Namespace, namespace

SIZES = (10_000, 100_000)
READ = 50_000
BEST_OF = 3
HOPS = tuple(ip_address(f"192.0.2.{last}") for last in range(2, 130))


def rows(count: int, shift: int = 0) -> dict[RouteKey, Route]:
    """Blocks of /26 spread over 128 nodes, as a cluster has them."""
    return {
        RouteKey(Prefix.from_int((10 << 24) + (i << 6), 26, 4)): via(HOPS[(i + shift) % len(HOPS)], "b0")
        for i in range(count)
    }


def as_text(verb: str, wanted: dict[RouteKey, Route]) -> str:
    return "".join(
        f"route {verb} {key.prefix} via {row.hops[0].gateway} dev b0 proto 80\n" for key, row in wanted.items()
    )


def seconds(action: Callable[[], Any]) -> float:
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def batch(net: Namespace, text: str) -> float:
    return seconds(lambda: net.command("ip", "-batch", "-", stdin=text))


def written(net: Namespace, table: Routes, count: int) -> list[dict[str, Any]]:
    before, after = rows(count), rows(count, shift=1)
    best: dict[str, tuple[float, float]] = {}
    for _ in range(BEST_OF):
        theirs = [batch(net, as_text("add", before)), batch(net, as_text("replace", after))]
        theirs.append(batch(net, as_text("del", after)))
        ours = [seconds(lambda: _clean(table.upsert(before))), seconds(lambda: _clean(table.upsert(after)))]
        ours.append(seconds(lambda: _clean(table.delete(after))))
        for verb, mine, other in zip(("add", "replace", "delete"), ours, theirs, strict=True):
            was = best.get(verb, (mine, other))
            best[verb] = (min(was[0], mine), min(was[1], other))
    return [
        row(f"{count:,} routes, {verb}", count / mine, count / other, "routes/s")
        for verb, (mine, other) in best.items()
    ]


def _clean(failed: Any) -> None:
    assert not failed, dict(list(failed.items())[:3])


def read_back(net: Namespace, table: Routes) -> dict[str, Any]:
    wanted = rows(READ)
    _clean(table.upsert(wanted))
    mine, other = float("inf"), float("inf")
    for _ in range(BEST_OF):
        mine = min(mine, seconds(lambda: _same(table.read_for(wanted), wanted)))
        other = min(other, seconds(lambda: show(net)))
    return row(f"{READ:,} routes, read", READ / mine, READ / other, "routes/s")


def _same(found: Any, wanted: Any) -> None:
    assert found == wanted


def show(net: Namespace) -> None:
    """What a program pays that asks `ip`: its whole answer, read through a pipe (and then not even parsed)."""
    subprocess.run(["ip", "-n", net.name, "-j", "route", "show"], check=True, capture_output=True)


def row(name: str, ours: float, yardstick: float, unit: str) -> dict[str, Any]:
    return {"name": name, "ours": ours, "yardstick": yardstick, "ratio": ours / yardstick, "unit": unit}


def main() -> list[dict[str, Any]]:
    with namespace("fk-bench") as net, Host(net.fd) as host:
        net.ip("link add b0 type bridge")
        net.ip("link set b0 up")
        net.ip("address add 192.0.2.1/24 dev b0")
        table = Routes(host)
        found = [result for count in SIZES for result in written(net, table, count)]
        return [*found, read_back(net, table)]
