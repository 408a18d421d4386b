"""Our jumps in the kernel's own chains on hosts with legacy iptables, and what others have there, by python-iptables.

python-iptables takes no lock and keeps what it has read, so whoever changes something here holds the xtables lock that
every iptables program honours, from before the first look until after the last write.  Use it from one thread (docs/adr; measured: it is 30 times slower than
iptables-restore for chains, and just right for five rules).
"""

import ctypes
import fcntl
import os
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

from felixlite.policy.apart import Busy
from felixlite.policy.iptables_listing import Hook
from felixlite.policy.iptables_text import HOOK

LOCK = "/run/xtables.lock"
NO_LOCK = "/dev/null"  # XTABLES_LOCKFILE of a program that runs while we hold the lock
PATIENCE = 5.0  # a key that fails is tried again by the reconciler


@contextmanager
def locked() -> Iterator[None]:
    """Hold the xtables lock; Busy when somebody else keeps it for too long."""
    descriptor = os.open(LOCK, os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
    deadline = time.monotonic() + PATIENCE
    try:
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() > deadline:
                    raise Busy(f"{LOCK}: another program has held it for {PATIENCE:g} s") from None
                time.sleep(0.02)
        yield
    finally:
        os.close(descriptor)


Sizes = dict[str, tuple[int, int]]  # table -> (rules, octets)

_GET_INFO = 64  # IPT_SO_GET_INFO, IP6T_SO_GET_INFO
_INFO = struct.Struct("=32s44xII")  # struct ipt_getinfo: name, hooks and where they begin, num_entries, size


def sizes(family: int) -> Sizes:
    """How large the tables are that we write to; one that is not there is missing. Makes none, takes no lock."""
    names = Path("/proc/thread-self/net") / ("ip_tables_names" if family == 4 else "ip6_tables_names")
    there = {"filter", "nat", "raw"} & set(names.read_text().split() if names.exists() else ())
    if not there:
        return {}
    kind, level = (socket.AF_INET, socket.IPPROTO_IP) if family == 4 else (socket.AF_INET6, socket.IPPROTO_IPV6)
    found: Sizes = {}
    with socket.socket(kind, socket.SOCK_RAW, socket.IPPROTO_RAW) as asking:
        for table in sorted(there):
            buffer = ctypes.create_string_buffer(_INFO.pack(table.encode(), 0, 0), _INFO.size)
            length = ctypes.c_uint(_INFO.size)
            if not _libc.getsockopt(asking.fileno(), level, _GET_INFO, buffer, ctypes.byref(length)):
                _, rules, octets = _INFO.unpack(buffer.raw)
                found[table] = (rules, octets)
    return found


_libc = ctypes.CDLL(None, use_errno=True)


def place(family: int, hooks: Iterable[Hook]) -> None:
    """Make each jump to a chain of ours the first (or last) rule of the kernel's chain, and the only one of its kind."""
    for table, found in groupby(sorted(hooks), key=lambda hook: hook.table):
        handle = _table(family, table)
        changed = [_placed(family, handle, hook) for hook in found]
        if any(changed):
            handle.commit()


def _placed(family: int, handle: Any, hook: Hook) -> bool:
    """True when something had to be changed."""
    kernels = _iptc().Chain(handle, hook.chain)
    ours = [rule for rule in kernels.rules if rule.target.name == hook.target]
    if len(ours) == 1 and ours == (kernels.rules[:1] if hook.first else kernels.rules[-1:]):
        return False
    for rule in ours:
        kernels.delete_rule(rule)
    if hook.first:
        kernels.insert_rule(_jump(family, hook.target), 0)
    else:
        kernels.append_rule(_jump(family, hook.target))
    return True


def _iptc() -> Any:
    import iptc  # a quarter of a second, only on hosts that need it

    return iptc


def _table(family: int, name: str) -> Any:
    handle = (_iptc().Table if family == 4 else _iptc().Table6)(name)
    # with autocommit, refresh would first write the table once more as it was when we last changed it
    handle.autocommit = False
    handle.refresh()
    return handle


def _jump(family: int, target: str) -> Any:
    iptc = _iptc()
    rule = iptc.Rule() if family == 4 else iptc.Rule6()
    rule.create_match("comment").comment = HOOK
    rule.target = iptc.Target(rule, target)
    return rule
