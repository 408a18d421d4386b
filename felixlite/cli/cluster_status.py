"""`felixlite status --cluster`: what the store knows of every node. Asks no agent, so it can run anywhere.

Whether an agent is alive is told by the sign of life that it gives every `reportingInterval` (heartbeat.py), compared with the
clock here.  A Calico node gives none, and so does one whose `reportingInterval` is 0: of those nothing is said.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from datetime import datetime
from typing import Any

from felixlite import heartbeat
from felixlite.cli.pool import read_nodes
from felixlite.cli.table import lasted
from felixlite.datastore.store import Store
from felixlite.errors import Rejected
from felixlite.heartbeat import Sign
from felixlite.model.effective import bgp_configuration
from felixlite.model.inside import Node
from felixlite.model.parse import parse
from felixlite.model.resource import canonical

TITLES = ("NODE", "ADDRESS", "AS", "AGENT", "SEEN", "VERSION", "ACCEPTS", "BLOCKS", "PODS", "PROBLEM")


def cluster(store: Store, now: datetime) -> list[dict[str, Any]]:
    """A row for each node, and one for each name that is only mentioned by blocks or pods."""
    nodes, signs = read_nodes(store), heartbeat.signs(store)
    settings = _bgp_settings(store)
    affinities = store.list("BlockAffinity").entries
    blocks = Counter(str(entry.document["spec"].get("node", "")) for entry in affinities)
    endpoints = store.list("WorkloadEndpoint").entries
    pods = Counter(str(entry.document["spec"].get("node", "")) for entry in endpoints)
    shared = Counter(str(node.address(family)) for node in nodes.values() for family in (4, 6) if node.address(family))
    return [
        {
            "node": name,
            "address": str(node.address(4) or node.address(6) or "") if node else "",
            "as": (node.asn or bgp_configuration(settings, name).asn) if node else None,
            "agent": agent(sign, now),
            "seen_seconds": round(sign.age(now), 1) if sign else None,
            "version": sign.version if sign else "",
            "accepts": sorted(node.accepts) if node and node.accepts is not None else None,
            "blocks": blocks[name],
            "pods": pods[name],
            "problems": [*problems(node, shared), *silence(sign if node else None, now)],
        }
        for name in sorted({*nodes, *blocks, *pods})
        for node, sign in [(nodes.get(name), signs.get(name))]
    ]


def _bgp_settings(store: Store) -> dict[str, Mapping[str, Any]]:
    found = {}
    for entry in store.list("BGPConfiguration").entries:
        with suppress(Rejected):  # the agents do not believe it either
            parse(entry.document)
            found[entry.key.name] = canonical(entry.document).get("spec", {})
    return found


def agent(sign: Sign | None, now: datetime) -> str:
    """One word about the agent."""
    if sign is None:
        return "unknown"
    if not sign.is_alive(now):
        return "silent"
    return "not ready" if sign.not_ready else "ready"


def silence(sign: Sign | None, now: datetime) -> Iterator[str]:
    if sign and not sign.is_alive(now):
        yield f"its agent was last seen {lasted(sign.age(now))} ago: `felixlite status` there, or its log"
    elif sign and sign.not_ready:
        yield f"not ready: {sign.not_ready}"


def problems(node: Node | None, shared: Mapping[str, int]) -> Iterator[str]:
    if node is None:
        yield "there is no such Node: `felixlite ipam check --fix`"
        return
    addresses = [str(found) for family in (4, 6) if (found := node.address(family))]
    if not addresses:
        yield "has no address: its agent has not registered it"
    for address in addresses:
        if shared[address] > 1:
            yield f"shares {address} with another node: correct one with --ip"
    if addresses and node.accepts is None:
        yield "says nothing of tunnels: a Calico node, or its agent was never ready"


def cells(row: Mapping[str, Any]) -> tuple[str, ...]:
    accepts = "-" if row["accepts"] is None else ",".join(row["accepts"]) or "native"
    asn = str(row["as"] or "-")
    counts = str(row["blocks"]), str(row["pods"])
    seen = "-" if row["seen_seconds"] is None else f"{lasted(row['seen_seconds'])} ago"
    who = row["node"], row["address"] or "-", asn, row["agent"], seen, row["version"] or "-"
    return *who, accepts, *counts, "; ".join(row["problems"]) or "-"
