"""Mappings that change often and a little: the next version of 50,000 rows costs as much as what is other in it. Pure.

A `Versions` is one version, and never changes for whoever holds it.  The newest version owns the dict; an older one
remembers what its successor has otherwise, and looks up the rest there.  So the newest is as fast as a dict, an old one
is a little slower, and what differs between two of them is read off (`differing`), not searched.
One thread makes new versions; others may read any version meanwhile.

Before this: snapshot.py and remember.py make versions.  After: remember.py and reconcile.py ask what changed.
"""

# ruff: noqa: SLF001  versions know one another's inside
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import compress, count, islice
from operator import is_not
from typing import Any, Final, TypeVar

K = TypeVar("K")
V = TypeVar("V")

_ABSENT: Final = object()


class Versions(Mapping[K, V]):
    """Takes over the dict that it is given."""

    __slots__ = ("_next", "_put", "_rows", "_size", "_undo", "_weight")

    def __init__(self, rows: dict[K, V]) -> None:
        self._rows = rows
        self._next: Versions[K, V] | None = None
        self._undo: dict[K, Any] = {}  # what `_next` has otherwise: key -> our row
        self._put: Mapping[K, V] = {}  # ... and its rows
        self._size = 0
        self._weight = 0  # of all that was remembered by versions before this one

    def after(self, values: Mapping[K, V], gone: Collection[K] = ()) -> "Versions[K, V]":
        """The version with these rows put in, and without those that are gone."""
        rows = self._rows
        if self._next is not None or self._weight > len(rows) + 1000:  # who kept an old version must not cost much more
            return Versions(self.copy()).after(values, gone)
        if 2 * len(gone) > len(rows):  # what is left is soon told
            without = set(gone)
            left = {key: row for key, row in rows.items() if key not in without}
            return Versions(left | {key: row for key, row in values.items() if key not in without})
        successor, self._size = Versions(rows), len(rows)
        undo: dict[K, Any] = {}
        # another thread that reads us meanwhile has to find a row remembered before it is another one in the dict
        self._undo, self._put, self._next = undo, values, successor
        if rows.keys().isdisjoint(values.keys()):
            undo.update(dict.fromkeys(values, _ABSENT))
        else:
            undo.update({key: rows.get(key, _ABSENT) for key in values})
        rows.update(values)
        if gone:
            without = set(gone)
            self._put = {key: row for key, row in values.items() if key not in without} if values else values
        for key in gone:
            if (row := rows.get(key, _ABSENT)) is not _ABSENT:
                undo.setdefault(key, row)
                del rows[key]
        successor._weight = self._weight + len(undo)
        return successor

    def get(self, key: Any, default: Any = None) -> Any:
        version = self
        while version._next is not None:
            version = version._next
        found = version._rows.get(key, default)
        version = self
        while version._next is not None:
            if key in version._undo:
                found = version._undo[key]
                return default if found is _ABSENT else found
            version = version._next
        return found

    def __getitem__(self, key: K) -> V:
        found = self.get(key, _ABSENT)
        if found is _ABSENT:
            raise KeyError(key)
        return found  # type: ignore[no-any-return]  # `get` takes any default

    def __contains__(self, key: object) -> bool:
        return self.get(key, _ABSENT) is not _ABSENT

    def __len__(self) -> int:
        return len(self._rows) if self._next is None else self._size

    def __iter__(self) -> Iterator[K]:
        return iter(self.copy())

    def keys(self) -> Any:
        return self.copy().keys()

    def values(self) -> Any:
        return self.copy().values()

    def items(self) -> Any:
        return self.copy().items()

    def holds_none_of(self, keys: Collection[K]) -> bool:
        """As `keys().isdisjoint`, without the copy that makes them safe to walk while the newest version moves on."""
        if self._next is None:
            return self._rows.keys().isdisjoint(keys)
        return not any(key in self for key in keys)

    def since(self, older: "Versions[K, V]") -> "tuple[Mapping[K, V], Mapping[K, V]] | None":
        """The rows of an older version and our own where they may differ; None when it is no ancestor of this one."""
        if older._next is self:
            return {key: row for key, row in older._undo.items() if row is not _ABSENT}, older._put
        keys: set[K] = set()
        version = older
        while version is not self:
            if version._next is None:
                return None
            keys.update(version._undo)
            version = version._next
        return _picked(older, keys), _picked(self, keys)

    def copy(self) -> dict[K, V]:
        """All rows; safe in every thread, as a dict is copied without a pause."""
        while True:
            steps, version = [], self
            while version._next is not None:
                steps.append(version._undo)
                version = version._next
            rows = version._rows.copy()
            if version._next is None:  # else it moved on while we looked
                break
        for undo in reversed(steps):
            for key, row in undo.items():
                if row is _ABSENT:
                    rows.pop(key, None)
                else:
                    rows[key] = row
        return rows


