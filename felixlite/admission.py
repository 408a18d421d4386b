"""Writing documents as a user means it: all of them are judged first, then they are written, in their order.

Used by the command and by the API server.  A write is a compare-and-swap; whoever was faster is read again, judged
again, and the write is tried again.  Immutable fields, references and overlaps are judged against the store as it will
be, the other documents of the same batch included.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any

from felixlite.datastore.store import Document, Entry, Key, Store
from felixlite.errors import AlreadyExists, Conflict, FelixliteError, NotFound, Problem, Rejected
from felixlite.model import crossrules
from felixlite.model.parse import completed, parse, warnings
from felixlite.model.resource import identified

ATTEMPTS = 20
KEPT = ("uid", "creationTimestamp", "generation", "deletionTimestamp", "selfLink")  # the store's
KEPT_BY_APPLY = ("finalizers", "ownerReferences")  # the controllers'
WRITTEN_BY_AGENTS = (  # in a Node; an operator's file that leaves them out does not mean them to go
    ("spec", "bgp", "ipv4IPIPTunnelAddr"),
    ("spec", "ipv4VXLANTunnelAddr"),
    ("spec", "vxlanTunnelMACAddr"),
    ("spec", "ipv6VXLANTunnelAddr"),
    ("spec", "vxlanTunnelMACAddrV6"),
    ("spec", "addresses"),
    ("spec", "interfaces"),
    ("spec", "orchRefs"),
)


class Verb(StrEnum):
    CREATE = "create"  # must not exist
    REPLACE = "replace"  # must exist
    APPLY = "apply"  # either


@dataclass(frozen=True, slots=True)
class Judged:
    """A document that may be written."""

    key: Key
    document: Document  # in its v3 form, with the defaults that a store shows
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Outcome:
    key: Key
    done: str  # created, configured, unchanged, deleted, skipped
    entry: Entry | None = None


class Interrupted(FelixliteError):
    """Some of a batch is written and the rest is not."""

    def __init__(self, cause: FelixliteError, done: Sequence[Outcome], left: Sequence[Key]) -> None:
        self.cause, self.done, self.left = cause, done, left
        rest = f"; not written: {', '.join(map(str, left))}" if left else ""
        super().__init__(f"{cause}; written: {', '.join(str(one.key) for one in done) or 'nothing'}{rest}")


def key_of(document: Mapping[str, Any]) -> Key:
    metadata = document.get("metadata") or {}
    return Key(identified(document).name, metadata.get("name", ""), metadata.get("namespace", ""))


def judged(documents: Iterable[Mapping[str, Any]]) -> list[Judged]:
    """What can be said about the documents without a store. Rejected carries the problems of all."""
    found: dict[Key, Judged] = {}
    problems: list[Problem] = []
    for document in documents:
        try:
            parse(document, strict=True)
            whole = completed(document)
        except Rejected as rejected:
            problems += rejected.problems
            continue
        one = Judged(key_of(whole), whole, tuple(warnings(whole)))
        if one.key in found:
            problems.append(Problem(one.key.kind, _title(one.key), "metadata.name", one.key.name, "is given twice"))
        found[one.key] = one
    if problems:
        raise Rejected(problems)
    return list(found.values())


@dataclass(slots=True)
class Batch:
    """Some documents on their way into a store."""

    store: Store
    judged: Sequence[Judged]
    verb: Verb = Verb.APPLY
    skip_existing: bool = False
    _lists: dict[str, list[Document]] = field(default_factory=dict)
    _checked: bool = False

    def write(self) -> Iterator[Outcome]:
        """Judges all, then writes one after the other. Rejected: nothing is written; Interrupted: some is."""
        if not self._checked:
            self.check()
        done: list[Outcome] = []
        for number, one in enumerate(self.judged):
            try:
                outcome = self._write(one)
            except FelixliteError as error:
                if len(self.judged) == 1:
                    raise
                raise Interrupted(error, done, [other.key for other in self.judged[number:]]) from error
            done.append(outcome)
            yield outcome

    def check(self) -> list[str]:
        """Everything that the store has to say against it, at once. Answers the notes."""
        entries = self.store.read([one.key for one in self.judged])
        problems = [
            problem for one, entry in zip(self.judged, entries, strict=True) for problem in self._against(one, entry)
        ]
        if problems:
            raise Rejected(problems)
        self._checked = True
        return [note for one in self.judged for note in (*one.notes, *crossrules.notes(one.document, self.others))]

    def wanted(self, one: Judged, entry: Entry | None) -> Document:
        """What is to be stored: what the user says, with what the store keeps about the object."""
        document = deepcopy(one.document)
        metadata = document["metadata"]
        metadata.pop("resourceVersion", None)
        if entry is None:
            return document
        before = entry.document.get("metadata") or {}
        kept = (*KEPT, *(KEPT_BY_APPLY if self.verb is Verb.APPLY else ()))
        metadata |= {name: before[name] for name in kept if name in before and name not in metadata}
        if one.key.kind == "Node" and self.verb is Verb.APPLY:
            _keep(WRITTEN_BY_AGENTS, entry.document, document)
        if "status" in entry.document and "status" not in document:
            document["status"] = entry.document["status"]
        return document

    def others(self, kind: str) -> list[Document]:
        """The documents of a kind as they will be after this batch."""
        if kind not in self._lists:
            stored = {entry.key: entry.document for entry in self.store.list(kind).entries}
            ours = {one.key: one.document for one in self.judged if one.key.kind == kind}
            self._lists[kind] = list((stored | ours).values())
        return self._lists[kind]

    def _against(self, one: Judged, entry: Entry | None) -> list[Problem]:
        if entry is None and self.verb is Verb.REPLACE:
            return [Problem(one.key.kind, _title(one.key), "", None, "does not exist; create or apply it")]
        if entry is not None and self.verb is Verb.CREATE:
            exists = Problem(one.key.kind, _title(one.key), "", None, "exists already; apply or replace it")
            return [] if self.skip_existing else [exists]
        asked = one.document["metadata"].get("resourceVersion")
        if asked and entry and entry.revision != asked:
            stale = "changed meanwhile: read it again, or leave resourceVersion out"
            return [Problem(one.key.kind, _title(one.key), "metadata.resourceVersion", asked, stale)]
        changed = crossrules.check_update(entry.document, one.document) if entry else []
        return [*changed, *crossrules.check_against(one.document, self.others, is_new=entry is None)]

    def _write(self, one: Judged) -> Outcome:
        for _ in range(ATTEMPTS):
            entry = self.store.get(one.key)
            problems = self._against(one, entry)
            if problems:
                raise Rejected(problems)
            try:
                return self._once(one, entry)
            except (Conflict, AlreadyExists, NotFound):
                self._lists.clear()
        raise Conflict(f"{one.key} changed {ATTEMPTS} times while it was to be written; somebody else keeps writing it")

    def _once(self, one: Judged, entry: Entry | None) -> Outcome:
        if entry is None:
            return Outcome(one.key, "created", self.store.create(one.key, self.wanted(one, None)))
        if self.verb is Verb.CREATE:
            return Outcome(one.key, "skipped", entry)
        document = self.wanted(one, entry)
        if _plain(document) == _plain(entry.document):
            return Outcome(one.key, "unchanged", entry)
        written = self.store.update(one.key, document, entry.revision)
        return Outcome(one.key, "replaced" if self.verb is Verb.REPLACE else "configured", written)


def change(store: Store, key: Key, how: Callable[[Document], Mapping[str, Any]]) -> Outcome:
    """Read, change, judge, write back; again if somebody was faster."""
    for _ in range(ATTEMPTS):
        entry = store.get(key)
        if entry is None:
            raise NotFound(f"there is no {key}")
        changed = how(deepcopy(entry.document))
        (one,) = judged([changed])
        if one.key != key:
            raise Rejected([Problem(key.kind, _title(key), "metadata.name", str(one.key), "cannot be changed")])
        batch = Batch(store, [one], Verb.REPLACE)
        batch.check()
        document = batch.wanted(one, entry)
        if _plain(document) == _plain(entry.document):
            return Outcome(key, "unchanged", entry)
        try:
            return Outcome(key, "configured", store.update(key, document, entry.revision))
        except Conflict:
            continue
    raise Conflict(f"{key} changed {ATTEMPTS} times while it was to be written; somebody else keeps writing it")


def remove(
    store: Store, keys: Sequence[Key], *, missing_is_fine: bool = False, force: bool = False
) -> Iterator[Outcome]:
    """Judges all deletions, then deletes one after the other."""
    entries = store.read(keys)
    going = set(keys)

    def others(kind: str) -> list[Document]:
        return [entry.document for entry in store.list(kind).entries if entry.key not in going]

    problems: list[Problem] = []
    for key, entry in zip(keys, entries, strict=True):
        if entry is None and not missing_is_fine:
            problems.append(Problem(key.kind, _title(key), "", None, "does not exist"))
        if entry is not None and not (force and key.kind == "IPPool"):
            problems += crossrules.check_delete(entry.document, others)
    if problems:
        raise Rejected(problems)
    done: list[Outcome] = []
    for number, (key, entry) in enumerate(zip(keys, entries, strict=True)):
        try:
            outcome = Outcome(key, _deleted(store, key)) if entry else Outcome(key, "skipped")
        except FelixliteError as error:
            if len(keys) == 1:
                raise
            raise Interrupted(error, done, keys[number:]) from error
        done.append(outcome)
        yield outcome


def _deleted(store: Store, key: Key) -> str:
    try:
        store.delete(key)
    except NotFound:
        return "skipped"  # somebody else was faster, which is as good
    return "deleted"


def _keep(paths: Iterable[tuple[str, ...]], before: Document, document: Document) -> None:
    """Take over from `before` what the document says nothing about, where it has a place for it."""
    for *parents, name in paths:
        old: Any = before
        new: Any = document
        for step in parents:
            old = old.get(step) if isinstance(old, dict) else None
            new = new.get(step) if isinstance(new, dict) else None
        if isinstance(old, dict) and isinstance(new, dict) and name in old:
            new.setdefault(name, old[name])


def _plain(document: Document) -> Document:
    """Without what the store sets at every write."""
    metadata = {
        k: v for k, v in (document.get("metadata") or {}).items() if k not in ("resourceVersion", "managedFields")
    }
    return {**document, "metadata": metadata}


def _title(key: Key) -> str:
    return f"{key.namespace}/{key.name}" if key.namespace else key.name
