"""Who is in each set that a rule needs, kept up to date one change at a time. Pure but for its own memory.

Everything with labels and addresses is put here (endpoints of the whole cluster, network sets); the planner `want`s
the sets that its rules name, and only those have members.  An address that several items share leaves a set with the
last of them.  A set is called by what it holds: `s-...` for single addresses, `n-...` as soon as one member is a
network (backends keep those in different, slower structures); `renamed` tells whose name has changed.
"""

from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from felixlite.addresses import Prefix
from felixlite.model.inside import NamedPort
from felixlite.model.policy import Service, ServiceRef, protocol_number
from felixlite.model.selector import Selector
from felixlite.policy.index import SelectorIndex
from felixlite.policy.lowering import Ported, Selected, Served, Wanted
from felixlite.policy.rows import IpSet, Key, Member, SetKind, short

FAMILIES = (4, 6)


class Carrier(NamedTuple):
    """What an item puts into the sets that select it."""

    nets: tuple[Prefix, ...] = ()
    ports: tuple[NamedPort, ...] = ()


NOTHING = Carrier()


@dataclass(slots=True, eq=False)
class _Live:
    """One wanted set in one family."""

    wanted: Wanted
    family: int
    identity: str  # the name without its first letter
    users: int = 0
    counts: dict[Member, int] = field(default_factory=dict)
    networks: int = 0  # members that are no single address
    key: Key | None = None  # of its row, when the rows were last asked for
    name: str = ""
    told: str = ""  # what the first policy that wanted it was told that it is called

    def __post_init__(self) -> None:
        self.name = _LETTERS[self.kind] + self.identity

    @property
    def kind(self) -> SetKind:
        if isinstance(self.wanted, Ported) or (isinstance(self.wanted, Served) and self.wanted.with_ports):
            return "ip,port"
        return "net" if self.networks else "ip"

    def _count_networks(self, change: int) -> None:
        self.networks += change
        self.name = _LETTERS[self.kind] + self.identity

    def add(self, member: Member) -> bool:
        """True when the member is new."""
        count = self.counts.get(member, 0)
        self.counts[member] = count + 1
        if not count and isinstance(member, Prefix) and not member.is_host:
            self._count_networks(1)
        return not count

    def take(self, member: Member) -> bool:
        """True when nobody holds the member any more."""
        count = self.counts[member]
        if count > 1:
            self.counts[member] = count - 1
            return False
        del self.counts[member]
        if isinstance(member, Prefix) and not member.is_host:
            self._count_networks(-1)
        return True

    def row(self) -> IpSet:
        members: Iterable[Member] = self.counts
        if self.networks:
            members = disjoint(member for member in self.counts if isinstance(member, Prefix))
        return IpSet(self.kind, frozenset(members))


_LETTERS: Mapping[SetKind, str] = {"ip": "s-", "net": "n-", "ip,port": "p-"}


def _identity(wanted: Wanted) -> str:
    match wanted:
        case Selected(selector):
            return short("", str(selector))
        case Ported(selector, names):
            return short("", f"{' '.join(sorted(names))} of {selector}")
        case Served(service, with_ports):
            return short("", f"{service.namespace}/{service.name} {with_ports}")


def disjoint(prefixes: Iterable[Prefix]) -> Iterator[Prefix]:
    """The prefixes without those that another one covers; sets refuse overlaps, and ipset refuses 0.0.0.0/0 whole."""
    last: Prefix | None = None
    for prefix in sorted(prefixes):
        if last is None or not last.covers(prefix):
            yield from (prefix,) if prefix.length else _halves(prefix)
            last = prefix


def _halves(prefix: Prefix) -> tuple[Prefix, Prefix]:
    upper = bytes([0x80, *prefix.packed[1:]])
    return Prefix(prefix.packed, 1), Prefix(upper, 1)


