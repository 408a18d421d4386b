"""The kernel's inotify by ctypes: which files of a tree of folders were written, moved or removed.

Only names come out; what is in the files is for the caller to read.  Linux's inotify(7); the record on the wire is
struct inotify_event { int wd; uint32_t mask, cookie, len; char name[len]; }.
"""

import ctypes
import os
import select
import struct
from collections.abc import Iterator
from pathlib import Path

from felixlite.errors import StoreError

_CLOSE_WRITE, _MOVED_FROM, _MOVED_TO, _CREATE, _DELETE = 0x8, 0x40, 0x80, 0x100, 0x200
_OVERFLOW, _IGNORED, _ONLYDIR, _ISDIR = 0x4000, 0x8000, 0x1000000, 0x40000000
_MASK = _CLOSE_WRITE | _MOVED_FROM | _MOVED_TO | _CREATE | _DELETE | _ONLYDIR
_RECORD = struct.Struct("iIII")
_libc = ctypes.CDLL(None, use_errno=True)


class Lost:
    """The tree has to be read anew: records were dropped, or a folder appeared or went."""


class TreeEvents:
    """Iterating gives paths relative to the root, or Lost; it ends after `stop`, which may come from any thread."""

    def __init__(self, root: Path, depth: int) -> None:
        self._root, self._depth = root, depth
        self._fd = _checked(_libc.inotify_init1(os.O_CLOEXEC | os.O_NONBLOCK), "inotify")
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC)
        self._folders: dict[int, str] = {}
        self._add("")

    def __iter__(self) -> Iterator[str | Lost]:
        poll = select.poll()
        poll.register(self._fd, select.POLLIN)
        poll.register(self._wake, select.POLLHUP)
        while True:
            ready = {fd for fd, _ in poll.poll()}
            if self._wake in ready:
                break
            yield from self._read()
        os.close(self._fd)
        os.close(self._wake)

    def stop(self) -> None:
        os.close(self._waker)

    def _read(self) -> Iterator[str | Lost]:
        data = os.read(self._fd, 65536)
        at = 0
        while at < len(data):
            number, mask, _, length = _RECORD.unpack_from(data, at)
            name = data[at + _RECORD.size : at + _RECORD.size + length].rstrip(b"\0")
            at += _RECORD.size + length
            yield from self._tell(number, mask, os.fsdecode(name))

    def _tell(self, number: int, mask: int, name: str) -> Iterator[str | Lost]:
        if mask & _OVERFLOW:
            yield Lost()
        elif mask & _IGNORED:
            self._folders.pop(number, None)
        elif number in self._folders and mask & _ISDIR:
            if mask & (_CREATE | _MOVED_TO):
                self._add(_joined(self._folders[number], name))
            yield Lost()
        elif number in self._folders and not mask & _CREATE:  # what is being written is told when it is closed
            yield _joined(self._folders[number], name)

    def _add(self, folder: str) -> None:
        """Watch a folder and those in it, down to the depth that matters."""
        if folder.startswith(".") or folder.count("/") >= self._depth:
            return
        path = self._root / folder
        number = _libc.inotify_add_watch(self._fd, os.fsencode(path), _MASK)
        if number < 0 and not path.is_dir():
            return  # gone already; whoever removed it is told of as well
        self._folders[_checked(number, f"inotify of {path}")] = folder
        for entry in os.scandir(path):
            if entry.is_dir():
                self._add(_joined(folder, entry.name))


def _joined(folder: str, name: str) -> str:
    return f"{folder}/{name}" if folder else name


def _checked(result: int, what: str) -> int:
    if result < 0:
        raise StoreError(f"{what}: {os.strerror(ctypes.get_errno())}; see fs.inotify.max_user_watches and _instances")
    return result
