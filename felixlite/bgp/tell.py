"""What BGP knows, as plain values for people and programs: sessions, routes, and why a route is as it is. Pure.

The agent answers with these over its control socket; felixlite/cli/bgp.py prints them.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from felixlite.addresses import Prefix
from felixlite.bgp.announcing import Candidate, Speech, decide, learned_candidates
from felixlite.bgp.decision import Candidate as Heard
from felixlite.bgp.decision import Entry, why
from felixlite.bgp.rib import Rib
from felixlite.bgp.rows import Announcement, AnnouncementKey
from felixlite.bgp.sessions import Sessions
from felixlite.errors import FelixliteError
from felixlite.snapshot import Path, SessionState


@dataclass(frozen=True, slots=True)
class Known:
    """What the answers are made of."""

    sessions: Sessions
    announced: Mapping[AnnouncementKey, Announcement]
    speech: Speech
    own: Mapping[Prefix, Candidate]


def answer(known: Known, what: str, argument: str) -> Any:
    rib = known.sessions.rib
    match what:
        case "peers":
            return peers(known.sessions, known.announced)
        case "routes":
            return routes(rib)
        case "received":
            return received(rib, argument)
        case "advertised":
            return advertised(known.announced, argument)
        case "why":
            prefix = _prefix(argument)
            return {"paths": paths(rib, prefix), "peers": decisions(known.speech, known.own, rib, prefix)}
    raise FelixliteError(f"bgp {what!r} is no question: peers, routes, received, advertised, why")


def _prefix(text: str) -> Prefix:
    try:
        return Prefix.parse(text)
    except ValueError as error:
        raise FelixliteError(str(error)) from None


TYPES = {"mesh": "node-to-node mesh", "node": "node specific", "global": "global"}


def peers(sessions: Sessions, announced: Iterable[AnnouncementKey]) -> list[dict[str, Any]]:
    """One for each session, in the order of addresses."""
    told: dict[str, int] = {}
    for key in announced:
        told[key.peer] = told.get(key.peer, 0) + 1
    found = []
    for address, session in sessions.sessions.items():
        row, view = sessions.rows[session.row], session.view()
        source = sessions.rib.sources.get(address)
        found.append(
            {
                "peer": address,
                "type": TYPES[row.kind],
                "name": row.name,
                "node": row.node,
                "as": view.peer_as or row.peer_as,
                "local_as": row.local_as,
                "state": view.state,
                "since": view.since,
                "error": view.error,
                "router_id": str(view.router_id) if view.router_id else None,
                "received": len(source.prefixes) if source else 0,
                "stale": len(source.stale) if source else 0,
                "announced": told.get(session.row, 0),
                "updates": session.updates,
                "flaps": session.flaps,
            }
        )
    return sorted(found, key=lambda one: Prefix.parse(one["peer"]))


@dataclass(frozen=True, slots=True)
class News:
    """What became of one session, in a sentence."""

    bad: bool
    sentence: str


def news(before: Mapping[str, SessionState], now: Mapping[str, SessionState]) -> Iterator[News]:
    """For the log: sessions that came up, were lost or went away, and new reasons why one does not come up."""
    for peer, session in now.items():
        was = before.get(peer)
        if session is was:
            continue
        up, was_up = session.state == "Established", was is not None and was.state == "Established"
        again = was is not None and session.flaps != was.flaps
        if up and (not was_up or again):
            yield News(False, f"session with {peer} (AS {session.peer_as}) is established")
        elif was_up and not up:
            yield News(True, f"session with {peer} is lost: {session.error or 'no reason was given'}")
        elif not up and session.error and (was is None or was.error != session.error):
            yield News(True, f"no session with {peer}: {session.error}")
    for peer in before.keys() - now.keys():
        yield News(False, f"session with {peer} is no longer wanted")


def routes(rib: Rib) -> list[dict[str, Any]]:
    """The winners."""
    return [
        {"prefix": str(prefix), "hops": [str(hop) for hop in found.hops], "from": list(found.peers), "ibgp": found.ibgp}
        for prefix, found in sorted(rib.best.items())
    ]


def received(rib: Rib, peer: str) -> list[dict[str, Any]]:
    """All that a peer told, the refused with the reason."""
    source = rib.sources.get(peer)
    if source is None:
        return []
    mine = [(p, e) for p in sorted(source.prefixes) for e in rib.routes[p] if e.source is source]
    return [{"prefix": str(p), **_path(e.path), "refused": e.refused, "stale": p in source.stale} for p, e in mine]


def advertised(rows: Mapping[AnnouncementKey, Announcement], peer: str) -> list[dict[str, Any]]:
    """All that a peer is told."""
    return [
        {
            "prefix": str(key.prefix),
            "next_hop": str(row.next_hop or "self"),
            "as_path": " ".join(map(str, row.as_path)),
            "local_preference": row.local_preference,
            "med": row.med,
            "communities": list(row.communities),
        }
        for key, row in sorted(rows.items())
        if key.peer == peer
    ]


def paths(rib: Rib, prefix: Prefix) -> list[dict[str, Any]]:
    """Every path that was told for the prefix, and what decided about it."""
    entries: tuple[Entry, ...] = rib.routes.get(prefix, ())
    return [_heard(one) for one in why(entries)]


def decisions(speech: Speech, own: Mapping[Prefix, Candidate], rib: Rib, prefix: Prefix) -> list[dict[str, Any]]:
    """For each peer: is it told of the prefix, and by which rule."""
    candidate = own.get(prefix)
    if candidate is None and prefix in rib.best:
        learned = {prefix: rib.best[prefix]}
        candidate = next(learned_candidates(speech, learned, own), None)
        if candidate is None:
            return [{"peer": key, "told": False, "reason": NOT_PASSED_ON} for key in sorted(speech.peers)]
    if candidate is None:
        return [{"peer": key, "told": False, "reason": UNKNOWN} for key in sorted(speech.peers)]
    found = [(key, decide(speech, candidate, key, peer)) for key, peer in sorted(speech.peers.items())]
    return [{"peer": key, "told": one.row is not None, "reason": one.reason} for key, one in found]


NOT_PASSED_ON = "it was learned by iBGP, and this node is no route reflector"
UNKNOWN = "it is no block, no address and no service of this node, and nobody told of it"


def _heard(one: Heard) -> dict[str, Any]:
    return {"peer": one.peer, "chosen": one.chosen, "reason": one.reason, **_path(one.path)}


def _path(path: Path) -> dict[str, Any]:
    return {
        "next_hop": str(path.next_hop),
        "as_path": " ".join(
            "{" + " ".join(map(str, sorted(hop))) + "}" if isinstance(hop, frozenset) else str(hop)
            for hop in path.as_path
        ),
        "local_preference": path.local_preference,
        "med": path.med,
        "origin": ("igp", "egp", "incomplete")[path.origin],
        "communities": list(path.communities),
    }
