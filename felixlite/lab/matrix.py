"""The matrix of a lab: who is to reach whom, the way each probe takes, and what policy says about it.

A cell is right when everything arrived and the receiver saw the sender as who it should be (probe.py).  The ways are
read from the routes of the senders' nodes, the verdicts from the store: neither is guessed from what the probes did.
"""

import json
import re
import sys
import time
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from felixlite.errors import FelixliteError
from felixlite.lab import world
from felixlite.lab.probe import PORT, Cell, Place, Prober

if TYPE_CHECKING:
    from felixlite.lab.lab import Lab

Pair = tuple[Place, Place]


def pairs(places: Sequence[Place], *, forward: bool = True) -> list[Pair]:
    """Pod to pod, pod to the routers and the outside, routers to pods. The outside has never heard of pods.

    `forward`: the routers put what they learn into their kernel; GoBGP alone does not, and its machine reaches no pod.
    """
    inner, outer = [p for p in places if p.node], [p for p in places if not p.node]
    return [
        *((a, b) for a in inner for b in inner if a != b),
        *((a, b) for a in inner for b in outer),
        *((a, b) for a in outer if forward and a.name != "outside" for b in inner),
    ]


def wait_until_green(prober: Prober, wanted: Sequence[Pair], seconds: float) -> None:
    """Until every pair is right in one and the same matrix. Meanwhile only those are asked again that were wrong."""
    deadline = time.monotonic() + seconds
    asked: Sequence[Pair] = wanted
    while True:
        wrong = [cell for cell in prober.matrix(asked, patience=0.2) if not cell.is_right]
        if not wrong and len(asked) == len(wanted):
            return
        if wrong and time.monotonic() > deadline:
            words = ", ".join(f"{cell.source.name} -> {cell.target.name}" for cell in wrong[:5])
            raise FelixliteError(
                f"{len(wrong)} pairs still do not reach each other after {seconds:.0f} s: {words}, ..."
            )
        asked = [(cell.source, cell.target) for cell in wrong] or wanted
        time.sleep(0.05)


def ways(lab: "Lab", cells: Sequence[Cell]) -> list[str]:
    """How the probes of each cell travel, as the routes of the sender's node say."""
    nodes = {pod.name: pod.node for pod in lab.pods()}
    devices: dict[str, dict[str, str]] = {}
    for here in sorted({nodes[cell.source.name] for cell in cells if cell.source.name in nodes}):
        asked = {cell.target.address for cell in cells if nodes.get(cell.source.name) == here}
        devices[here] = _devices_to(lab.machine(here).namespace, asked)
    tunnels = {here: {"tunl0": f"ipip ({lab.status(here)['ipip']})", "vxlan.calico": "vxlan"} for here in devices}

    def way(cell: Cell) -> str:
        here = nodes.get(cell.source.name)
        if here is None:
            return "native"
        if here == nodes.get(cell.target.name):
            return "local"
        return tunnels[here].get(devices[here].get(cell.target.address, ""), "native")

    return [way(cell) for cell in cells]


def _devices_to(namespace: str, addresses: Iterable[str]) -> dict[str, str]:
    """By which interface a node sends to each address that it has a route to."""
    batch = "".join(f"route get {address}\n" for address in addresses)
    said = world.run(["ip", "-o", "-force", "-batch", "-"], stdin=batch, namespace=namespace, check=False)
    found = (re.match(r"(?:\w+ )?(\S+) .*?\bdev (\S+)", line) for line in said.splitlines())
    return {match[1]: match[2] for match in found if match}


def verdicts(lab: "Lab", cells: Sequence[Cell]) -> list[str]:
    """What policy says about the probes of each cell: `allowed`, or by what they are denied."""
    asked = json.dumps([[cell.source.address, cell.target.address] for cell in cells])
    command = [sys.executable, "-m", "felixlite.cli.lab_verdicts", lab.store_url, str(PORT)]
    found = json.loads(world.run(command, stdin=asked, namespace=lab.topology.switch)) if cells else []
    return ["allowed" if each["action"] == "Allow" else f"denied by {each['by']}" for each in found]
