"""Which items each selector selects, kept up to date one change at a time. Pure but for its own memory.

Items are whatever carries labels: endpoints, network sets.  Items with equal labels share one _Kin, so that a selector
is tried once per distinct set of labels.  A selector that needs a label (`Selector.needs`) is filed under it and is
tried only on kin that have it; so one change costs the few selectors that could care, not all of them.
Every method that changes something answers what became of it: (selector, item, selected now?).
"""

from collections.abc import Collection, Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Generic, NamedTuple, TypeVar

from felixlite.model.selector import Needs, Selector

I = TypeVar("I", bound=Hashable)  # noqa: E741  an item
Labels = Mapping[str, str]


class Turn(NamedTuple, Generic[I]):
    """An item came under a selector, or left it."""

    selector: Selector
    item: I
    selected: bool


@dataclass(eq=False, slots=True)
class _Kin(Generic[I]):
    """The items that have exactly these labels."""

    labels: Labels
    items: set[I] = field(default_factory=set)
    selectors: frozenset[Selector] = frozenset()


_Shelf = tuple[str, str | None]  # where a selector is filed: a label with its value, or any value


class SelectorIndex(Generic[I]):
    def __init__(self) -> None:
        self._kin_of: dict[I, _Kin[I]] = {}
        self._kin: dict[frozenset[tuple[str, str]], _Kin[I]] = {}
        self._by_label: dict[str, dict[str, set[_Kin[I]]]] = {}
        self._selected: dict[Selector, set[_Kin[I]]] = {}
        self._shelves: dict[_Shelf, set[Selector]] = {}
        self._filed: dict[Selector, tuple[_Shelf, ...]] = {}
        self._unfiled: set[Selector] = set()

    def put(self, item: I, labels: Labels) -> list[Turn[I]]:
        """The item has these labels now."""
        identity = frozenset(labels.items())
        new = self._kin.get(identity)
        old = self._kin_of.get(item)
        if new is None:
            new = self._new_kin(identity, labels)
        elif new is old:
            return []
        before = old.selectors if old else frozenset()
        if old:
            self._leave(old, item)
        new.items.add(item)
        self._kin_of[item] = new
        if not before:
            return [Turn(selector, item, True) for selector in new.selectors]
        return [
            *(Turn(selector, item, False) for selector in before - new.selectors),
            *(Turn(selector, item, True) for selector in new.selectors - before),
        ]

    def put_new(self, items: Collection[I], labels: Labels) -> frozenset[Selector]:
        """Items that were not here, all with these labels. Answers the selectors that they come under."""
        identity = frozenset(labels.items())
        kin = self._kin.get(identity) or self._new_kin(identity, labels)
        kin.items.update(items)
        self._kin_of.update(dict.fromkeys(items, kin))
        return kin.selectors

    def drop(self, item: I) -> list[Turn[I]]:
        kin = self._kin_of.pop(item, None)
        if kin is None:
            return []
        self._leave(kin, item)
        return [Turn(selector, item, False) for selector in kin.selectors]

    def add(self, selector: Selector) -> list[Turn[I]]:
        """Watch a selector. Nothing happens when it is watched already."""
        if selector in self._selected:
            return []
        need = min(self._choices(selector.needs), default=None)
        self._file(selector, need[1] if need else None)
        kin = {kin for kin in self._candidates(need[1] if need else None) if selector.matches(kin.labels)}
        self._selected[selector] = kin
        for each in kin:
            each.selectors |= {selector}
        return [Turn(selector, item, True) for each in kin for item in each.items]

    def remove(self, selector: Selector) -> None:
        for kin in self._selected.pop(selector, ()):
            kin.selectors -= {selector}
        for shelf in self._filed.pop(selector, ()):
            self._shelves[shelf].discard(selector)
            if not self._shelves[shelf]:
                del self._shelves[shelf]
        self._unfiled.discard(selector)

    def selected(self, selector: Selector) -> Iterator[I]:
        """The items under a watched selector."""
        for kin in self._selected[selector]:
            yield from kin.items

    def selectors_of(self, item: I) -> frozenset[Selector]:
        kin = self._kin_of.get(item)
        return kin.selectors if kin else frozenset()

    def __contains__(self, item: I) -> bool:
        return item in self._kin_of

    # -- inside

    def _new_kin(self, identity: frozenset[tuple[str, str]], labels: Labels) -> _Kin[I]:
        kin: _Kin[I] = _Kin(labels)
        self._kin[identity] = kin
        candidates = set(self._unfiled)
        for label, value in labels.items():
            self._by_label.setdefault(label, {}).setdefault(value, set()).add(kin)
            candidates |= self._shelves.get((label, value), frozenset())
            candidates |= self._shelves.get((label, None), frozenset())
        kin.selectors = frozenset(selector for selector in candidates if selector.matches(labels))
        for selector in kin.selectors:
            self._selected[selector].add(kin)
        return kin

    def _leave(self, kin: _Kin[I], item: I) -> None:
        kin.items.discard(item)
        if kin.items:
            return
        for label, value in kin.labels.items():
            kin_with = self._by_label[label][value]
            kin_with.discard(kin)
            if not kin_with:
                del self._by_label[label][value]
        for selector in kin.selectors:
            self._selected[selector].discard(kin)
        del self._kin[frozenset(kin.labels.items())]

    def _choices(self, needs: Needs) -> Iterable[tuple[int, tuple[str, tuple[str, ...]]]]:
        """Each need with the number of kin that have it; a need of no particular value comes with no values."""
        for label, values in needs:
            here = self._by_label.get(label, {})
            sizes = (len(here.get(value, ())) for value in values) if values is not None else map(len, here.values())
            yield sum(sizes), (label, tuple(sorted(values)) if values is not None else ())

    def _file(self, selector: Selector, need: tuple[str, tuple[str, ...]] | None) -> None:
        if need is None:
            self._unfiled.add(selector)
            return
        label, values = need
        shelves: tuple[_Shelf, ...] = tuple((label, value) for value in values) or ((label, None),)
        self._filed[selector] = shelves
        for shelf in shelves:
            self._shelves.setdefault(shelf, set()).add(selector)

    def _candidates(self, need: tuple[str, tuple[str, ...]] | None) -> Iterable[_Kin[I]]:
        if need is None:
            return self._kin.values()
        label, values = need
        here = self._by_label.get(label, {})
        found = (here.get(value, ()) for value in values) if values else here.values()
        return (kin for group in found for kin in group)
