"""A lab from the first namespace to the first green matrix, and away again; and how long `felixlite status` takes.

The limits are the project's own (3 nodes 10 s, 10 nodes 30 s, 30 nodes 120 s, down 3 s, status 200 ms); beside them stand
flannel's 9 s, Calico's 10 s and kube-router's 14 s for two nodes on a real control plane (measured once, elsewhere).
FELIXLITE_BENCH_NODES=3,10,30 chooses the sizes.
"""

import os
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology

LIMITS = {3: 10.0, 10: 30.0, 30: 120.0}
STATUS_RUNS = 15


def main() -> list[dict[str, Any]]:
    sizes = [int(size) for size in os.environ.get("FELIXLITE_BENCH_NODES", "3,10,30").split(",")]
    return [row for size in sizes for row in _sized(size)]


def _sized(nodes: int) -> list[dict[str, Any]]:
    lab = Lab(Topology(name="blab", nodes=nodes))
    lab.down()
    try:
        began = time.monotonic()
        lab.up()
        up = time.monotonic() - began
        rows = [_row(f"lab up, {nodes} nodes, {2 * nodes} pods, 1 router", up, LIMITS.get(nodes, 4.0 * nodes))]
        if nodes == min(LIMITS):
            rows += _status(lab)
    finally:
        began = time.monotonic()
        lab.down()
    return [*rows, _row(f"lab down, {nodes} nodes", time.monotonic() - began, 3.0)]


def _status(lab: Lab) -> list[dict[str, Any]]:
    """By the clock, and what the processor did for it: the second does not depend on who else is here."""
    command = [sys.executable, "-m", "felixlite", "status", "--run-dir", str(lab.run_directory("n1"))]
    took, before = [], _children()
    for _ in range(STATUS_RUNS):
        began = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        took.append(time.perf_counter() - began)
    spent = (_children() - before) / STATUS_RUNS
    return [
        _row("felixlite status", statistics.median(took), 0.2),
        _row("felixlite status, processor time", spent, 0.2),
    ]


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _row(name: str, seconds: float, limit: float) -> dict[str, Any]:
    return {"name": name, "ours": seconds, "yardstick": limit, "ratio": seconds / limit, "unit": "s, limit"}
