"""The documents of IPAM beside the block: affinities, handles, configuration; and the keys of all of them. Pure.

Shapes are those of the reference (2.13 - 2.16).  A field that we do not know stays when a document is written again.
"""

from collections.abc import Mapping
from typing import Any

from felixlite.addresses import Prefix
from felixlite.datastore.names import affinity_name, block_name
from felixlite.datastore.store import Document, Entry, Key, Write
from felixlite.ipam.assign import Config
from felixlite.ipam.blocks import API, VIRTUAL
from felixlite.model.inside import Affinity, AffinityState

BLOCK, AFFINITY, HANDLE, CONFIG = "IPAMBlock", "BlockAffinity", "IPAMHandle", "IPAMConfiguration"
CONFIG_KEY = Key(CONFIG, "default")


def block_key(cidr: Prefix) -> Key:
    return Key(BLOCK, block_name(cidr))


def handle_key(handle: str) -> Key:
    return Key(HANDLE, handle)


def affinity_key(owner: str, cidr: Prefix) -> Key:
    """`owner` as in a block: host:<node> or virtual:<name>."""
    return Key(AFFINITY, affinity_name(owner.partition(":")[2], cidr))


def affinity_document(owner: str, cidr: Prefix, state: AffinityState, before: Document | None = None) -> Document:
    key = affinity_key(owner, cidr)
    kind = "virtual" if owner.startswith(VIRTUAL) else "host"
    spec = {"type": kind, **((before or {}).get("spec") or {}), "deleted": "false"}
    spec |= {"state": str(state), "node": owner.partition(":")[2], "cidr": str(cidr)}
    frame = {"apiVersion": API, "kind": AFFINITY, "metadata": {"name": key.name}}
    return {**frame, **(before or {}), "spec": spec}


def affinity_write(owner: str, cidr: Prefix, state: AffinityState, before: Entry | None) -> Write:
    made = affinity_document(owner, cidr, state, before.document if before else None)
    return Write(affinity_key(owner, cidr), made, before.revision if before else None)


def affinity_of(document: Mapping[str, Any]) -> Affinity | None:
    """None for what is no affinity, or one that its owner is deleting."""
    spec = document.get("spec") or {}
    try:
        state = AffinityState(spec.get("state") or AffinityState.CONFIRMED)  # a legacy one has no state
        cidr = Prefix.parse(spec["cidr"])
    except (KeyError, TypeError, ValueError):
        return None
    if str(spec.get("deleted")).lower() == "true":
        return None
    return Affinity(str(spec.get("node") or ""), cidr, state, spec.get("type") == "virtual")


def owner_of(affinity: Affinity) -> str:
    return f"{'virtual' if affinity.virtual else 'host'}:{affinity.node}"


def counts_of(document: Mapping[str, Any]) -> dict[Prefix, int]:
    """block -> addresses, as a handle says."""
    found = {}
    for text, count in ((document.get("spec") or {}).get("block") or {}).items():
        try:
            found[Prefix.parse(text)] = int(count)
        except (TypeError, ValueError):
            continue  # `ipam check` reports it; nothing of ours is in a block without a readable name
    return found


def handle_write(handle: str, counts: Mapping[Prefix, int], before: Entry | None) -> Write | None:
    """The write that makes a handle say `counts`; None when there is nothing to write."""
    kept = {str(cidr): count for cidr, count in counts.items() if count > 0}
    revision = before.revision if before else None
    if not kept:
        return Write(handle_key(handle), None, revision) if before else None
    old = before.document if before else {}
    spec = {**(old.get("spec") or {}), "handleID": handle, "block": kept, "deleted": False}
    frame = {"apiVersion": API, "kind": HANDLE, "metadata": {"name": handle.lower()}}
    return Write(handle_key(handle), {**frame, **old, "spec": spec}, revision)


def config_of(document: Mapping[str, Any] | None) -> Config:
    spec = (document or {}).get("spec") or {}
    return Config(
        strict_affinity=spec.get("strictAffinity") is True,
        max_blocks=int(spec.get("maxBlocksPerHost") or 0),
        auto_allocate=spec.get("autoAllocateBlocks") is not False,
        cooldown=float(spec.get("ipCooldownSeconds") or 0),
    )


def reservations_of(document: Mapping[str, Any]) -> list[Prefix]:
    found = []
    for text in (document.get("spec") or {}).get("reservedCIDRs") or ():
        try:
            found.append(Prefix.parse(text))
        except ValueError:
            continue  # refused at the border; one bad line must not lift the others
    return found
