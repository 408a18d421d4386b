"""An object as it is on the wire, and the document of the store behind it. Both ways; pure.

    projectcalico.org/v3, core/v1 ...    the document itself
    crd.projectcalico.org/v1             other names; what Calico means by labels may be in an annotation (reference 1.2)
    core/v1 Node                         nodes.py

The names of IPAM's objects differ: in the store they lead to the object, in Kubernetes they are what Calico makes them
(datastore/names.py).
"""

import json
import uuid
from base64 import b32encode
from collections.abc import Mapping
from hashlib import sha3_256
from typing import Any

from felixlite.addresses import Prefix
from felixlite.apiserver import nodes
from felixlite.apiserver.catalogue import Form, Served
from felixlite.datastore.names import affinity_name, block_name
from felixlite.datastore.store import Document, Entry, Key
from felixlite.model.kind import CALICO_VERSION
from felixlite.model.resource import METADATA_ANNOTATION

NOT_KEPT = ("resourceVersion", "selfLink", "managedFields")
_UIDS = uuid.UUID("6f0c6a58-6c4b-4f0c-9d0e-0e6f6ad1e6b5")  # of objects that the store keeps no uid of


def shown(served: Served, entry: Entry) -> Document:
    """As the API gives it out."""
    found = nodes.shown(entry.document) if served.form is Form.NODE else dict(entry.document)
    metadata = found.get("metadata")
    metadata = dict(metadata) if isinstance(metadata, dict) else {}
    metadata["name"] = wire_name(served, entry)
    metadata["resourceVersion"] = entry.revision
    metadata.setdefault("uid", str(uuid.uuid5(_UIDS, str(entry.key))))
    metadata.setdefault("creationTimestamp", None)
    if served.form is Form.CUSTOM and served.stored == "BlockAffinity":
        metadata["labels"] = {**_affinity_labels(found), **(metadata.get("labels") or {})}
    found |= {"apiVersion": served.api_version, "kind": served.kind, "metadata": metadata}
    return found


def taken(served: Served, wire: Mapping[str, Any], before: Document | None) -> Document:
    """As the store keeps it."""
    metadata = {name: value for name, value in (wire.get("metadata") or {}).items() if name not in NOT_KEPT}
    found = {**wire, "metadata": metadata}
    if served.form is Form.NODE:
        return nodes.taken(found, before)
    if served.form is Form.CUSTOM:
        found |= {"apiVersion": CALICO_VERSION, "kind": served.stored, "metadata": _calico_metadata(metadata)}
    name = key(served, str(metadata.get("namespace") or ""), found).name
    found["metadata"] = {**found["metadata"], "name": name}
    return found


def key(served: Served, namespace: str, wire: Mapping[str, Any]) -> Key:
    """Under which the store keeps an object."""
    name, spec = str((wire.get("metadata") or {}).get("name") or ""), wire.get("spec")
    spec = spec if isinstance(spec, Mapping) else {}
    place = namespace if served.namespaced else ""
    match served.stored:
        case "IPAMHandle" if isinstance(spec.get("handleID"), str) and spec["handleID"].lower() == name.lower():
            return Key(served.stored, spec["handleID"], place)
        case "BlockAffinity":
            own = _affinity_names(spec)
            return Key(served.stored, own[0] if own and name in own else name, place)
        case _:
            return Key(served.stored, name, place)


def wire_name(served: Served, entry: Entry) -> str:
    if served.form is not Form.CUSTOM:
        return entry.key.name
    match entry.key.kind:
        case "IPAMHandle":
            return entry.key.name.lower()
        case "BlockAffinity":
            spec = entry.document.get("spec")
            own = _affinity_names(spec if isinstance(spec, Mapping) else {})
            return own[1] if own else entry.key.name
        case _:
            return entry.key.name


def has_other_names(served: Served) -> bool:
    """Whether an object has to be looked for by its name on the wire."""
    return served.form is Form.CUSTOM and served.stored in ("IPAMHandle", "BlockAffinity")


def _affinity_names(spec: Mapping[str, Any]) -> tuple[str, str] | None:
    """In the store, on the wire."""
    try:
        cidr = Prefix.parse(str(spec.get("cidr")))
    except ValueError:
        return None
    node = str(spec.get("node") or "")
    return (affinity_name(node, cidr), f"{node}-{block_name(cidr)}") if node else None


def _affinity_labels(document: Document) -> dict[str, str]:
    """Reference 2.14."""
    spec = document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    digest = sha3_256(str(spec.get("node") or "").encode()).digest()
    return {
        "projectcalico.org/hostname-hash": b32encode(digest).decode().rstrip("="),
        "projectcalico.org/affinity-type": str(spec.get("type") or "host"),
        "projectcalico.org/ip-version": "6" if ":" in str(spec.get("cidr")) else "4",
    }


def _calico_metadata(metadata: Document) -> Document:
    """The labels and annotations that Calico means: those of the annotation, next to the object's own."""
    annotations = dict(metadata.get("annotations") or {})
    text = annotations.pop(METADATA_ANNOTATION, None)
    try:
        meant = json.loads(text) if text else {}
    except (TypeError, ValueError):
        return metadata  # the check of the document names it
    if not isinstance(meant, dict):
        return metadata
    found = {name: value for name, value in metadata.items() if name not in ("labels", "annotations")}
    for name, own in (("labels", metadata.get("labels")), ("annotations", annotations)):
        if both := {**(own or {}), **(meant.get(name) or {})}:
            found[name] = both
    return found
