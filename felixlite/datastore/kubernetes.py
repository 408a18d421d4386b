"""The store in the API of Kubernetes: the custom resources of Calico, and what Kubernetes itself has (kube_forms.py).

Every write compares resourceVersions; several writes are several requests, in the caller's order, which IPAM makes
repairable between any two.  An update first asks for nothing that it does not need: IPAM's objects are written as they
are, what people also write is read first, so that the labels of others stay.  kube_api.py talks, kube_watch.py listens.
"""

import threading
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from weakref import WeakSet

from felixlite.datastore import kube_forms as forms
from felixlite.datastore.kube_api import MERGE_PATCH, STRATEGIC_PATCH, Api
from felixlite.datastore.kube_forms import Object
from felixlite.datastore.kube_status import NotServed
from felixlite.datastore.kube_watch import KubernetesWatch
from felixlite.datastore.kubeconfig import KubernetesAddress
from felixlite.datastore.layout import NoPlace
from felixlite.datastore.store import Document, Entry, Key, Listing, Meanwhile, Write, in_order, metadata
from felixlite.errors import AlreadyExists, Compacted, Conflict, NotFound, StoreError
from felixlite.model.kind import CALICO_VERSION, CRD_GROUP, CRD_VERSION
from felixlite.model.kinds import KINDS

PAGE = 500  # objects a request
ATTEMPTS = 10  # lost to others who write the same Node or Pod
OURS_ALONE = forms.DOOMED_FIRST | {"Lease"}  # nobody else labels them: replaced without reading them first
AT_ONCE = 4  # requests of one `read`


