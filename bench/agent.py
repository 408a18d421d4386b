"""How soon an agent with a nearly empty store is ready, and what it weighs (issue: 1.5 s, 100 MB)."""

import signal
import statistics
import time
from pathlib import Path
from typing import Any

from felixlite.lab import faults, world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology

STARTS = 5
LEARNED = 10_000


def main() -> list[dict[str, Any]]:
    lab = Lab(Topology(name="bagent", nodes=1, pods=0, subnets=1))
    lab.down()
    try:
        lab.up()
        machine = lab.machine("n1")
        took = [_start(lab, machine) for _ in range(STARTS)]
        pid = int(lab.status("n1")["pid"])
        children = [p for p in world.processes(machine.namespace) if p != pid]
        agent, others = _resident(pid), sum(map(_resident, children))
        faults.tell_router(lab, LEARNED)
        world.wait_for(lambda: lab.status("n1")["learned"] >= LEARNED, "the router's routes", 60)
        learning = _resident(pid)
    finally:
        lab.down()
    found = (("agent ready after", statistics.median(took), 1.5, "s"), ("agent resident", agent, 100, "MB"),
             ("agent and exabgp resident", agent + others, 250, "MB"),
             (f"agent resident with {LEARNED:,} learned routes", learning, 120, "MB"))  # fmt: skip
    return [
        {"name": n, "ours": ours, "yardstick": limit, "ratio": ours / limit, "unit": unit}
        for n, ours, limit, unit in found
    ]


def _start(lab: Lab, machine: Any) -> float:
    world.signal_and_wait(int(lab.status(machine.name)["pid"]), signal.SIGKILL)
    began = time.monotonic()
    lab.start_agent(machine)
    lab.wait_for_agent(machine)
    return time.monotonic() - began


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
