"""Calico's Node, as the store has it, as a core/v1 Node, and what is written to that taken back. Pure.

What a core/v1 Node has and Calico's has no place for (taints, conditions, other annotations) is kept as JSON in one
annotation of Calico's Node, so that what was written is read again.
"""

import json
from collections.abc import Mapping
from typing import Any

from felixlite.model import fromkubernetes
from felixlite.model.fromkubernetes import INTERFACES, LABELS, NODE_FIELDS, OURS, PREFIX

Document = dict[str, Any]
REST = "felixlite.io/kubernetes-node"
_OWN = frozenset({*(PREFIX + name for name in NODE_FIELDS), INTERFACES, LABELS, *OURS})


def shown(calico: Mapping[str, Any]) -> Document:
    """The core/v1 Node that stands for Calico's."""
    metadata = dict(calico.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    rest = _rest(annotations.pop(REST, ""))
    fields = {name: value for name, value in fromkubernetes.node_annotations(calico).items() if value is not None}
    metadata["annotations"] = {**rest.get("annotations", {}), **annotations, **fields}
    status = rest.get("status") or {"addresses": _addresses(calico)}
    return {"metadata": metadata, "spec": rest.get("spec") or {}, "status": status}


def taken(wire: Mapping[str, Any], before: Mapping[str, Any] | None) -> Document:
    """Calico's Node with what a core/v1 Node says; of `before` stays what a core/v1 Node cannot say."""
    found = fromkubernetes.node(wire)
    metadata = dict(wire.get("metadata") or {})
    annotations = dict(metadata.get("annotations") or {})
    rest = {
        "annotations": {name: value for name, value in annotations.items() if name not in _OWN},
        "spec": wire.get("spec") or {},
        "status": wire.get("status") or {},
    }
    metadata["annotations"] = {REST: json.dumps(rest, sort_keys=True, separators=(",", ":"))}
    metadata["labels"] = found["metadata"]["labels"]
    spec = {**_unsaid(before), **found["spec"]}
    if not found["spec"]["addresses"] or (before and _told(wire) == _addresses(before)):
        spec["addresses"] = ((before or {}).get("spec") or {}).get("addresses") or []
    return {**found, "metadata": metadata, "spec": {name: value for name, value in spec.items() if value != []}}


def _unsaid(before: Mapping[str, Any] | None) -> Document:
    """The fields of Calico's Node that no annotation is for."""
    spec = dict((before or {}).get("spec") or {})
    for step in {path[1] for path in NODE_FIELDS.values() if path[0] == "spec"} | {"interfaces"}:
        spec.pop(step, None)
    return spec


def _told(wire: Mapping[str, Any]) -> Any:
    return (wire.get("status") or {}).get("addresses")


def _addresses(calico: Mapping[str, Any]) -> list[Document]:
    spec = calico.get("spec") or {}
    told = [dict(one) for one in spec.get("addresses") or () if one.get("type") in ("InternalIP", "ExternalIP")]
    if told:
        return told
    bgp = spec.get("bgp") or {}
    found = [str(bgp[name]).partition("/")[0] for name in ("ipv4Address", "ipv6Address") if bgp.get(name)]
    return [{"type": "InternalIP", "address": address} for address in found]


def _rest(text: str) -> Document:
    try:
        found = json.loads(text) if text else {}
    except ValueError:
        return {}  # somebody spoiled it: as good as none
    return found if isinstance(found, dict) else {}
