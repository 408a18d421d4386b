"""Entering another network namespace, for one thread and no longer than needed.

setns(2) moves the calling thread only.  A socket belongs for ever to the namespace that its thread was in when it was
made, so one short visit is enough to get a netlink socket into a pod; files below /proc/sys/net show the namespace of
the thread that opens them, so these are read and written during a visit.
"""

import ctypes
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

CLONE_NEWNET = 0x40000000
OWN_NAMESPACE = Path("/proc/thread-self/ns/net")
_libc = ctypes.CDLL(None, use_errno=True)  # os.setns came with Python 3.12


def setns(descriptor: int) -> None:
    """Move this thread into the network namespace that the open file descriptor stands for."""
    if _libc.setns(descriptor, CLONE_NEWNET):
        error = ctypes.get_errno()
        raise OSError(error, f"entering a network namespace: {os.strerror(error)}")


@contextmanager
def visiting(descriptor: int | None) -> Iterator[None]:
    """Run the body inside the network namespace; None stays where we are."""
    if descriptor is None:
        yield
        return
    home = os.open(OWN_NAMESPACE, os.O_RDONLY | os.O_CLOEXEC)
    try:
        setns(descriptor)
        try:
            yield
        finally:
            setns(home)
    finally:
        os.close(home)
