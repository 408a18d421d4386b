"""Writing rows that were refused together: in groups, each halved until the bad ones stand alone. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import TypeVar

from felixlite.errors import FelixliteError
from felixlite.policy.rows import Key, Row

K = TypeVar("K")
V = TypeVar("V")


class Refused(FelixliteError):
    """The kernel (or the program that speaks to it) did not take a transaction; nothing of it was done."""


class Busy(Refused):
    """Somebody else holds what we need. Nothing is wrong with the rows, and trying them apart would only wait again."""


def halved(items: Mapping[K, V], write: Callable[[Mapping[K, V]], None]) -> dict[K, Exception]:
    """Write all that can be written; answer what could not, each with its own reason."""
    if not items:
        return {}
    try:
        write(items)
    except Refused as error:
        if len(items) == 1 or isinstance(error, Busy):
            return dict.fromkeys(items, error)
        pairs = list(items.items())
        middle = len(pairs) // 2
        return halved(dict(pairs[:middle]), write) | halved(dict(pairs[middle:]), write)
    return {}


def groups(items: Mapping[Key, Row]) -> Iterator[dict[Key, Row]]:
    """What others refer to comes first; while the gates stand and the dispatch is empty, everything is dropped."""
    for kinds in (("set",), ("gates",), ("policy", "profile"), ("endpoint",), ("dispatch",), ("nat",)):
        yield {key: row for key, row in items.items() if key.kind in kinds}


def removal_order(key: Key) -> int:
    """What refers to others goes first."""
    return ("dispatch", "gates", "nat", "endpoint", "policy", "profile", "set").index(key.kind)
