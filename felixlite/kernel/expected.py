"""Links that somebody in this process is just making, and tells the core of himself, together with what belongs on them.

The kernel's word of such a link would come first and cost a round of its own, in the very moment in which the maker is
waited for.  It is kept until he is done, and then told: so nothing is lost, whatever became of his work.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from felixlite.snapshot import Change, Gone, LinkState, Put


class Expected:
    """`making` is for the makers' threads, the rest for the one that hears the kernel."""

    def __init__(self, put: Callable[[Sequence[Change]], Any]) -> None:
        self._put = put
        self._lock = threading.Lock()
        self._names: set[str] = set()
        self._kept: dict[
            str, tuple[int, Put | Gone, bool]
        ] = {}  # with the link's index, and whether it is the first of it
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
                made, kept = self._made.pop(name, None), self._kept.pop(name, None)
                if kept and not _is_outdated(*kept, made):
                    self._put([kept[1]])

    def made(self, link: LinkState) -> None:
        """Within `making`: the link and its other end are there, as this says; nobody has to look."""
        self._made[link.name] = link

    def as_made(self, name: str) -> LinkState | None:
        """What its maker says, who is still at it."""
        return self._made.get(name)

    def keeps(self, name: str, index: int, news: Put | Gone) -> bool:
        """Whether the news of the link with this name and index is kept for later."""
        with self._lock:
            if name not in self._names:
                return False
            before = self._kept.get(name)
            self._kept[name] = index, news, before is None or before[0] != index
            return True


def _is_outdated(index: int, news: Put | Gone, is_first: bool, made: LinkState | None) -> bool:
    """The link that had the name before is gone, and its successor is known already. Or it is the first word of the link, and
    its maker has switched it on since: the kernel's next word."""
    if made is None:
        return False
    if isinstance(news, Gone):
        return made.index != index
    return is_first and made.index == index and made.on and not news.value.on
