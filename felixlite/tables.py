"""What a table is, and what differs between what it holds and what is wanted of it.

The planners (plan.py) say what is wanted, in slices that they recompute one by one; whoever implements `Table` makes it
so; reconcile.py decides when and in which order.  Pure.
"""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any, Final, Protocol, TypeVar

from felixlite.versions import Versions

K = TypeVar("K")
V = TypeVar("V")

Slices = tuple[Mapping[Any, Any], ...]
Plan = Mapping[str, Slices]  # table name -> its rows


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
    """Two planners want the same key: a bug, not a race. The table says so and stays as it is (turn.py)."""


class Mark:
    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


ABSENT: Final = Mark("absent")


@dataclass(frozen=True, slots=True)
class Diff:
    """What would change in one table: `upserts` maps key -> (row before or None, row after)."""

    upserts: Mapping[Any, tuple[Any, Any]]
    deletes: Mapping[Any, Any]

    def __bool__(self) -> bool:
        return bool(self.upserts or self.deletes)


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
