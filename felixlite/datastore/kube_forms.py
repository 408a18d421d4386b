"""What object of Kubernetes stands for a document, where it is, and what of it is read and written. Both ways; pure.

    IPPool p             /apis/crd.projectcalico.org/v1/ippools/p     its spec; labels may be in an annotation (reference 1.2)
    BlockAffinity        .../blockaffinities/n1-10-0-0-0-26           doomed (spec.deleted) is as good as gone (reference 4.2)
    Namespace, Lease...  /api/v1/namespaces/x                         itself
    Node n1              /api/v1/nodes/n1                             its annotations (reference 2.5)
    WorkloadEndpoint     /api/v1/namespaces/ns/pods/p                 annotations and a condition of the Pod (reference 2.6)
    Profile              none: intake.py makes it of the Namespace or the ServiceAccount

A revision is the resourceVersion, but for Node and WorkloadEndpoint a digest of what is read of them: a kubelet patches
its Node and its Pods all the time, and none of that is a reason to lose a comparison.
"""

import json
from base64 import b32encode
from collections.abc import Mapping
from datetime import datetime
from hashlib import blake2b, sha3_256
from typing import Any, NamedTuple

from felixlite.addresses import Prefix
from felixlite.datastore.layout import NoPlace
from felixlite.datastore.names import affinity_name, affinity_object, affinity_parts
from felixlite.datastore.store import Bookmark, Changed, Deleted, Document, Entry, Event, Key, metadata
from felixlite.model import fromkubernetes
from felixlite.model.kind import CALICO_VERSION, CRD_VERSION
from felixlite.model.kinds import KINDS

METADATA_ANNOTATION = "projectcalico.org/metadata"
TOUCHED = "felixlite.io/touched"  # makes a write that changes nothing a new revision
KEPT = ("name", "namespace", "labels", "annotations", "uid", "creationTimestamp", "deletionTimestamp",
        "deletionGracePeriodSeconds", "finalizers", "ownerReferences", "generateName")  # fmt: skip
DOOMED_FIRST = frozenset({"BlockAffinity", "IPAMBlock", "IPAMHandle"})
DIGESTED = frozenset({"Node", "WorkloadEndpoint"})
PLACELESS = frozenset({"Profile"})

Object = dict[str, Any]


class Place(NamedTuple):
    """A collection of the API."""

    api_version: str
    plural: str
    namespaced: bool

    def path(self, namespace: str = "", name: str = "") -> str:
        root = "/apis" if "/" in self.api_version else "/api"
        where = f"/namespaces/{namespace}" if self.namespaced and namespace else ""
        return f"{root}/{self.api_version}{where}/{self.plural}{f'/{name}' if name else ''}"


def place_of(kind: str, group: str) -> Place:
    """group: crd.projectcalico.org/v1 or projectcalico.org/v3, in which Calico's kinds are served."""
    stands_for = {"WorkloadEndpoint": "Pod"}.get(kind, kind)
    known = KINDS.get(stands_for)
    if not known or kind in PLACELESS:
        raise NoPlace(f"{kind}: has no place in Kubernetes")
    if kind == "Node":
        return Place("v1", "nodes", False)
    if not known.is_calico:
        return Place(known.api_version, known.plural, known.namespaced)
    return Place(group, known.crd[1] if group == CRD_VERSION else known.plural, known.namespaced)


def object_name(key: Key) -> str:
    """What the object is called there."""
    try:
        match key.kind:
            case "WorkloadEndpoint":
                return _pod_of(key)
            case "BlockAffinity":
                return affinity_object(*affinity_parts(key.name))
    except ValueError as error:
        raise NoPlace(f"{key}: {error}") from None
    if not key.name or "/" in key.name or "%" in key.name:
        raise NoPlace(f"{key}: must have a name, without a slash")
    return key.name.lower() if key.kind == "IPAMHandle" else key.name


def path_of(key: Key, group: str) -> str:
    place = place_of(key.kind, group)
    if place.namespaced and not key.namespace:
        raise NoPlace(f"{key}: needs a namespace")
    return place.path(key.namespace, object_name(key))


def _pod_of(key: Key) -> str:
    _, orchestrator, pod, interface = fromkubernetes.endpoint_parts(key.name)
    if orchestrator != "k8s":
        raise ValueError("on Kubernetes only a pod has an endpoint; this container has no K8S_POD_NAME")
    if interface != "eth0":
        raise ValueError(
            f"on Kubernetes a pod has one endpoint, that of its eth0; {interface} is another plugin's, or needs etcd"
        )
    return pod


# -- what is read


def entry_of(kind: str, found: Object) -> Entry | None:
    """None: the object stands for nothing (a pod without an address, what is being deleted)."""
    if kind in DOOMED_FIRST and is_doomed(found):
        return None
    document = _document_of(kind, found)
    if document is None:
        return None
    said = metadata(document)
    name, namespace = str(said.get("name", "")), str(said.get("namespace", ""))
    key = Key(kind, name, namespace if place_of(kind, CRD_VERSION).namespaced else "")
    revision = _digest(document, found) if kind in DIGESTED else _revision(found)
    return Entry(key, document, revision)


