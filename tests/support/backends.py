"""Which packet filter the nodes of a lab write policy with, and how to make them take another one."""

import json
import re

from felixlite.lab import world
from felixlite.lab.lab import Lab

BACKENDS = {
    "nftables": {"nftablesMode": "Enabled"},
    "legacy": {"nftablesMode": "Disabled", "iptablesBackend": "Legacy"},
    "nft": {"nftablesMode": "Disabled", "iptablesBackend": "NFT"},
}
_LISTED = {"nftables": "nft list ruleset", "legacy": "iptables-legacy-save", "nft": "iptables-nft-save"}


def configured(lab: Lab, **spec: object) -> None:
    head = {"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration", "metadata": {"name": "default"}}
    lab.felixlite("apply", "-f", "-", stdin=json.dumps({**head, "spec": spec}))


def rules(lab: Lab, node: str, backend: str) -> list[str]:
    """What a node has of ours there, without what is counted."""
    listing = world.run(_LISTED[backend].split(), namespace=lab.machine(node).namespace).splitlines()
    if backend != "nftables":
        return [line for line in listing if line.startswith("-A") and "fl-" in line]
    found, inside = list[str](), False
    for line in listing:
        inside = line.endswith(" felixlite {") or (inside and line != "}")
        found += [re.sub(r"packets \d+ bytes \d+", "", line)] if inside else []
    return found


def backends(lab: Lab) -> set[str]:
    """Where rules of ours are, on any node."""
    nodes = [machine.name for machine in lab.topology.node_machines()]
    return {backend for backend in BACKENDS if any(rules(lab, node, backend) for node in nodes)}


def moved(lab: Lab, backend: str, **spec: object) -> None:
    configured(lab, **BACKENDS[backend], **spec)
    world.wait_for(lambda: backends(lab) == {backend}, f"all nodes to write to {backend} alone", 60.0)
    for machine in lab.topology.node_machines():
        said = lab.status(machine.name)["tables"]["policy/4"]
        assert (said["backend"], "Mode is" in said["because"] or "Backend is" in said["because"]) == (backend, True)
