"""One IPAM block: which address of it is whose. Pure arithmetic on one value, the Ledger.

A Ledger is the IPAMBlock document of the reference (2.15, 4.1) with its fields in reach; every operation answers a new
Ledger with the next sequence number.  It decides which free address comes next (the one that is free for the longest)
and what a well-formed block is.  It never decides which block to use (assign.py) and never touches a store (store.py).

Ordinals count from the first address of the block; all of them are assignable, the first and the last too.  `attributes`
stay the JSON objects that they are in the document, so that what another writer put there survives.
"""

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import lru_cache
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.datastore.names import block_name
from felixlite.errors import Problem, Rejected

API = "projectcalico.org/v3"
HOST = "host:"
VIRTUAL = "virtual:"
WINDOWS_RESERVED = "windows-reserved-ipam-handle"
BLOCK_SIZES = {4: range(20, 33), 6: range(116, 129)}

Attribute = Mapping[str, Any]  # {"handle_id": ..., "secondary": {...}} and, cooling down, {"releasedAt": ...}


class Corrupt(Rejected):
    """A block that does not add up: nothing is assigned from it until it is repaired."""


@dataclass(frozen=True, slots=True)
class Ledger:
    cidr: Prefix
    owner: str | None  # "host:<node>", "virtual:<name>"
    allocations: tuple[int | None, ...]  # ordinal -> index into attributes
    unallocated: tuple[int, ...]  # free for the longest first
    attributes: tuple[Attribute, ...]
    sequence: int
    sequences: Mapping[int, int]  # ordinal -> the sequence number at which it was allocated
    claimed_at: float | None
    envelope: Mapping[str, Any]  # the rest of the document
    rest: Mapping[str, Any]  # the rest of its spec

    @property
    def size(self) -> int:
        return len(self.allocations)

    @property
    def node(self) -> str | None:
        return self.owner.removeprefix(HOST) if self.owner and self.owner.startswith(HOST) else None

    def attribute(self, ordinal: int) -> Attribute | None:
        index = self.allocations[ordinal]
        return None if index is None else self.attributes[index]

    def prefix(self, ordinal: int) -> Prefix:
        return Prefix.from_int(int(self.cidr) + ordinal, self.cidr.width, self.cidr.family)


# -- reading and writing documents


def empty(cidr: Prefix, owner: str, now: float) -> Ledger:
    size = cidr.size
    return Ledger(cidr, owner, (None,) * size, tuple(range(size)), (), int(now * 1e9), {}, now, {}, {})


_FIELDS = {
    "cidr", "affinity", "allocations", "unallocated", "attributes", "sequenceNumber", "sequenceNumberForAllocation",
    "affinityClaimTime",
}  # fmt: skip


def parse(document: Mapping[str, Any]) -> Ledger:
    """The Ledger of a document, or Corrupt with everything that is wrong with it."""
    ledger = parse_leniently(document)
    if problems := tuple(faults(ledger)):
        raise Corrupt(problems)
    return ledger


