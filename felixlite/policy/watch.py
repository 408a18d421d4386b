"""Hears of other programs that change what is ours, so that what they destroy is written again at once.

nftables, and iptables in its nft flavour: the kernel ends every transaction with a message that names the task which
made it; our own are told from others' by that (libnftables works inside of this process, iptables-nft-restore in one
that we started).  Legacy iptables tells nobody; there the size of a table is looked at once a second.
"""

import errno
import os
import select
import socket
import struct
import threading
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from felixlite.policy import fastpath, ipset
from felixlite.policy.backend import PolicyTable
from felixlite.policy.iptables_listing import hooks
from felixlite.policy.iptables_text import PREFIX
from felixlite.policy.nftables_text import TABLE
from felixlite.policy.plan import table_name
from felixlite.policy.xtables import Sizes, sizes

_NETLINK_NETFILTER, _SOL_NETLINK, _ADD_MEMBERSHIP, _NFTABLES_GROUP = 12, 270, 1, 7
_SUBSYSTEM, _NEW_GENERATION = 10, 15  # linux/netfilter/nfnetlink.h, nf_tables.h
_TABLE_NAME, _PROCESS = 1, 2  # NFTA_*_TABLE, NFTA_GEN_PROC_PID
MOST_UNREAD = 64  # datagrams: another's transaction may be large
_INET = 1  # NFPROTO_INET
_TOLD = {int(socket.AF_INET): table_name(4), int(socket.AF_INET6): table_name(6), _INET: fastpath.NAME}


class NftablesEvents:
    """Belongs to the network namespace of the thread that makes it."""

    def __init__(self, touched: Callable[[str], None], give_way: Callable[[], None] = lambda: None) -> None:
        self._touched, self._give_way = touched, give_way
        self._socket = _listening()
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self._unread: list[bytes] = []  # of this transaction: whose it is comes at its end, and mostly it is ours
        self._changed: set[str] = set()  # tables that this transaction has touched so far

    def run(self) -> None:
        """Until stop()."""
        while self._socket:
            ready, _, _ = select.select([self._socket.fileno(), self._wake], [], [])
            if self._wake in ready:
                return
            try:
                data = self._socket.recv(1 << 16)
            except OSError as error:
                if error.errno != errno.ENOBUFS:  # some were lost: anything may have happened
                    raise
                self._tell({*_TOLD.values()})
                continue
            self._give_way()
            self.hear(data)

    def hear(self, data: bytes) -> None:
        """One datagram. The kernel sends the end of a transaction in one of its own."""
        self._unread.append(data)
        author = _author(data)
        if author is None and len(self._unread) < MOST_UNREAD:
            return
        if author is None or not _is_ours(author):
            self._read()
        self._unread = []
        if author is not None:
            if self._changed and not _is_ours(author):
                self._tell(self._changed)
            self._changed = set()

    def _read(self) -> None:
        for kind, body in (message for data in self._unread for message in _messages(data)):
            is_told = kind >> 8 == _SUBSYSTEM and kind & 0xFF != _NEW_GENERATION and body[0] in _TOLD
            if is_told and _concerns_us(body[0], kind & 0xFF, dict(_attributes(body))):
                self._changed.add(_TOLD[body[0]])

    def _tell(self, tables: set[str]) -> None:
        for table in sorted(tables):
            self._touched(table)

    def stop(self) -> None:
        os.write(self._waker, b"x")

    def close(self) -> None:
        """After the thread has ended."""
        if self._socket:
            self._socket.close()
        os.close(self._wake)
        os.close(self._waker)


def _author(data: bytes) -> int | None:
    """The task that made the transaction that ends here; None: it goes on."""
    for kind, body in _messages(data):
        if kind == _SUBSYSTEM << 8 | _NEW_GENERATION:
            return int(struct.unpack("!I", dict(_attributes(body)).get(_PROCESS, b"\0\0\0\0"))[0])
    return None


def _concerns_us(family: int, kind: int, attributes: dict[int, bytes]) -> bool:
    """Our own table; in the tables of iptables our chains, and rules in the chains that lead to them."""
    table = attributes.get(_TABLE_NAME, b"").rstrip(b"\0").decode(errors="replace")
    if family == _INET:
        return table == fastpath.TABLE
    if table == TABLE:
        return True
    if table not in _HOOKED or kind not in _CHAIN_NAME:
        return False
    chain = attributes.get(_CHAIN_NAME[kind], b"").rstrip(b"\0").decode(errors="replace")
    return chain.startswith(PREFIX) or (chain in _HOOKED[table] and kind in _RULES)


_RULES = frozenset({6, 8})  # NFT_MSG_NEWRULE, NFT_MSG_DELRULE
_CHAIN_NAME = {3: 3, 5: 3, 6: 2, 8: 2}  # by message: NFTA_CHAIN_NAME of NFT_MSG_(NEW|DEL)CHAIN, NFTA_RULE_CHAIN
_HOOKED = {
    table: frozenset(hook.chain for hook in hooks(insert=True, behind_ipvs=True) if hook.table == table)
    for table in {hook.table for hook in hooks(insert=True, behind_ipvs=True)}
}


class LegacyEvents:
    """Looks at the sizes of the tables of legacy iptables, where one of these policy tables is written there."""

    def __init__(self, touched: Callable[[str], None], tables: Collection[PolicyTable]) -> None:
        self._touched = touched
        self._tables = tables
        self._strange: dict[str, Sizes] = {}  # seen once; our own write may not have been noted yet
        self._stopped = threading.Event()

    def run(self) -> None:
        """Until stop()."""
        while not self._stopped.wait(PAUSE):
            self.look()

    def stop(self) -> None:
        self._stopped.set()

    def look(self) -> None:
        for table in self._tables:
            known = table.sizes
            there = None if known is None else sizes(table.family)
            if there is None or there == known:
                self._strange.pop(table.name, None)
            elif self._strange.get(table.name) == there:
                del self._strange[table.name]
                self._touched(table.name)
            else:
                self._strange[table.name] = there


PAUSE = 1.0


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
    return task == os.getpid() or task in ipset.started or Path(f"/proc/self/task/{task}").exists()


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
