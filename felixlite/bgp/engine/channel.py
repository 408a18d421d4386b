"""The socket to the agent, in the place of exabgp's helper process: written without ever blocking the timers."""

import json
import os
import socket
import time
from collections import deque
from collections.abc import Iterator
from typing import Any

from exabgp.bgp.message import Message
from exabgp.reactor.api.processes import Processes
from exabgp.reactor.api.response import Response
from exabgp.version import json as json_version

SERVICE = "felixlite"
LINES_AT_ONCE = 64
MOST_UNSENT = 512 * 1024 * 1024  # an agent that is this far behind is not reading any more


class Channel(Processes):  # type: ignore[misc]
    """What exabgp takes for its one helper process."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__()
        self.link = link
        link.setblocking(False)
        self.unsent: deque[bytes] = deque()
        self.unsent_bytes = 0
        self.partial = b""
        self.heard: dict[str, float] = {}  # neighbour -> when its last UPDATE came

    def start(self, configuration: Any, restart: bool = False) -> None:  # noqa: ARG002  exabgp's signature
        self._encoder[SERVICE] = Response.JSON(json_version)
        self._ackjson[SERVICE] = False
        self._ack[SERVICE] = False
        self.fds = [self.link.fileno()]
        self.say(id=0)  # the file has been read: from now on it may be written

    def broken(self, neighbor: Any) -> bool:  # noqa: ARG002
        return False

    def write(self, process: str, string: str | None, neighbor: Any = None) -> bool:  # noqa: ARG002
        if string is not None:
            line = string.encode() + b"\n"
            self.unsent.append(line)
            self.unsent_bytes += len(line)
            self.flush()
        return True

    def say(self, **members: Any) -> None:
        self.write(SERVICE, json.dumps({"felixlite": members}))

    def flush(self) -> None:
        """Send what the agent takes without waiting for it: a slow agent must not cost us the hold timers."""
        while self.unsent:
            chunk = b"".join([self.unsent.popleft() for _ in range(min(len(self.unsent), LINES_AT_ONCE))])
            try:
                sent = self.link.send(chunk)
            except BlockingIOError:
                sent = 0
            except OSError:
                leave()
            self.unsent_bytes -= sent
            if sent < len(chunk):
                self.unsent.appendleft(chunk[sent:])
                break
        if self.unsent_bytes > MOST_UNSENT:
            leave()

    def received(self) -> Iterator[tuple[str, str]]:
        self.flush()
        while True:
            try:
                data = self.link.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                leave()
            if not data:
                leave()
            *lines, self.partial = (self.partial + data).split(b"\n")
            for line in lines:
                yield SERVICE, line.decode()

    def packets(self, neighbor: Any, direction: str, category: int, *rest: Any) -> None:
        if category == Message.CODE.UPDATE:
            self.heard[str(neighbor["peer-address"])] = time.monotonic()
        super().packets(neighbor, direction, category, *rest)

    def terminate(self) -> None:
        self.flush()


def leave() -> None:
    """The agent is gone. No NOTIFICATION: with graceful restart the peers keep our routes until the next agent."""
    os._exit(0)
