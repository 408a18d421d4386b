"""IPAM documents straight to what routing needs of them: the short way, without pydantic. Pure.

An agent reads thousands of blocks, and every assignment in the cluster changes one; felixlite.ipam, which writes them,
reads them in full.  Reference 2.14, 2.15, 4.1.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.errors import Problem, Rejected
from felixlite.model.inside import Affinity, AffinityState, Block

Document = Mapping[str, Any]


def affinity(document: Document) -> Affinity:
    spec = _spec(document)
    node = spec.get("node")
    if not isinstance(node, str) or not node:
        raise _rejected(document, "spec.node", node, "must be the name of a node")
    return Affinity(node, _cidr(document, spec), _state(document, spec), spec.get("type") == "virtual")


def _state(document: Document, spec: Document) -> AffinityState:
    if spec.get("deleted") in ("true", True):
        return AffinityState.PENDING_DELETION
    try:
        return AffinityState(spec.get("state") or AffinityState.CONFIRMED)  # the oldest releases wrote no state
    except ValueError:
        states = ", ".join(AffinityState)
        raise _rejected(document, "spec.state", spec.get("state"), f"must be one of {states}") from None


def block(document: Document) -> Block:
    spec = _spec(document)
    cidr = _cidr(document, spec)
    owner = spec.get("affinity")
    if owner is not None and not (isinstance(owner, str) and ":" in owner):
        raise _rejected(document, "spec.affinity", owner, "must be host:NODE, virtual:NAME or absent")
    node = owner.removeprefix("host:") if owner and owner.startswith("host:") else None
    allocations, users = spec.get("allocations"), _users(document, spec)
    if not isinstance(allocations, list) or len(allocations) != cidr.size:
        raise _rejected(document, "spec.allocations", _size(allocations), f"must be a list of {cidr.size} entries")
    if any(user and user != node for user in users):
        return Block(cidr, node, dict(_borrowed(document, cidr, node, allocations, users)))
    return Block(cidr, node)


def _users(document: Document, spec: Document) -> list[str]:
    """For each attribute of the block the node that uses it, "" where it does not say."""
    attributes = spec.get("attributes") or []
    if not isinstance(attributes, list) or not all(isinstance(attribute, Mapping) for attribute in attributes):
        raise _rejected(document, "spec.attributes", attributes, "must be a list of mappings")
    return ["" if attribute.get("releasedAt") else _node(attribute.get("secondary")) for attribute in attributes]


def _node(secondary: object) -> str:
    return str(secondary.get("node") or "") if isinstance(secondary, Mapping) else ""


def _borrowed(
    document: Document, cidr: Prefix, owner: str | None, allocations: list[Any], users: list[str]
) -> Iterator[tuple[Address, str]]:
    for ordinal, index in enumerate(allocations):
        if index is None:
            continue
        if not isinstance(index, int) or not 0 <= index < len(users):
            raise _rejected(document, f"spec.allocations[{ordinal}]", index, "must be null or an index into attributes")
        if users[index] and users[index] != owner:
            yield cidr.address(ordinal), users[index]


def _spec(document: Document) -> Document:
    spec = document.get("spec")
    if not isinstance(spec, Mapping):
        raise _rejected(document, "spec", spec, "must be a mapping")
    return spec


def _cidr(document: Document, spec: Document) -> Prefix:
    try:
        return Prefix.parse(spec["cidr"])
    except (KeyError, TypeError, ValueError, AttributeError):
        raise _rejected(document, "spec.cidr", spec.get("cidr"), "must be a CIDR such as 10.0.0.0/26") from None


def _size(value: object) -> str:
    return f"{len(value)} entries" if isinstance(value, list) else repr(value)


def _rejected(document: Document, field: str, value: object, remedy: str) -> Rejected:
    metadata = document.get("metadata")
    name = metadata.get("name") if isinstance(metadata, Mapping) else ""
    return Rejected([Problem(str(document.get("kind")), str(name), field, value, remedy)])
