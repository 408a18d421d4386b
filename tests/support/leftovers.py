"""What a test run holds in its own process that it should have let go: threads, netlink sockets, namespaces.

gRPC's own threads and pollers are not counted: it keeps them for a while, for the next channel.
"""

import os
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path


def held() -> set[str]:
    """Each thing by a name that is no other's."""
    return {*_threads(), *_descriptors()}


def _threads() -> Iterator[str]:
    return (f"thread {thread.name} ({thread.ident})" for thread in threading.enumerate())


def _descriptors() -> Iterator[str]:
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # that of the listing itself is closed by now
            target = str(descriptor.readlink())
            is_namespace = target.startswith(("/run/netns/", "net:"))
            if is_namespace or (target.startswith("socket:") and _is_netlink(int(descriptor.name))):
                yield f"descriptor {descriptor.name}, {target}"


def _is_netlink(descriptor: int) -> bool:
    with socket.socket(fileno=os.dup(descriptor)) as found:
        return found.family == socket.AF_NETLINK
