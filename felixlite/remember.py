"""Pure functions that remember their last answer, so that what did not change costs nothing and stays the same object.

`is` then tells whoever comes next that there is nothing to do: the reconciler skips slices that are the same object.
Forgetting changes nothing but the time taken.
"""

from collections.abc import Callable, Hashable, Mapping
from operator import is_not
from typing import Any, Generic, ParamSpec, TypeVar

from felixlite.versions import Versions, differing, patched

P = ParamSpec("P")
R = TypeVar("R")
K = TypeVar("K", bound=Hashable)
V = TypeVar("V")


class Remembered(Generic[P, R]):
    """A pure function that answers the same object as long as its arguments are the same objects."""

    def __init__(self, function: Callable[P, R]) -> None:
        self.function = function
        self.arguments: tuple[Any, ...] | None = None
        self.answer: R

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:
        given = (*args, *kwargs.values())
        before = self.arguments
        if before is None or len(before) != len(given) or any(map(is_not, before, given)):
            self.answer = self.function(*args, **kwargs)
            self.arguments = given
        return self.answer


class PerKey(Generic[K, V]):
    """A pure function of single items, applied to many of a mapping at once, again only to those that are others.

    The function is given some of the items (a dict) and answers the rows of them all: with 50,000 learned prefixes one
    more costs one decision.  `context` is whatever else it reads: when that changes, everything is computed again.
    """

    def __init__(self, function: Callable[..., Mapping[Any, Any]]) -> None:
        self.function = function
        self.source: Mapping[K, V] = {}
        self.context: tuple[Any, ...] | None = None
        self.rows: Mapping[Any, Any] = {}

    def __call__(self, source: Mapping[K, V], *context: Any) -> Mapping[Any, Any]:
        same = self.context is not None and all(a is b for a, b in zip(self.context, context, strict=True))
        if not same or 2 * len(source) < len(self.source):  # what is left is soon told
            self._anew(source, context)
        elif source is not self.source:
            self._patch(source, context)
        self.source, self.context = source, context
        return self.rows

    def _anew(self, source: Mapping[K, V], context: tuple[Any, ...]) -> None:
        rows = dict(self.function(source, *context))
        if rows or self.rows:
            self.rows = Versions(rows)

    def _patch(self, source: Mapping[K, V], context: tuple[Any, ...]) -> None:
        before, after = differing(self.source, source)
        stale = self.function(before, *context) if before else {}
        fresh = self.function(after, *context) if after else {}
        if stale or fresh:
            self.rows = patched(self.rows, fresh, [key for key in stale if key not in fresh])


class Settled(Remembered[P, R]):
    """A pure function that answers the same object as long as the answer is an equal one, whatever its arguments are."""

    def __init__(self, function: Callable[P, R]) -> None:
        super().__init__(self._settled)
        self.fresh = function

    def _settled(self, *args: P.args, **kwargs: P.kwargs) -> R:
        fresh = self.fresh(*args, **kwargs)
        return self.answer if self.arguments is not None and fresh == self.answer else fresh
