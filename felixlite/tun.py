"""A TUN device as a file: attaching to it by its name, and who else is attached.

A device with one queue takes one file at a time; everybody else is told that it is busy, and not by whom.  That is in
/proc: fdinfo of a TUN file names its device.  Nothing is decided here and nothing changed.  kernel/links.py makes the
device with it, ipip/userspace.py holds it.
"""

import fcntl
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TUNSETIFF: Final = 0x400454CA
_TUN_WITHOUT_HEADER: Final = 0x1001  # IFF_TUN | IFF_NO_PI
OUR_PROCESS: Final = "felixlite.ipip.userspace"


@dataclass(frozen=True, slots=True)
class Holder:
    pid: int
    name: str
    ours: bool

    def __str__(self) -> str:
        return f"{self.name} (pid {self.pid})"


def attach(device: int, link: str) -> None:
    """`device` is an open /dev/net/tun. Makes the link where there is none. OSError EBUSY: somebody else is attached."""
    fcntl.ioctl(device, _TUNSETIFF, struct.pack("16sH22x", link.encode(), _TUN_WITHOUT_HEADER))


def strangers(link: str, processes: Path = Path("/proc")) -> list[Holder]:
    """The programs of others that hold a TUN device of this name in the calling thread's network namespace."""
    return [found for found in _holders(link, processes) if not found.ours]


def held_by(strangers: list[Holder], link: str) -> str:
    """What to tell whoever needs the link."""
    them = ", ".join(map(str, strangers))
    return (
        f"link {link} is held by {them}, not by felixlite: end that program or give its device another name;"
        f" a pool with vxlanMode instead of ipipMode does without {link}"
    )


def _holders(link: str, processes: Path) -> Iterator[Holder]:
    here = Path("/proc/thread-self/ns/net").stat().st_ino
    for process in processes.iterdir():
        if process.name.isdigit():
            try:
                if (process / "ns/net").stat().st_ino == here and _holds(process, link):
                    yield _named(process)
            except OSError:
                continue  # it has just ended


def _holds(process: Path, link: str) -> bool:
    for file in (process / "fd").iterdir():
        if str(file.readlink()).endswith("/net/tun"):
            told = (process / "fdinfo" / file.name).read_text()
            if f"iff:\t{link}\n" in told:
                return True
    return False


def _named(process: Path) -> Holder:
    words = (process / "cmdline").read_bytes().split(b"\0")
    name = (process / "comm").read_text().strip()
    return Holder(int(process.name), name, OUR_PROCESS.encode() in words)
