"""Notes: deletions that are owed. One file each in the run directory, written beside and renamed.

The plugin leaves one when no agent answers its DEL; the agent leaves one when it has answered a DEL or given up an ADD
and something of it is still to be done.  A note is the request itself, and its name is the attachment's, so that doing
it twice is as good as once.  Whoever works a note off removes it.
"""

import os
import stat
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from felixlite.cni.request import Request

FOLDER = "cni-notes"
CUT_OFF = 10.0  # seconds: a draft that is older was being written by somebody who was killed


class Notes:
    def __init__(self, run_directory: Path) -> None:
        self.folder = run_directory / FOLDER
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def path(self, request: Request) -> Path:
        return self.folder / self._name(request)

    def _name(self, request: Request) -> str:
        return f"{request.container}.{request.interface}"

    def leave(self, request: Request, data: bytes) -> None:
        """`data`: the request as the plugin sent it; a note is always worked off as a DEL."""
        draft = self.folder / f".{os.getpid()}.{request.container[:64]}.{request.interface}"
        head, gap, config = data.partition(b"\0\0")
        lines = [b"CNI_COMMAND=DEL" if x.startswith(b"CNI_COMMAND=") else x for x in head.split(b"\0")]
        draft.write_bytes(b"\0".join(lines) + gap + config)
        draft.rename(self.path(request))

    def forget(self, request: Request) -> None:
        with suppress(FileNotFoundError):
            os.unlink(f"{self.folder}/{self._name(request)}")  # noqa: PTH108  with every ADD; a Path takes longer

    def owed(self) -> Iterator[tuple[Path, bytes]]:
        """Oldest first. What is no file was not left by us."""
        found = []
        for path in self.folder.iterdir():
            with suppress(FileNotFoundError):
                there = path.lstat()
                written = there.st_mtime
                if not stat.S_ISREG(there.st_mode):
                    continue
                if path.name[0] != ".":
                    found.append((written, path))
                elif time.time() - written > CUT_OFF:
                    path.unlink()
        for _, path in sorted(found):
            with suppress(FileNotFoundError):
                yield path, path.read_bytes()
