"""What a repair or the collection means to do: values, so that they can be printed, compared and decided on. Pure.

repair.py carries them out; each says in its words what will have been done.
"""

from dataclasses import dataclass

from felixlite.addresses import Address, Prefix
from felixlite.ipam.blocks import Attribute, holding
from felixlite.ipam.facts import Endpoint, TunnelUse


@dataclass(frozen=True, slots=True)
class MendBlock:
    """The free list and the attributes agree with the allocations again."""

    cidr: Prefix

    def __str__(self) -> str:
        return f"rebuild the free list of {self.cidr}; every allocation stays"


@dataclass(frozen=True, slots=True)
class RebuildBlock:
    name: str
    cidr: Prefix

    def __str__(self) -> str:
        return f"write block {self.cidr} anew from its affinity, the endpoints and the nodes"


@dataclass(frozen=True, slots=True)
class RewriteHandle:
    handle: str
    cidrs: tuple[Prefix, ...]

    def __str__(self) -> str:
        return f"count the addresses of handle {self.handle} in {', '.join(map(str, self.cidrs))}"


@dataclass(frozen=True, slots=True)
class ConfirmAffinity:
    owner: str
    cidr: Prefix

    def __str__(self) -> str:
        return f"confirm that {self.owner} owns {self.cidr}"


@dataclass(frozen=True, slots=True)
class DropAffinity:
    owner: str
    cidr: Prefix

    def __str__(self) -> str:
        return f"remove the affinity of {self.owner} for {self.cidr}"


@dataclass(frozen=True, slots=True)
class DropBlock:
    """Empty, and owned by nobody or shadowed by another block."""

    cidr: Prefix

    def __str__(self) -> str:
        return f"remove the unused block {self.cidr}"


@dataclass(frozen=True, slots=True)
class FreeBlock:
    """The node gives the block up; it has to be empty, and the node gone or the block untouched since `sequence`."""

    node: str
    cidr: Prefix
    sequence: int | None = None

    def __str__(self) -> str:
        return f"release block {self.cidr} of node {self.node}"


@dataclass(frozen=True, slots=True)
class FreeAddress:
    """Only while it is still that allocation and its holder is still gone."""

    address: Address
    handle: str
    sequence: int | None

    def __str__(self) -> str:
        return f"release {self.address} of handle {self.handle}"


@dataclass(frozen=True, slots=True)
class Occupy:
    """The address is its user's, as the user says; `block_size` where a block may have to be made for it."""

    address: Address
    user: Endpoint | TunnelUse
    handle: str
    block_size: int | None = None

    @property
    def attribute(self) -> Attribute:
        return holding(self.handle, self.user.attributes)

    def __str__(self) -> str:
        return f"allocate {self.address} to {self.user}"


@dataclass(frozen=True, slots=True)
class EndRest:
    """What was released long enough ago may be assigned again; who uses the block does that, but nobody may."""

    cidr: Prefix

    def __str__(self) -> str:
        return f"put the rested addresses of {self.cidr} back into its free list"


Fix = (
    MendBlock | RebuildBlock | DropBlock | FreeBlock | EndRest | RewriteHandle | ConfirmAffinity | DropAffinity
    | FreeAddress | Occupy
)  # fmt: skip
