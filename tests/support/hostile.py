"""A BGP peer of a few lines that says whatever a test wants, well-formed or not.

with rack("fb-h") as it, hostile(it, 1) as peer:      # listens at 10.99.0.101
    it.peer("10.99.0.101")
    peer.meet()                                      # OPEN and KEEPALIVE, both ways
    peer.update(announced=b"\\x18\\xac\\x14\\x09")
    peer.close()
"""

import socket
import struct
from collections.abc import Iterator
from contextlib import contextmanager

from tests.support.speaking import AS, Rack, address

OPEN, UPDATE, NOTIFICATION, KEEPALIVE = 1, 2, 3, 4
ORIGIN, AS_PATH = bytes.fromhex("40010100"), bytes.fromhex("400200")


class Hostile:
    def __init__(self, it: Rack, number: int) -> None:
        self.address = address(number)
        self.packed = socket.inet_aton(self.address)
        self.attributes = ORIGIN + AS_PATH + b"\x40\x03\x04" + self.packed + bytes.fromhex("40050400000064")
        self.listening = it.others[number - 1].run(socket.socket)
        self.listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.listening.bind((self.address, 179))
        self.listening.listen()
        self.listening.settimeout(30)
        self.link: socket.socket | None = None

    def meet(self) -> None:
        self.link, _ = self.listening.accept()
        self.link.settimeout(30)
        capabilities = bytes.fromhex("0104 0001 0001 4104".replace(" ", "")) + struct.pack("!I", AS)
        parameters = bytes([2, len(capabilities)]) + capabilities
        self.say(OPEN, struct.pack("!BHH4sB", 4, AS, 90, self.packed, len(parameters)) + parameters)
        assert self.hear()[0] == OPEN
        self.say(KEEPALIVE)
        assert self.hear()[0] == KEEPALIVE

    def update(self, announced: bytes = b"", withdrawn: bytes = b"", attributes: bytes | None = None) -> None:
        blob = self.attributes if attributes is None else attributes
        self.say(
            UPDATE, struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(blob)) + blob + announced
        )

    def say(self, kind: int, body: bytes = b"") -> None:
        assert self.link
        self.link.sendall(b"\xff" * 16 + struct.pack("!HB", 19 + len(body), kind) + body)

    def hear(self) -> tuple[int, bytes]:
        """The next message; (0, b"") when the other side is gone."""
        head = self._exactly(19)
        if not head:
            return 0, b""
        length, kind = struct.unpack("!HB", head[16:])
        return kind, self._exactly(length - 19)

    def until_refused(self) -> tuple[int, int]:
        """Code and subcode of the NOTIFICATION that ends the session."""
        while True:
            kind, body = self.hear()
            if kind == NOTIFICATION:
                return body[0], body[1]
            assert kind, "gone without a NOTIFICATION"

    def _exactly(self, size: int) -> bytes:
        assert self.link
        found = b""
        while len(found) < size:
            try:
                more = self.link.recv(size - len(found))
            except ConnectionResetError:
                return b""
            if not more:
                return b""
            found += more
        return found

    def close(self) -> None:
        if self.link:
            self.link.close()
            self.link = None


@contextmanager
def hostile(it: Rack, number: int) -> Iterator[Hostile]:
    peer = Hostile(it, number)
    try:
        yield peer
    finally:
        peer.close()
        peer.listening.close()
