"""The table of kernel settings below /proc/sys. Key: the path with slashes; row: the value as text.

A row `2|0` of a link's setting is content with either value, and writes the first where neither is in force.

A setting is never ours alone: it is always there, and somebody else's value was there before.  So only the wanted ones
are looked at, and a setting that nobody wants any more is left as it is (mostly its link is gone anyway).
"""

import os
from collections.abc import Collection, Mapping
from pathlib import Path

from felixlite.kernel.host import Host

# A container that is not privileged has its /proc/sys read-only; manifests/felixlite.yaml mounts the node's elsewhere. In both
# a file shows the namespace of the thread that opens it.
ROOT = Path(os.environ.get("FELIXLITE_PROC_SYS") or "/proc/sys")


class Sysctls:
    name = "sysctls"
    guard = False

    def __init__(self, host: Host, root: Path = ROOT) -> None:
        self.host = host
        self.root = root

    def read(self) -> dict[str, str]:
        return {}

    def read_for(self, wanted: Mapping[str, str]) -> dict[str, str]:
        found = {}
        with self.host.visiting():
            for path in wanted:
                try:
                    found[path] = self._found(path, wanted[path])
                except OSError:  # not there: writing it will say why
                    continue
        return found

    def links_of(self, path: str, _: str) -> list[str]:
        """net/ipv4/conf/LINK/..., net/ipv6/neigh/LINK/..."""
        return path.split("/")[3:4]

    def upon(self, names: frozenset[str], rows: Mapping[str, str]) -> list[str]:
        return [path for path in rows if not names.isdisjoint(self.links_of(path, ""))]

    def upsert(self, items: Mapping[str, str]) -> dict[str, Exception]:
        failed: dict[str, Exception] = {}
        with self.host.visiting():
            for path, value in items.items():
                try:
                    self._write(path, value.partition("|")[0])
                except OSError as error:
                    failed[path] = OSError(error.errno, f"{error.strerror}: cannot set {path} to {value}")
        return failed

    def delete(self, keys: Collection[str]) -> dict[str, Exception]:  # noqa: ARG002  a table's signature
        return {}

    def _found(self, path: str, wanted: str) -> str:
        if "|" not in wanted:
            return self._read(path)
        # of `all` and the link the greater value is in force (Linux' Documentation/networking/ip-sysctl.rst, rp_filter)
        parts = path.split("/")
        in_force = max(self._read(path), self._read("/".join([*parts[:3], "all", *parts[4:]])))
        return wanted if in_force in wanted.split("|") else in_force

    def _read(self, path: str) -> str:
        """Without a file object: a node with 250 pods has 2,000 settings to look at, each a few microseconds."""
        descriptor = os.open(self._file(path), os.O_RDONLY | os.O_CLOEXEC)
        try:
            return " ".join(os.read(descriptor, 4096).decode().split())
        finally:
            os.close(descriptor)

    def _write(self, path: str, value: str) -> None:
        descriptor = os.open(self._file(path), os.O_WRONLY | os.O_CLOEXEC)
        try:
            os.write(descriptor, value.encode())
        finally:
            os.close(descriptor)

    def _file(self, path: str) -> str:
        if path.startswith("/") or ".." in path.split("/"):
            raise OSError(22, "not a path below /proc/sys")
        return f"{self.root}/{path}"
