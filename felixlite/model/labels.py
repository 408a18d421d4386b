"""Many sets of labels, arranged so that a selector finds its matches without looking at each. Pure.

Each set of labels is a row; for every label and value the rows that carry it are the bits of one integer, so that
`&&`, `||` and `!` are single operations on integers.  A change of one row costs its labels, not the table.
"""

from collections.abc import Callable, Hashable, Iterator, Mapping
from typing import Generic, TypeVar

from felixlite.model.selector import Labels, Rows, Selector

K = TypeVar("K", bound=Hashable)


class LabelIndex(Generic[K]):
    def __init__(self, rows: Mapping[K, Labels] | None = None) -> None:
        self.every: Rows = 0
        self._keys: list[K | None] = []
        self._row_of: dict[K, int] = {}
        self._free: list[int] = []
        self._labels: dict[K, Labels] = {}
        self._rows: dict[str, dict[str, Rows]] = {}  # label -> value -> rows
        if rows:
            self._fill(rows)

    def put(self, key: K, labels: Labels) -> None:
        if key in self._row_of:
            self.drop(key)
        row = self._free.pop() if self._free else len(self._keys)
        if row == len(self._keys):
            self._keys.append(key)
        self._keys[row] = key
        self._row_of[key], self._labels[key] = row, dict(labels)
        bit = 1 << row
        self.every |= bit
        for label, value in labels.items():
            values = self._rows.setdefault(label, {})
            values[value] = values.get(value, 0) | bit

    def drop(self, key: K) -> None:
        row = self._row_of.pop(key)
        bit = 1 << row
        self.every &= ~bit
        for label, value in self._labels.pop(key).items():
            values = self._rows[label]
            values[value] &= ~bit
            if not values[value]:
                del values[value]
        self._keys[row] = None
        self._free.append(row)

    def select(self, selector: Selector) -> set[K]:
        """The keys whose labels the selector matches."""
        rows = selector.find(self)
        if rows == self.every:
            return set(self._row_of)
        return set(self._named(rows))

    def count(self, selector: Selector) -> int:
        return selector.find(self).bit_count()

    # -- what selectors ask (model/selector.py, Index)

    def having(self, label: str) -> Rows:
        rows = 0
        for found in self._rows.get(label, {}).values():
            rows |= found
        return rows

    def equal(self, label: str, value: str) -> Rows:
        return self._rows.get(label, {}).get(value, 0)

    def where(self, label: str, test: Callable[[str], bool]) -> Rows:
        rows = 0
        for value, found in self._rows.get(label, {}).items():
            if test(value):
                rows |= found
        return rows

    def _named(self, rows: Rows) -> Iterator[K]:
        keys = self._keys
        bits = rows.to_bytes((len(keys) + 7) // 8, "little")
        for base, byte in enumerate(bits):
            if byte:
                for bit in _BITS[byte]:
                    yield keys[8 * base + bit]  # type: ignore[misc]  # a row with its bit set has a key

    def _fill(self, rows: Mapping[K, Labels]) -> None:
        """As `put` for each, without building every integer bit by bit."""
        self._keys = list(rows)
        self._row_of = {key: row for row, key in enumerate(rows)}
        self._labels = {key: dict(labels) for key, labels in rows.items()}
        self.every = (1 << len(rows)) - 1
        members: dict[tuple[str, str], list[int]] = {}
        for row, labels in enumerate(rows.values()):
            for item in labels.items():
                members.setdefault(item, []).append(row)
        for (label, value), found in members.items():
            self._rows.setdefault(label, {})[value] = _bits(found)


def _bits(rows: list[int]) -> Rows:
    if len(rows) < 16:
        return sum(1 << row for row in rows)
    octets = bytearray(rows[-1] // 8 + 1)
    for row in rows:
        octets[row >> 3] |= 1 << (row & 7)
    return int.from_bytes(octets, "little")


_BITS = tuple(tuple(bit for bit in range(8) if byte >> bit & 1) for byte in range(256))
