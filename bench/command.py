"""How long `felixlite --help` and a small command take; the limit of --help is 150 ms, the yardstick Python itself."""

import os
import subprocess
import sys
import time
from pathlib import Path
from statistics import median
from typing import Any

FELIXLITE = str(Path(sys.executable).with_name("felixlite"))
RUNS, LIMIT = 15, 0.150


def taken(*command: str) -> float:
    environment = {**os.environ, "FELIXLITE_STORE": "memory://"}
    times = []
    for _ in range(RUNS):
        started = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment)
        times.append(time.perf_counter() - started)
    return median(times)


def main() -> list[dict[str, Any]]:
    python = taken(sys.executable, "-c", "import click")
    rows = []
    for name, words in (
        ("--help", ["--help"]),
        ("version --client", ["version", "--client"]),
        ("get", ["get", "ippools"]),
    ):
        seconds = taken(FELIXLITE, *words)
        print(f"felixlite {name}: {1000 * seconds:.0f} ms, Python with click alone {1000 * python:.0f} ms")
        rows.append(
            {"name": f"felixlite {name}", "ours": seconds, "yardstick": python, "ratio": seconds / python, "unit": "s"}
        )
    rows.append({**rows[0], "name": "felixlite --help, limit", "yardstick": LIMIT, "ratio": rows[0]["ours"] / LIMIT})
    return rows


if __name__ == "__main__":
    main()
