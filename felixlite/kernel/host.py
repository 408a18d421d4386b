"""One network namespace as the tables see it: a netlink socket, the names of its links, the way into its /proc/sys.

Names and indexes of links are asked of the kernel each time (one ioctl, a microsecond): a remembered index may belong
to a link that was removed and made again under the same name.  All tables of an agent share one Host; it belongs to
the core thread.
"""

import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager
from typing import Final, Self, TypeVar

from felixlite.kernel.namespaces import visiting
from felixlite.kernel.netlink import Message, Refused, Socket

K = TypeVar("K")

_INDEX_OF: Final = 0x8933  # SIOCGIFINDEX
_NAME_OF: Final = 0x8910  # SIOCGIFNAME
_IFREQ = struct.Struct("=16si20x")


class Host:
    """`namespace` is a descriptor of a network namespace; None means the current one."""

    def __init__(self, namespace: int | None = None) -> None:
        self.namespace = os.dup(namespace) if namespace is not None else None
        self.netlink = Socket(self.namespace)
        with visiting(self.namespace):
            self._names = socket.socket(socket.AF_INET, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)

    def close(self) -> None:
        self.netlink.close()
        self._names.close()
        if self.namespace is not None:
            os.close(self.namespace)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def visiting(self) -> AbstractContextManager[None]:
        """Inside, this thread is in the namespace."""
        return visiting(self.namespace)

    def index(self, name: str) -> int:
        """The link's index; Refused when there is no such link."""
        try:
            answer = fcntl.ioctl(self._names, _INDEX_OF, _IFREQ.pack(name.encode(), 0))
        except OSError:
            raise Refused(errno.ENODEV, f"there is no link {name}") from None
        return int(_IFREQ.unpack(answer)[1])

    def name(self, index: int) -> str | None:
        try:
            answer = fcntl.ioctl(self._names, _NAME_OF, _IFREQ.pack(b"", index))
        except OSError:
            return None
        return str(_IFREQ.unpack(answer)[0].rstrip(b"\0").decode())

    def send(
        self, keys: Iterable[K], pack: Callable[[K], Message], *, ignore: Collection[int] = ()
    ) -> dict[K, Exception]:
        """One message for each key, all in one batch. Answers the keys that could not be packed or were refused."""
        failed: dict[K, Exception] = {}
        messages: list[Message] = []
        sent: list[K] = []
        for key in keys:
            try:
                messages.append(pack(key))
                sent.append(key)
            except OSError as error:
                failed[key] = error
        for position, refusal in self.netlink.send(messages).items():
            if refusal.number not in ignore:
                failed[sent[position]] = refusal
        return failed
