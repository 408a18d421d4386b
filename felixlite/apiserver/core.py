"""What an API server of Kubernetes itself fills in or turns round in objects of its own kinds. Pure.

Only where somebody here, or kubectl, relies on it: a namespaceSelector on the label with a namespace's name, a Secret's
stringData that is to be read as data, a NetworkPolicy's directions.
"""

from base64 import b64encode
from collections.abc import Callable, Mapping
from typing import Any

from felixlite.apiserver import catalogue

Document = dict[str, Any]
NAME_LABEL = "kubernetes.io/metadata.name"


def filled(kind: str, document: Document) -> Document:
    """`kind` is the store's."""
    fill = _FILL.get(kind)
    return fill(document) if fill else document


def kept(kind: str, document: Document) -> tuple[Document, tuple[str, ...]]:
    """An object that nobody here reads, and what its writer should know."""
    if kind == "CustomResourceDefinition":
        return _definition(document)
    if kind in catalogue.RUN_BY_NOBODY:
        return document, (f"kept, but nobody here acts on a {kind}",)
    return document, ()


def _definition(document: Document) -> tuple[Document, tuple[str, ...]]:
    """What is served is fixed; a definition of something else is kept and is not established."""
    spec = document.get("spec")
    spec = spec if isinstance(spec, dict) else {}
    plural = (spec.get("names") or {}).get("plural", "")
    versions = [one.get("name", "") for one in spec.get("versions") or () if isinstance(one, dict)]
    served = any(catalogue.find(str(spec.get("group")), version, str(plural)) for version in versions)
    notes = () if served else (f"{plural}.{spec.get('group')} is not served here: only what felixlite knows is",)
    said = "True" if served else "False"
    conditions = [{"type": name, "status": said, "reason": "Fixed"} for name in ("NamesAccepted", "Established")]
    accepted = spec.get("names") or {}
    return {
        **document,
        "status": {"conditions": conditions, "acceptedNames": accepted, "storedVersions": versions},
    }, notes


def _namespace(document: Document) -> Document:
    metadata = document["metadata"]
    labels = {**(metadata.get("labels") or {}), NAME_LABEL: metadata.get("name", "")}
    return {
        **document,
        "metadata": {**metadata, "labels": labels},
        "spec": document.get("spec") or {"finalizers": ["kubernetes"]},
        "status": document.get("status") or {"phase": "Active"},
    }


def _secret(document: Document) -> Document:
    found = {"type": "Opaque", **{name: value for name, value in document.items() if name != "stringData"}}
    texts = document.get("stringData")
    if isinstance(texts, dict) and all(isinstance(text, str) for text in texts.values()):
        found["data"] = {
            **(document.get("data") or {}),
            **{k: b64encode(v.encode()).decode() for k, v in texts.items()},
        }
    return found


def _policy(document: Document) -> Document:
    spec = document.get("spec")
    if not isinstance(spec, dict) or spec.get("policyTypes"):
        return document
    types = ["Ingress", *(["Egress"] if spec.get("egress") else [])]
    return {**document, "spec": {**spec, "policyTypes": types}}


def _service(document: Document) -> Document:
    spec = document.get("spec")
    return {**document, "spec": {"type": "ClusterIP", **spec}} if isinstance(spec, dict) else document


def _pod(document: Document) -> Document:
    status = document.get("status")
    return {**document, "status": {"phase": "Pending", **(status if isinstance(status, dict) else {})}}


_FILL: Mapping[str, Callable[[Document], Document]] = {
    "KubernetesNetworkPolicy": _policy,
    "Namespace": _namespace,
    "Pod": _pod,
    "Secret": _secret,
    "Service": _service,
}