def event_of(kind: str, word: str, found: Object) -> Event | None:
    """What an event of a watch means for the documents; None: nothing."""
    revision = _revision(found)
    if word == "BOOKMARK":
        return Bookmark(revision)
    entry = entry_of(kind, found)
    if word == "DELETED":
        # one that stood for nothing any more was told when it came to that
        return Deleted(entry.key, revision) if entry else None
    if entry:
        return Changed(entry)
    gone = _key_of_nothing(kind, found) if word == "MODIFIED" else None
    return Deleted(gone, revision) if gone else None


def is_doomed(found: Object) -> bool:
    spec = found.get("spec")
    return isinstance(spec, dict) and spec.get("deleted") in ("true", True)


def doom(kind: str, revision: str) -> Object:
    """The merge patch that marks an object before it is deleted (reference 4.2)."""
    return {
        "metadata": {"resourceVersion": revision},
        "spec": {"deleted": "true" if kind == "BlockAffinity" else True},
    }


def _document_of(kind: str, found: Object) -> Document | None:
    if kind == "WorkloadEndpoint":
        endpoint = fromkubernetes.endpoint(found)
        return {**endpoint, "metadata": _kept(endpoint)} if endpoint else None
    if kind == "Node":
        node = fromkubernetes.node(found)
        return {**node, "metadata": _kept(node)}
    known, said = KINDS[kind], _kept(found)
    rest = {name: value for name, value in found.items() if name not in ("apiVersion", "kind", "metadata")}
    if not known.is_calico:
        return {"apiVersion": known.api_version, "kind": known.document_kind, "metadata": said, **rest}
    meant = _calico_metadata(said)
    if meant is None:  # somebody spoiled the annotation: it stays, and who reads the document says so
        return {"apiVersion": CRD_VERSION, "kind": known.crd[0], "metadata": said, **rest}
    if name := _name_inside(kind, found):
        meant = {**meant, "name": name}
    if kind == "BlockAffinity":
        meant.pop("labels", None)  # they repeat the spec, for selectors
    return {"apiVersion": CALICO_VERSION, "kind": kind, "metadata": meant, **rest}


def _kept(found: Mapping[str, Any]) -> Document:
    said = metadata(found)
    kept = {name: said[name] for name in KEPT if said.get(name) not in (None, {}, [])}
    annotations = {name: value for name, value in kept.get("annotations", {}).items() if name != TOUCHED}
    if annotations:
        kept["annotations"] = annotations
    else:
        kept.pop("annotations", None)
    return kept


def _calico_metadata(said: Document) -> Document | None:
    """With the labels and annotations that Calico means. None: they cannot be read."""
    text = (said.get("annotations") or {}).get(METADATA_ANNOTATION)
    if text is None:
        return said
    try:
        meant = json.loads(text)
    except (TypeError, ValueError):
        return None
    if not isinstance(meant, dict):
        return None
    rest = {name: value for name, value in said.items() if name not in ("labels", "annotations")}
    return rest | {name: meant[name] for name in ("labels", "annotations") if meant.get(name)}


def _name_inside(kind: str, found: Object) -> str | None:
    """IPAM's objects are called after what they say, as everywhere in this program."""
    spec = found.get("spec")
    if not isinstance(spec, dict):
        return None
    own = str(metadata(found).get("name", ""))
    if kind == "IPAMHandle":
        handle = spec.get("handleID")
        return handle if isinstance(handle, str) and handle.lower() == own else None
    if kind == "BlockAffinity":
        try:
            return affinity_name(str(spec["node"]), Prefix.parse(str(spec["cidr"]))) if spec.get("node") else None
        except (KeyError, ValueError):
            return None
    return None


def _key_of_nothing(kind: str, found: Object) -> Key | None:
    said = metadata(found)
    name, namespace = str(said.get("name", "")), str(said.get("namespace", ""))
    if kind == "WorkloadEndpoint":
        node = (found.get("spec") or {}).get("nodeName")
        return Key(kind, fromkubernetes.endpoint_name(node, "k8s", name, "eth0"), namespace) if node else None
    return Key(kind, _name_inside(kind, found) or name) if kind in DOOMED_FIRST else None


def _revision(found: Mapping[str, Any]) -> str:
    return str(metadata(found).get("resourceVersion") or "")


def _digest(document: Document, found: Object) -> str:
    said = {"uid": metadata(found).get("uid"), **document}
    return blake2b(json.dumps(said, sort_keys=True).encode(), digest_size=12).hexdigest()


# -- what is written


