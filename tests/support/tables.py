"""Tables for tests of the core: dicts that count, fail on demand, and know whose rows are whose."""

from collections.abc import Mapping
from typing import Any

from felixlite.reconcile import Table


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
