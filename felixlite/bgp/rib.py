"""What the peers said, and what follows from it for each prefix. Pure.

A route is kept as it was told (adj-RIB-in), judged once for each pair of peer and path, and only where a filter looks
at prefixes once for each prefix.  One Entry serves all prefixes that came with the same attributes, so that 200,000
routes are 200,000 prefixes and a handful of objects.  Which of several paths wins is decision.py's.
Before this: bgp/update.py.  After: the Snapshot's `learned`, made into routes by the planners.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import replace
from ipaddress import IPv4Address

from felixlite.addresses import Address, Prefix
from felixlite.bgp.decision import Entry, Source, beaten, best_paths, learned_from
from felixlite.bgp.filters import Route, judge
from felixlite.bgp.rows import Peer
from felixlite.snapshot import Learned, Path

Resolve = Callable[[Address], int | None]  # next hop -> cost of the way to it; None: there is none


def _always(_hop: Address) -> int | None:
    return 0


class Rib:
    def __init__(self, resolve: Resolve = _always) -> None:
        self.sources: dict[str, Source] = {}
        self.routes: dict[Prefix, tuple[Entry, ...]] = {}
        self.best: dict[Prefix, Learned] = {}
        self.own: frozenset[Address] = frozenset()  # a next hop that is ourselves is no way out
        self._resolve = resolve
        self._dirty: set[Prefix] = set()  # of these it has to be found out,
        self._fresh: dict[Prefix, Learned] = {}  # ... of these it is known already
        self._alone: dict[Entry, tuple[Entry, ...]] = {}
        self._shared: dict[tuple[Entry, ...], Learned | None] = {}

    # -- what happened

    def open(self, key: str, peer: Peer, address: Address, router_id: IPv4Address) -> None:
        """The session is up (again). What it told before is kept as it is: see `retain` and `forget`."""
        if key in self.sources:
            source = self.sources[key]
            changed = source.router_id != router_id
            source.router_id = router_id
            self.adjust(key, peer, again=changed)
        else:
            self.sources[key] = Source(key, peer, address, router_id)

    def announce(self, key: str, path: Path, prefixes: Collection[Prefix]) -> None:
        source = self.sources[key]
        entry = self._entry(source, path)
        row, odd = source.peer, _ODD_FIRST_BYTES
        each = bool(row.imports or row.imports_v6) or not row.protects.isdisjoint(prefixes)
        each = each or any(length < 8 or packed[0] in odd for packed, length in prefixes)
        alone = self._alone.setdefault(entry, (entry,))
        if not each and self.routes.keys().isdisjoint(prefixes):
            self._first_word(alone, prefixes)
        else:
            self._one_by_one(source, entry, prefixes, each=each)
        source.prefixes.update(prefixes)
        source.stale.difference_update(prefixes)

    def _first_word(self, alone: tuple[Entry, ...], prefixes: Collection[Prefix]) -> None:
        """Nobody has told any of these: most of a full table comes so, and what follows is known at once."""
        self.routes.update(dict.fromkeys(prefixes, alone))
        learned = self._result(alone)
        if learned is None or not self.best.keys().isdisjoint(prefixes):
            self._dirty.update(prefixes)
        else:
            self._fresh.update(dict.fromkeys(prefixes, learned))

    def _one_by_one(self, source: Source, entry: Entry, prefixes: Collection[Prefix], *, each: bool) -> None:
        """`each`: a rule may look at the prefix itself."""
        alone = self._alone[entry]
        routes, get = self.routes, self.routes.get
        for prefix in prefixes:
            mine = self._filtered(source, entry, prefix) if each else entry
            before = get(prefix)
            if before is None or (len(before) == 1 and before[0].source is source):
                routes[prefix] = alone if mine is entry else (mine,)
            else:
                others = [e for e in before if e.source is not source]
                routes[prefix] = tuple(sorted([*others, mine], key=_by_peer))
        self._dirty.update(prefixes)

    def withdraw(self, key: str, prefixes: Iterable[Prefix]) -> None:
        source = self.sources[key]
        routes = self.routes
        known = source.prefixes.intersection(prefixes)
        for prefix in known:
            before = routes[prefix]
            if len(before) == 1:
                del routes[prefix]
            else:
                routes[prefix] = tuple(e for e in before if e.source is not source)
        source.prefixes -= known
        source.stale -= known
        self._dirty |= known

    def retain(self, key: str, families: Collection[int]) -> None:
        """The session is gone and the peer restarts gracefully: its routes stay until it told them all again."""
        source = self.sources[key]
        lost = [p for p in source.prefixes if p.family not in families or p in source.stale]
        self.withdraw(key, lost)  # RFC 4724 4.2: what is stale from before does not survive a second restart
        source.stale = set(source.prefixes)

    def end_of_rib(self, key: str, family: int | None = None) -> None:
        """Everything was told again: what is still stale is gone. None: the time for it is over."""
        stale = self.sources[key].stale
        self.withdraw(key, [p for p in stale if family is None or p.family == family])

    def forget(self, key: str) -> None:
        """The session is gone, and its routes with it."""
        source = self.sources.pop(key, None)
        if source is None:
            return
        self.sources[key] = source
        self.withdraw(key, list(source.prefixes))
        del self.sources[key]
        self._prune()

    def adjust(self, key: str, peer: Peer, *, again: bool = False) -> None:
        """The peer's row changed: judge again what it told, if a rule that judges is another one."""
        source = self.sources[key]
        before, source.peer = source.peer, peer
        if not again and _judged_by(before) == _judged_by(peer):
            return
        self._judge_again(source)

    def resolved_anew(self) -> None:
        """The ways to the next hops are other ones."""
        for source in self.sources.values():
            stale_costs = any(
                self._reach(e.path) != (e.cost, e.refused == UNREACHABLE)
                for e in (*source.entries.values(), *source.filtered.values())
                if e.refused in ("", UNREACHABLE)
            )
            if stale_costs:
                self._judge_again(source)

    def over_limit(self, key: str) -> bool:
        source = self.sources[key]
        return source.peer.max_prefixes is not None and len(source.prefixes) > source.peer.max_prefixes

    def changes(self) -> tuple[dict[Prefix, Learned], list[Prefix]]:
        """What is other than at the last call: prefix -> its result, and the prefixes that nobody can reach now."""
        best, routes = self.best, self.routes
        news, self._fresh = self._fresh, {}
        best.update(news)
        dirty, self._dirty = self._dirty, set()
        gone: list[Prefix] = []
        for prefix in dirty:
            entries = routes.get(prefix)
            learned = self._result(entries) if entries else None
            before = best.get(prefix)
            if learned is before:
                continue
            if learned is None:
                del best[prefix]
                if news.pop(prefix, None) is None:
                    gone.append(prefix)
            elif learned != before:
                best[prefix] = news[prefix] = learned
        return news, gone

    # -- judging

    def _entry(self, source: Source, told: Path) -> Entry:
        entry = source.entries.get(told)
        if entry is None:
            entry = self._judged(source, told, told)
            source.entries[told] = entry
        return entry

    def _judged(self, source: Source, told: Path, path: Path) -> Entry:
        refused = refusal(path, source.peer, self.own)
        cost, unreachable = (0, False) if refused else self._reach(path)
        return Entry(source.key, told, path, source, refused or (UNREACHABLE if unreachable else ""), cost)

    def _reach(self, path: Path) -> tuple[int, bool]:
        cost = self._resolve(path.next_hop)
        return (0, True) if cost is None else (cost, False)

    def _filtered(self, source: Source, entry: Entry, prefix: Prefix) -> Entry:
        """The entry for this prefix, where the prefix itself matters."""
        if entry.refused and entry.refused != UNREACHABLE:
            return entry
        path, refused = entry.told, prefix_refusal(prefix, source.peer)
        if not refused:
            rules = source.peer.imports if prefix.family == 4 else source.peer.imports_v6
            verdict = judge(rules, prefix, Route(entry.told, internal=source.peer.internal))
            path = verdict.path
            refused = f"import rule {verdict.rule + 1} rejects it" if verdict.accept is False else ""
        if not refused and path is entry.told:
            return entry
        found = source.filtered.get((path, refused))
        if found is None:
            found = self._judged(source, entry.told, path)
            found.refused = refused or found.refused
            source.filtered[path, refused] = found
        return found

    def _judge_again(self, source: Source) -> None:
        told: dict[Path, list[Prefix]] = {}
        for prefix in source.prefixes:
            for entry in self.routes[prefix]:
                if entry.source is source:
                    told.setdefault(entry.told, []).append(prefix)
        source.entries, source.filtered = {}, {}
        stale = source.stale
        source.stale = set()
        for path, prefixes in told.items():
            self.announce(source.key, path, prefixes)
        source.stale = stale
        self._prune()

    def _prune(self) -> None:
        self._alone.clear()
        self._shared.clear()

    # -- deciding

    def _result(self, entries: tuple[Entry, ...]) -> Learned | None:
        if len(entries) == 1:
            entry = entries[0]
            if entry.learned is None and not entry.refused:
                entry.learned = learned_from([entry])
            return entry.learned
        if entries not in self._shared:
            equal = best_paths(entries)
            self._shared[entries] = learned_from(equal, beaten(entries, equal)) if equal else None
        return self._shared[entries]


