"""The store as a dict: the reference for what the protocol means, and the fake that unit tests use.

Documents are kept as JSON, as etcd keeps them: a reader may change what it got, and what is no JSON is refused.
Keeps the last `history` changes for watches; a watch from before them raises Compacted, as the real ones do.
"""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import orjson

from felixlite.datastore.documents import kept
from felixlite.datastore.history import History, Listener
from felixlite.datastore.store import Changed, Deleted, Document, Entry, Key, Listing, Meanwhile, Write, in_order
from felixlite.errors import AlreadyExists, Conflict, NotFound, StoreError


@dataclass(frozen=True, slots=True)
class _Kept:
    json: bytes
    node: object  # spec.node
    revision: str

    def entry(self, key: Key) -> Entry:
        return Entry(key, orjson.loads(self.json), self.revision)


class MemoryStore:
    atomic = True
    address = "memory://"

    def __init__(self, history: int = 10_000) -> None:
        self._entries: dict[Key, _Kept] = {}
        self._history = History(history)
        self._lock = threading.RLock()

    def get(self, key: Key) -> Entry | None:
        return self.read([key])[0]

    def read(self, keys: Sequence[Key]) -> Sequence[Entry | None]:
        with self._lock:
            found = [(key, self._entries.get(key)) for key in keys]
            return [there.entry(key) if there else None for key, there in found]

    def list(self, kind: str, *, namespace: str = "", node: str = "") -> Listing:
        with self._lock:
            found = (
                there.entry(key)
                for key, there in self._entries.items()
                if key.kind == kind
                and (not namespace or key.namespace == namespace)
                and (not node or there.node == node)
            )
            return Listing(in_order(found), str(self._history.number))

    def create(self, key: Key, document: Document) -> Entry:
        with self._lock:
            if key in self._entries:
                raise AlreadyExists(f"{key} exists already")
            return self._put(key, document)

    def update(self, key: Key, document: Document, revision: str) -> Entry:
        with self._lock:
            self._compare(key, revision)
            return self._put(key, document)

    def delete(self, key: Key, revision: str | None = None) -> None:
        with self._lock:
            self._compare(key, revision)
            self._remove(key)

    def commit(self, writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        if meanwhile:
            meanwhile()
        with self._lock:
            for write in writes:
                there = self._entries.get(write.key)
                if (there.revision if there else None) != write.revision:
                    raise Conflict(f"{write.key} changed meanwhile: read it again and retry")
            return [self._write(write) for write in writes]

    def watch(self, kind: str, revision: str) -> Listener:
        return self.watch_many({kind: revision})

    def watch_many(self, since: Mapping[str, str]) -> Listener:
        with self._lock:
            return self._history.listen({kind: int(revision) for kind, revision in since.items()})

    def compact(self) -> None:
        """Forget the history, as an etcd compaction does."""
        self._history.forget()

    def close(self) -> None:
        self._history.end()

    def _compare(self, key: Key, revision: str | None) -> None:
        there = self._entries.get(key)
        if there is None:
            raise NotFound(f"there is no {key}")
        if revision is not None and there.revision != revision:
            raise Conflict(f"{key} changed meanwhile: read it again and retry")

    def _write(self, write: Write) -> Entry | None:
        if write.document is not None:
            return self._put(write.key, write.document)
        if write.revision is not None:
            self._remove(write.key)
        return None

    def _put(self, key: Key, document: Document) -> Entry:
        there = _Kept(_json(key, kept(document)), _node(document), str(self._history.number + 1))
        self._entries[key] = there
        self._history.tell(Changed(there.entry(key)))
        return there.entry(key)

    def _remove(self, key: Key) -> None:
        del self._entries[key]
        self._history.tell(Deleted(key, str(self._history.number + 1)))


def _json(key: Key, document: Document) -> bytes:
    try:
        return orjson.dumps(document)
    except TypeError as error:
        raise StoreError(f"{key}: cannot be written as JSON: {error}") from None


def _node(document: Document) -> object:
    spec = document.get("spec")
    return spec.get("node") if isinstance(spec, dict) else None
