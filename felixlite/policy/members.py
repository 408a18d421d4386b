"""Who is in each set that a rule needs, kept up to date one change at a time. Pure but for its own memory.

Everything with labels and addresses is put here (endpoints of the whole cluster, network sets); the planner `want`s
the sets that its rules name, and only those have members.  An address that several items share leaves a set with the
last of them.  A set is called by what it holds: `s-...` for single addresses, `n-...` as soon as one member is a
network (backends keep those in different, slower structures); `renamed` tells whose name has changed.
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from felixlite.addresses import Prefix
from felixlite.model.inside import NamedPort
from felixlite.model.policy import Service, ServiceRef, protocol_number
from felixlite.model.selector import Selector
from felixlite.policy.index import SelectorIndex
from felixlite.policy.lowering import Ported, Selected, Served, Wanted
from felixlite.policy.rows import IpSet, Key, Member, SetKind, short

FAMILIES = (4, 6)


Carrier = tuple[tuple[Prefix, ...], tuple[NamedPort, ...]]  # what an item puts into the sets that select it
NOTHING: Carrier = ((), ())


@dataclass(slots=True, eq=False)
class _Live:
    """One wanted set in one family. Its users and its names are shared with the other family's."""

    wanted: Wanted
    family: int
    identity: str  # the name without its first letter
    users: set[Hashable]  # who named it in his rules
    names: dict[int, str]  # by family
    counts: dict[Member, int] = field(default_factory=dict)
    networks: int = 0  # members that are no single address
    key: Key | None = None  # of its row, when the rows were last asked for
    told: str = ""  # what its users were told that it is called

    def __post_init__(self) -> None:
        self._take_name()

    def _take_name(self) -> None:
        self.names[self.family] = _LETTERS[self.kind] + self.identity

    @property
    def name(self) -> str:
        return self.names[self.family]

    @property
    def kind(self) -> SetKind:
        if isinstance(self.wanted, Ported) or (isinstance(self.wanted, Served) and self.wanted.with_ports):
            return "ip,port"
        return "net" if self.networks else "ip"

    def add(self, members: Collection[Member]) -> bool:
        """True when one of the members is new."""
        counts = self.counts
        new = set(members).difference(counts)
        if len(new) == len(members):
            counts.update(dict.fromkeys(members, 1))
        else:
            for member in members:
                counts[member] = counts.get(member, 0) + 1
        self._count_networks(new, 1)
        return bool(new)

    def take(self, members: Collection[Member]) -> bool:
        """True when one of the members is held by nobody any more."""
        counts, gone = self.counts, list[Member]()
        for member in members:
            if counts[member] > 1:
                counts[member] -= 1
            else:
                del counts[member]
                gone.append(member)
        self._count_networks(gone, -1)
        return bool(gone)

    def _count_networks(self, members: Collection[Member], change: int) -> None:
        if isinstance(self.wanted, Ported):
            return
        width = 32 if self.family == 4 else 128
        if found := sum([member[1] != width for member in members]):
            self.networks += change * found
            self._take_name()

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
                self._turn(selector, (carrier,), joins=joins)
            return
        for selector in before:
            self._turn(selector, (old,), joins=False)
        for selector in self._index.selectors_of(item):
            self._turn(selector, (carrier,), joins=True)

    def put_alike(self, carriers: Mapping[Hashable, Carrier], labels: Mapping[str, str]) -> None:
        """`put` for many that have the same labels. Those that were not here before cost a microsecond each."""
        known = self._carriers.keys() & carriers.keys()
        for item in known:
            self.put(item, labels, carriers[item])
        fresh = {item: carrier for item, carrier in carriers.items() if item not in known} if known else carriers
        if fresh:
            self._carriers.update(fresh)
            for selector in self._index.put_new(fresh, labels):
                self._turn(selector, fresh.values(), joins=True)

    def drop(self, item: Hashable) -> None:
        carrier = self._carriers.pop(item, NOTHING)
        for turn in self._index.drop(item):
            self._turn(turn.selector, (carrier,), joins=False)

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

    def want(self, wanted: Wanted, user: Hashable) -> Mapping[int, str]:
        """The user needs this set; what it is called in each family now."""
        live = (self._live.get(wanted) or self._open(wanted))[4]
        live.users.add(user)
        return live.names

    def renamed(self) -> set[Hashable]:
        """Who needs a set that is called otherwise than it was when this was last asked."""
        found: set[Hashable] = set()
        for live in self._dirty:
            if live.users and live.told != live.name:
                live.told = live.name
                found |= live.users
        return found

    def unwant(self, wanted: Wanted, user: Hashable) -> None:
        users = self._live[wanted][4].users
        users.discard(user)
        if not users:
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
        users, names = set[Hashable](), dict[int, str]()
        families = self._live[wanted] = {f: _Live(wanted, f, identity, users, names) for f in FAMILIES}
        if isinstance(wanted, Served):
            for live in families.values():
                live.counts = dict.fromkeys(_of_service(self._services, wanted, live.family), 1)
        else:
            sharing = self._by_selector.setdefault(wanted.selector, [])
            if not sharing:
                self._index.add(wanted.selector)
            sharing.append(wanted)
            self._apply(wanted, [self._carriers[item] for item in self._index.selected(wanted.selector)], joins=True)
        for live in families.values():
            live.told = live.name
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

    def _turn(self, selector: Selector, carriers: Collection[Carrier], *, joins: bool) -> None:
        for wanted in self._by_selector[selector]:
            self._apply(wanted, carriers, joins=joins)

    def _apply(self, wanted: Wanted, carriers: Collection[Carrier], *, joins: bool) -> None:
        for family, live in self._live[wanted].items():
            members = _members(wanted, carriers, family)
            if members and (live.add(members) if joins else live.take(members)):
                self._dirty.add(live)


def _members(wanted: Wanted, carriers: Iterable[Carrier], family: int) -> list[Member]:
    octets = 4 if family == 4 else 16
    match wanted:
        case Selected():
            return [net for nets, _ in carriers for net in nets if len(net.packed) == octets]
        case Ported(_, names):
            return [
                (net, protocol_number(port.protocol), port.port)
                for nets, ports in carriers
                for port in ports
                if port.name in names
                for net in nets
                if len(net.packed) == octets
            ]
        case Served():
            return []


def _of_service(services: Mapping[tuple[str, str], Service], wanted: Served, family: int) -> Iterator[Member]:
    ref: ServiceRef = wanted.service
    service = services.get((ref.namespace, ref.name))
    for backend in service.backends if service else ():
        host = Prefix.host(backend.address)
        if host.family == family:
            yield (host, backend.protocol, backend.port) if wanted.with_ports else host
