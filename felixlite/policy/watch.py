"""Hears of other programs that change our nftables table, so that what they destroy is written again at once.

The kernel ends every transaction with a message that names the task which made it; our own transactions are told from
others' by that (libnftables works inside of this process).  Hooks of iptables are looked at with every resync only.
"""

import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from pathlib import Path

from felixlite.policy.nftables_text import TABLE
from felixlite.policy.plan import table_name

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP = 12, 270, 1, 7
_SUBSYSTEM, _NEW_GENERATION = 10, 15  # linux/netfilter/nfnetlink.h, nf_tables.h
_TABLE_NAME, _PROCESS = 1, 2  # NFTA_*_TABLE, NFTA_GEN_PROC_PID
_FAMILIES = {int(socket.AF_INET): 4, int(socket.AF_INET6): 6}


class NftablesEvents:
    """Belongs to the network namespace of the thread that makes it."""

    def __init__(self, touched: Callable[[str], None]) -> None:
        self._touched = touched
        self._socket = _listening()
        self._changed: set[int] = set()  # families whose table this transaction has touched so far

    def run(self) -> None:
        while self._socket:
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost: anything may have happened
                    raise
                self._tell({4, 6})
                continue
            self.hear(data)

    def hear(self, data: bytes) -> None:
        for kind, body in _messages(data):
            if kind >> 8 != _SUBSYSTEM:
                continue
            attributes = dict(_attributes(body))
            if kind & 0xFF == _NEW_GENERATION:
                (author,) = struct.unpack("!I", attributes.get(_PROCESS, b"\0\0\0\0"))
                if self._changed and not _is_ours(author):
                    self._tell(self._changed)
                self._changed = set()
            elif attributes.get(_TABLE_NAME) == TABLE.encode() + b"\0" and body[0] in _FAMILIES:
                self._changed.add(_FAMILIES[body[0]])

    def _tell(self, families: set[int]) -> None:
        for family in sorted(families):
            self._touched(table_name(family))

    def close(self) -> None:
        if self._socket:
            self._socket.close()


def _listening() -> socket.socket | None:
    """None on a kernel without nftables: there is nothing to hear."""
    try:
        found = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, _NETLINK_NETFILTER)
        found.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 20)
        found.bind((0, 0))
        found.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP)
    except OSError:
        return None
    return found


def _is_ours(task: int) -> bool:
    return task == os.getpid() or Path(f"/proc/self/task/{task}").exists()


def _messages(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at + 16 <= len(data):
        length, kind = struct.unpack_from("=IH", data, at)
        yield kind, data[at + 16 : at + length]
        at += (length + 3) & ~3


def _attributes(body: bytes) -> Iterator[tuple[int, bytes]]:
    at = 4  # behind the nfgenmsg
    while at + 4 <= len(body):
        length, kind = struct.unpack_from("=HH", body, at)
        if length < 4:
            return
        yield kind & 0x3FFF, body[at + 4 : at + length]
        at += (length + 3) & ~3
