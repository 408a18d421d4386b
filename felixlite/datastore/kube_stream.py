"""A response of HTTP/1.1 that never ends, line by line, whatever pieces it comes in. Pure: bytes in, lines out.

http.client reads a response with blocking calls, a thread for each; an agent follows twenty watches in one thread.
Understands what servers and proxies send: chunked, with a length, or until the connection closes (RFC 9112 6 and 7).
"""

from collections.abc import Iterator

LONGEST_HEAD = 64 * 1024


class Garbled(ValueError):
    """This is no HTTP."""


class Stream:
    def __init__(self) -> None:
        self.status = 0  # 0: the head has not come yet
        self.headers: dict[str, str] = {}
        self.is_over = False  # the body is complete: the connection may be used again, or the server has had enough
        self._raw = bytearray()
        self._line = bytearray()
        self._left = 0  # bytes of this chunk, or of the body, that are still to come
        self._chunked = False
        self._length: int | None = None

    @property
    def rest(self) -> bytes:
        """What came after the last end of a line; of a refusal, whose body has lines of its own, the whole body."""
        return bytes(self._line)

    def feed(self, data: bytes) -> Iterator[bytes]:
        """The lines that are complete now."""
        self._raw += data
        if not self.status and not self._read_head():
            return
        self._line += self._body()
        if self.status != 200:
            return
        *lines, rest = self._line.split(b"\n")
        self._line = rest
        yield from (bytes(line) for line in lines if line.strip())

    def _read_head(self) -> bool:
        end = self._raw.find(b"\r\n\r\n")
        if end < 0:
            if len(self._raw) > LONGEST_HEAD or not b"HTTP/1.".startswith(self._raw[:7]):
                raise Garbled(f"the answer is not HTTP/1.1: {bytes(self._raw[:40])!r}")
            return False
        first, *fields = self._raw[:end].decode("latin-1").split("\r\n")
        del self._raw[: end + 4]
        version, _, rest = first.partition(" ")
        if version not in ("HTTP/1.1", "HTTP/1.0") or not rest[:3].isdecimal():
            raise Garbled(f"the answer is not HTTP/1.1: {first!r}")
        self.headers = {n.strip().lower(): v.strip() for n, _, v in (line.partition(":") for line in fields)}
        self._chunked = self.headers.get("transfer-encoding", "").lower() == "chunked"
        if not self._chunked and (length := self.headers.get("content-length")) is not None:
            if not length.isdecimal():
                raise Garbled(f"Content-Length: {length!r} is no number")
            self._length = self._left = int(length)
        self.status = int(rest[:3])
        return True

    def _body(self) -> bytes:
        if self._chunked:
            return b"".join(self._chunks())
        if self._length is None:
            return self._take(len(self._raw))
        found = self._take(min(self._left, len(self._raw)))
        self._left -= len(found)
        self.is_over = self._left == 0
        return found

    def _chunks(self) -> Iterator[bytes]:
        """`_left` counts the CRLF that follows the data, too."""
        while self._left or self._next_chunk():
            if self._left > 2:
                found = self._take(min(self._left - 2, len(self._raw)))
                self._left -= len(found)
                yield found
                if self._left > 2:
                    return
            if len(self._raw) < self._left:
                return
            self._take(self._left)
            self._left = 0

    def _next_chunk(self) -> bool:
        """False: it has not come yet, or it was the last."""
        end = self._raw.find(b"\r\n")
        if end < 0 or self.is_over:
            return False
        size = bytes(self._raw[:end]).partition(b";")[0].strip()
        try:
            length = int(size, 16)
        except ValueError:
            raise Garbled(f"{size[:40]!r} is no length of a chunk") from None
        del self._raw[: end + 2]
        self.is_over = length == 0
        self._left = length + 2 if length else 0
        return length > 0

    def _take(self, count: int) -> bytes:
        found = bytes(self._raw[:count])
        del self._raw[:count]
        return found
