"""`./run bench [NAME...]`: every figure next to its yardstick, measured in the same run on this machine.

Each module of this folder with a main() is a benchmark; main() prints what it likes and returns rows of
{name, ours, yardstick, ratio, unit}.  The table of all rows comes at the end, and .cache/bench.json keeps them with the
facts of the machine, so that two machines or two days can be compared; .cache/bench/ has a plot of each curve.
"""

import importlib
import json
import os
import platform
import sys
import time
import traceback
from pathlib import Path
from typing import Any

from bench._plots import written

HERE = Path(__file__).parent
RESULTS = HERE.parent / ".cache" / "bench.json"


def names() -> list[str]:
    return sorted(path.stem for path in HERE.glob("*.py") if not path.stem.startswith("_"))


def machine() -> dict[str, Any]:
    cpu = [line.split(":", 1)[1].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")]
    memory = next((line.split()[1] for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), "0")
    return {
        "kernel": platform.release(),
        "python": platform.python_version(),
        "processor": cpu[0] if cpu else platform.machine(),
        "cores": os.cpu_count(),
        "memory_gib": round(int(memory) / 2**20, 1),
        "load": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []


def run(name: str) -> list[dict[str, Any]] | None:
    """The rows of one benchmark; None when it broke."""
    print(f"--- {name}", flush=True)
    try:
        found: list[dict[str, Any]] = importlib.import_module(f"bench.{name}").main()
        return found
    except Exception:  # noqa: BLE001  the others still run; the exit code tells
        traceback.print_exc()
        return None


def table(rows: list[dict[str, Any]]) -> str:
    """Columns as wide as they need to be, figures with four digits."""
    lines = [["what", "ours", "yardstick", "ratio", "unit"]]
    lines += [[r["name"], _figure(r["ours"]), _figure(r["yardstick"]), _figure(r["ratio"]), r["unit"]] for r in rows]
    widths = [max(len(line[column]) for line in lines) for column in range(5)]
    return "\n".join(_line(line, widths) for line in lines)


def _line(line: list[str], widths: list[int]) -> str:
    left = line[0].ljust(widths[0])
    return "  ".join([left, *(text.rjust(width) for text, width in zip(line[1:4], widths[1:4], strict=True)), line[4]])


def _figure(value: float | str | None) -> str:
    if value is None or isinstance(value, str):
        return value or "-"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"


def main(wanted: list[str]) -> int:
    known = names()
    if unknown := [name for name in wanted if name not in known]:
        print(f"there is no benchmark {', '.join(unknown)}: {', '.join(known)}", file=sys.stderr)
        return 2
    facts = machine()
    results = {name: run(name) for name in wanted or known}
    rows = [row for found in results.values() for row in found or []]
    print(f"\n{facts['processor']}, {facts['cores']} cores, Linux {facts['kernel']}, Python {facts['python']}\n")
    print(table(rows))
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps({"machine": facts, "rows": rows}, indent=1) + "\n")
    for path in written(rows, RESULTS.parent / "bench"):
        print(f"plot: {path}")
    broken = [name for name, found in results.items() if found is None]
    if broken:
        print(f"\nbroken: {', '.join(broken)}", file=sys.stderr)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
