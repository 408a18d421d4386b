"""IPAM's own objects: its configuration, blocks, who owns them, who holds addresses. Reference 2.13-2.16, 4.1.

felixlite.ipam reads and writes blocks through its own short way (ipam/documents.py), the Snapshot through
model/blocks.py; these classes are for who writes such an object by hand, and for the schemas.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import Field

from felixlite.model import blocks, inside
from felixlite.model.configuration import only_default
from felixlite.model.resource import Resource, Spec, default
from felixlite.model.shape import Fault, Model, rule
from felixlite.model.words import Cidr, Switch

Deleted = Annotated[Any, Field(description="true while the object is being deleted.")]


class IPAMConfigurationSpec(Spec):
    strictAffinity: Annotated[bool, Field(description="Nodes take no addresses from other nodes' blocks.")] = False
    maxBlocksPerHost: Annotated[int, Field(ge=0, le=1_000_000, description="0: 20.")] = 0
    autoAllocateBlocks: Annotated[bool, Field(description="Nodes claim new blocks by themselves.")] = True
    kubeVirtVMAddressPersistence: Annotated[
        Switch, Field(description="Virtual machines keep their address when they move; not done here.")
    ] = "Enabled"
    ipCooldownSeconds: Annotated[
        int, Field(ge=0, le=1200, description="How long a released address is not given out again.")
    ] = 0

    @rule
    def somebody_allocates(self) -> Iterator[Fault]:
        if not self.autoAllocateBlocks and not self.strictAffinity:
            yield Fault("autoAllocateBlocks", False, "needs strictAffinity: true")

    @rule
    def a_limit_of_blocks_needs_strict_affinity(self) -> Iterator[Fault]:
        if self.maxBlocksPerHost > 0 and not self.strictAffinity:
            yield Fault("maxBlocksPerHost", self.maxBlocksPerHost, "needs strictAffinity: true (or be 0)")


class IPAMConfiguration(Resource):
    """How addresses are assigned; there is one, `default`."""

    spec: IPAMConfigurationSpec = Field(default_factory=IPAMConfigurationSpec)

    @classmethod
    def filled(cls, document: dict[str, Any]) -> None:
        default(document.setdefault("spec", {}), strictAffinity=False, autoAllocateBlocks=True, maxBlocksPerHost=0)

    @rule
    def there_is_one(self) -> Iterator[Fault]:
        yield from only_default(self)


class BlockAffinitySpec(Spec):
    state: Annotated[
        Literal["pending", "confirmed", "pendingDeletion"], Field(description="Only a confirmed one is announced.")
    ] = "confirmed"
    node: Annotated[str, Field(min_length=1, description="The owner.")]
    cidr: Annotated[Cidr, Field(description="The block.")]
    deleted: Deleted = None
    type: Annotated[Literal["host", "virtual"], Field(description="Whether the owner is a node.")] = "host"


class BlockAffinity(Resource):
    """Which node owns a block."""

    dns_name = False
    spec: BlockAffinitySpec

    def inside(self) -> inside.Affinity:
        return blocks.affinity({"spec": self.spec.model_dump() | {"cidr": str(self.spec.cidr)}})


class Attribute(Model):
    handle_id: str | None = None
    secondary: dict[str, Any] | None = None
    alternateOwnerAttrs: dict[str, Any] | None = None
    releasedAt: Any = None


class IPAMBlockSpec(Spec):
    cidr: Annotated[Cidr, Field(description="The addresses of the block.")]
    affinity: Annotated[str | None, Field(description="host:NODE, virtual:NAME, or nobody.")] = None
    affinityClaimTime: Annotated[Any, Field(description="When the owner became it.")] = None
    allocations: Annotated[
        list[int | None], Field(description="For each address an index into attributes, or null if it is free.")
    ]
    unallocated: Annotated[list[int], Field(description="The free ones; the first is the next to be given out.")]
    attributes: Annotated[list[Attribute], Field(description="Who holds addresses, each holder once.")] = Field(
        default_factory=list
    )
    sequenceNumber: Annotated[int, Field(description="Grows with every write.")] = 0
    sequenceNumberForAllocation: Annotated[
        dict[str, int], Field(description="For each allocated address the number at that time.")
    ] = Field(default_factory=dict)
    deleted: Deleted = None
    strictAffinity: Annotated[bool, Field(description="Deprecated and ignored.")] = False

    @rule
    def it_has_an_entry_for_each_address(self) -> Iterator[Fault]:
        if len(self.allocations) != self.cidr.size:
            yield Fault("allocations", f"{len(self.allocations)} entries", f"must have {self.cidr.size} entries")

    @rule
    def allocations_have_attributes(self) -> Iterator[Fault]:
        for i, index in enumerate(self.allocations):
            if index is not None and not 0 <= index < len(self.attributes):
                yield Fault(f"allocations[{i}]", index, "must be null or an index into attributes")

    @rule
    def what_is_unallocated_is_free(self) -> Iterator[Fault]:
        for i, ordinal in enumerate(self.unallocated):
            if not 0 <= ordinal < len(self.allocations):
                yield Fault(f"unallocated[{i}]", ordinal, f"must be from 0 to {len(self.allocations) - 1}")
            elif self.allocations[ordinal] is not None:
                yield Fault(f"unallocated[{i}]", ordinal, "is allocated")


class IPAMBlock(Resource):
    """A block of addresses: whose it is, and who has which of them."""

    dns_name = False
    spec: IPAMBlockSpec


class IPAMHandleSpec(Spec):
    handleID: Annotated[str, Field(min_length=1, description="The holder.")]
    block: Annotated[dict[str, int], Field(description="How many addresses it holds, by block.")] = Field(
        default_factory=dict
    )
    deleted: Deleted = None


class IPAMHandle(Resource):
    """Where the addresses of one holder are."""

    dns_name = False
    spec: IPAMHandleSpec
