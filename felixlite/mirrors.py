"""What is known of one table between two readings: its rows, what failed, and which rows are upon which link. Pure.

A mirror is trusted until somebody else may have touched the table.  reconcile.py keeps one for each table, turn.py
brings it up to date.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field
from operator import is_not
from typing import Any, Final

from felixlite.tables import ABSENT, Mark, Slices, Table

LinksOf = Callable[[Any, Any], Collection[str | None]]
MANY = 1000  # rows: after so many it is as well to look at all of them again


@dataclass(frozen=True, slots=True)
class Failure:
    error: Exception
    attempts: int
    retry_at: float
    since: float
    row: Any = ABSENT  # what was tried: the row to be written; ABSENT: the removal


LOST: Final = Mark("lost")  # stands for a row that may not be there any more


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

    def is_idle(self, slices: Slices) -> bool:
        """Nothing else is wanted than in the last round, and that is so."""
        wanted = self.wanted
        if wanted is None or self.rows is None or len(wanted) != len(slices) or any(map(is_not, wanted, slices)):
            return False
        return self.settled


def seats(table: Table[Any, Any]) -> Seats | None:
    links_of: LinksOf | None = getattr(table, "links_of", None)
    return Seats(links_of) if links_of else None
