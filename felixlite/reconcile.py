"""Making what is so equal to what is wanted: a table, a difference, and the order in which tables converge.

`converge` is the whole security and convergence policy of the agent:
- Rows are written in the order of the tables (guards before what they guard, announcements last), removed in reverse.
- Before the sources are in sync, what is missing is added; nothing is replaced and nothing removed.
- A guard that fails holds back whatever the later tables would newly open, and nothing else.  A row that could not be
  removed keeps the guards as they are.
- A key that fails is retried with a growing pause and never holds up its neighbours; a new wish for it is tried at
  once.
- A table is read when nothing is known of it, after a failure, and when somebody else may have touched it.  Between
  readings it is trusted, and only slices of the plan that are other objects than last time are compared.

Pure but for the tables that it is given: time comes in as `now`.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

from felixlite.versions import Versions, differing, holds_none_of

Spare = Callable[[str, Any, Any], bool]  # (table, key, row as it is) -> leave it for now

K = TypeVar("K")
V = TypeVar("V")

LinksOf = Callable[[Any, Any], Collection[str | None]]
Slices = tuple[Mapping[Any, Any], ...]
Plan = Mapping[str, Slices]  # table name -> its rows, in slices that planners recompute one by one

MANY = 1000  # rows: after so many it is as well to look at all of them again
FIRST_PAUSE = 0.05
LONGEST_PAUSE = 10.0


class Table(Protocol[K, V]):
    """A place where wants become facts. `read` asks the real world; it returns only what is ours there.

    Five methods more may be there:
    - `read_for(wanted)` is called instead of `read()`: a table whose objects are not all ours (a setting of the kernel,
      a link that somebody else made) has to be told which ones we care about.
    - `links_of(key, row)` answers the links that a row is lost with (None: with any); `lost(keys)`, which ones of the
      rows of a link that went and came are lost indeed, where that are not all.
    - `remade()` answers, once, the links that the last upsert made anew: what sat on them is lost.
    - `upon(names, rows)` answers the keys of the rows that are put upon these links: nothing is, on a Foreign one.
    """

    name: str
    guard: bool  # if writing here fails, nothing later may open

    def read(self) -> Mapping[K, V]: ...

    def upsert(self, items: Mapping[K, V]) -> Mapping[K, Exception]:
        """Write the rows, each replaced in place. Answers the keys that failed, and why."""
        ...

    def delete(self, keys: Collection[K]) -> Mapping[K, Exception]:
        """Remove the rows. One that is already gone is a success."""
        ...


class Foreign(Exception):
    """What a key names is there and belongs to somebody else. No later table puts anything upon it, or takes it off."""


class Overlap(Exception):
    """Two planners want the same key: a bug, not a race."""


class _Mark:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = _Mark("absent")
LOST: Final = _Mark("lost")  # stands in a mirror for a row that may not be there any more


@dataclass(frozen=True, slots=True)
class Diff:
    """What would change in one table: `upserts` maps key -> (row before or None, row after)."""

    upserts: Mapping[Any, tuple[Any, Any]]
    deletes: Mapping[Any, Any]

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes)


@dataclass(frozen=True, slots=True)
class Failure:
    error: Exception
    attempts: int
    retry_at: float
    since: float
    row: Any = ABSENT  # what was tried: the row to be written; ABSENT: the removal


class Seats:
    """Which rows of a table are upon which link: a link that comes costs as much as what is upon it, not the table.

    It is made when it is first asked for, and anew after many rows; meanwhile it may name rows that are there no more.
    """

    def __init__(self, links_of: LinksOf) -> None:
        self._links_of = links_of
        self._keys: dict[str | None, list[Any]] | None = None
        self._added = 0

    def forget(self) -> None:
        self._keys, self._added = None, 0

    def add(self, rows: Mapping[Any, Any]) -> None:
        self._added += len(rows)
        if self._added > MANY:
            self.forget()
        elif self._keys is not None:
            self._seat(rows, self._keys)

    def upon(self, names: Collection[str], rows: Mapping[Any, Any]) -> list[Any]:
        """The keys of the rows that are upon these links, and are not known to be lost already."""
        if self._keys is None:
            self._keys = {}
            self._seat(rows, self._keys)
        found = {key for name in (None, *names) for key in self._keys.get(name, ())}
        on_them = {None, *names}
        there = [key for key in found if rows.get(key, LOST) is not LOST]
        return [key for key in there if not on_them.isdisjoint(self._links_of(key, rows[key]))]

    def _seat(self, rows: Mapping[Any, Any], seats: dict[str | None, list[Any]]) -> None:
        links_of = self._links_of
        for key, row in rows.items():
            if row is not LOST:
                for link in links_of(key, row):
                    seats.setdefault(link, []).append(key)


@dataclass(slots=True)
class Mirror:
    """What we know of one table between reads. `rows` is None when it has to be read."""

    seats: Seats | None = None  # of a table whose rows are lost with links
    rows: dict[Any, Any] | None = None
    wanted: Slices | None = None  # the slices that `rows` was last compared with
    again: set[Any] = field(default_factory=set)  # keys left for a later round: held back, not yet to be removed
    failures: dict[Any, Failure] = field(default_factory=dict)
    unreadable: Failure | None = None
    impatient: bool = False  # the world changed: what failed is tried again at once

    @property
    def settled(self) -> bool:
        """All that was wanted in the last round is so."""
        return self.wanted is not None and not (self.again or self.failures or self.unreadable)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one round did to one table."""

    written: int = 0
    removed: int = 0
    held_back: int = 0
    read: bool = False
    failures: Mapping[Any, Failure] = field(default_factory=dict)
    recovered: Collection[Any] = ()


