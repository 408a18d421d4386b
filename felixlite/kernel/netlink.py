"""Speaking rtnetlink: attributes packed with struct, many messages in one send, one dump as raw buffers.

A batch asks for an acknowledgement on its last message only; the kernel still answers every message that it refuses,
by its sequence number, so one batch of 800 costs two system calls and no error is lost.  The kernel works through the
whole batch whatever fails on the way (netlink_rcv_skb).

Nothing here knows what a route or a link is: messages.py packs those.  A Socket belongs to one thread at a time and to
the namespace that it was made in.
"""

import ctypes
import errno
import os
import socket
import struct
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from typing import Final, Self

from felixlite.kernel.namespaces import visiting

# A message as its maker sees it: the kind (RTM_...), the flags beside NLM_F_REQUEST, everything after the header.
Message = tuple[int, int, bytes]

REQUEST: Final = 0x1
ACK: Final = 0x4
DUMP: Final = 0x300
REPLACE: Final = 0x100
EXCLUSIVE: Final = 0x200
CREATE: Final = 0x400
NESTED: Final = 0x8000

_ERROR: Final = 2
_DONE: Final = 3
_INTERRUPTED: Final = 0x10  # NLM_F_DUMP_INTR
_HAS_TEXT: Final = 0x200  # NLM_F_ACK_TLVS
_CAPPED: Final = 0x100
_SOL_NETLINK: Final = 270
_CAP_ACK, _EXT_ACK, _STRICT = 10, 11, 12
_SO_SNDBUFFORCE, _SO_RCVBUFFORCE = 32, 33
_ADD_MEMBERSHIP: Final = 1
_ATTACH_FILTER: Final = 26
_BATCH: Final = 800
_HEADER = struct.Struct("=IHHII")
_ATTRIBUTE = struct.Struct("=HH")
_U8, _U16, _U32 = struct.Struct("=HHBxxx"), struct.Struct("=HHHxx"), struct.Struct("=HHI")


class Refused(OSError):
    """The kernel said no. str() is its reason in words, with the kernel's own remark if it made one."""

    def __init__(self, number: int, remark: str = "") -> None:
        super().__init__(number, os.strerror(number))
        self.number, self.remark = number, remark

    def __str__(self) -> str:
        return f"{self.strerror} ({self.remark})" if self.remark else str(self.strerror)


class Interrupted(Exception):
    """What was being listed changed meanwhile; list it again."""


# -- attributes ------------------------------------------------------------------------------------------------------


def attribute(kind: int, data: bytes) -> bytes:
    length = 4 + len(data)
    return _ATTRIBUTE.pack(length, kind) + data + b"\0" * (-length & 3)


def nested(kind: int, *attributes: bytes) -> bytes:
    return attribute(kind | NESTED, b"".join(attributes))


def text(kind: int, value: str) -> bytes:
    return attribute(kind, value.encode() + b"\0")


def u8(kind: int, value: int) -> bytes:
    return _U8.pack(5, kind, value)


def u16(kind: int, value: int) -> bytes:
    return _U16.pack(6, kind, value)


def u32(kind: int, value: int) -> bytes:
    return _U32.pack(8, kind, value & 0xFFFFFFFF)


def attributes(data: bytes, start: int = 0, end: int | None = None) -> dict[int, bytes]:
    """The attributes in data[start:end] by kind; of a repeated kind the last."""
    end = len(data) if end is None else end
    found = {}
    while start + 4 <= end:
        length, kind = _ATTRIBUTE.unpack_from(data, start)
        if length < 4:
            break
        found[kind & 0x3FFF] = data[start + 4 : start + length]
        start += (length + 3) & ~3
    return found


# -- the socket ------------------------------------------------------------------------------------------------------


