"""What an agent costs that has nothing to do: 50 pods, 200 policies, exabgp, health and metrics on, for 60 s.

The yardstick is Calico's agent alone with as many pods and policies: 0.57 s of processor in 60 s, 0.95 % of a core
(measured once, elsewhere).  Processor time, so a busy machine does not change it much; memory beside it.
"""

import json
import os
import time
from pathlib import Path
from typing import Any

from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology

PODS, POLICIES, SECONDS = 50, 200, 60.0
CALICO = 0.0095
TICKS = os.sysconf("SC_CLK_TCK")
API = "projectcalico.org/v3"


def main() -> list[dict[str, Any]]:
    lab = Lab(Topology(name="bidle", nodes=2, pods=0, subnets=1))
    lab.down()
    try:
        lab.up()
        for number in range(PODS):
            lab.add_pod(lab.machine("n1"), f"p{number}", {"app": f"a{number}"})
        lab.felixlite("apply", "-f", "-", stdin="---\n".join(json.dumps(each) + "\n" for each in documents()))
        time.sleep(5)  # until all of it is in the kernel
        busy = {what: _busy(pids) for what, pids in _processes(lab).items()}
        time.sleep(SECONDS)
        idle = {what: (_busy(pids) - busy[what]) / SECONDS for what, pids in _processes(lab).items()}
        resident = sum(_resident(pid) for pids in _processes(lab).values() for pid in pids)
    finally:
        lab.down()
    total = sum(idle.values())
    rows = [("idle agent, exabgp and all, share of a core", total, CALICO, "Calico's agent alone")]
    rows += [(f"  of it {what}", share, CALICO, "the same") for what, share in idle.items()]
    found = [{"name": n, "ours": v, "yardstick": y, "ratio": v / y, "unit": u} for n, v, y, u in rows]
    return [
        *found,
        {"name": "idle agent resident, MB", "ours": resident, "yardstick": None, "ratio": None, "unit": "-"},
    ]


def documents() -> list[dict[str, Any]]:
    """Policies as in the yardstick's measurement, and metrics on."""
    policies = [
        {"apiVersion": API, "kind": "NetworkPolicy", "metadata": {"name": f"p{n}", "namespace": "default"},
         "spec": {"selector": f"app == 'a{n % PODS}'", "types": ["Ingress"], "ingress": [
             {"action": "Allow", "protocol": "TCP", "source": {"selector": f"app == 'a{(n + 1) % PODS}'"},
              "destination": {"ports": [1000 + n]}}]}}
        for n in range(POLICIES)
    ]  # fmt: skip
    metrics = {"prometheusMetricsEnabled": True}
    return [
        {"apiVersion": API, "kind": "FelixConfiguration", "metadata": {"name": "default"}, "spec": metrics},
        *policies,
    ]


def _processes(lab: Lab) -> dict[str, list[int]]:
    agent = int(lab.status("n1")["pid"])
    others = [pid for pid in world.processes(lab.machine("n1").namespace) if pid != agent]
    return {"agent": [agent], "exabgp and helpers": others}


def _busy(pids: list[int]) -> float:
    """Processor seconds so far, the children that ended included."""
    fields = [Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split() for pid in pids]
    return sum(int(value) for each in fields for value in each[11:15]) / TICKS


def _resident(pid: int) -> float:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmRSS"))
