"""What to tell whom, from the store's objects and what was learned. Pure.

`announcements` makes what each peer hears (reference 12.4, 12.5): own blocks, own addresses outside of them, service
prefixes, and what a reflector or a border passes on.  `decide` is the one place that says yes or no about a prefix and
a peer, and why; `felixlite bgp why` prints the same sentence.
Before this: the Snapshot and plan.py's peers.  After: the table of announcements in bgp/exabgp.py.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from ipaddress import IPv4Address
from typing import Literal

from felixlite.addresses import Address, Prefix
from felixlite.bgp.decision import NORMAL_PREFERENCE
from felixlite.bgp.filters import Route, judge
from felixlite.bgp.rows import Announcement, AnnouncementKey, Peer
from felixlite.bgp.services import named, ranges
from felixlite.model.inside import (
    Affinity,
    AffinityState,
    BgpConfiguration,
    Node,
    Pool,
    Workload,
)
from felixlite.snapshot import Learned, Path, pool_covering

NO_EXPORT, NO_ADVERTISE = "65535:65281", "65535:65282"  # RFC 1997


@dataclass(frozen=True, slots=True)
class Candidate:
    """Something that could be announced."""

    prefix: Prefix
    what: Literal["block", "address", "service", "learned"]
    path: Path | None = None  # as it was learned
    learned: Learned | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    row: Announcement | None
    reason: str


@dataclass(frozen=True, slots=True)
class Speech:
    """What `decide` reads besides the prefix and the peer."""

    here: Node
    pools: Collection[Pool]
    config: BgpConfiguration
    peers: Mapping[str, Peer]

    @property
    def services(self) -> tuple[Prefix, ...]:
        return ranges(self.here, self.config)


def announcements(
    here: Node,
    peers: Mapping[str, Peer],
    affinities: Mapping[tuple[str, Prefix], Affinity],
    workloads: Mapping[tuple[str, str], Workload],
    pools: Mapping[str, Pool],
    config: BgpConfiguration,
    learned: Mapping[Prefix, Learned],
    services: Collection[Prefix] = (),
) -> dict[AnnouncementKey, Announcement]:
    """`services`: addresses of single services that this node announces (their aggregates are in the configuration)."""
    speech = Speech(here, tuple(pools.values()), config, peers)
    own = own_candidates(speech, affinities, workloads, services)
    passed_on = learned_candidates(speech, learned, own)
    rows: dict[AnnouncementKey, Announcement] = {}
    for candidate in (*own.values(), *passed_on):
        answers: dict[tuple[object, ...], Announcement | None] = {}
        for key, peer in peers.items():
            alike = _alike(key, peer, candidate)
            if alike not in answers:
                answers[alike] = decide(speech, candidate, key, peer).row
            row = answers[alike]
            if row is not None:
                rows[AnnouncementKey(key, candidate.prefix)] = row
    return rows


def _alike(key: str, peer: Peer, candidate: Candidate) -> tuple[object, ...]:
    """Peers that hear the same about this candidate: a mesh of thousands is decided once."""
    told_us = candidate.learned is not None and candidate.learned.best == key
    return (
        ":" in key,
        peer.local_as,
        peer.peer_as,
        peer.families,
        peer.client,
        peer.exports,
        peer.exports_v6,
        peer.next_hop_mode,
        told_us,
    )


def own_candidates(
    speech: Speech,
    affinities: Mapping[tuple[str, Prefix], Affinity],
    workloads: Mapping[tuple[str, str], Workload],
    services: Collection[Prefix] = (),
) -> dict[Prefix, Candidate]:
    """Own confirmed blocks; own addresses that are in none of them (borrowed, or explicit ones); service prefixes."""
    name = speech.here.name
    blocks = [
        a.cidr for a in affinities.values() if a.node == name and a.state is AffinityState.CONFIRMED and not a.virtual
    ]
    found = {cidr: Candidate(cidr, "block") for cidr in blocks}
    lengths = {cidr.length for cidr in blocks}
    for workload in workloads.values():
        for address in workload.addresses:
            inside = any(Prefix(address.packed, n).masked() in found for n in lengths if n <= address.width)
            if not inside:
                found[address] = Candidate(address, "address")
    for cidr in (*speech.services, *services):
        found.setdefault(cidr, Candidate(cidr, "service"))
    return found


def learned_candidates(
    speech: Speech, learned: Mapping[Prefix, Learned], own: Collection[Prefix]
) -> Iterator[Candidate]:
    """What could be passed on at all: nothing learned by iBGP, unless we are a reflector."""
    reflector = speech.here.cluster_id is not None
    for prefix, result in learned.items():
        if result.path is not None and (reflector or not result.ibgp) and prefix not in own:
            yield Candidate(prefix, "learned", result.path, result)


def decide(speech: Speech, candidate: Candidate, key: str, peer: Peer) -> Decision:
    """Is this peer told of this prefix, how, and why (not)? Reference 12.5, in its order."""
    prefix = candidate.prefix
    if prefix.family not in peer.families:
        return Decision(None, f"the session does not carry IPv{prefix.family}")
    if candidate.what == "learned" and (objection := held_back(speech, candidate, key, peer)):
        return Decision(None, objection)
    path = candidate.path or Path(next_hop=speech.here.address(prefix.family) or IPv4Address(0))
    rules = peer.exports if prefix.family == 4 else peer.exports_v6
    learned = candidate.what == "learned"
    verdict = judge(
        rules, prefix, Route(path, internal=peer.internal, learned=learned, priority=speech.config.route_priority)
    )
    if verdict.accept is False:
        return Decision(None, f"export rule {verdict.rule + 1} rejects it")
    if verdict.accept is None and (objection := _not_ours_to_tell(speech, candidate)):
        return Decision(None, objection)
    reason = f"export rule {verdict.rule + 1} accepts it" if verdict.accept else _reasons[candidate.what]
    return Decision(_announcement(speech, candidate, verdict.path, key, peer), reason)


_reasons = {
    "block": "it is a block of this node",
    "address": "it is an address of this node outside of its blocks",
    "service": "it is a service prefix",
    "learned": "it is passed on",
}


def _not_ours_to_tell(speech: Speech, candidate: Candidate) -> str:
    prefix = candidate.prefix
    if candidate.what == "service":
        return ""
    pool = pool_covering(speech.pools, prefix)
    if pool is None:
        if (
            candidate.what == "learned"
            and speech.here.cluster_id
            and any(s.covers(prefix) for s in named(speech.config))
        ):
            return ""
        return "no IPPool covers it"
    return f"IPPool {pool.name} has disableBGPExport" if pool.disable_bgp_export else ""


def held_back(speech: Speech, candidate: Candidate, key: str, peer: Peer) -> str:
    """Why a learned route is not passed on to this peer (RFC 4456 section 6, RFC 1997); empty if it may be."""
    learned, path = candidate.learned, candidate.path
    if learned is None or path is None:
        return "nothing is known of its path"
    if learned.best == key:
        return "this peer told us"
    if NO_ADVERTISE in path.communities or (NO_EXPORT in path.communities and not peer.internal):
        return "a community of it forbids that"
    if any(isinstance(hop, frozenset) for hop in path.as_path):
        return "its AS path contains an AS_SET (RFC 6472)"
    if not learned.ibgp:
        return ""
    if speech.here.cluster_id is None:
        return "it was learned by iBGP, and this node is no route reflector"
    source = speech.peers.get(learned.best)
    if peer.internal and not peer.client and not (source is not None and source.client):
        return "neither its source nor this peer is a client of this reflector"
    return ""


def _announcement(speech: Speech, candidate: Candidate, path: Path, key: str, peer: Peer) -> Announcement:
    config, learned = speech.config, candidate.learned
    communities = dict.fromkeys(path.communities)
    for advertisement in config.advertisements:
        if advertisement.cidr.covers(candidate.prefix):
            communities |= dict.fromkeys(advertisement.communities)
    as_path = tuple(hop for hop in path.as_path if isinstance(hop, int))
    row = Announcement(
        next_hop=next_hop(speech.here, candidate, path, key, peer),
        communities=tuple(communities),
        as_path=as_path if peer.internal or not as_path else (peer.local_as, *as_path),
    )
    if not peer.internal:
        return row
    row = replace(row, local_preference=preference(path, config, own=learned is None), med=path.med)
    if learned is None or not learned.ibgp or peer.cluster_id is None:
        return row
    return replace(
        row,
        originator=path.originator or learned.router_id,
        cluster_list=(peer.cluster_id, *path.cluster_list),
    )


def preference(path: Path, config: BgpConfiguration, *, own: bool) -> int:
    """A route's priority travels as local preference, so that Calico nodes and ours understand each other."""
    if path.priority is not None:
        return 2147483647 - path.priority
    if path.local_preference is not None:
        return path.local_preference
    return 2147483647 - config.route_priority if own else NORMAL_PREFERENCE


def next_hop(here: Node, candidate: Candidate, path: Path, key: str, peer: Peer) -> Address | None:
    """None: our own address of the session. Own routes have no other hop than us; what is passed on to eBGP neither,
    unless asked to keep it; inside of an AS the hop stays (RFC 4456 section 10)."""
    keep = peer.next_hop_mode == "Keep" or (peer.next_hop_mode == "Auto" and peer.internal)
    if candidate.learned is not None and keep:
        return path.next_hop
    session = 6 if ":" in key else 4
    if candidate.prefix.family == session:
        return None
    return here.address(candidate.prefix.family) or here.address(session)
