"""Which pools addresses may be assigned from, when pools overlap, end or are switched off. Pure.

Of two pools that overlap the one that was there first wins: in use before ending before disabled before new, then the older one,
then by name (reference 2.1).  What is decided is written as the condition Allocatable, which IPAM reads.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from felixlite.addresses import Prefix
from felixlite.datastore.store import Document, metadata

CONDITION = "Allocatable"
LONGEST = 1024  # characters of a message


class Verdict(NamedTuple):
    status: str
    reason: str
    message: str


OK = Verdict("True", "OK", "addresses may be assigned from this pool")
TERMINATING = Verdict("False", "Terminating", "the pool was deleted, and goes when its last address is released")
DISABLED = Verdict("False", "PoolDisabled", "spec.disabled is true")


def verdicts(pools: Iterable[Document]) -> Mapping[str, Verdict]:
    """By the name of the pool. A pool whose CIDR cannot be read gets none: it is no pool."""
    found: dict[str, Verdict] = {}
    standing: list[tuple[str, Prefix]] = []
    for _, _, name, cidr, document in sorted((*_rank(document), document) for document in pools if _cidr(document)):
        over = next((other for other, theirs in standing if theirs.overlaps(cidr)), None)
        if over:
            found[name] = Verdict("False", "CIDROverlap", f"{cidr} overlaps with IPPool {over}, which was there before")
            continue
        standing.append((name, cidr))
        found[name] = _of_itself(document)
    return found


def invalid(why: str) -> Verdict:
    """Somebody wrote past the schema; agents go on with what the pool was before."""
    return Verdict("False", "Invalid", why if len(why) <= LONGEST else f"{why[: LONGEST - 3]}...")


def is_terminating(document: Document) -> bool:
    return bool(metadata(document).get("deletionTimestamp"))


def condition(document: Document) -> Mapping[str, Any]:
    """As it is now; empty: nobody has judged this pool yet."""
    return next((one for one in _conditions(document) if one.get("type") == CONDITION), {})


def judged(document: Document, verdict: Verdict, now: str) -> Document:
    """With the condition; `now` only if it changes."""
    before = condition(document)
    since = before.get("lastTransitionTime") if before.get("status") == verdict.status else None
    one = {"type": CONDITION, **verdict._asdict(), "lastTransitionTime": since or now}
    others = [other for other in _conditions(document) if other.get("type") != CONDITION]
    return {**document, "status": {**(document.get("status") or {}), "conditions": [*others, one]}}


def says(document: Document, verdict: Verdict) -> bool:
    return {name: condition(document).get(name) for name in verdict._fields} == verdict._asdict()


def _of_itself(document: Document) -> Verdict:
    if is_terminating(document):
        return TERMINATING
    return DISABLED if _spec(document).get("disabled") is True else OK


def _rank(document: Document) -> tuple[int, str, str, Prefix]:
    said, cidr = metadata(document), _cidr(document)
    assert cidr is not None  # noqa: S101  asked by the caller
    before = condition(document).get("status") == "True"
    order = {OK: 0 if before else 3, TERMINATING: 1, DISABLED: 2}[_of_itself(document)]
    return order, str(said.get("creationTimestamp") or ""), str(said.get("name")), cidr


def _cidr(document: Document) -> Prefix | None:
    try:
        return Prefix.parse(str(_spec(document).get("cidr")))
    except ValueError:
        return None


def _spec(document: Document) -> Mapping[str, Any]:
    spec = document.get("spec")
    return spec if isinstance(spec, dict) else {}


def _conditions(document: Document) -> list[Mapping[str, Any]]:
    status = document.get("status")
    found = status.get("conditions") if isinstance(status, dict) else None
    return [one for one in found if isinstance(one, dict)] if isinstance(found, list) else []