class KubernetesStore:
    atomic = False

    def __init__(self, address: KubernetesAddress) -> None:
        self._api = Api(address)
        self.address = f"kubernetes://{self._api.where}"
        self._group = address.group
        self._asking = threading.Lock()
        self._watches: WeakSet[KubernetesWatch] = WeakSet()
        self._several = ThreadPoolExecutor(AT_ONCE, thread_name_prefix="kubernetes")

    # -- reading

    def get(self, key: Key) -> Entry | None:
        if key.kind in forms.PLACELESS:
            return None
        found = self._object(key)
        entry = forms.entry_of(key.kind, found) if found else None
        return entry if entry and entry.key == key else None  # a pod of that name on another node is another endpoint

    def read(self, keys: Sequence[Key]) -> Sequence[Entry | None]:
        return [self.get(keys[0])] if len(keys) == 1 else list(self._several.map(self.get, keys))

    def list(self, kind: str, *, namespace: str = "", node: str = "") -> Listing:
        if kind in forms.PLACELESS:
            return Listing((), "0")
        for _ in range(3):
            try:
                return self._list(kind, self._collection(kind, namespace), node)
            except Compacted:  # between two pages: begin again
                continue
        raise Compacted(f"{self.address} forgets faster than {kind} can be listed")

    def watch(self, kind: str, revision: str) -> KubernetesWatch:
        return self.watch_many({kind: revision})

    def watch_many(self, since: Mapping[str, str]) -> KubernetesWatch:
        paths = {kind: self._collection(kind) for kind in since if kind not in forms.PLACELESS}
        watch = KubernetesWatch(self._api, since, paths)
        self._watches.add(watch)
        return watch

    # -- writing

    def create(self, key: Key, document: Document) -> Entry:
        match key.kind:
            case "WorkloadEndpoint":
                return self._annotate_pod(key, document, None)
            case "Node":
                raise NoPlace(
                    f"there is no {key}: on Kubernetes the kubelet makes it; is the node's name right (--node-name)?"
                )
        sent = forms.object_of(key, document, self._group_for(key.kind), None)
        path = self._collection(key.kind, key.namespace)
        try:
            made = self._api.request("POST", path, f"create {key}", body=sent)
        except AlreadyExists:
            if key.kind not in forms.DOOMED_FIRST or not self._finish(key):
                raise
            made = self._api.request("POST", path, f"create {key}", body=sent)
        return self._entry(key, self._with_status(key, sent, made))

    def update(self, key: Key, document: Document, revision: str) -> Entry:
        match key.kind:
            case "WorkloadEndpoint":
                return self._annotate_pod(key, document, revision)
            case "Node":
                return self._annotate_node(key, document, revision)
        there = None if key.kind in OURS_ALONE else self._unchanged(key, _checked(key, revision))
        sent = forms.object_of(key, document, self._group_for(key.kind), _checked(key, revision), there)
        path, what = self._path(key), f"update {key}"
        made = self._with_status(key, sent, self._api.request("PUT", path, what, body=sent))
        if metadata(made).get("resourceVersion") == revision:
            made = self._api.request("PUT", path, what, body=forms.touched(sent, revision))
        return self._entry(key, made)

    def delete(self, key: Key, revision: str | None = None) -> None:
        match key.kind:
            case "WorkloadEndpoint":
                self._give_back(key, revision)
                return
            case "Node":
                raise NoPlace(f"{key}: on Kubernetes a node is deleted with `kubectl delete node {key.name}`")
        if key.kind in forms.DOOMED_FIRST:
            revision = self._doom(key, revision)
        self._delete(key, {"resourceVersion": _checked(key, revision)} if revision is not None else {})

    def commit(self, writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        if meanwhile:
            meanwhile()
        return [self._one_of_several(write) for write in writes]

    def close(self) -> None:
        for watch in list(self._watches):
            watch.close()
        self._api.close()
        self._several.shutdown(wait=False, cancel_futures=True)

    def announce(self, node: str, *, is_up: bool) -> None:
        """The Node's condition NetworkUnavailable, by which the scheduler knows whether pods can be attached there."""
        key = Key("Node", node)
        there = self._object(key)
        if there is None:
            raise NotFound(f"there is no {key}")
        if patch := forms.network_patch(there, datetime.now(UTC), is_up=is_up):
            path, what = f"{self._path(key)}/status", f"patch the status of {key}"
            self._api.request("PATCH", path, what, body=patch, content_type=STRATEGIC_PATCH)

    def warn(self, about: Entry, reason: str, message: str) -> None:
        """An Event, which `kubectl describe` shows with the object."""
        event = forms.warning(about, self._group_for(about.key.kind), reason, message, datetime.now(UTC))
        namespace = event["metadata"]["namespace"]
        self._api.request(
            "POST", f"/api/v1/namespaces/{namespace}/events", f"create Event about {about.key}", body=event
        )

    # -- where things are

    def _group_for(self, kind: str) -> str:
        """In which form Calico's kinds are served here: as custom resources, or only as themselves."""
        if not KINDS[kind].is_calico or self._group:
            return self._group or CRD_VERSION
        with self._asking:
            if not self._group:
                groups = self._api.request("GET", "/apis", "see what is served").get("groups") or ()
                served = {group.get("name") for group in groups}
                self._group = (
                    CALICO_VERSION if CRD_GROUP not in served and "projectcalico.org" in served else CRD_VERSION
                )
        return self._group

    def _collection(self, kind: str, namespace: str = "") -> str:
        if kind not in KINDS:
            raise NoPlace(f"{kind} is no kind that Kubernetes has a place for")
        if kind == "Secret" and not namespace:
            namespace = self._api.access.namespace  # reference 2.2: nobody may read those of others
        group = CRD_VERSION if kind == "WorkloadEndpoint" else self._group_for(kind)
        return forms.place_of(kind, group).path(namespace)

    def _path(self, key: Key) -> str:
        if key.kind not in KINDS:
            raise NoPlace(f"{key.kind} is no kind that Kubernetes has a place for")
        return forms.path_of(key, CRD_VERSION if key.kind == "WorkloadEndpoint" else self._group_for(key.kind))

    def _object(self, key: Key) -> Object | None:
        try:
            found: Object = self._api.request("GET", self._path(key), f"get {key}")
        except NotFound:
            return None
        return found

    def _entry(self, key: Key, made: Object) -> Entry:
        entry = forms.entry_of(key.kind, made)
        if entry is None:
            raise StoreError(f"{key}: the API server keeps something else than it was given")
        return entry

    def _list(self, kind: str, path: str, node: str) -> Listing:
        revision = ""
        entries = []
        for page in self._pages(kind, path):
            revision = revision or str(metadata(page).get("resourceVersion") or "")
            for item in page.get("items") or ():
                entry = forms.entry_of(kind, item)
                if entry and (not node or (entry.document.get("spec") or {}).get("node") == node):
                    entries.append(entry)
        return Listing(in_order(entries), revision)

    def _pages(self, kind: str, path: str) -> Iterator[Object]:
        query = {"limit": str(PAGE)}
        while True:
            page = self._api.request("GET", path, f"list {kind}", query=query)
            yield page
            if not (token := metadata(page).get("continue")):
                return
            query["continue"] = str(token)

    # -- how things are written

    def _one_of_several(self, write: Write) -> Entry | None:
        key, document, revision = write.key, write.document, write.revision
        try:
            if document is not None:
                return self.update(key, document, revision) if revision else self.create(key, document)
            if revision is not None:
                self.delete(key, revision)
            elif self.get(key):
                raise Conflict(f"{key} exists already: read again and retry")
        except (AlreadyExists, NotFound) as error:
            raise Conflict(f"{error}: read again and retry") from None
        return None

    def _unchanged(self, key: Key, revision: str) -> Object:
        there = self._object(key)
        if there is None:
            raise NotFound(f"there is no {key}")
        if metadata(there).get("resourceVersion") != revision:
            raise Conflict(f"{key} changed meanwhile: read it again and retry")
        return there

    def _with_status(self, key: Key, sent: Object, made: Object) -> Object:
        """Where a status is a resource of its own, the object's own request leaves it as it was."""
        if "status" not in sent or made.get("status") == sent["status"]:
            return made
        again = {**sent, "metadata": {**sent["metadata"], "resourceVersion": metadata(made).get("resourceVersion")}}
        try:
            found: Object = self._api.request(
                "PUT", f"{self._path(key)}/status", f"update the status of {key}", body=again
            )
        except NotServed:
            return made  # it is none here: the schema keeps a status, or does not know it
        return found

    def _doom(self, key: Key, revision: str | None) -> str | None:
        """Mark it first, so that who still reads it does not use it any more."""
        if revision is None:
            found = self._object(key)
            if found is None or forms.is_doomed(found):
                raise NotFound(f"there is no {key}")
            revision = str(metadata(found).get("resourceVersion"))
        patch = forms.doom(key.kind, _checked(key, revision))
        marked = self._api.request("PATCH", self._path(key), f"patch {key}", body=patch, content_type=MERGE_PATCH)
        return str(metadata(marked).get("resourceVersion"))

    def _finish(self, key: Key) -> bool:
        """The deletion that somebody began and did not end. False: it is alive."""
        found = self._object(key)
        if found is None:
            return True
        if not forms.is_doomed(found):
            return False
        try:
            self._delete(key, {name: metadata(found).get(name) for name in ("uid", "resourceVersion")})
        except (NotFound, Conflict):
            return False
        return True

    def _delete(self, key: Key, conditions: Mapping[str, object]) -> None:
        options = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": dict(conditions)}
        self._api.request("DELETE", self._path(key), f"delete {key}", body=options)

    # -- a Node and a Pod are the kubelet's as well: what is compared is what we read of them

    def _annotate_node(self, key: Key, document: Document, revision: str) -> Entry:
        for _ in range(ATTEMPTS):
            there = self._object(key)
            entry = forms.entry_of(key.kind, there) if there else None
            _compare(key, entry, revision)
            if there and (made := self._patched(key, forms.node_patch(document, there))):
                return self._entry(key, made)
        raise Conflict(f"{key} is written by others all the time: read it again and retry")

    def _annotate_pod(self, key: Key, document: Document, revision: str | None) -> Entry:
        for _ in range(ATTEMPTS):
            there = self._pod(key)
            entry = forms.entry_of(key.kind, there)
            if revision is None and entry and entry.key == key:
                raise AlreadyExists(f"{key} exists already")
            if revision is not None:
                _compare(key, entry, revision)
            if made := self._patched(key, forms.pod_patch(document, there)):
                return self._entry(key, made)
        raise Conflict(f"{key} is written by others all the time: read it again and retry")

    def _give_back(self, key: Key, revision: str | None) -> None:
        for _ in range(ATTEMPTS):
            there = self._object(key)
            entry = forms.entry_of(key.kind, there) if there else None
            if there is None or entry is None or entry.key != key:
                raise NotFound(f"there is no {key}")
            if revision is not None:
                _compare(key, entry, revision)
            if self._patched(key, forms.pod_patch(None, there)):
                return
        raise Conflict(f"{key} is written by others all the time: read it again and retry")

    def _pod(self, key: Key) -> Object:
        there = self._object(key)
        if there is None:
            raise NotFound(f"there is no Pod {key.namespace}/{forms.object_name(key)}")
        return there

    def _patched(self, key: Key, patch: Object) -> Object | None:
        """None: somebody else wrote it meanwhile."""
        try:
            path, what = f"{self._path(key)}/status", f"patch the status of {key}"
            found: Object = self._api.request("PATCH", path, what, body=patch, content_type=STRATEGIC_PATCH)
        except Conflict:
            return None
        return found


def _compare(key: Key, entry: Entry | None, revision: str) -> None:
    if entry is None:
        raise NotFound(f"there is no {key}")
    if entry.revision != revision:
        raise Conflict(f"{key} changed meanwhile: read it again and retry")


def _checked(key: Key, revision: str) -> str:
    if not revision.isdecimal():
        raise Conflict(f"{key}: {revision!r} is no revision of this store: read it again and retry")
    return revision
