"""etcd's transactions packed by hand, and what of the answer to a write counts. Pure.

protobuf runs in its pure-Python mode here (cluster.py says why): to build and parse one transaction of two keys with it
costs 0.3 ms, more than the rest of the request.  Only the few fields that we use are known (etcd's rpc.proto; the
encoding is protobuf's: a field is a tag and a value, a message in a message is its length and its bytes).
What a transaction read is unpacked by hand, too; lists come back through protobuf.
"""

from collections.abc import Iterable, Iterator

_SMALL = tuple(bytes((value,)) for value in range(0x80))
_TAGS = tuple(_SMALL[number << 3 | 2] for number in range(4))  # of what has a length
_MOD = b"\x10\x02"  # Compare.target = MOD; its result, EQUAL, is the default


def compare(key: bytes, revision: int) -> bytes:
    """The key is at this ModRevision; 0: there is none."""
    return _MOD + _sized(3, key) + b"\x30" + varint(revision)


def put(key: bytes, value: bytes) -> bytes:
    return _sized(2, _sized(1, key) + _sized(2, value))


def delete(key: bytes) -> bytes:
    return _sized(3, _sized(1, key))


def read(key: bytes) -> bytes:
    return _sized(1, _sized(1, key))


def transaction(compares: Iterable[bytes], success: Iterable[bytes], failure: Iterable[bytes] = ()) -> bytes:
    return b"".join(
        _sized(number, part) for number, parts in ((1, compares), (2, success), (3, failure)) for part in parts
    )


def written(answer: bytes) -> int | None:
    """The revision at which a transaction that only writes succeeded; None when it did not."""
    succeeded, revision = False, 0
    for number, value in _fields(answer):
        if number == 1 and isinstance(value, bytes):  # the header
            revision = next((found for field, found in _fields(value) if field == 3 and isinstance(found, int)), 0)
        elif number == 2:
            succeeded = bool(value)
            break  # the rest are answers to the single writes
    return revision if succeeded else None


def found(answer: bytes) -> Iterator[tuple[bytes, int] | None]:
    """Value and ModRevision of each key that a transaction read; None: there is none."""
    for number, operation in _fields(answer):
        if number == 3:  # ResponseOp{response_range: 1{kvs: 2}}
            yield next((_kept(kv) for said in _inside(operation, 1) for kv in _inside(said, 2)), None)


def _inside(message: int | bytes, number: int) -> Iterator[bytes]:
    if isinstance(message, bytes):
        yield from (value for field, value in _fields(message) if field == number and isinstance(value, bytes))


def _kept(kv: bytes) -> tuple[bytes, int]:
    fields = dict(_fields(kv))
    value, revision = fields.get(5, b""), fields[3]  # an empty value is left out
    if not (isinstance(value, bytes) and isinstance(revision, int)):
        raise TypeError(f"{kv!r} is no KeyValue of etcd")
    return value, revision


def _sized(number: int, data: bytes) -> bytes:
    size = len(data)
    return _TAGS[number] + (_SMALL[size] if size < 0x80 else varint(size)) + data


def varint(value: int) -> bytes:
    """Seven bits a byte, the lowest first."""
    parts = bytearray()
    while value >= 0x80:
        parts.append(value & 0x7F | 0x80)
        value >>= 7
    parts.append(value)
    return bytes(parts)


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """Number and value of each field; etcd's answers have numbers and messages only."""
    at = 0
    while at < len(data):
        tag, at = _number(data, at)
        size, at = _number(data, at)
        if tag & 7 == 2:
            yield tag >> 3, data[at : at + size]
            at += size
        else:
            yield tag >> 3, size


def _number(data: bytes, at: int) -> tuple[int, int]:
    found = shift = 0
    while True:
        byte = data[at]
        at += 1
        found |= (byte & 0x7F) << shift
        if byte < 0x80:
            return found, at
        shift += 7
