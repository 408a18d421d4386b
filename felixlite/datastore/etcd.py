"""The store in etcd, in Calico's v3 layout (layout.py).

Every write is one transaction that compares the revisions of what it changes; `commit` and `read` are one transaction
for all of their keys.  A revision here is etcd's ModRevision.  Connections, failover and logins are cluster.py's affair,
watches are etcd_watch.py's.
"""

import uuid
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

import orjson

from felixlite.datastore import etcd_wire
from felixlite.datastore.address import EtcdAddress
from felixlite.datastore.cluster import Cluster, rpc
from felixlite.datastore.documents import born, kept
from felixlite.datastore.etcd_watch import EtcdWatch, end_of, entry_at, entry_of
from felixlite.datastore.layout import keeps_metadata, key_of, path_of, prefixes, stored
from felixlite.datastore.store import Document, Entry, Key, Listing, Meanwhile, Overtaken, Write, in_order
from felixlite.errors import AlreadyExists, Compacted, Conflict, NotFound, StoreError

PAGE = 1000  # objects a request
MOST_KEYS = 100  # of a transaction; etcd refuses more than 128 by default


class EtcdStore:
    atomic = True

    def __init__(self, address: EtcdAddress) -> None:
        self.address = str(address)
        self._cluster = Cluster(address)

    def get(self, key: Key) -> Entry | None:
        answer = self._cluster.range(rpc.RangeRequest(key=path_of(key).encode()))
        return entry_of(key, answer.kvs[0]) if answer.kvs else None

    def read(self, keys: Sequence[Key]) -> Sequence[Entry | None]:
        found: list[Entry | None] = []
        for start in range(0, len(keys), MOST_KEYS):
            some = keys[start : start + MOST_KEYS]
            answer = self._cluster.txn(etcd_wire.transaction((), map(_read, some)), again=True)
            found += _found(some, answer)
        return found

    def list(self, kind: str, *, namespace: str = "", node: str = "") -> Listing:
        for _ in range(3):
            try:
                return self._list(kind, prefixes(kind, namespace=namespace, node=node))
            except Compacted:  # between two pages: begin again
                continue
        raise Compacted(f"{self.address} compacts faster than {kind} can be listed")

    def create(self, key: Key, document: Document) -> Entry:
        document = _fresh(key, document)
        answer = self._cluster.txn(etcd_wire.transaction([_still(key, None)], [_put(key, document)]))
        revision = etcd_wire.written(answer)
        if revision is None:
            raise AlreadyExists(f"{key} exists already")
        return Entry(key, document, str(revision))

    def update(self, key: Key, document: Document, revision: str) -> Entry:
        document = kept(document)
        return Entry(key, document, self._swap(key, revision, _put(key, document)))

    def delete(self, key: Key, revision: str | None = None) -> None:
        if revision is not None:
            self._swap(key, revision, _delete(key))
            return
        answer = rpc.TxnResponse.FromString(self._cluster.txn(etcd_wire.transaction((), [_delete(key)])))
        if not answer.responses[0].response_delete_range.deleted:
            raise NotFound(f"there is no {key}")

    def commit(self, writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        if len(writes) > MOST_KEYS:
            raise StoreError(f"{len(writes)} writes at once are too many for one transaction: at most {MOST_KEYS}")
        documents = [_to_write(write) for write in writes]
        operations = [
            _delete(write.key) if document is None else _put(write.key, document)
            for write, document in zip(writes, documents, strict=True)
            if document is not None or write.revision is not None
        ]
        answer = self._cluster.txn(
            etcd_wire.transaction(
                (_still(write.key, write.revision) for write in writes),
                operations,
                (_read(write.key) for write in writes),
            ),
            meanwhile=meanwhile,
        )
        revision = etcd_wire.written(answer)
        if revision is None:
            raise _overtaken(writes, answer)
        return [
            None if document is None else Entry(write.key, document, str(revision))
            for write, document in zip(writes, documents, strict=True)
        ]

    def watch(self, kind: str, revision: str) -> EtcdWatch:
        return self.watch_many({kind: revision})

    def watch_many(self, since: Mapping[str, str]) -> EtcdWatch:
        return EtcdWatch(self._cluster, {kind: _number(revision, kind) for kind, revision in since.items()})

    def close(self) -> None:
        self._cluster.close()

    def _list(self, kind: str, folders: Sequence[str]) -> Listing:
        """All pages and all folders as they were at one revision."""
        revision = 0
        entries: list[Entry] = []
        for folder in folders:
            for answer in self._pages(folder, revision):
                revision = revision or answer.header.revision
                for kv in answer.kvs:
                    key = key_of(kv.key.decode(errors="replace"))
                    if key and key.kind == kind:
                        entries.append(entry_of(key, kv))
        return Listing(in_order(entries), str(revision))

    def _pages(self, folder: str, revision: int) -> Iterator[Any]:
        start, end = folder.encode(), end_of(folder)
        while True:
            answer = self._cluster.range(rpc.RangeRequest(key=start, range_end=end, limit=PAGE, revision=revision))
            yield answer
            if not answer.more:
                return
            revision = revision or answer.header.revision
            start = answer.kvs[-1].key + b"\0"

    def _swap(self, key: Key, revision: str, operation: bytes) -> str:
        answer = self._cluster.txn(etcd_wire.transaction([_still(key, revision)], [operation]))
        if (at := etcd_wire.written(answer)) is not None:
            return str(at)
        if self.get(key) is None:
            raise NotFound(f"there is no {key}")
        raise Conflict(f"{key} changed meanwhile: read it again and retry")


def _fresh(key: Key, document: Document) -> Document:
    if not keeps_metadata(key.kind):
        return kept(document)
    return born(document, str(uuid.uuid4()), datetime.now(UTC))


def _to_write(write: Write) -> Document | None:
    if write.document is None:
        return None
    return kept(write.document) if write.revision else _fresh(write.key, write.document)


def _overtaken(writes: Sequence[Write], answer: bytes) -> Overtaken:
    """Names the first that is not as it was expected."""
    now = _found([write.key for write in writes], answer)
    first = next(w.key for w, entry in zip(writes, now, strict=True) if (entry and entry.revision) != w.revision)
    return Overtaken(f"{first} changed meanwhile: read it again and retry", now)


def _still(key: Key, revision: str | None) -> bytes:
    """At that revision, or (None) absent."""
    return etcd_wire.compare(path_of(key).encode(), 0 if revision is None else _number(revision, key))


def _number(revision: str, of: object) -> int:
    if not revision.isdecimal():
        raise Conflict(f"{of}: {revision!r} is no revision of this store: read it again and retry")
    return int(revision)


def _put(key: Key, document: Document) -> bytes:
    try:
        value = orjson.dumps(stored(key, document))
    except TypeError as error:
        raise StoreError(f"{key}: cannot be written as JSON: {error}") from None
    return etcd_wire.put(path_of(key).encode(), value)


def _delete(key: Key) -> bytes:
    return etcd_wire.delete(path_of(key).encode())


def _read(key: Key) -> bytes:
    return etcd_wire.read(path_of(key).encode())


def _found(keys: Sequence[Key], answer: bytes) -> list[Entry | None]:
    """What a transaction of reads, one for each key, brought."""
    return [entry_at(key, *one) if one else None for key, one in zip(keys, etcd_wire.found(answer), strict=True)]
