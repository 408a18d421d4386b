"""Create, update, patch, delete: what a request means for one object, judged, and written by compare-and-swap.

A write that meets a change of somebody else begins again, unless its writer named the version that it was meant for:
then the answer is 409.  Nothing here knows HTTP.
"""

import secrets
import string
import uuid
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from felixlite.apiserver import forms, judging, namespaces, status
from felixlite.apiserver.cache import Feed
from felixlite.apiserver.catalogue import Served
from felixlite.apiserver.reading import as_kept, stored
from felixlite.apiserver.requests import Target
from felixlite.apiserver.status import Refused
from felixlite.datastore.documents import born
from felixlite.datastore.store import Document, Entry
from felixlite.errors import Conflict, NotFound, Problem, Rejected

ATTEMPTS = 20
MOST_EVENTS = 5000
KEPT = ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds")  # by whoever writes the object


@dataclass(frozen=True, slots=True)
class Options:
    dry: bool = False
    field_validation: str = ""
    permissive: bool = False


@dataclass(slots=True)
class Done:
    entry: Entry
    notes: list[str] = field(default_factory=list)
    is_new: bool = False
    is_gone: bool = False  # by its last finalizer


@dataclass(frozen=True, slots=True)
class Writer:
    """For one request."""

    feed_of: Callable[[str], Feed]
    options: Options = Options()

    # -- create

    def create(self, target: Target, body: object) -> Done:
        served = target.served
        wire = judging.of_this_resource(served, body)
        self._place(target, wire["metadata"])
        wire["metadata"] = _named(wire["metadata"])
        name = str(wire["metadata"].get("name") or "")
        if wire["metadata"].get("resourceVersion"):
            raise Refused(400, "resourceVersion should not be set on objects to be created")
        document, notes = judging.pruned(served, forms.taken(served, wire, None), self.options.field_validation)
        found = judging.judge(served, document, None, self._others, permissive=self.options.permissive)
        document = born(_first(served, found.document), str(uuid.uuid4()), datetime.now(UTC))
        key = forms.key(served, target.namespace, {**document, "metadata": {**document["metadata"], "name": name}})
        feed = self.feed_of(served.stored)
        if self.options.dry:
            if stored(feed, Target(served, target.namespace, name)):
                raise status.exists(served, name)
            return Done(Entry(key, document, ""), [*notes, *found.notes], is_new=True)
        entry = as_kept(feed, feed.store.create(key, document))
        feed.heard(entry)
        if served.stored == "Event":
            self._forget_old_events(feed)
        return Done(entry, [*notes, *found.notes], is_new=True)

    def _forget_old_events(self, feed: Feed) -> None:
        """Events are kept in memory and wanted by nobody for long: the oldest make room."""
        with feed.news:
            keys = list(feed.caches["Event"].entries)
        for key in keys[: max(len(keys) - MOST_EVENTS, 0)]:
            with suppress(NotFound):  # another request was faster
                feed.store.delete(key)

    def _place(self, target: Target, metadata: Document) -> None:
        """The namespace of the path is the object's, and there is one."""
        if not target.served.namespaced:
            metadata.pop("namespace", None)
            return
        if not target.namespace:
            raise Refused(
                400, f"{target.served.plural} are in namespaces: create one at namespaces/NAME/{target.served.plural}"
            )
        if metadata.setdefault("namespace", target.namespace) != target.namespace:
            raise Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
        namespaces.require(self.feed_of, target.namespace)

    # -- update and patch

    def change(self, target: Target, how: Callable[[Document], object]) -> Done:
        """`how` makes the new object of the one that is there."""
        feed = self.feed_of(target.served.stored)
        for _ in range(ATTEMPTS):
            entry = self._there(feed, target)
            before = forms.shown(target.served, entry)
            after = judging.of_this_resource(target.served, how(before))
            self._meant(target, before, after)
            try:
                return self._changed(feed, target, entry, before, after)
            except (Conflict, NotFound):  # who meant that very version hears of it when this begins again
                continue
        raise status.conflict(target.served, target.name, "it keeps being changed by others")

    def _meant(self, target: Target, before: Document, after: Document) -> None:
        """Refused: the writer means another object, or another version, than what is there."""
        said, have = after["metadata"], before["metadata"]
        if said.get("name", have["name"]) != have["name"]:
            raise Refused(400, f"metadata.name {said['name']!r} is not the {have['name']!r} of the request")
        if said.get("namespace", have.get("namespace")) != have.get("namespace"):
            raise Refused(400, "the namespace of the provided object does not match the namespace sent on the request")
        if said.get("uid") and said["uid"] != have["uid"]:
            why = f"Precondition failed: UID in precondition: {said['uid']}, UID in object meta: {have['uid']}"
            raise status.conflict(target.served, target.name, why)
        asked = str(said.get("resourceVersion") or "")
        if not asked and target.served.is_calico:
            problem = Problem(
                target.served.kind, target.name, "metadata.resourceVersion", "0x0", "must be specified for an update"
            )
            raise Rejected([problem])
        if asked and asked != have["resourceVersion"]:
            raise status.conflict(target.served, target.name)

    def _changed(self, feed: Feed, target: Target, entry: Entry, before: Document, after: Document) -> Done:
        served = target.served
        wire = _merged(served, before, after, target.subresource)
        document, notes = judging.pruned(
            served, forms.taken(served, wire, entry.document), self.options.field_validation
        )
        found = judging.judge(served, document, entry.document, self._others, permissive=self.options.permissive)
        document = _counted(entry.document, found.document)
        notes += found.notes
        if _is_over(document):
            self._removed(feed, entry)
            return Done(Entry(entry.key, document, entry.revision), notes, is_gone=True)
        if self.options.dry or document == entry.document:
            return Done(Entry(entry.key, document, entry.revision), notes)
        written = as_kept(feed, feed.store.update(entry.key, document, entry.revision))
        feed.heard(written)
        return Done(written, notes)

    # -- delete

    def delete(self, target: Target, body: Mapping[str, Any]) -> Done:
        feed = self.feed_of(target.served.stored)
        for _ in range(ATTEMPTS):
            entry = self._there(feed, target)
            wanted = body.get("preconditions") or {}
            shown = forms.shown(target.served, entry)["metadata"]
            for name in ("uid", "resourceVersion"):
                if wanted.get(name) and wanted[name] != shown[name]:
                    raise status.conflict(target.served, target.name, f"the {name} in the precondition ({wanted[name]}) "
                                          f"does not match the {name} in record ({shown[name]})")  # fmt: skip
            judging.may_go(target.served, entry.document, self._remaining(entry), permissive=self.options.permissive)
            try:
                return self._deleted(feed, target.served, entry, body)
            except (Conflict, NotFound):
                continue
        raise status.conflict(target.served, target.name, "it keeps being changed by others")

    def _deleted(self, feed: Feed, served: Served, entry: Entry, body: Mapping[str, Any]) -> Done:
        if served.stored == "Namespace":
            return self._emptied(feed, entry)
        grace = _grace(served, entry.document, body.get("gracePeriodSeconds"))
        metadata = entry.document.get("metadata") or {}
        if metadata.get("finalizers") or grace:
            if metadata.get("deletionTimestamp") and metadata.get("deletionGracePeriodSeconds", 0) <= grace:
                return Done(entry)
            return self._marked(feed, entry, grace)
        return self._removed(feed, entry)

    def _removed(self, feed: Feed, entry: Entry) -> Done:
        if not self.options.dry:
            feed.store.delete(entry.key, entry.revision)
            feed.forgot(entry)
            if entry.key.namespace and (waiting := namespaces.finished(self.feed_of, entry.key.namespace)):
                self._removed(self.feed_of("Namespace"), waiting)
        return Done(entry, is_gone=True)

    def _emptied(self, feed: Feed, entry: Entry) -> Done:
        """A namespace goes with all that is in it; what takes longer keeps it Terminating."""
        namespaces.may_go(entry.key.name)
        if self.options.dry:
            return Done(entry, is_gone=True)
        marked = self._marked(feed, Entry(entry.key, namespaces.terminating(entry.document), entry.revision), 0).entry
        for inside in namespaces.content(self.feed_of, entry.key.name):
            try:
                self.delete(inside, {})
            except Refused as refused:
                if refused.code != 404:
                    raise
        waiting = feed.store.get(entry.key)  # gone already with the last thing in it
        if waiting is None or next(namespaces.content(self.feed_of, entry.key.name), None):
            return Done(marked, is_gone=waiting is None)
        return self._removed(feed, waiting)

    def _marked(self, feed: Feed, entry: Entry, grace: int) -> Done:
        """Terminating: somebody has to do something before it may go."""
        metadata = dict(entry.document.get("metadata") or {})
        metadata |= {
            "deletionTimestamp": f"{datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}",
            "deletionGracePeriodSeconds": grace,
        }
        document = {**entry.document, "metadata": metadata}
        if self.options.dry:
            return Done(Entry(entry.key, document, entry.revision))
        written = feed.store.update(entry.key, document, entry.revision)
        feed.heard(written)
        return Done(written)

    # --

    def _there(self, feed: Feed, target: Target) -> Entry:
        entry = stored(feed, target)
        if entry is None:
            raise status.not_found(target.served, target.name)
        return entry

    def _others(self, kind: str) -> list[Document]:
        return [entry.document for entry in self.feed_of(kind).store.list(kind).entries]

    def _remaining(self, going: Entry) -> Callable[[str], list[Document]]:
        def others(kind: str) -> list[Document]:
            entries = self.feed_of(kind).store.list(kind).entries
            return [entry.document for entry in entries if entry.key != going.key]

        return others


