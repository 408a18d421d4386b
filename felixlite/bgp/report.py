"""What CalicoNodeStatus holds about a node: what it knows of BGP, in the words of that resource. Pure.

Reference 2.19; exabgp stands where BIRD does in a Calico node.  `report` fills what was asked for, `peers_in` and
`routes_in` read sessions and learned routes back out of a report for whoever asks from another node.
Before this: bgp/tell.py and the RIB.  After: nodereports.py writes it, cli/bgp.py prints it.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.snapshot import Learned

TYPES = {"node-to-node mesh": "NodeMesh", "node specific": "NodePeer", "global": "GlobalPeer"}
MOST_ROUTES = 2_000  # of a family: a document of the store holds about 1.5 MB, and a person reads less


@dataclass(frozen=True, slots=True)
class Engine:
    running: bool
    version: str
    router_id: str
    started: float  # seconds since the epoch; 0: never
    configured: float


@dataclass(frozen=True, slots=True)
class View:
    """What a report is made of. `peers`: the answers of bgp/tell.py."""

    engine: Engine
    families: tuple[int, ...]  # of the node's addresses
    peers: Sequence[Mapping[str, Any]]
    blocks: Collection[Prefix]
    learned: Mapping[Prefix, Learned]
    subnets: Mapping[str, Collection[Prefix]]  # link -> what is on it
    in_kernel: Callable[[Prefix], bool]


def report(classes: Collection[str], view: View, now: float) -> dict[str, Any]:
    found: dict[str, Any] = {"lastUpdated": stamp(now)}
    if "Agent" in classes:
        found["agent"] = {f"birdV{family}": _engine(view.engine) for family in view.families}
    if "BGP" in classes:
        found["bgp"] = _sessions(view.peers)
    if "Routes" in classes:
        found["routes"] = {f"routesV{family}": list(_routes(view, family)) for family in (4, 6)}
    return found


def stamp(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ") if at else ""


def _engine(engine: Engine) -> dict[str, str]:
    return {
        "state": "Ready" if engine.running else "NotReady",
        "version": engine.version,
        "routerID": engine.router_id,
        "lastBootTime": stamp(engine.started),
        "lastReconfigurationTime": stamp(engine.configured),
    }


def _sessions(peers: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for family in (4, 6):
        some = [peer for peer in peers if (":" in peer["peer"]) == (family == 6)]
        up = sum(peer["state"] == "Established" for peer in some)
        found[f"numberEstablishedV{family}"] = up
        found[f"numberNotEstablishedV{family}"] = len(some) - up
        found[f"peersV{family}"] = [
            {
                "peerIP": peer["peer"],
                "type": TYPES[peer["type"]],
                "state": peer["state"],
                "since": stamp(peer["since"]),
            }
            for peer in some
        ]
    return found


def _routes(view: View, family: int) -> Iterator[dict[str, Any]]:
    """Own blocks and what won, in the order of prefixes; FIB: it is in the kernel."""
    types = {peer["peer"]: "NodeMesh" if TYPES[peer["type"]] == "NodeMesh" else "BGPPeer" for peer in view.peers}
    blocks = [prefix for prefix in view.blocks if prefix.family == family]
    learned = [prefix for prefix in view.learned if prefix.family == family]
    for prefix in sorted({*blocks, *learned})[:MOST_ROUTES]:
        kind = "FIB" if view.in_kernel(prefix) else "RIB"
        if prefix in view.blocks:
            yield {
                "type": kind,
                "destination": str(prefix),
                "gateway": "N/A",
                "interface": "blackhole",
                "learnedFrom": {"sourceType": "Static"},
            }
            continue
        said = view.learned[prefix]
        for hop, peer in zip(said.hops, said.peers, strict=True):
            yield {
                "type": kind,
                "destination": str(prefix),
                "gateway": str(hop),
                "interface": _link_to(hop, view.subnets),
                "learnedFrom": {"sourceType": types.get(peer, "BGPPeer"), "peerIP": peer},
            }


def _link_to(hop: Address, subnets: Mapping[str, Collection[Prefix]]) -> str:
    return next((link for link, nets in subnets.items() if any(net.holds(hop) for net in nets)), "")


# -- back again ------------------------------------------------------------------------------------------------------


def peers_in(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The sessions of a report, with the names that bgp/tell.py gives them."""
    words = {value: key for key, value in TYPES.items()}
    sessions = status.get("bgp") or {}
    return [
        {
            "peer": peer["peerIP"],
            "type": words.get(peer.get("type", ""), peer.get("type") or "-"),
            "state": peer.get("state") or "-",
            "since": peer.get("since") or "-",
        }
        for family in (4, 6)
        for peer in sessions.get(f"peersV{family}") or ()
    ]


def routes_in(status: Mapping[str, Any]) -> list[dict[str, Any]]:
    """The learned routes of a report, with the names that bgp/tell.py gives them; own blocks are nobody's news."""
    told = status.get("routes") or {}
    found: dict[str, dict[str, Any]] = {}
    for row in (row for family in (4, 6) for row in told.get(f"routesV{family}") or ()):
        if peer := (row.get("learnedFrom") or {}).get("peerIP"):
            prefix = row["destination"]
            route = found.setdefault(
                prefix, {"prefix": prefix, "hops": [], "from": [], "in_kernel": row.get("type") == "FIB"}
            )
            route["hops"].append(row.get("gateway") or "-")
            route["from"].append(peer)
    return list(found.values())