def object_of(key: Key, document: Document, group: str, revision: str | None, there: Object | None = None) -> Object:
    """The whole object for a create (revision None) or an update. `there`: the object that is replaced, if it was read."""
    place, known = place_of(key.kind, group), KINDS[key.kind]
    said = {name: value for name, value in metadata(document).items() if name in KEPT}
    if group == CRD_VERSION and known.is_calico:
        said = _crd_metadata(said, there)
    said |= {"name": object_name(key)} | ({"namespace": key.namespace} if place.namespaced else {})
    if key.kind == "BlockAffinity":
        said["labels"] = {**(said.get("labels") or {}), **_affinity_labels(document)}
    if revision is not None:
        said["resourceVersion"] = revision
    kind = known.crd[0] if group == CRD_VERSION and known.is_calico else known.document_kind
    return {**document, "apiVersion": place.api_version, "kind": kind, "metadata": said}


def touched(sent: Object, revision: str) -> Object:
    """The same once more, but different: a write that changes nothing makes no revision by itself."""
    said = sent["metadata"]
    annotations = {**(said.get("annotations") or {}), TOUCHED: revision}
    return {**sent, "metadata": {**said, "resourceVersion": revision, "annotations": annotations}}


def _crd_metadata(said: Document, there: Object | None) -> Document:
    """Labels and annotations as Calico writes them; but where an object has them as Kubernetes does, they stay so."""
    raw = metadata(there or {})
    if there is not None and METADATA_ANNOTATION not in (raw.get("annotations") or {}):
        return said
    ours = {name: said[name] for name in ("labels", "annotations") if said.get(name)}
    rest = {name: value for name, value in said.items() if name not in ("labels", "annotations")}
    theirs = {name: value for name, value in (raw.get("annotations") or {}).items() if name != METADATA_ANNOTATION}
    annotations = theirs | ({METADATA_ANNOTATION: json.dumps(ours, sort_keys=True)} if ours else {})
    return (
        rest
        | ({"annotations": annotations} if annotations else {})
        | ({"labels": raw["labels"]} if raw.get("labels") else {})
    )


def _affinity_labels(document: Document) -> dict[str, str]:
    """Reference 2.14."""
    given = document.get("spec")
    spec = given if isinstance(given, dict) else {}
    digest = sha3_256(str(spec.get("node") or "").encode()).digest()
    return {
        "projectcalico.org/hostname-hash": b32encode(digest).decode().rstrip("="),
        "projectcalico.org/affinity-type": str(spec.get("type") or "host"),
        "projectcalico.org/ip-version": "6" if ":" in str(spec.get("cidr")) else "4",
    }


def node_patch(document: Document, there: Object) -> Object:
    return _annotating(fromkubernetes.node_annotations(document), there)


def pod_patch(document: Document | None, there: Object) -> Object:
    """None: its address is given back."""
    annotated = _annotating(fromkubernetes.pod_annotations(document), there)
    return {**annotated, "status": {"conditions": [fromkubernetes.pod_note(document)]}}


def _annotating(annotations: Mapping[str, str | None], there: Object) -> Object:
    """A strategic merge patch of exactly that object in exactly that state."""
    said = metadata(there)
    kept = {"uid": said["uid"]} if said.get("uid") else {}
    return {"metadata": {**kept, "resourceVersion": said.get("resourceVersion"), "annotations": dict(annotations)}}


def network_patch(there: Object, now: datetime, *, is_up: bool) -> Object | None:
    """A strategic merge patch of a Node's condition NetworkUnavailable; None: it says so already."""
    wanted = {
        "type": "NetworkUnavailable",
        "status": "False" if is_up else "True",
        "reason": "FelixliteIsUp" if is_up else "FelixliteIsDown",
        "message": "felixlite is running on this node" if is_up else "felixlite is shutting down on this node",
    }
    conditions = (there.get("status") or {}).get("conditions") or ()
    if any({name: one.get(name) for name in wanted} == wanted for one in conditions):
        return None
    moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    return {"status": {"conditions": [{**wanted, "lastHeartbeatTime": moment, "lastTransitionTime": moment}]}}


def warning(about: Entry, group: str, reason: str, message: str, now: datetime) -> Object:
    """An Event of type Warning; about what has no namespace it is in `default`, where kubectl looks for it."""
    key, known = about.key, KINDS[about.key.kind]
    namespace = key.namespace or "default"
    moment = f"{now:%Y-%m-%dT%H:%M:%SZ}"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": f"{object_name(key)}.{int(now.timestamp() * 1e6):x}", "namespace": namespace},
        "involvedObject": {
            "apiVersion": place_of(key.kind, group).api_version,
            "kind": known.crd[0] if group == CRD_VERSION and known.is_calico else known.document_kind,
            "name": object_name(key),
            "namespace": key.namespace,
            "uid": str(metadata(about.document).get("uid") or ""),
        },
        "type": "Warning",
        "reason": reason,
        "message": message,
        "count": 1,
        "firstTimestamp": moment,
        "lastTimestamp": moment,
        "source": {"component": "felixlite-controllers"},
        "reportingComponent": "felixlite-controllers",
        "reportingInstance": "",
    }
