"""Links that somebody in this process is just making, and tells the core of himself, together with what belongs on them.

The kernel's word of such a link would come first and cost a round of its own, in the very moment in which the maker is
waited for.  It is kept until he is done, and then told: so nothing is lost, whatever became of his work.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from felixlite.snapshot import Change, LinkState, Put


class Expected:
    """`making` is for the makers' threads, the rest for the one that hears the kernel."""

    def __init__(self, put: Callable[[Sequence[Change]], Any]) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._kept: dict[str, LinkState] = {}
        self._made: dict[str, LinkState] = {}

    @contextmanager
    def making(self, name: str) -> Iterator[None]:
        """One maker of a name at a time."""
        with self._lock:
            self._names.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._names.discard(name)
                self._made.pop(name, None)
                if kept := self._kept.pop(name, None):
                    self._put([Put("links", name, kept)])

    def made(self, link: LinkState) -> None:
        """Within `making`: the link and its other end are there, as this says; nobody has to look."""
        self._made[link.name] = link

    def as_made(self, name: str) -> LinkState | None:
        """What its maker says, who is still at it."""
        return self._made.get(name)

    def keeps(self, name: str, told: LinkState) -> bool:
        """Whether the news that the link is so now is kept for later."""
        with self._lock:
            if name not in self._names:
                return False
            self._kept[name] = told
            return True

    def is_gone(self, name: str) -> None:
        with self._lock:
            self._kept.pop(name, None)
