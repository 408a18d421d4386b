"""A tiny assembler for eBPF: a list of instructions with labels in, the bytes for bpf(2) out. Pure.

An instruction is made by the functions below (after the kernel's Documentation/bpf/standardization/instruction-set);
jumps name a label, a label is a string in the list.  `load_map` leaves a mark that `assemble` fills with a descriptor.
"""

import struct
from collections.abc import Mapping, Sequence
from typing import NamedTuple

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FP = range(11)

B, H, W, DW = 0x10, 0x08, 0x00, 0x18  # sizes: 1, 2, 4, 8 bytes


class Instruction(NamedTuple):
    code: int
    to: int = 0
    source: int = 0
    offset: int | str = 0  # of memory, or the label of a jump
    value: int = 0
    map: str = ""  # name of the map whose descriptor belongs here


Line = Instruction | str


def move(to: int, source: int) -> Instruction:
    return Instruction(0xBF, to, source)


def set_to(to: int, value: int) -> Instruction:
    return Instruction(0xB7, to, value=value)


def add(to: int, value: int) -> Instruction:
    return Instruction(0x07, to, value=value)


def add_register(to: int, source: int) -> Instruction:
    return Instruction(0x0F, to, source)


def exclusive_or(to: int, value: int) -> Instruction:
    return Instruction(0xA7, to, value=value)


def and_with(to: int, value: int) -> Instruction:
    return Instruction(0x57, to, value=value)


def shift_left(to: int, bits: int) -> Instruction:
    return Instruction(0x67, to, value=bits)


def shift_right(to: int, bits: int) -> Instruction:
    return Instruction(0x77, to, value=bits)


def negate(to: int) -> Instruction:
    return Instruction(0x87, to)


def big_endian16(to: int) -> Instruction:
    return Instruction(0xDC, to, value=16)


def load(size: int, to: int, source: int, offset: int) -> Instruction:
    return Instruction(0x61 | size, to, source, offset)


def store(size: int, to: int, offset: int, source: int) -> Instruction:
    return Instruction(0x63 | size, to, source, offset)


def store_value(size: int, to: int, offset: int, value: int) -> Instruction:
    return Instruction(0x62 | size, to, 0, offset, value)


def atomic_add(to: int, offset: int, source: int) -> Instruction:
    """64 bits."""
    return Instruction(0xDB, to, source, offset)


def jump(label: str) -> Instruction:
    return Instruction(0x05, offset=label)


def jump_if(to: int, value: int, label: str) -> Instruction:
    return Instruction(0x15, to, 0, label, value)


def jump_unless(to: int, value: int, label: str) -> Instruction:
    return Instruction(0x55, to, 0, label, value)


def jump_if_same(to: int, source: int, label: str) -> Instruction:
    return Instruction(0x1D, to, source, label)


def jump_above(to: int, value: int, label: str) -> Instruction:
    """Unsigned."""
    return Instruction(0x25, to, 0, label, value)


def call(helper: int) -> Instruction:
    return Instruction(0x85, value=helper)


def leave() -> Instruction:
    return Instruction(0x95)


def load_map(to: int, name: str) -> Instruction:
    """16 bytes long: the descriptor of a map."""
    return Instruction(0x18, to, source=1, map=name)


_WIRE = struct.Struct("<BBhi")


def assemble(lines: Sequence[Line], maps: Mapping[str, int]) -> bytes:
    """The program's bytes. KeyError names a label or a map that is missing."""
    places: dict[str, int] = {}
    position = 0
    for line in lines:
        if isinstance(line, str):
            places[line] = position
        else:
            position += 2 if line.map else 1
    code = bytearray()
    for line in lines:
        if not isinstance(line, str):
            code += _packed(line, len(code) // 8, places, maps)
    return bytes(code)


def _packed(line: Instruction, position: int, places: Mapping[str, int], maps: Mapping[str, int]) -> bytes:
    offset = places[line.offset] - position - 1 if isinstance(line.offset, str) else line.offset
    registers = line.source << 4 | line.to
    if line.map:
        return _WIRE.pack(line.code, registers, 0, maps[line.map]) + _WIRE.pack(0, 0, 0, 0)
    return _WIRE.pack(line.code, registers, offset, line.value)