def _named(metadata: Document) -> Document:
    """With a name made from generateName, where that is wanted."""
    if metadata.get("name") or not metadata.get("generateName"):
        return metadata
    tail = "".join(secrets.choice(string.ascii_lowercase + string.digits) for _ in range(5))
    return {**metadata, "name": f"{metadata['generateName']}{tail}"}


def _first(served: Served, document: Document) -> Document:
    """As a new object is: of the first generation, without a status that is another's to write."""
    metadata = {
        k: v for k, v in document["metadata"].items() if k not in ("deletionTimestamp", "uid", "creationTimestamp")
    }
    found = {**document, "metadata": metadata}
    if "spec" in document and served.is_calico:
        found["metadata"] = {**metadata, "generation": 1}
    if served.has_status and served.is_calico:
        found.pop("status", None)
    return found


def _merged(served: Served, before: Document, after: Document, subresource: str) -> Document:
    """What of `after` counts: the object, or its status, never both."""
    metadata = {**after["metadata"], **{name: before["metadata"][name] for name in KEPT if name in before["metadata"]}}
    metadata |= {"name": before["metadata"]["name"]}
    if "namespace" in before["metadata"]:
        metadata["namespace"] = before["metadata"]["namespace"]
    if subresource == "status":
        if served.is_calico:
            metadata = before["metadata"]
        found = {**before, "metadata": metadata}
        return {**found, "status": after["status"]} if "status" in after else found
    found = {**after, "metadata": metadata}
    if served.has_status:
        found.pop("status", None)
        if "status" in before:
            found["status"] = before["status"]
    return found


def _counted(before: Document, after: Document) -> Document:
    """With a new generation if what is wanted has changed."""
    was = (before.get("metadata") or {}).get("generation")
    metadata = {name: value for name, value in after["metadata"].items() if name != "generation"}
    if was is not None:
        metadata["generation"] = was + (before.get("spec") != after.get("spec"))
    return {**after, "metadata": metadata}


def _is_over(document: Document) -> bool:
    metadata = document["metadata"]
    waiting = metadata.get("finalizers") or metadata.get("deletionGracePeriodSeconds")
    return bool(metadata.get("deletionTimestamp")) and not waiting


def _grace(served: Served, document: Document, asked: object) -> int:
    """Seconds that a pod is given to end: whoever runs it deletes it again with 0."""
    spec = document.get("spec") or {}
    if served.stored != "Pod" or not spec.get("nodeName"):
        return 0
    if isinstance(asked, int):
        return max(asked, 0)
    given = spec.get("terminationGracePeriodSeconds")
    return given if isinstance(given, int) else 30
