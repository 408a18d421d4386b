"""Nodes of a store beside Kubernetes (etcd): the labels of Kubernetes' Nodes, and the end of those that it deleted. IO.

Where Kubernetes is the store, its Node is the Node and nothing has to be copied.  Labels that were copied are remembered in an
annotation (reference 2.5), so that one that vanishes there vanishes here, and one that was set here stays.  A Kubernetes that
answers with no Node at all is not believed.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence

from felixlite.controllers.runner import Event
from felixlite.datastore.store import Document, Entry, Store, metadata
from felixlite.errors import Conflict, FelixliteError, NotFound

COPIED = "projectcalico.org/kube-labels"


class KubernetesNodes:
    name = "kubernetes-nodes"
    every = 60.0

    def __init__(self, store: Store, kubernetes: Store) -> None:
        self.store, self.kubernetes = store, kubernetes

    def once(self, may_go_on: Callable[[], bool]) -> Sequence[Event]:
        theirs = {
            e.key.name: dict(metadata(e.document).get("labels") or {}) for e in self.kubernetes.list("Node").entries
        }
        if not theirs:
            return [Event(self.name, "no-nodes", self.kubernetes.address, "Kubernetes lists no Node", failed=True)]
        ours = self.store.list("Node").entries
        return [event for entry in ours if may_go_on() for event in self._one(entry, theirs)]

    def _one(self, entry: Entry, theirs: Mapping[str, Mapping[str, str]]) -> Iterator[Event]:
        name = kubernetes_name(entry.document)
        try:
            if (labels := theirs.get(name or entry.key.name)) is not None:
                wanted = labelled(entry.document, name or entry.key.name, labels)
                if wanted != entry.document:
                    self.store.update(entry.key, wanted, entry.revision)
                    yield Event(self.name, "labels-copied", str(entry.key), "its labels in Kubernetes are others now")
            elif name:
                self.store.delete(entry.key, entry.revision)
                yield Event(self.name, "node-deleted", str(entry.key), f"Kubernetes has no Node {name} any more")
        except (Conflict, NotFound):
            return  # somebody wrote it meanwhile: the next round sees it
        except FelixliteError as error:
            yield Event(self.name, "node-failed", str(entry.key), str(error), failed=True)


def kubernetes_name(node: Document) -> str | None:
    """What Kubernetes calls it; None: it is not known to be one of its nodes."""
    references = (node.get("spec") or {}).get("orchRefs") or ()
    return next((str(one.get("nodeName")) for one in references if one.get("orchestrator") == "k8s"), None)


def labelled(node: Document, name: str, labels: Mapping[str, str]) -> Document:
    said, spec = metadata(node), dict(node.get("spec") or {})
    annotations = dict(said.get("annotations") or {})
    before = _copied(annotations.get(COPIED))
    own = {key: value for key, value in (said.get("labels") or {}).items() if before.get(key) != value}
    annotations[COPIED] = json.dumps(labels, sort_keys=True)
    if kubernetes_name(node) is None:
        spec["orchRefs"] = [*(spec.get("orchRefs") or ()), {"orchestrator": "k8s", "nodeName": name}]
    return {**node, "metadata": {**said, "labels": {**own, **labels}, "annotations": annotations}, "spec": spec}


def _copied(text: str | None) -> Mapping[str, str]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}  # spoiled: what was copied stays as if it were our own
    return found if isinstance(found, dict) else {}