class Socket:
    """One rtnetlink socket in the current network namespace, or in the one that `namespace` is a descriptor of."""

    def __init__(self, namespace: int | None = None) -> None:
        with visiting(namespace):
            self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, socket.NETLINK_ROUTE)
        self._sequence = 0
        for option in (_CAP_ACK, _EXT_ACK, _STRICT):
            self._socket.setsockopt(_SOL_NETLINK, option, 1)
        for force, plain in ((_SO_SNDBUFFORCE, socket.SO_SNDBUF), (_SO_RCVBUFFORCE, socket.SO_RCVBUF)):
            try:
                self._socket.setsockopt(socket.SOL_SOCKET, force, 8 << 20)
            except PermissionError:  # root in a user namespace only
                self._socket.setsockopt(socket.SOL_SOCKET, plain, 8 << 20)
        self._socket.bind((0, 0))
        self.port: int = self._socket.getsockname()[0]  # notifications name the port that caused them

    def close(self) -> None:
        self._socket.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def fileno(self) -> int:
        return self._socket.fileno()

    def join(self, groups: int) -> None:
        """Hear the notifications of these groups (RTMGRP_ bits)."""
        for number in range(1, 33):
            if groups >> (number - 1) & 1:
                self._socket.setsockopt(_SOL_NETLINK, _ADD_MEMBERSHIP, number)

    def filter(self, program: bytes) -> None:
        """Let the kernel drop what the classic BPF program (SO_ATTACH_FILTER) says; attach it before joining."""
        buffer = ctypes.create_string_buffer(program, len(program))
        bound = struct.pack("@HP", len(program) // 8, ctypes.addressof(buffer))
        self._socket.setsockopt(socket.SOL_SOCKET, _ATTACH_FILTER, bound)

    def receive(self) -> bytes:
        """One datagram. OSError ENOBUFS: the kernel had to drop some."""
        return self._socket.recv(65536)

    def send(self, messages: Sequence[Message]) -> dict[int, Refused]:
        """Send them all. Answers which of them (by position) the kernel refused, and why; the others are done."""
        refused: dict[int, Refused] = {}
        for start in range(0, len(messages), _BATCH):
            for position, error in self._send_batch(messages[start : start + _BATCH]):
                refused[start + position] = error
        return refused

    def do(self, *messages: Message, ignore: Iterable[int] = ()) -> None:
        """Send them all and raise the first refusal, unless its errno is one to ignore."""
        for _, error in sorted(self.send(messages).items()):
            if error.number not in ignore:
                raise error

    def _send_batch(self, batch: Sequence[Message]) -> Iterator[tuple[int, Refused]]:
        first = self._reserve(len(batch))
        pack = _HEADER.pack
        wire = [
            pack(16 + len(body), kind, flags | REQUEST, first + position, 0) + body
            for position, (kind, flags, body) in enumerate(batch)
        ]
        kind, flags, body = batch[-1]
        last = first + len(batch) - 1
        wire[-1] = pack(16 + len(body), kind, flags | REQUEST | ACK, last, 0) + body
        self._socket.send(b"".join(wire))
        while True:
            for sequence, error in self._answers():
                if error and first <= sequence <= last:
                    yield sequence - first, error
                if sequence == last:
                    return

    def _answers(self) -> Iterator[tuple[int, Refused | None]]:
        data = self._socket.recv(65536)
        position = 0
        while position < len(data):
            length, kind, flags, sequence, _ = _HEADER.unpack_from(data, position)
            if kind == _ERROR:
                yield sequence, _refusal(data, position, length, flags)
            position += (length + 3) & ~3

    def _reserve(self, count: int) -> int:
        """The first of `count` sequence numbers in a row."""
        first = self._sequence + 1
        if first + count > 0xFFFFFFFF:
            first = 1
        self._sequence = first + count - 1
        return first

    def dump(self, kind: int, body: bytes) -> list[bytes]:
        """Everything of a kind, as the buffers that the kernel filled; `each` walks them."""
        for _ in range(10):
            with suppress(Interrupted):
                return self._dump_once(kind, body)
        raise Refused(errno.EAGAIN, "the kernel's list kept changing while it was read")

    def _dump_once(self, kind: int, body: bytes) -> list[bytes]:
        sequence = self._reserve(1)
        self._socket.send(_HEADER.pack(16 + len(body), kind, REQUEST | DUMP, sequence, 0) + body)
        buffers: list[bytes] = []
        interrupted = False
        while True:
            data = self._socket.recv(65536)
            length, answer, flags, number, _ = _HEADER.unpack_from(data)
            if number != sequence:
                continue  # what is left of an earlier, broken-off exchange
            interrupted = interrupted or bool(flags & _INTERRUPTED)
            done = answer == _DONE or _ends_with_done(data)
            if answer in (_ERROR, _DONE) and (error := _refusal(data, 0, length, flags)):
                raise error
            if answer not in (_ERROR, _DONE):
                buffers.append(data)
            if done:
                if interrupted:
                    raise Interrupted
                return buffers

    def get(self, kind: int, body: bytes) -> bytes:
        """The one object that the request names: the bytes after the header. Refused when there is none."""
        sequence = self._reserve(1)
        self._socket.send(_HEADER.pack(16 + len(body), kind, REQUEST | ACK, sequence, 0) + body)
        found = b""
        while True:
            data = self._socket.recv(65536)
            for answer, flags, number, start, end in each(data):
                if number != sequence:
                    continue
                if answer != _ERROR:
                    found = data[start:end]
                elif error := _refusal(data, start - 16, end - start + 16, flags):
                    raise error
                else:
                    return found


def each(data: bytes) -> Iterator[tuple[int, int, int, int, int]]:
    """The messages of a buffer: kind, flags, sequence, where the part after the header starts and ends."""
    position = 0
    while position + 16 <= len(data):
        length, kind, flags, sequence, _ = _HEADER.unpack_from(data, position)
        if length < 16:
            return
        if kind != _DONE:
            yield kind, flags, sequence, position + 16, position + length
        position += (length + 3) & ~3


def _ends_with_done(data: bytes) -> bool:
    """A dump's end comes alone or as the last message of a buffer, 20 bytes long (its error code is 0)."""
    return len(data) >= 36 and _HEADER.unpack_from(data, len(data) - 20)[:2] == (20, _DONE)


def _refusal(data: bytes, position: int, length: int, flags: int) -> Refused | None:
    number = -int(struct.unpack_from("=i", data, position + 16)[0])
    if number == 0:
        return None
    remark = ""
    if flags & _HAS_TEXT:
        start = position + (36 if flags & _CAPPED else 20)
        remark = attributes(data, start, position + length).get(1, b"").rstrip(b"\0").decode(errors="replace")
    return Refused(number, remark)