READING: Final = "(reading)"  # stands in an Outcome's failures for the table as a whole


def pause(attempts: int) -> float:
    return float(min(LONGEST_PAUSE, FIRST_PAUSE * 2 ** min(attempts - 1, 20)))


def merged(slices: Slices, table: str = "") -> Mapping[Any, Any]:
    """All rows of a table's slices as one mapping."""
    if len(slices) == 1:
        return slices[0]
    rows: dict[Any, Any] = {}
    for piece in slices:
        more = piece.copy() if isinstance(piece, Versions) else piece
        if twice := rows.keys() & more.keys():
            raise Overlap(f"{table}: two planners want {', '.join(map(str, sorted(twice, key=str)))}")
        rows.update(more)
    return rows


def look(table: Table[K, V], wanted: Mapping[K, V]) -> Mapping[K, V]:
    """What is in the table now."""
    read_for: Callable[[Mapping[K, V]], Mapping[K, V]] | None = getattr(table, "read_for", None)
    return read_for(wanted) if read_for else table.read()


def difference(desired: Mapping[Any, Any], actual: Mapping[Any, Any]) -> Diff:
    upserts: dict[Any, tuple[Any, Any]] = {}
    missing = 0
    get = actual.get
    for key, row in desired.items():
        there = get(key, ABSENT)
        if there is ABSENT:
            missing += 1
            upserts[key] = (None, row)
        elif there is not row and there != row:
            upserts[key] = (there, row)
    unwanted = len(actual) - (len(desired) - missing)
    return Diff(upserts, {key: row for key, row in actual.items() if key not in desired} if unwanted else {})


class Reconciler:
    """The tables in their order, and what is known of each. Lives in the core thread."""

    def __init__(self, tables: Iterable[Table[Any, Any]]) -> None:
        self.tables = tuple(tables)
        self.mirrors = {table.name: Mirror(_seats(table)) for table in self.tables}

    def distrust(self, name: str | None = None) -> None:
        """Read this table (or all) again before the next write: somebody else may have touched it.

        A table that this agent does not have is none of our business.
        """
        for mirror in [m for n, m in self.mirrors.items() if name in (None, n)]:
            mirror.rows = None
            mirror.impatient = True

    def retry(self) -> None:
        """Something changed that failed rows may have waited for: try them in the next round."""
        for mirror in self.mirrors.values():
            mirror.impatient = True

    def came_up(self, links: Iterable[str]) -> None:
        """These links are there (again): what sat on them may be lost, what failed for want of them may succeed."""
        self.retry()
        names = frozenset(links)
        for table in self.tables:
            mirror = self.mirrors[table.name]
            if mirror.rows and mirror.seats and (on_them := mirror.seats.upon(names, mirror.rows)):
                which: Callable[[Collection[Any]], Collection[Any]] | None = getattr(table, "lost", None)
                lost = dict.fromkeys(which(on_them) if which else on_them, LOST)
                mirror.again.update(lost)
                mirror.rows.update(lost)

    def retry_at(self) -> float | None:
        """When the next failed key wants another try."""
        mirrors = self.mirrors.values()
        return min(
            (f.retry_at for m in mirrors for f in ([m.unreadable] if m.unreadable else m.failures.values())),
            default=None,
        )

    @property
    def settled(self) -> bool:
        return all(mirror.settled for mirror in self.mirrors.values())

    def differences(self, plan: Plan) -> dict[str, Diff]:
        """What a converge with this plan would change, touching nothing."""
        wanted = {t.name: merged(plan.get(t.name, ({},)), t.name) for t in self.tables}
        return {t.name: difference(wanted[t.name], look(t, wanted[t.name])) for t in self.tables}

    def converge(self, plan: Plan, now: float, *, may_delete: bool, spare: Spare | None = None) -> dict[str, Outcome]:
        """One round. Answers what happened, per table. `spare` names rows that are not removed yet, though unwanted."""
        rounds = {t.name: _Round(t, self.mirrors[t.name], plan.get(t.name, ({},)), now) for t in self.tables}
        closed = False
        foreign: set[Any] = set()
        for step in rounds.values():
            step.look()
            step.keep_off(foreign)
            step.write(only_new=not may_delete, only_known=closed)
            if step.written and hasattr(step.table, "remade") and (remade := step.table.remade()):
                self.came_up(remade)
            closed = closed or (step.table.guard and step.leaves_a_gap)
            foreign |= step.foreign
        lingering = False
        for step in reversed(rounds.values()):
            step.remove(allowed=may_delete and not (step.table.guard and lingering), spare=spare)
            lingering = lingering or (not step.table.guard and step.removal_failed)
            step.remember()
        return {name: step.outcome() for name, step in rounds.items()}