def patched(rows: Mapping[K, V], values: Mapping[K, V], gone: Collection[K] = ()) -> Versions[K, V]:
    """`after` for any mapping; one that is not a version yet is copied."""
    return (rows if isinstance(rows, Versions) else Versions(dict(rows))).after(values, gone)


def holds_none_of(rows: Mapping[K, V], keys: Collection[K]) -> bool:
    return rows.holds_none_of(keys) if isinstance(rows, Versions) else rows.keys().isdisjoint(keys)


# -- what changed ----------------------------------------------------------------------------------------------------


def differing(old: Mapping[K, V], new: Mapping[K, V]) -> tuple[Mapping[K, V], Mapping[K, V]]:
    """The rows of both under the keys whose row may differ."""
    if isinstance(new, Versions) and isinstance(old, Versions) and (found := new.since(old)) is not None:
        return found
    old, new = _dict(old), _dict(new)
    if 2 * len(new) < len(old):
        same = {key for key, row in new.items() if old.get(key, _ABSENT) is row}
        return {key: row for key, row in old.items() if key not in same} if same else old, new
    if not old:
        return old, new
    keys = changed_keys(old, new)
    return _picked(old, keys), _picked(new, keys)


def _picked(rows: Mapping[K, V], keys: Iterable[K]) -> dict[K, V]:
    get = rows.get
    return {key: row for key in keys if (row := get(key, _ABSENT)) is not _ABSENT}  # type: ignore[misc]  # a row


def changed_keys(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> Collection[Any]:
    """Keys whose row may differ between two versions of a mapping: all whose row is another object, and a few more.

    Where neither is a version of the other they are mostly the same objects in the same order.  So they are walked side
    by side, comparing identities, which hashes nothing: 50,000 rows take 2 ms where a look-up of each takes 15.
    """
    if isinstance(new, Versions) and isinstance(old, Versions) and (found := new.since(old)) is not None:
        return found[0].keys() | found[1].keys()
    return _compared(_dict(old), _dict(new))


def _dict(rows: Mapping[Any, Any]) -> Mapping[Any, Any]:
    return rows.copy() if isinstance(rows, Versions) else rows


def _compared(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> set[Any]:
    if len(old) == len(new) and not any(map(is_not, old, new)):
        return set(compress(new, map(is_not, old.values(), new.values())))
    old_keys, new_keys = list(old), list(new)
    old_rows, new_rows = list(old.values()), list(new.values())
    found: set[Any] = set()
    i = j = 0
    for _ in range(_DETOURS):
        parting = _first_difference(old_keys, new_keys, i, j)
        found.update(
            compress(
                islice(new_keys, j, j + parting),
                map(is_not, islice(old_rows, i, i + parting), islice(new_rows, j, None)),
            )
        )
        i, j = i + parting, j + parting
        if i == len(old_keys) or j == len(new_keys):
            return found.union(old_keys[i:], new_keys[j:])
        if old_keys[i] not in new or old_keys[i + 1 : i + 2] == new_keys[j : j + 1]:
            found.add(old_keys[i])  # it left, or moved to the end
            i += 1
        elif new_keys[j] not in old or new_keys[j + 1 : j + 2] == old_keys[i : i + 1]:
            found.add(new_keys[j])
            j += 1
        else:
            break
    get = old.get
    return found.union(
        (key for key in old_keys[i:] if key not in new),
        (key for key in new_keys[j:] if get(key, _ABSENT) is not new[key]),
    )


_DETOURS: Final = 64


def _first_difference(left: list[Any], right: list[Any], i: int, j: int) -> int:
    """How far left[i:] and right[j:] are the same objects."""
    end = min(len(left) - i, len(right) - j)
    return next(compress(count(), map(is_not, islice(left, i, i + end), islice(right, j, None))), end)
