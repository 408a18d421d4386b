"""The table of routing policy rules (`ip rule`). Ours carry our protocol number."""

import errno
import struct
from collections.abc import Collection, Mapping
from typing import Final

from felixlite.addresses import Prefix
from felixlite.kernel import messages
from felixlite.kernel.host import Host
from felixlite.kernel.netlink import CREATE, EXCLUSIVE, attribute, attributes, each, u8, u32
from felixlite.rows import ROUTE_PROTOCOL, Rule, RuleKey

_RULE = struct.Struct("=BBBBBBBBI")  # family, dst length, src length, tos, table, reserved, reserved, action, flags
_TO_TABLE: Final = 1
_DST, _SRC, _PRIORITY, _MARK, _TABLE, _MASK, _PROTOCOL = 1, 2, 6, 10, 15, 16, 21


class Rules:
    name = "rules"
    guard = False

    def __init__(self, host: Host) -> None:
        self.host = host

    def read(self) -> dict[RuleKey, Rule]:
        rows = {}
        for family in (2, 10):
            request = _RULE.pack(family, 0, 0, 0, 0, 0, 0, 0, 0)
            for data in self.host.netlink.dump(messages.GET_RULE, request):
                for kind, _, _, start, end in each(data):
                    if kind == messages.NEW_RULE and (key := _key(data, start, end)):
                        rows[key] = Rule()
        return rows

    def upsert(self, items: Mapping[RuleKey, Rule]) -> dict[RuleKey, Exception]:
        # a key says all about a rule, so one that exists is the wanted one
        return self.host.send(
            items, lambda key: (messages.NEW_RULE, CREATE | EXCLUSIVE, _body(key)), ignore=(errno.EEXIST,)
        )

    def delete(self, keys: Collection[RuleKey]) -> dict[RuleKey, Exception]:
        return self.host.send(
            keys, lambda key: (messages.DELETE_RULE, 0, _body(key)), ignore=(errno.ENOENT, errno.EAFNOSUPPORT)
        )


def _body(key: RuleKey) -> bytes:
    to, source = key.destination, key.source
    table = key.table if key.table < 256 else 0
    parts = [
        _RULE.pack(
            2 if key.family == 4 else 10,
            to.length if to else 0,
            source.length if source else 0,
            0,
            table,
            0,
            0,
            _TO_TABLE,
            0,
        ),
        u32(_PRIORITY, key.priority),
        u32(_TABLE, key.table),
        u8(_PROTOCOL, ROUTE_PROTOCOL),
    ]
    parts += [attribute(_DST, to.packed)] if to else []
    parts += [attribute(_SRC, source.packed)] if source else []
    parts += [u32(_MARK, key.mark), u32(_MASK, 0xFFFFFFFF)] if key.mark is not None else []
    return b"".join(parts)


def _key(data: bytes, start: int, end: int) -> RuleKey | None:
    """The key of a rule of ours; None for somebody else's."""
    family, to_length, source_length, _, table, _, _, action, _ = _RULE.unpack_from(data, start)
    found = attributes(data, start + 12, end)
    if found.get(_PROTOCOL) != bytes([ROUTE_PROTOCOL]) or action != _TO_TABLE:
        return None
    return RuleKey(
        priority=_number(found.get(_PRIORITY, b"")),
        family=4 if family == 2 else 6,
        table=_number(found[_TABLE]) if _TABLE in found else table,
        source=Prefix(found[_SRC], source_length) if _SRC in found else None,
        destination=Prefix(found[_DST], to_length) if _DST in found else None,
        mark=_number(found[_MARK]) if _MARK in found else None,
    )


def _number(data: bytes) -> int:
    return int.from_bytes(data, "little")