def _seats(table: Table[Any, Any]) -> Seats | None:
    links_of: LinksOf | None = getattr(table, "links_of", None)
    return Seats(links_of) if links_of else None


class _Round:
    """One table in one round."""

    def __init__(self, table: Table[Any, Any], mirror: Mirror, slices: Slices, now: float) -> None:
        self.table, self.mirror, self.slices, self.now = table, mirror, slices, now
        self.did_read = False
        self.written = self.removed = self.held_back = 0
        self.to_write: dict[Any, Any] = {}
        self.to_remove: set[Any] = set()
        self.left: set[Any] = set()
        self.recovered: list[Any] = []
        self.failed_now = self.removal_failed = False

    @property
    def leaves_a_gap(self) -> bool:
        """Whether a row that is wanted here is not in force. (One that could not be removed is no gap.)"""
        mirror = self.mirror
        return bool(self.held_back or mirror.unreadable or any(f.row is not ABSENT for f in mirror.failures.values()))

    @property
    def foreign(self) -> set[Any]:
        return {key for key, failure in self.mirror.failures.items() if isinstance(failure.error, Foreign)}

    # -- looking

    def look(self) -> None:
        """Find what differs; between reads only slices that are new objects are compared."""
        mirror = self.mirror
        if mirror.rows is None and not self._read():
            return
        assert mirror.rows is not None  # noqa: S101  what _read says
        if mirror.wanted is None or len(mirror.wanted) != len(self.slices):
            diff = difference(merged(self.slices, self.table.name), mirror.rows)
            self.to_write = {key: rows[1] for key, rows in diff.upserts.items()}
            self.to_remove = set(diff.deletes)
        else:
            for new, old in zip(self.slices, mirror.wanted, strict=True):
                if new is not old:
                    self._compare(new, *differing(old, new), mirror.rows)
            self._consider(mirror.again, mirror.rows)
        self._look_at_failures(mirror.rows)
        mirror.again = set()
        mirror.impatient = False

    def _read(self) -> bool:
        mirror = self.mirror
        if mirror.unreadable and self.now < mirror.unreadable.retry_at and not mirror.impatient:
            return False
        try:
            mirror.rows = dict(look(self.table, merged(self.slices, self.table.name)))
        except Overlap:
            raise
        except Exception as error:  # noqa: BLE001  a table that cannot be read is a failure like any other
            mirror.unreadable = _failed(mirror.unreadable, error, self.now, ABSENT)
            mirror.impatient = False
            return False
        if mirror.unreadable:
            self.recovered.append(READING)
        mirror.unreadable = mirror.wanted = None
        if mirror.seats:
            mirror.seats.forget()
        self.did_read = True
        return True

    def _consider(self, keys: Iterable[Any], rows: Mapping[Any, Any]) -> None:
        """Bring each key to where it belongs: to be written, to be removed, or neither."""
        for key in keys:
            wanted, there = self._wanted(key), rows.get(key, ABSENT)
            if wanted is ABSENT:
                if there is not ABSENT:
                    self.to_remove.add(key)
            elif wanted is not there and wanted != there:
                self.to_write[key] = wanted

    def _compare(
        self, piece: Mapping[Any, Any], before: Mapping[Any, Any], after: Mapping[Any, Any], rows: dict[Any, Any]
    ) -> None:
        """`_consider` for what differs in one slice; where no other slice has any of it, many in little time."""
        gone = before.keys() - after.keys() if after else before.keys()
        if not all(holds_none_of(p, after.keys()) and holds_none_of(p, gone) for p in self.slices if p is not piece):
            self._consider(after.keys() | gone, rows)
            return
        self.to_remove |= rows.keys() & gone
        if rows.keys().isdisjoint(after.keys()):
            self.to_write.update(after)
            return
        for key, row in after.items():
            there = rows.get(key, ABSENT)
            if row is not there and row != there:
                self.to_write[key] = row

    def _wanted(self, key: Any) -> Any:
        found = ABSENT
        for piece in self.slices:
            row = piece.get(key, ABSENT)
            if row is not ABSENT:
                if found is not ABSENT:
                    raise Overlap(f"{self.table.name}: two planners want {key}")
                found = row
        return found

    def _look_at_failures(self, rows: Mapping[Any, Any]) -> None:
        """A failed key is left alone until it is due, unless something else is wanted of it now."""
        for key, failure in list(self.mirror.failures.items()):
            self._consider([key], rows)
            if key not in self.to_write and key not in self.to_remove:
                del self.mirror.failures[key]  # nothing is left to do: it came right by itself, or nobody wants it
                self.recovered.append(key)
            elif self.now < failure.retry_at and not self.mirror.impatient and failure.row == self._wanted(key):
                self.to_write.pop(key, None)
                self.to_remove.discard(key)

    def keep_off(self, names: Collection[Any]) -> None:
        """Leave alone what is upon these."""
        rows = self.mirror.rows
        upon: Callable[[frozenset[Any], Mapping[Any, Any]], Iterable[Any]] | None = getattr(self.table, "upon", None)
        if not names or upon is None or rows is None:
            return
        left = set(upon(frozenset(names), {**{key: rows[key] for key in self.to_remove}, **self.to_write}))
        self._leave(left)
        self.held_back += len(left & self.to_write.keys())
        self.to_write = {key: row for key, row in self.to_write.items() if key not in left}
        self.to_remove -= left

    # -- acting

    def write(self, *, only_new: bool, only_known: bool) -> None:
        """`only_new`: add, but replace nothing; `only_known`: replace, but open nothing new."""
        rows = self.mirror.rows
        if rows is None:
            return
        if only_new or only_known:
            held = {key for key in self.to_write if (only_known if key not in rows else only_new)}
            self.held_back += len(held)
            if held:
                self._leave(held)
                self.to_write = {key: row for key, row in self.to_write.items() if key not in held}
        if self.to_write:
            errors = self._attempt(self.to_write, self.table.upsert, self.to_write)
            done = {key: row for key, row in self.to_write.items() if key not in errors} if errors else self.to_write
            rows.update(done)
            if self.mirror.seats:
                self.mirror.seats.add(done)
            self.written = len(self.to_write) - len(errors)

    def remove(self, *, allowed: bool, spare: Spare | None) -> None:
        rows = self.mirror.rows
        if rows is None or not self.to_remove:
            return
        if not allowed:
            self._leave(self.to_remove)
            return
        if spare is not None and (spared := {key for key in self.to_remove if spare(self.table.name, key, rows[key])}):
            self._leave(spared)
            self.to_remove -= spared
        if not self.to_remove:
            return
        errors = self._attempt(dict.fromkeys(self.to_remove, ABSENT), self.table.delete, self.to_remove)
        for key in self.to_remove - errors.keys() if errors else self.to_remove:
            rows.pop(key, None)
        self.removed = len(self.to_remove) - len(errors)
        self.removal_failed = bool(errors)

    def _leave(self, keys: set[Any]) -> None:
        """Not now. A failed one among them waits for its next turn, or the loop would not sleep."""
        self.left |= keys
        failures = self.mirror.failures
        for key in keys & failures.keys():
            failures[key] = replace(failures[key], retry_at=self.now + pause(failures[key].attempts))

    def _attempt(
        self, tried: Mapping[Any, Any], action: Callable[[Any], Mapping[Any, Exception]], argument: Any
    ) -> Mapping[Any, Exception]:
        """Act, and keep the books of failures. A table that raises has failed with all of its keys."""
        try:
            errors = action(argument)
        except Exception as error:  # noqa: BLE001  the other tables go on; the failure is data like any other
            errors = dict.fromkeys(tried, error)
        failures = self.mirror.failures
        for key in tried.keys() & failures.keys() - errors.keys():
            del failures[key]
            self.recovered.append(key)
        for key, why in errors.items():
            failures[key] = _failed(failures.get(key), why, self.now, tried.get(key, ABSENT))
            self.failed_now = self.failed_now or failures[key].attempts == 1
        return errors

    # -- afterwards

    def remember(self) -> None:
        """When a key failed for the first time the table is read again; otherwise the mirror may be trusted."""
        mirror = self.mirror
        if mirror.rows is None:
            return
        mirror.wanted = self.slices
        mirror.again = self.left
        if self.failed_now:
            mirror.rows = None

    def outcome(self) -> Outcome:
        failures = dict(self.mirror.failures)
        if self.mirror.unreadable:
            failures[READING] = self.mirror.unreadable
        return Outcome(self.written, self.removed, self.held_back, self.did_read, failures, tuple(self.recovered))


def _failed(before: Failure | None, error: Exception, now: float, row: Any) -> Failure:
    attempts = before.attempts + 1 if before else 1
    return Failure(error, attempts, now + pause(attempts), before.since if before else now, row)