UNREACHABLE = "no route of this node leads to the next hop"


def refusal(path: Path, peer: Peer, own: Collection[Address] = ()) -> str:
    """Why no route with this path may be used, whatever its prefix."""
    own_as = sum(
        1 for hop in path.as_path if hop == peer.local_as or (isinstance(hop, frozenset) and peer.local_as in hop)
    )
    if own_as > peer.allowed_own_as:
        return f"the AS path contains our own AS {peer.local_as}, {peer.allowed_own_as} times are allowed"
    if peer.internal and path.originator == peer.router_id:
        return "it is our own route, reflected back to us"
    if peer.cluster_id is not None and peer.cluster_id in path.cluster_list:
        return f"the cluster list contains our cluster {peer.cluster_id}"
    if not peer.internal and not path.as_path:
        return "the AS path of an eBGP peer is empty"
    if path.next_hop in own:
        return "the next hop is this node"
    return ""


# Prefixes longer than /7 that begin otherwise cannot be of the kind that `prefix_refusal` refuses.
_ODD_FIRST_BYTES = frozenset((0, 127, 169, *range(224, 240), 254, 255))


def prefix_refusal(prefix: Prefix, peer: Peer) -> str:
    """Why this prefix is not believed from anybody."""
    if prefix.length == 0 and not peer.accept_default:
        return "a default route is not accepted from this peer (bgpAcceptDefaultRoute)"
    if prefix in peer.protects:
        return "it covers an address of this node (bgpAcceptOwnSubnet)"
    address = prefix.first
    if prefix.length and (address.is_multicast or address.is_loopback or address.is_link_local):
        return f"{address} is multicast, loopback or link-local"
    return ""


def _judged_by(peer: Peer) -> Peer:
    """The part of a row that judging reads."""
    return replace(
        peer, kind="mesh", name="", node="", max_prefixes=None, client=False, password=None, exports=(), exports_v6=()
    )


def _by_peer(entry: Entry) -> tuple[int, int]:
    return entry.source.address.version, int(entry.source.address)
