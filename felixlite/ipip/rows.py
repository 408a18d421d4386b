"""Rows of the table that the eBPF tunnel reads. Pure."""

from dataclasses import dataclass
from ipaddress import IPv4Address
from typing import Literal, NamedTuple

from felixlite.rows import AS_INNER, OuterHeader


class Sender(NamedTuple):
    """IPIP from `remote` to `local` is let in."""

    remote: IPv4Address
    local: IPv4Address

    def __str__(self) -> str:
        return f"accept ipip from {self.remote} to {self.local}"


@dataclass(frozen=True, slots=True)
class Admitted:
    """Key: Sender. Being there is all there is to it."""

    def __str__(self) -> str:
        return ""


OUTER: Literal["outer"] = "outer"


@dataclass(frozen=True, slots=True)
class Outer:
    """Key: OUTER. What leaves has this source and header, and what was let in goes on as if `link` had received it."""

    local: IPv4Address
    link: str
    header: OuterHeader = AS_INNER

    def __str__(self) -> str:
        return f"source {self.local} link {self.link} {self.header}"


EndKey = Sender | Literal["outer"]
End = Admitted | Outer


@dataclass(frozen=True, slots=True)
class Forwarder:
    """Key: the TUN link that it holds. A process of ours that receives what arrives as protocol 4, and may send."""

    sends: bool
    header: OuterHeader = AS_INNER

    def __str__(self) -> str:
        return f"send and receive {self.header}" if self.sends else "receive"
