"""Twenty switches of a pool's encapsulation under 1,000 datagrams a second between every pair of pods, with real agents.

What is to be lost is nothing: the row shows how many of a million are, and the rate that this machine kept up.
"""

import json
import os
import time
from contextlib import closing
from typing import Any

from felixlite.datastore import connect
from felixlite.datastore.store import Key
from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.probe import within
from felixlite.lab.topology import Topology
from felixlite.lab.traffic import Traffic

SWITCHES, RATE = 20, 1000.0
SETTLED = 1.0  # seconds in each mode
RING = [("Always", "Never"), ("CrossSubnet", "Never"), ("Never", "Never"), ("Never", "Always")]


def edit(lab: Lab, ipip: str, vxlan: str) -> None:
    def write() -> None:
        with closing(connect(lab.store_url)) as store:
            entry = store.get(Key("IPPool", "default-ipv4-ippool"))
            assert entry is not None
            spec = {**entry.document["spec"], "ipipMode": ipip, "vxlanMode": vxlan}
            store.update(entry.key, {**entry.document, "spec": spec}, entry.revision)

    within(lab.topology.switch, write)


def main() -> list[dict[str, Any]]:
    lab = Lab(Topology(name=f"b{os.getpid() % 1_000_000}", pods=1))
    try:
        lab.up()
        with Traffic(lab.pod_places(), hold=True, patience=10.0, rate=RATE) as flowing:
            for number in range(SWITCHES):
                edit(lab, *RING[number % len(RING)])
                time.sleep(SETTLED)
        routes = json.loads(world.run(["ip", "-j", "route"], namespace=lab.machine("n1").namespace))
        assert any(route.get("dev") == "vxlan.calico" for route in routes), "the last switch did not happen"
    finally:
        lab.down()
    rate = flowing.sent / flowing.seconds / len(flowing.pairs)
    print(f"{flowing.sent} datagrams, {rate:.0f} a second and pair; {len(flowing.pairs)} connections held")
    for missing in flowing.missing[:20]:
        print(f"lost: {missing}")
    for broken in flowing.broken:
        print(f"broken: {broken}")
    name = f"{SWITCHES} switches, {len(flowing.pairs)} pairs of pods"
    million = flowing.lost / flowing.sent * 1e6
    return [
        {"name": f"{name}: lost of a million", "ours": million, "yardstick": 0.0, "ratio": float(million == 0), "unit": ""},
        {"name": f"{name}: datagrams a second and pair", "ours": rate, "yardstick": RATE, "ratio": rate / RATE, "unit": "1/s"},
    ]  # fmt: skip