class Members:
    def __init__(self) -> None:
        self._index: SelectorIndex[Hashable] = SelectorIndex()
        self._carriers: dict[Hashable, Carrier] = {}
        self._services: Mapping[tuple[str, str], Service] = {}
        self._live: dict[Wanted, dict[int, _Live]] = {}
        self._by_selector: dict[Selector, list[Wanted]] = {}
        self._dirty: set[_Live] = set()
        self._rows: dict[int, dict[Key, IpSet]] = {family: {} for family in FAMILIES}

    # -- what there is

    def put(self, item: Hashable, labels: Mapping[str, str], carrier: Carrier) -> None:
        old = self._carriers.get(item)
        self._carriers[item] = carrier
        before = self._index.selectors_of(item)
        turns = self._index.put(item, labels)
        if old is None or old == carrier:
            for selector, _, joins in turns:
                self._turn(selector, carrier, joins=joins)
            return
        for selector in before:
            self._turn(selector, old, joins=False)
        for selector in self._index.selectors_of(item):
            self._turn(selector, carrier, joins=True)

    def drop(self, item: Hashable) -> None:
        carrier = self._carriers.pop(item, NOTHING)
        for turn in self._index.drop(item):
            self._turn(turn.selector, carrier, joins=False)

    def put_services(self, services: Mapping[tuple[str, str], Service]) -> None:
        self._services = services
        for wanted, families in self._live.items():
            if isinstance(wanted, Served):
                for live in families.values():
                    fresh = dict.fromkeys(_of_service(services, wanted, live.family), 1)
                    if fresh != live.counts:
                        live.counts = fresh
                        self._dirty.add(live)

    # -- what is wanted

    def want(self, wanted: Wanted) -> Mapping[int, str]:
        """One more policy needs this set; what it is called in each family."""
        families = self._live.get(wanted) or self._open(wanted)
        names = {}
        for family, live in families.items():
            live.users += 1
            live.told = live.told or live.name
            names[family] = live.name
        return names

    def renamed(self) -> set[Wanted]:
        """The sets that are called otherwise than who wants them was told; they are told now."""
        found: set[Wanted] = set()
        for live in self._dirty:
            if live.users and live.told != live.name:
                live.told = live.name
                found.add(live.wanted)
        return found

    def unwant(self, wanted: Wanted) -> None:
        families = self._live[wanted]
        for live in families.values():
            live.users -= 1
        if not families[4].users:
            self._close(wanted)

    def rows(self, family: int) -> Mapping[Key, IpSet]:
        """All wanted sets; the same object as before when nothing changed."""
        touched = [live for live in self._dirty if live.family == family]
        if touched:
            rows = dict(self._rows[family])
            for live in touched:
                self._dirty.discard(live)
                if live.key:
                    rows.pop(live.key, None)
                live.key = Key("set", live.name) if live.users else None
                if live.key:
                    rows[live.key] = live.row()
            self._rows[family] = rows
        return self._rows[family]

    # -- inside

    def _open(self, wanted: Wanted) -> dict[int, _Live]:
        identity = _identity(wanted)
        families = self._live[wanted] = {family: _Live(wanted, family, identity) for family in FAMILIES}
        if isinstance(wanted, Served):
            for live in families.values():
                live.counts = dict.fromkeys(_of_service(self._services, wanted, live.family), 1)
        else:
            sharing = self._by_selector.setdefault(wanted.selector, [])
            if not sharing:
                self._index.add(wanted.selector)
            sharing.append(wanted)
            for item in self._index.selected(wanted.selector):
                self._apply(wanted, self._carriers[item], joins=True)
        self._dirty.update(families.values())
        return families

    def _close(self, wanted: Wanted) -> None:
        self._dirty.update(self._live.pop(wanted).values())
        if isinstance(wanted, Served):
            return
        sharing = self._by_selector[wanted.selector]
        sharing.remove(wanted)
        if not sharing:
            del self._by_selector[wanted.selector]
            self._index.remove(wanted.selector)

    def _turn(self, selector: Selector, carrier: Carrier, *, joins: bool) -> None:
        for wanted in self._by_selector[selector]:
            self._apply(wanted, carrier, joins=joins)

    def _apply(self, wanted: Wanted, carrier: Carrier, *, joins: bool) -> None:
        families = self._live[wanted]
        for family, member in _members(wanted, carrier):
            live = families[family]
            if live.add(member) if joins else live.take(member):
                self._dirty.add(live)


def _members(wanted: Wanted, carrier: Carrier) -> Sequence[tuple[int, Member]]:
    match wanted:
        case Selected():
            return [(net.family, net) for net in carrier.nets]
        case Ported(_, names):
            return [
                (net.family, (net, protocol_number(port.protocol), port.port))
                for port in carrier.ports
                if port.name in names
                for net in carrier.nets
            ]
        case Served():
            return ()


def _of_service(services: Mapping[tuple[str, str], Service], wanted: Served, family: int) -> Iterator[Member]:
    ref: ServiceRef = wanted.service
    service = services.get((ref.namespace, ref.name))
    for backend in service.backends if service else ():
        host = Prefix.host(backend.address)
        if host.family == family:
            yield (host, backend.protocol, backend.port) if wanted.with_ports else host