def parse_leniently(document: Mapping[str, Any]) -> Ledger:
    """The same without checking that the block adds up (`faults` tells); still Corrupt when it cannot be read at all."""
    spec = document.get("spec") or {}
    try:
        return Ledger(
            cidr=Prefix.parse(spec["cidr"]),
            owner=spec.get("affinity") or None,
            allocations=tuple(spec.get("allocations") or ()),
            unallocated=tuple(spec.get("unallocated") or ()),
            attributes=tuple(spec.get("attributes") or ()),
            sequence=int(spec.get("sequenceNumber") or 0),
            sequences={int(k): int(v) for k, v in (spec.get("sequenceNumberForAllocation") or {}).items()},
            claimed_at=seconds(spec.get("affinityClaimTime")),
            envelope={key: value for key, value in document.items() if key != "spec"},
            rest={key: value for key, value in spec.items() if key not in _FIELDS},
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        name = (document.get("metadata") or {}).get("name", "")
        remedy = f"cannot be read ({error!r}); `felixlite ipam check --fix` rebuilds it from the endpoints"
        raise Corrupt([Problem("IPAMBlock", name, "spec", _short(spec), remedy)]) from None


def document(ledger: Ledger) -> dict[str, Any]:
    return {
        "apiVersion": API,
        "kind": "IPAMBlock",
        "metadata": {"name": block_name(ledger.cidr)},
        **ledger.envelope,
        "spec": {
            "deleted": False,
            **ledger.rest,
            "cidr": str(ledger.cidr),
            "affinity": ledger.owner,
            "affinityClaimTime": None if ledger.claimed_at is None else timestamp(ledger.claimed_at),
            "allocations": list(ledger.allocations),
            "unallocated": list(ledger.unallocated),
            "attributes": list(ledger.attributes),
            "sequenceNumber": ledger.sequence,
            "sequenceNumberForAllocation": {str(k): v for k, v in ledger.sequences.items()},
        },
    }


def timestamp(seconds_since_epoch: float) -> str:
    return _timestamp(int(seconds_since_epoch // 1))


@lru_cache(1024)  # each write of a block says again when it was claimed
def _timestamp(seconds_since_epoch: int) -> str:
    return datetime.fromtimestamp(seconds_since_epoch, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def seconds(text: Any) -> float | None:
    """Of a timestamp in RFC 3339; None for none and for what is none."""
    if not isinstance(text, str) or not text:
        return None
    try:
        found = datetime.fromisoformat(text)
    except ValueError:
        return None
    return (found if found.tzinfo else found.replace(tzinfo=UTC)).timestamp()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 80 else text[:77] + "..."


# -- asking


def holding(handle: str, attributes: Mapping[str, str]) -> Attribute:
    return {"handle_id": handle, "secondary": dict(attributes)}


def handle_of(attribute: Attribute) -> str | None:
    found = attribute.get("handle_id")
    return found if isinstance(found, str) else None


def secondary(attribute: Attribute) -> Mapping[str, str]:
    found = attribute.get("secondary")
    return found if isinstance(found, dict) else {}


def is_cooling(attribute: Attribute) -> bool:
    return bool(attribute.get("releasedAt"))


def in_use(ledger: Ledger) -> Iterator[tuple[int, Attribute]]:
    """The allocated ordinals with their attributes; those cooling down are not in use."""
    cooling = [is_cooling(attribute) for attribute in ledger.attributes]
    for ordinal, index in enumerate(ledger.allocations):
        if index is not None and not cooling[index]:
            yield ordinal, ledger.attributes[index]


def held_by(ledger: Ledger, handle: str) -> tuple[int, ...]:
    indexes = {
        index
        for index, attribute in enumerate(ledger.attributes)
        if attribute.get("handle_id") == handle and not is_cooling(attribute)
    }
    return tuple(o for o, index in enumerate(ledger.allocations) if index in indexes) if indexes else ()


def handles(ledger: Ledger) -> dict[str, int]:
    """handle -> how many addresses of this block it holds."""
    found: dict[str, int] = {}
    for _, attribute in in_use(ledger):
        if handle := handle_of(attribute):
            found[handle] = found.get(handle, 0) + 1
    return found


def is_empty(ledger: Ledger) -> bool:
    """Nobody holds an address of it, and none is cooling down."""
    return all(index is None or handle_of(ledger.attributes[index]) == WINDOWS_RESERVED for index in ledger.allocations)


def borrowed(ledger: Ledger) -> dict[Address, str]:
    """address -> the node that uses it without owning the block."""
    own = ledger.node
    found = {}
    for ordinal, attribute in in_use(ledger):
        node = secondary(attribute).get("node")
        if node and node != own:
            found[ledger.cidr.address(ordinal)] = node
    return found


# -- taking and giving back


def take(
    ledger: Ledger, count: int, attribute: Attribute, avoid: Callable[[int], bool] | None = None
) -> tuple[Ledger, tuple[int, ...]]:
    """Up to `count` addresses, those first that are free for the longest; `avoid` tells which ordinals are reserved."""
    if avoid is None:
        chosen = ledger.unallocated[:count]
        free = ledger.unallocated[count:]
    else:
        chosen = _first(count, (o for o in ledger.unallocated if not avoid(o)))
        taken = set(chosen)
        free = tuple(o for o in ledger.unallocated if o not in taken)
    return (_allocated(ledger, chosen, free, attribute), chosen) if chosen else (ledger, ())


def take_ordinal(ledger: Ledger, ordinal: int, attribute: Attribute) -> Ledger | None:
    """That very address, or None when it is not free. One that cools down may be had: somebody wants just that."""
    now = ledger.attribute(ordinal)
    if now is not None:
        return renewed(ledger, (ordinal,), attribute) if is_cooling(now) else None
    free = tuple(o for o in ledger.unallocated if o != ordinal)
    return _allocated(ledger, (ordinal,), free, attribute)


def renewed(ledger: Ledger, ordinals: Collection[int], attribute: Attribute) -> Ledger:
    """The same allocations under a new sequence number: who meant to free the old ones finds other ones."""
    kept = [None if ordinal in ordinals else index for ordinal, index in enumerate(ledger.allocations)]
    return _allocated(
        _compacted(ledger, kept, ledger.unallocated, ledger.attributes), tuple(ordinals), ledger.unallocated, attribute
    )


def _first(count: int, ordinals: Iterable[int]) -> tuple[int, ...]:
    return tuple(ordinal for ordinal, _ in zip(ordinals, range(count), strict=False))


def _allocated(ledger: Ledger, chosen: tuple[int, ...], free: tuple[int, ...], attribute: Attribute) -> Ledger:
    index, attributes = _with_attribute(ledger.attributes, attribute)
    allocations = list(ledger.allocations)
    for ordinal in chosen:
        allocations[ordinal] = index
    sequences = {**ledger.sequences, **dict.fromkeys(chosen, ledger.sequence)}
    return replace(
        ledger,
        allocations=tuple(allocations),
        unallocated=free,
        attributes=attributes,
        sequence=ledger.sequence + 1,
        sequences=sequences,
    )


def _with_attribute(attributes: tuple[Attribute, ...], wanted: Attribute) -> tuple[int, tuple[Attribute, ...]]:
    for index, attribute in enumerate(attributes):
        if attribute == wanted:
            return index, attributes
    return len(attributes), (*attributes, wanted)


def release(ledger: Ledger, ordinals: Collection[int], now: float, cooldown: float = 0) -> Ledger:
    """Without these allocations. With a cool-down the addresses stay out of use for that long."""
    gone = [o for o in ordinals if ledger.allocations[o] is not None]
    if not gone:
        return ledger
    allocations, attributes = list(ledger.allocations), ledger.attributes
    resting: int | None = None
    if cooldown > 0:
        released: Attribute = {"handle_id": None, "secondary": {}, "releasedAt": timestamp(now)}
        resting, attributes = _with_attribute(attributes, released)
    for ordinal in gone:
        allocations[ordinal] = resting
    free = ledger.unallocated if cooldown > 0 else (*ledger.unallocated, *gone)
    return _compacted(ledger, allocations, free, attributes)


def settled(ledger: Ledger, now: float, cooldown: float) -> Ledger:
    """The addresses that have cooled down are free again.

    A release time in the future beyond the cool-down is a clock that jumped: nobody should wait for it to come.
    """
    ripe = {
        index
        for index, attribute in enumerate(ledger.attributes)
        if attribute.get("releasedAt") and not -cooldown < now - (seconds(attribute["releasedAt"]) or 0) < cooldown
    }
    if not ripe:
        return ledger
    done = [o for o, index in enumerate(ledger.allocations) if index in ripe]
    allocations = [None if index in ripe else index for index in ledger.allocations]
    return _compacted(ledger, allocations, (*ledger.unallocated, *done), ledger.attributes)


def reowned(ledger: Ledger, owner: str | None, now: float | None) -> Ledger:
    return replace(ledger, owner=owner, claimed_at=now, sequence=ledger.sequence + 1)


def _compacted(
    ledger: Ledger, allocations: list[int | None], free: tuple[int, ...], attributes: tuple[Attribute, ...]
) -> Ledger:
    """Attributes that nobody uses are dropped and the indexes follow."""
    used = sorted({index for index in allocations if index is not None})
    place: dict[int | None, int | None] = {old: new for new, old in enumerate(used)}
    return replace(
        ledger,
        allocations=tuple(place.get(index) for index in allocations),
        unallocated=free,
        attributes=tuple(attributes[index] for index in used),
        sequence=ledger.sequence + 1,
        sequences={o: s for o, s in ledger.sequences.items() if allocations[o] is not None},
    )


# -- what a well-formed block is


def faults(ledger: Ledger) -> Iterator[Problem]:
    """Everything that does not add up inside this one block."""
    size, allocations = ledger.cidr.size, ledger.allocations
    if ledger.cidr.length not in BLOCK_SIZES[ledger.cidr.family]:
        legal = BLOCK_SIZES[ledger.cidr.family]
        yield _problem(ledger, "cidr", str(ledger.cidr), f"a block is between /{legal[0]} and /{legal[-1]}")
        return
    if len(allocations) != size:
        yield _problem(ledger, "allocations", len(allocations), f"must have {size} entries")
    count = len(ledger.attributes)
    legal_index = all(index is None or (type(index) is int and 0 <= index < count) for index in allocations)
    if not legal_index:
        bad = next(i for i in allocations if not (i is None or (type(i) is int and 0 <= i < count)))
        yield _problem(ledger, "allocations", bad, f"must be null or an index below {count}, the number of attributes")
    if not all(isinstance(attribute, dict) for attribute in ledger.attributes):
        yield _problem(ledger, "attributes", _short(ledger.attributes), "must be a list of objects")
    yield from _free_list_faults(ledger, size)


def _free_list_faults(ledger: Ledger, size: int) -> Iterator[Problem]:
    free = ledger.unallocated
    listed = set(free)
    if len(listed) != len(free):
        twice = next(o for o in free if free.count(o) > 1)
        yield _problem(ledger, "unallocated", twice, "is there twice: the address would be handed out twice")
    if strange := [o for o in free if type(o) is not int or not 0 <= o < size]:
        yield _problem(ledger, "unallocated", strange[0], f"must be from 0 to {size - 1}")
    really_free = {ordinal for ordinal, index in enumerate(ledger.allocations[:size]) if index is None}
    if taken := sorted((listed & set(range(len(ledger.allocations)))) - really_free):
        where = ledger.cidr.address(taken[0])
        yield _problem(ledger, "unallocated", taken[0], f"{where} is allocated and free at once")
    if lost := sorted(really_free - listed):
        where = ledger.cidr.address(lost[0])
        yield _problem(ledger, "unallocated", lost[0], f"{where} is neither allocated nor free: lost for good")


def _problem(ledger: Ledger, field: str, value: object, remedy: str) -> Problem:
    return Problem(
        "IPAMBlock", block_name(ledger.cidr), field, value, f"{remedy}; `felixlite ipam check --fix` repairs it"
    )


def mended(ledger: Ledger) -> Ledger:
    """Without faults, and without freeing an address that anybody may hold.

    An allocation whose attribute is lost stays allocated, to nobody that we know: the check across endpoints finds its
    holder or leaves it to the garbage collector.
    """
    size = ledger.cidr.size
    lost: Attribute = {"handle_id": None, "secondary": {}}
    attributes: list[Attribute] = [a if isinstance(a, dict) else lost for a in ledger.attributes]
    allocations: list[int | None] = []
    for index in (*ledger.allocations[:size], *(None,) * (size - len(ledger.allocations))):
        legal = index is None or (type(index) is int and 0 <= index < len(ledger.attributes))
        if not legal and lost not in attributes:
            attributes.append(lost)
        allocations.append(index if legal else attributes.index(lost))
    free = [o for o in dict.fromkeys(ledger.unallocated) if type(o) is int and 0 <= o < size]
    free = [o for o in free if allocations[o] is None]
    missing = sorted({o for o, index in enumerate(allocations) if index is None} - set(free))
    sound = replace(ledger, sequences={o: s for o, s in ledger.sequences.items() if 0 <= o < size})
    return _compacted(sound, allocations, (*free, *missing), tuple(attributes))
