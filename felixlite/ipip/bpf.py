"""bpf(2): load programs, make maps, read and write them, find again what an earlier process of ours left in the kernel.

No library: the call is made through ctypes with its struct packed here (include/uapi/linux/bpf.h).  Every object is a
file descriptor; the kernel keeps a program as long as it is attached somewhere, and a map as long as a program uses it.
"""

import ctypes
import os
import platform
import struct
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Final, Self

from felixlite.errors import Misconfigured

_SYSCALL: Final = {"x86_64": 321, "aarch64": 280}
_CREATE, _LOOK_UP, _UPDATE, _DELETE, _NEXT_KEY, _LOAD = 0, 1, 2, 3, 4, 5
_PROGRAM_BY_ID, _MAP_BY_ID, _INFO = 13, 14, 15

HASH, ARRAY, PERCPU_ARRAY = 1, 2, 6
NOT_PREALLOCATED = 1
CLASSIFIER = 3  # BPF_PROG_TYPE_SCHED_CLS
_ATTRIBUTES = 144

_libc = ctypes.CDLL(None, use_errno=True)


class RefusedByVerifier(OSError):
    """Loading failed; `log` is what the verifier says."""

    def __init__(self, number: int, log: str) -> None:
        super().__init__(number, os.strerror(number))
        self.log = log


def _bpf(command: int, attributes: bytes) -> int:
    number = _SYSCALL.get(platform.machine())
    if number is None:
        raise Misconfigured(f"eBPF on {platform.machine()} is not supported; IPIP runs in user space there")
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    done = int(_libc.syscall(number, command, buffer, _ATTRIBUTES))
    if done < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return done


def _address(buffer: "ctypes.Array[ctypes.c_char]") -> int:
    return ctypes.addressof(buffer)


def load(code: bytes, name: str, kind: int = CLASSIFIER) -> int:
    """The descriptor of the loaded program."""
    instructions = ctypes.create_string_buffer(code, len(code))
    licence = ctypes.create_string_buffer(b"GPL")  # the helpers of routing are for GPL programs
    log = ctypes.create_string_buffer(1 << 18)
    plain = struct.pack("=IIQQ", kind, len(code) // 8, _address(instructions), _address(licence))
    short = name.encode()[:15]
    try:
        return _bpf(_LOAD, plain + struct.pack("=IIQII16s", 0, 0, 0, 0, 0, short))
    except OSError:
        told = struct.pack("=IIQII16s", 1, len(log), _address(log), 0, 0, short)
        try:
            return _bpf(_LOAD, plain + told)
        except OSError as again:
            raise RefusedByVerifier(again.errno or 0, log.value.decode(errors="replace")) from None


@dataclass(frozen=True, slots=True)
class Shape:
    """What a map is like; a map of another shape cannot take its place."""

    kind: int
    key: int
    value: int
    entries: int
    flags: int = 0


class Map:
    """A map, by its descriptor."""

    def __init__(self, fd: int, shape: Shape) -> None:
        self.fd, self.shape = fd, shape
        processors = _possible_processors() if shape.kind == PERCPU_ARRAY else 1
        # for every processor a value, each of them on 8 bytes
        self._width = ((shape.value + 7) // 8 * 8 * processors) if shape.kind == PERCPU_ARRAY else shape.value

    @classmethod
    def make(cls, name: str, shape: Shape) -> Self:
        packed = struct.pack(
            "=IIIIIII16s", shape.kind, shape.key, shape.value, shape.entries, shape.flags, 0, 0, name.encode()[:15]
        )
        return cls(_bpf(_CREATE, packed), shape)

    def close(self) -> None:
        os.close(self.fd)

    def __getitem__(self, key: bytes) -> bytes:
        """KeyError when it is not there."""
        value = ctypes.create_string_buffer(self._width)
        try:
            self._call(_LOOK_UP, key, value)
        except FileNotFoundError:
            raise KeyError(key) from None
        return value.raw

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self._call(_UPDATE, key, ctypes.create_string_buffer(value, self._width))

    def __delitem__(self, key: bytes) -> None:
        try:
            self._call(_DELETE, key, None)
        except FileNotFoundError:
            raise KeyError(key) from None

    def __iter__(self) -> Iterator[bytes]:
        """The keys. One that goes meanwhile may start it anew, so take it as a set."""
        key: bytes | None = None
        while True:
            following = ctypes.create_string_buffer(self.shape.key)
            try:
                self._call(_NEXT_KEY, key, following)
            except FileNotFoundError:
                return
            key = following.raw
            yield key

    def _call(self, command: int, key: bytes | None, value: "ctypes.Array[ctypes.c_char] | None") -> None:
        here = ctypes.create_string_buffer(key, len(key)) if key is not None else None
        _bpf(
            command,
            struct.pack("=I4xQQQ", self.fd, _address(here) if here else 0, _address(value) if value else 0, 0),
        )


def _possible_processors() -> int:
    """`0-3,8` -> 9: per-cpu maps have a place for each that might ever be there."""
    with open("/sys/devices/system/cpu/possible") as file:  # noqa: PTH123  a Path would cost an import at start
        return int(file.read().strip().replace("-", ",").split(",")[-1]) + 1


# -- what is there already -------------------------------------------------------------------------------------------


def maps_of_program(program_id: int) -> Iterator[tuple[str, Map]]:
    """The maps that a loaded program uses, by name."""
    with closing(_Descriptor(_bpf(_PROGRAM_BY_ID, struct.pack("=III", program_id, 0, 0)))) as program:
        ids = (ctypes.c_uint32 * 64)()
        # nr_map_ids at 52, map_ids at 56 of struct bpf_prog_info
        info = ctypes.create_string_buffer(
            struct.pack("=52xIQ", len(ids), ctypes.addressof(ids)).ljust(_INFO_SIZE, b"\0"), _INFO_SIZE
        )
        _info(program.fd, info)
        (count,) = struct.unpack_from("=I", info.raw, 52)
    for map_id in ids[:count]:
        fd = _bpf(_MAP_BY_ID, struct.pack("=III", map_id, 0, 0))
        about = ctypes.create_string_buffer(_INFO_SIZE)
        _info(fd, about)
        kind, _, key, value, entries, flags, name = struct.unpack_from("=IIIIII16s", about.raw)
        yield name.rstrip(b"\0").decode(), Map(fd, Shape(kind, key, value, entries, flags))


_INFO_SIZE: Final = 232


def _info(fd: int, into: "ctypes.Array[ctypes.c_char]") -> None:
    _bpf(_INFO, struct.pack("=IIQ", fd, len(into), _address(into)))


class _Descriptor:
    def __init__(self, fd: int) -> None:
        self.fd = fd

    def close(self) -> None:
        os.close(self.fd)
