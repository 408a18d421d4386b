"""The table of the MTUs of pods' ends. Key: the host's end; row: the MTU of the other end.

A pod's interface is out of reach for a socket of the host: the namespace has to be found and entered.  The kernel
numbers the namespaces that a host's links lead to (IFLA_LINK_NETNSID); which of the namespaces of this machine has that
number is asked of each (RTM_GETNSID).  That is done only when an MTU is to be changed, so nothing is remembered, and no
descriptor keeps a dead pod's namespace alive.
"""

import os
import struct
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from felixlite.kernel import messages
from felixlite.kernel.host import Host
from felixlite.kernel.netlink import Refused, Socket, attributes, u32
from felixlite.snapshot import LinkState

_IFINFO = struct.Struct("=BxHiII")
_GET_NSID: Final = 90
_LINK, _MTU, _LINK_NSID, _TARGET_NSID = 5, 4, 37, 46
_NSID, _NSID_FD = 1, 3
PLACES: Final = (Path("/run/netns"), Path("/run/docker/netns"))


class PodMtus:
    name = "pod mtus"
    guard = False

    def __init__(self, host: Host, as_made: Callable[[str], LinkState | None] = lambda _: None) -> None:
        """`as_made`: what somebody says of a pair that he has just made here (kernel/expected.py)."""
        self.host, self.as_made = host, as_made

    def read(self) -> dict[str, int]:
        return {}

    def read_for(self, wanted: Mapping[str, int]) -> dict[str, int]:
        found = {}
        for name in wanted:
            with suppress(OSError):  # the pod is going; writing says so
                nsid, index = self._other_end(name)
                found[name] = self._mtu(nsid, index)
        return found

    def upsert(self, items: Mapping[str, int]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        wanted: dict[int, dict[str, tuple[int, int]]] = {}  # nsid -> host's end -> index, MTU of the pod's
        for name, mtu in items.items():
            if (made := self.as_made(name)) and made.mtu == mtu:  # both ends
                continue
            try:
                nsid, index = self._other_end(name)
                if self._mtu(nsid, index) != mtu:  # as made: the rule for a new pod
                    wanted.setdefault(nsid, {})[name] = (index, mtu)
            except OSError as error:
                failed[name] = error
        if wanted:
            failed |= self._enter_and_set(wanted)
        return failed

    def delete(self, keys: Collection[str]) -> dict[str, Exception]:  # noqa: ARG002  a table's signature
        return {}

    def _other_end(self, name: str) -> tuple[int, int]:
        """In which namespace, and its index there."""
        found = attributes(self.host.netlink.get(*messages.get_link(name)), 16)
        if _LINK_NSID not in found or _LINK not in found:
            raise OSError(19, f"{name} has no other end in a namespace of its own")
        return struct.unpack("=i", found[_LINK_NSID])[0], struct.unpack("=I", found[_LINK])[0]

    def _mtu(self, nsid: int, index: int) -> int:
        body = _IFINFO.pack(0, 0, index, 0, 0) + u32(_TARGET_NSID, nsid)
        return int(struct.unpack("=I", attributes(self.host.netlink.get(messages.GET_LINK, body), 16)[_MTU])[0])

    def _enter_and_set(self, wanted: Mapping[int, Mapping[str, tuple[int, int]]]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        left = dict(wanted)
        for descriptor in namespaces():
            nsid = self._nsid(descriptor)
            if nsid not in left:
                continue
            with Socket(descriptor) as inside:
                for name, (index, mtu) in left.pop(nsid).items():
                    try:
                        inside.do(messages.set_link(index, mtu=mtu))
                    except Refused as error:
                        failed[name] = error
            if not left:
                break
        for ends in left.values():
            failed |= {
                name: OSError(2, f"the namespace of the pod behind {name} is nowhere to be found") for name in ends
            }
        return failed

    def _nsid(self, descriptor: int) -> int | None:
        body = struct.pack("=Bxxx", 0) + u32(_NSID_FD, descriptor)
        found = attributes(self.host.netlink.get(_GET_NSID, body), 4)
        return int(struct.unpack("=i", found[_NSID])[0]) if _NSID in found else None


def namespaces() -> Iterator[int]:
    """A descriptor of each network namespace of this machine, open while it is looked at."""
    seen = set()
    for path in _paths():
        with suppress(OSError), _opened(path) as descriptor:
            there = os.fstat(descriptor)
            if (there.st_dev, there.st_ino) not in seen:
                seen.add((there.st_dev, there.st_ino))
                yield descriptor


def _paths() -> Iterator[Path]:
    for place in PLACES:
        with suppress(OSError):
            yield from place.iterdir()
    for process in Path("/proc").iterdir():
        if process.name.isdecimal():
            yield process / "ns" / "net"


@contextmanager
def _opened(path: Path) -> Iterator[int]:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        yield descriptor
    finally:
        os.close(descriptor)
