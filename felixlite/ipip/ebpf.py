"""IPIP by eBPF: what the two programs of programs.py read, as a table, and the programs, as they are asked for.

A restarted agent finds the maps again through the programs that are attached (the kernel keeps both), and goes on with
them: nothing is loaded or attached anew unless the programs of this version are different, and no packet is lost.
The table comes before the classifiers, so that a program that starts to run knows whom to let in.
"""

import contextlib
import os
import struct
from collections.abc import Callable, Collection, Iterable, Mapping
from ipaddress import IPv4Address
from typing import Final

from felixlite.errors import FelixliteError
from felixlite.ipip import bpf, programs
from felixlite.ipip.assembler import assemble
from felixlite.ipip.rows import OUTER, Admitted, End, EndKey, Outer, Sender
from felixlite.rows import OuterHeader

SHAPES: Final[Mapping[str, bpf.Shape]] = {
    programs.SENDERS: bpf.Shape(bpf.HASH, 8, 1, 1 << 17, bpf.NOT_PREALLOCATED),
    programs.SETTINGS: bpf.Shape(bpf.ARRAY, 4, 12, 1),
    programs.COUNTERS_MAP: bpf.Shape(bpf.PERCPU_ARRAY, 4, 8, len(programs.COUNTERS)),
}
_PREFIX: Final = "fl_"
_FIRST: Final = bytes(4)
_SETTINGS = struct.Struct("=4sIB?xx")


class Programs:
    """The two programs and their maps in one network namespace.

    `attached` answers the ids of our programs that are attached at this moment.
    """

    def __init__(self, attached: Callable[[], Iterable[int]]) -> None:
        self._attached = attached
        self._maps: dict[str, bpf.Map] = {}
        self._loaded: dict[str, int] = {}

    @property
    def maps(self) -> Mapping[str, bpf.Map]:
        if not self._maps:
            self._maps = self._found_again()
            for name in SHAPES.keys() - self._maps.keys():
                self._maps[name] = bpf.Map.make(_PREFIX + name, SHAPES[name])
        return self._maps

    def _found_again(self) -> dict[str, bpf.Map]:
        found: dict[str, bpf.Map] = {}
        for program_id in self._attached():
            with contextlib.suppress(OSError):  # detached meanwhile
                for name, there in bpf.maps_of_program(program_id):
                    ours = name.removeprefix(_PREFIX)
                    if ours in SHAPES and there.shape == SHAPES[ours] and ours not in found:
                        found[ours] = there
                    else:
                        there.close()
        return found

    def program(self, name: str) -> int:
        """The descriptor of one of programs.PROGRAMS, loaded when it is asked for first."""
        if name not in self._loaded:
            descriptors = {of: kept.fd for of, kept in self.maps.items()}
            self._loaded[name] = bpf.load(assemble(programs.PROGRAMS[name], descriptors), name)
        return self._loaded[name]

    def close(self) -> None:
        """Let go of the descriptors; what is attached stays."""
        for kept in self._maps.values():
            kept.close()
        for fd in self._loaded.values():
            os.close(fd)
        self._maps, self._loaded = {}, {}

    def counters(self) -> dict[str, int]:
        """Packets since the maps were made, over all processors; nothing before that. Also for other threads."""
        kept = self._maps.get(programs.COUNTERS_MAP)
        if kept is None:
            return {}
        values = (kept[struct.pack("=I", number)] for number in range(len(programs.COUNTERS)))
        return {
            name: sum(struct.unpack(f"={len(value) // 8}Q", value))
            for name, value in zip(programs.COUNTERS, values, strict=True)
        }


class Ends:
    """The tunnel's ends: whom packets are accepted from, and what the outer source of ours is."""

    name = "ipip ends"
    guard = False

    def __init__(self, programs: Programs, index: Callable[[str], int], link_name: Callable[[int], str | None]) -> None:
        self.programs = programs
        self.index = index
        self.link_name = link_name

    def read(self) -> dict[EndKey, End]:
        rows: dict[EndKey, End] = {_sender(key): Admitted() for key in set(self.programs.maps[programs.SENDERS])}
        local, index, ttl, dont_fragment = _SETTINGS.unpack(self.programs.maps[programs.SETTINGS][_FIRST])
        if index:
            header = OuterHeader(ttl, dont_fragment)
            rows[OUTER] = Outer(IPv4Address(local), self.link_name(index) or "", header)
        return rows

    def upsert(self, items: Mapping[EndKey, End]) -> dict[EndKey, Exception]:
        failed: dict[EndKey, Exception] = {}
        for key, row in items.items():
            try:
                self._write(key, row)
            except (OSError, FelixliteError) as error:
                failed[key] = error
        return failed

    def _write(self, key: EndKey, row: End) -> None:
        if isinstance(key, Sender):
            self.programs.maps[programs.SENDERS][_packed(key)] = b"\1"
        elif isinstance(row, Outer):
            settings = _SETTINGS.pack(row.local.packed, self.index(row.link), row.header.ttl, row.header.dont_fragment)
            self.programs.maps[programs.SETTINGS][_FIRST] = settings

    def delete(self, keys: Collection[EndKey]) -> dict[EndKey, Exception]:
        failed: dict[EndKey, Exception] = {}
        for key in keys:
            try:
                if isinstance(key, Sender):
                    with contextlib.suppress(KeyError):
                        del self.programs.maps[programs.SENDERS][_packed(key)]
                else:
                    self.programs.maps[programs.SETTINGS][_FIRST] = bytes(_SETTINGS.size)
            except OSError as error:
                failed[key] = error
        return failed


def _packed(sender: Sender) -> bytes:
    """As the two addresses lie in an IPv4 header."""
    return sender.remote.packed + sender.local.packed


def _sender(key: bytes) -> Sender:
    return Sender(IPv4Address(key[:4]), IPv4Address(key[4:]))


def works() -> str:
    """Whether this kernel takes the programs: empty, or why not."""
    trial = Programs(lambda: ())
    try:
        for name in programs.PROGRAMS:
            trial.program(name)
    except bpf.RefusedByVerifier as error:
        return f"{error.strerror}: {error.log.strip().rpartition(chr(10))[2]}"
    except (OSError, FelixliteError) as error:
        return str(error)
    finally:
        trial.close()
    return ""
