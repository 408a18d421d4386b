"""The table of eBPF classifiers (tc, cls_bpf): programs that see every packet on its way in or out of a link.

Ours are those with our preference and a name that begins with OURS; the name tells the version of the program, so that
an agent of another version replaces it, in place and without a packet that meets neither.  The classifiers of others
on the same link are not touched, and run after ours.  A clsact discipline that we added stays, empty: removing it
would remove what somebody else may have put there meanwhile.

What the program is, and its maps, is not known here: `program` answers its descriptor.
"""

import errno
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Final, Literal, NamedTuple

from felixlite.kernel.host import Host
from felixlite.kernel.netlink import CREATE, EXCLUSIVE, Message, Refused, attributes, each, nested, text, u32
from felixlite.rows import Classifier, ClassifierKey

OURS: Final = "fl_"
PREFERENCE: Final = 80
_HANDLE: Final = 1

_NEW_DISCIPLINE, _GET_DISCIPLINES = 36, 38
_NEW_FILTER, _DELETE_FILTER, _GET_FILTERS = 44, 45, 46
_TCMSG = struct.Struct("=BxxxiIII")  # family, index, handle, parent, info
_CLSACT_HANDLE, _CLSACT = 0xFFFF0000, 0xFFFFFFF1
_PARENTS: Final[Mapping[Literal["ingress", "egress"], int]] = {"ingress": 0xFFFFFFF2, "egress": 0xFFFFFFF3}
_KIND, _OPTIONS = 1, 2
_FD, _NAME, _FLAGS, _ID = 6, 7, 8, 11
_DIRECT_ACTION: Final = 1
_INFO: Final = PREFERENCE << 16 | 0x0300  # every protocol (ETH_P_ALL)


class Attached(NamedTuple):
    key: ClassifierKey
    name: str
    program_id: int


class Classifiers:
    name = "classifiers"
    guard = False

    def __init__(self, host: Host, program: Callable[[str], int]) -> None:
        self.host = host
        self.program = program

    def read(self) -> dict[ClassifierKey, Classifier]:
        return {found.key: Classifier(found.name) for found in attached(self.host)}

    def upon(self, names: frozenset[str], rows: Mapping[ClassifierKey, Classifier]) -> list[ClassifierKey]:
        return [key for key in rows if key.link in names]

    def upsert(self, items: Mapping[ClassifierKey, Classifier]) -> dict[ClassifierKey, Exception]:
        self.host.send(items, lambda key: self._discipline(key.link))  # refused where it is there already
        return self.host.send(items, lambda key: self._filter(key, items[key]))

    def delete(self, keys: Collection[ClassifierKey]) -> dict[ClassifierKey, Exception]:
        there = [key for key in keys if self._exists(key.link)]
        return self.host.send(
            there,
            lambda key: (
                _DELETE_FILTER,
                0,
                _TCMSG.pack(0, self.host.index(key.link), _HANDLE, _PARENTS[key.direction], _INFO),
            ),
            ignore=(errno.ENOENT, errno.ENODEV, errno.EINVAL),
        )

    def _exists(self, link: str) -> bool:
        try:
            return self.host.index(link) > 0
        except Refused:
            return False

    def _discipline(self, link: str) -> Message:
        body = _TCMSG.pack(0, self.host.index(link), _CLSACT_HANDLE, _CLSACT, 0) + text(_KIND, "clsact")
        return _NEW_DISCIPLINE, CREATE | EXCLUSIVE, body

    def _filter(self, key: ClassifierKey, row: Classifier) -> Message:
        head = _TCMSG.pack(0, self.host.index(key.link), _HANDLE, _PARENTS[key.direction], _INFO)
        how = nested(
            _OPTIONS, u32(_FD, self.program(row.program)), text(_NAME, row.program), u32(_FLAGS, _DIRECT_ACTION)
        )
        return _NEW_FILTER, CREATE, head + text(_KIND, "bpf") + how


def attached(host: Host) -> Iterator[Attached]:
    """Our classifiers that are in place now."""
    for index in _with_clsact(host):
        link = host.name(index)
        for direction, parent in _PARENTS.items() if link else ():
            for name, program_id in _filters(host, index, parent):
                yield Attached(ClassifierKey(str(link), direction), name, program_id)


def _with_clsact(host: Host) -> Iterator[int]:
    for data in host.netlink.dump(_GET_DISCIPLINES, _TCMSG.pack(0, 0, 0, 0, 0)):
        for kind, _, _, start, end in each(data):
            if kind == _NEW_DISCIPLINE and attributes(data, start + _TCMSG.size, end).get(_KIND) == b"clsact\0":
                yield _TCMSG.unpack_from(data, start)[1]


def _filters(host: Host, index: int, parent: int) -> Iterator[tuple[str, int]]:
    for data in host.netlink.dump(_GET_FILTERS, _TCMSG.pack(0, index, 0, parent, 0)):
        for kind, _, _, start, end in each(data):
            handle, _, info = _TCMSG.unpack_from(data, start)[2:]
            if kind != _NEW_FILTER or handle != _HANDLE or info >> 16 != PREFERENCE:
                continue
            options = attributes(attributes(data, start + _TCMSG.size, end).get(_OPTIONS, b""))
            name = options.get(_NAME, b"").rstrip(b"\0").decode(errors="replace")
            if name.startswith(OURS):
                yield name, int.from_bytes(options.get(_ID, b""), "little")
