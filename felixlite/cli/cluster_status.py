"""`felixlite status --cluster`: what the store knows of every node. Asks no agent, so it can run anywhere.

It cannot say whether an agent is alive now: that is `felixlite status` on the node, its health page and its metrics.
"""

from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

from felixlite.cli.pool import read_nodes
from felixlite.datastore.store import Store
from felixlite.model.inside import Node

TITLES = ("NODE", "ADDRESS", "AS", "ACCEPTS", "BLOCKS", "PODS", "PROBLEM")


def cluster(store: Store) -> list[dict[str, Any]]:
    """A row for each node, and one for each name that is only mentioned by blocks or pods."""
    nodes = read_nodes(store)
    affinities = store.list("BlockAffinity").entries
    blocks = Counter(str(entry.document["spec"].get("node", "")) for entry in affinities)
    endpoints = store.list("WorkloadEndpoint").entries
    pods = Counter(str(entry.document["spec"].get("node", "")) for entry in endpoints)
    shared = Counter(str(node.address(family)) for node in nodes.values() for family in (4, 6) if node.address(family))
    return [
        {
            "node": name,
            "address": str(node.address(4) or node.address(6) or "") if node else "",
            "as": node.asn if node else None,
            "accepts": sorted(node.accepts) if node and node.accepts is not None else None,
            "blocks": blocks[name],
            "pods": pods[name],
            "problems": list(problems(node, shared)),
        }
        for name in sorted({*nodes, *blocks, *pods})
        for node in [nodes.get(name)]
    ]


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
    return row["node"], row["address"] or "-", asn, accepts, *counts, "; ".join(row["problems"]) or "-"
