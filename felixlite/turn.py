"""One table's turn in one round: look what differs, write, remove, keep the books of failures.

In which order the tables have their turns, and what one may do that another one's failure forbids, is reconcile.py's.
Pure but for the table.
"""

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final

from felixlite.backoff import pause
from felixlite.mirrors import LOST, Failure, Mirror
from felixlite.tables import ABSENT, Foreign, Overlap, Slices, Table, difference, look, merged
from felixlite.versions import differing, holds_none_of

Spare = Callable[[str, Any, Any], bool]  # (table, key, row as it is) -> leave it for now


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


class Turn:
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
        """Find what differs. Where two planners want the same key the table stays as it is, and the others go on."""
        try:
            self._look()
        except Overlap as error:
            self.to_write, self.to_remove = {}, set()
            self._cannot_be_compared(error)
            self.mirror.rows = None

    def _look(self) -> None:
        """Between reads only slices that are new objects are compared."""
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
        except Exception as error:  # noqa: BLE001  a table that cannot be read is a failure like any other
            self._cannot_be_compared(error)
            return False
        if mirror.unreadable:
            self.recovered.append(READING)
        mirror.unreadable = mirror.wanted = None
        if mirror.seats:
            mirror.seats.forget()
        self.did_read = True
        return True

    def _cannot_be_compared(self, error: Exception) -> None:
        self.mirror.unreadable = _failed(self.mirror.unreadable, error, self.now, ABSENT)
        self.mirror.impatient = False

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
        gone = {key: rows[key] for key in self.to_remove if rows[key] is not LOST}
        left = set(upon(frozenset(names), {**gone, **self.to_write}))
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
