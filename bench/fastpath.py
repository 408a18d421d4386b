"""Running connections past the filters, next to the same through them, in a guest whose kernel has flowtables.

Two nodes with a pod each, policy on nftables; the fast path is switched on and off in turns, by the setting.  The
processor is emulated, so a path of fewer instructions shows, and nothing else does: many short pairs, medians of ratios.
"""

import json
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from bench.overlay import gigabits, listening
from felixlite.ipip.plan import Carrier
from tests.support.guarded import guarded_stations
from tests.support.overlays import pool
from tests.support.stations import Lan
from tests.vm import guest

PAIRS, PATIENCE = 9, 170.0
WAYS: dict[str, dict[str, str]] = {"native": {}, "IPIP": {"ipip": "Always"}}


def datagrams(lan: Lan) -> float:
    """Thousands a second that arrive, of 16 bytes each, sent as fast as the pod can; after the time in which a connection
    without TCP's handshake is taken to be a short one."""
    with listening(lan):
        sent = ("iperf3", "-J", "-u", "-b", "0", "-l", "16", "-O", "3", "-t", "1", "-c", lan.pod_address("n2"))
        told = json.loads(lan.pods["n1"].command(*sent))
    found = told["end"]["sum"]
    return float(found["packets"] - found["lost_packets"]) / float(found["seconds"]) / 1e3


def paired(lan: Lan, name: str, measure: Any, unit: str) -> dict[str, Any]:
    """Who comes first takes turns; the first pair only warms up."""

    def measured(setting: str) -> float:
        lan.settings = {"nftablesFlowTableOffload": setting}
        lan.converge(rounds=1)
        return float(measure(lan))

    figures = []
    for turn in range(PAIRS + 1):
        order = ("All", "Disabled") if turn % 2 else ("Disabled", "All")
        found = {setting: measured(setting) for setting in order}
        figures.append((found["All"], found["Disabled"]))
    fast, slow = (statistics.median(column) for column in zip(*figures[1:], strict=True))
    ratio = statistics.median(a / b for a, b in figures[1:])
    return {"name": name, "ours": fast, "yardstick": slow, "ratio": ratio, "unit": unit}


def in_guest() -> None:
    subprocess.run(["modprobe", "ipip"], check=True)
    rows = []
    with guarded_stations([Carrier.KERNEL, Carrier.KERNEL], pool("10.65.0.0/16"), "ff") as lan:
        for way, mode in WAYS.items():
            lan.pool, lan.now = pool("10.65.0.0/16", **mode), lan.now + 100
            lan.converge()
            rows.append(paired(lan, f"{way}: one TCP connection, against the filters", gigabits, "Gbit/s"))
        rows.append(paired(lan, f"{way}: small datagrams, against the filters", datagrams, "thousand/s"))
    (guest.JOB / "rows").write_text(json.dumps(rows))


def main() -> list[dict[str, Any]]:
    with tempfile.TemporaryDirectory(prefix="guest-") as folder:
        job = Path(folder)
        environment = {"PYTHONDONTWRITEBYTECODE": "1"}
        done = guest.run([sys.executable, "-m", "bench.fastpath"], job, environment, PATIENCE)
        assert done.code == 0, done.output
        rows: list[dict[str, Any]] = json.loads((job / "rows").read_text())
    for found in rows:
        print(
            f"{found['name']:50} {found['ours']:8.3f} {found['yardstick']:8.3f} {found['unit']:10} x{found['ratio']:.2f}"
        )
    return rows


if __name__ == "__main__":
    in_guest()
