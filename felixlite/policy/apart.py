"""Writing rows that were refused together: in groups, each halved until the bad ones stand alone. Pure."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import TypeVar

from felixlite.errors import FelixliteError
from felixlite.model.policy import Action
from felixlite.policy.rows import (
    GATES,
    Body,
    Chained,
    EndpointChain,
    Key,
    Match,
    PolicyChain,
    Row,
    Rule,
    marks_of,
)

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


# -- marks: what one chain notes on a packet in the marks of one mask, a chain of another mask may read as something else


def speak_alike(items: Mapping[Key, Row], known: Mapping[Key, Row]) -> None:
    """Refused when these chains would stand beside gates that are spelled with other marks."""
    gates = items.get(GATES) or known.get(GATES)
    strange = [str(key) for key, row in items.items() if key.kind in _MARKING and marks_of(row) != marks_of(gates)]
    if gates and strange:
        raise Refused(f"iptablesMarkMask: the gates are not spelled with it yet, and {strange[0]} waits for them")


def silenced(items: Mapping[Key, Row], known: Mapping[Key, Row]) -> dict[Key, Row]:
    """For each chain that stands there with other marks, one that denies and looks at no mark, until it is rewritten."""
    if GATES not in known:
        return {}  # nothing leads to them
    return {
        key: Chained(f"denies~{marks_of(known[GATES])}", _denying(row.body))
        for key, row in items.items()
        if key.kind in _MARKING and key in known and isinstance(row, Chained) and marks_of(known[key]) != marks_of(row)
    }


_MARKING = ("policy", "profile", "endpoint")


def _denying(body: Body | None) -> Body | None:
    match body:
        case PolicyChain():
            return replace(body, rules=(Rule(Match(), Action.DENY),))
        case EndpointChain():
            return replace(body, tiers=(), profiles=(), mac=None)
        case _:
            return body
