"""Tables for tests of the core: dicts that count, fail on demand, and know whose rows are whose."""

from collections.abc import Mapping
from typing import Any

from felixlite.reconcile import Reconciler
from felixlite.tables import Table


class DictTable:
    """A table that is a dict. `refuse` maps a key to the error that writing or removing it meets."""

    def __init__(self, name: str = "things", *, guard: bool = False, journal: list[str] | None = None) -> None:
        self.name, self.guard = name, guard
        self.rows: dict[Any, Any] = {}
        self.refuse: dict[Any, Exception] = {}
        self.broken: Exception | None = None
        self.journal = [] if journal is None else journal
        self.reads = self.upserts = self.deletes = 0

    def read(self) -> dict[Any, Any]:
        self.reads += 1
        self._fail_if_broken()
        return dict(self.rows)

    def upsert(self, items: Mapping[Any, Any]) -> dict[Any, Exception]:
        self.upserts += 1
        self._fail_if_broken()
        for key, row in items.items():
            if key not in self.refuse:
                self.rows[key] = row
                self.journal.append(f"{self.name}: {key} = {row}")
        return {key: self.refuse[key] for key in items if key in self.refuse}

    def delete(self, keys: Any) -> dict[Any, Exception]:
        self.deletes += 1
        self._fail_if_broken()
        for key in sorted(keys, key=str):
            if key not in self.refuse:
                self.rows.pop(key, None)
                self.journal.append(f"{self.name}: no {key}")
        return {key: self.refuse[key] for key in keys if key in self.refuse}

    def links_of(self, key: Any, row: Any) -> list[Any]:
        """Rows are on the link that they name."""
        return [row]

    def upon(self, names: frozenset[str], rows: Mapping[Any, Any]) -> list[Any]:
        return [key for key, row in rows.items() if row in names]

    def _fail_if_broken(self) -> None:
        if self.broken:
            raise self.broken


_: type[Table[Any, Any]] = DictTable


class Core:
    """A reconciler with a clock; `round` converges on a plan of one slice a table."""

    def __init__(self, *tables: DictTable):
        self.tables = tables
        self.reconciler = Reconciler(tables)
        self.now = 1000.0

    def round(self, *, may_delete=True, **plan):
        slices = {name: rows if isinstance(rows, tuple) else (rows,) for name, rows in plan.items()}
        return self.reconciler.converge(slices, self.now, may_delete=may_delete)

    @property
    def mirror(self):
        return self.reconciler.mirrors[self.tables[0].name]
