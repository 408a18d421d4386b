"""What passes an interface of a machine of the lab: headers in one line each, and a pcap for those who want all of it.

A packet socket in the machine's namespace; nothing but this process reads it and nothing is changed.
"""

import socket
import time
from collections.abc import Iterator
from pathlib import Path

from felixlite.errors import FelixliteError
from felixlite.lab.packets import LINK_ETHERNET, LINK_RAW, SNAP, Header, pcap_header, pcap_record
from felixlite.lab.world import within

ALL_PROTOCOLS = 3  # ETH_P_ALL
TURN = 0.2


def opened(namespace: str, link: str) -> socket.socket:
    """Listening from now on."""
    listening = within(namespace, lambda: _socket(link))
    listening.settimeout(TURN)
    return listening


def _socket(link: str) -> socket.socket:
    made = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(ALL_PROTOCOLS))
    try:
        made.bind((link, ALL_PROTOCOLS))
    except OSError as error:
        made.close()
        raise FelixliteError(f"cannot listen on {link}: {error.strerror}") from None
    return made


def frames(listening: socket.socket, seconds: float) -> Iterator[tuple[float, bytes]]:
    """Frames with the time of their arrival, until the time is over."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        try:
            frame = listening.recv(SNAP)
        except TimeoutError:
            continue
        yield time.time(), frame


class Pcap:
    """The frames as they were, or with `decap` what was inside the tunnels."""

    def __init__(self, path: Path, *, decap: bool) -> None:
        self.file, self.decap = path.open("wb"), decap
        self.file.write(pcap_header(LINK_RAW if decap else LINK_ETHERNET))

    def add(self, at: float, frame: bytes, found: list[Header]) -> None:
        self.file.write(pcap_record(found[-1].packet if self.decap else frame, at))
        self.file.flush()

    def close(self) -> None:
        self.file.close()


def lines(found: list[Header], *, decap: bool) -> Iterator[str]:
    """One for the outer header; with `decap` one for each that is inside."""
    for depth, header in enumerate(found if decap else found[:1]):
        yield "  " * depth + str(header)


def concerns(found: list[Header], address: str) -> bool:
    return not address or any(address in (header.source, header.destination) for header in found)
