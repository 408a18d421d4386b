"""The store as a folder of YAML files on one machine: an object a file, written by us, by kubectl users, by an editor.

The truth is always in the files: every get and list reads them, and what differs from what was last read is told to
those who watch.  While somebody watches, inotify says which files to look at.  A revision is a hash of a file's content,
in which every write of ours leaves a number of its own (metadata.resourceVersion), so that no content comes twice.

A file that is no document is an object with the reason as its spec: whoever reads it refuses it by name.  Files and
folders with other names are nobody's; `strays` lists them.  folder.py does the locking and the writing.
"""

import threading
import time
import uuid
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from hashlib import blake2s
from pathlib import Path
from typing import NamedTuple

import orjson

from felixlite.datastore.documents import born, framed, kept
from felixlite.datastore.folder import DEPTH, Folder
from felixlite.datastore.history import History, Listener
from felixlite.datastore.inotify import TreeEvents
from felixlite.datastore.store import (
    Changed,
    Deleted,
    Document,
    Entry,
    Key,
    Listing,
    Meanwhile,
    Write,
    in_order,
    metadata,
)
from felixlite.errors import AlreadyExists, Compacted, Conflict, FelixliteError, Misconfigured, NotFound, StoreError
from felixlite.yamltext import as_yaml, values

HISTORY = 10_000
_FOR_MACHINES = frozenset({"IPAMBlock", "IPAMHandle", "BlockAffinity"})  # JSON on one line, which is YAML and quick


class _Known(NamedTuple):
    """A file as it was last read."""

    raw: bytes
    document: bytes  # JSON, so that everybody gets a copy of their own

    @property
    def revision(self) -> str:
        return blake2s(self.raw, digest_size=8).hexdigest()

    def entry(self, key: Key) -> Entry:
        return Entry(key, orjson.loads(self.document), self.revision)


class FileStore:
    atomic = True

    def __init__(self, root: Path, history: int = HISTORY) -> None:
        self.address = f"file://{root}"
        self._folder = Folder(root)
        self._known: dict[Key, _Known] = {}
        self._history = History(history)
        self._life = uuid.uuid4().hex[:8]  # the history is this process's: nobody else's watch continues in it
        self._events: TreeEvents | None = None
        self._thread: threading.Thread | None = None
        self._lock = threading.RLock()

    @classmethod
    def at(cls, path: str) -> "FileStore":
        if not path.startswith("/"):
            raise Misconfigured(f"file://{path}: must be an absolute folder, such as file:///var/lib/felixlite/store")
        return cls(Path(path))

    def get(self, key: Key) -> Entry | None:
        return self.read([key])[0]

    def read(self, keys: Sequence[Key]) -> Sequence[Entry | None]:
        paths = [self._folder.path_of(key) for key in keys]
        with self._lock, self._folder.shared():
            found = [self._look(key, path) for key, path in zip(keys, paths, strict=True)]
            return [known.entry(key) if known else None for key, known in zip(keys, found, strict=True)]

    def list(self, kind: str, *, namespace: str = "", node: str = "") -> Listing:
        with self._lock:
            with self._folder.shared():
                keys = self._scan(self._folder.folder_of(kind, namespace), kind)
            entries = (self._known[key].entry(key) for key in keys)
            chosen = (entry for entry in entries if not node or _node(entry.document) == node)
            return Listing(in_order(chosen), f"{self._life}.{self._history.number}")

    def create(self, key: Key, document: Document) -> Entry:
        try:
            return self._swap([Write(key, document, None)])[0] or _never()
        except Conflict:
            raise AlreadyExists(f"{key} exists already") from None

    def update(self, key: Key, document: Document, revision: str) -> Entry:
        return self._swap([Write(key, document, revision)])[0] or _never()

    def delete(self, key: Key, revision: str | None = None) -> None:
        with self._lock, self._folder.exclusive():
            known = self._look(key, self._folder.path_of(key))
            if not known:
                raise NotFound(f"there is no {key}")
            self._commit([Write(key, None, known.revision if revision is None else revision)])

    def commit(self, writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        if meanwhile:
            meanwhile()
        try:
            return self._swap(writes)
        except NotFound as error:
            raise Conflict(f"{error}: read it again and retry") from None

    def watch(self, kind: str, revision: str) -> Listener:
        return self.watch_many({kind: revision})

    def watch_many(self, since: Mapping[str, str]) -> Listener:
        after = {kind: self._number(revision) for kind, revision in since.items()}
        with self._lock:
            self._start_listening()
            listener = self._history.listen(after)
        self._look_at_all()  # what happened before inotify was there
        return listener

    def strays(self) -> Sequence[str]:
        """YAML files that are no object's or empty, relative to the folder."""
        paths = self._folder.paths()
        return sorted(path for path in paths if not self._folder.key_of(path) or self._folder.read(path) == b"")

    def close(self) -> None:
        with self._lock:
            events, thread = self._events, self._thread
            self._events = self._thread = None
        if events:
            events.stop()
        if thread and thread is not threading.current_thread():
            thread.join()
        self._history.end()

    # -- writing

    def _swap(self, writes: Sequence[Write]) -> Sequence[Entry | None]:
        with self._lock, self._folder.exclusive():
            return self._commit(writes)

    def _commit(self, writes: Sequence[Write]) -> Sequence[Entry | None]:
        paths = [self._folder.path_of(write.key) for write in writes]
        for write, path in zip(writes, paths, strict=True):
            _compare(write, self._look(write.key, path))
        texts = [_text(write) for write in writes]
        planned = zip(writes, paths, texts, strict=True)
        self._folder.apply([(path, text and text.raw) for write, path, text in planned if text or write.revision])
        return [
            self._remember(write.key, text) if text else self._forget(write.key)
            for write, text in zip(writes, texts, strict=True)
        ]

    def _remember(self, key: Key, known: _Known) -> Entry:
        self._known[key] = known
        self._history.tell(Changed(known.entry(key)))
        return known.entry(key)

    def _forget(self, key: Key) -> Entry | None:
        if self._known.pop(key, None):
            self._history.tell(Deleted(key, f"{self._life}.{self._history.number + 1}"))
        return None

    # -- reading; all of it under the folder's lock

    def _look(self, key: Key, path: str) -> _Known | None:
        """The file as it is now; whoever watches is told if that is news."""
        raw, known = self._folder.read(path), self._known.get(key)
        if raw == b"":  # an editor is just writing it, or a crash of the machine lost it
            return known
        if raw is None:
            self._forget(key)
            return None
        if not known or known.raw != raw:
            known = _Known(raw, _read(key, raw, path))
            self._remember(key, known)
        return known

    def _scan(self, folder: str, kind: str = "") -> Iterable[Key]:
        """All objects in a folder; what was known there and is gone is told as deleted."""
        paths = {path: key for path in self._folder.paths(folder) if (key := self._folder.key_of(path))}
        there = [key for path, key in paths.items() if self._look(key, path)]
        for key in [key for key in self._known if not kind or key.kind == kind]:
            path = self._folder.path_of(key)
            if path not in paths and path.startswith(f"{folder}/" if folder else ""):
                self._look(key, path)
        return there

    # -- watching

    def _number(self, revision: str) -> int:
        life, _, number = revision.partition(".")
        if life != self._life or not number.isdecimal():
            raise Compacted(f"revision {revision} is not of this process: list again")
        return int(number)

    def _start_listening(self) -> None:
        if self._events is None:
            self._events = TreeEvents(self._folder.root, DEPTH)
            self._thread = threading.Thread(target=self._hear, args=(self._events,), name="file store", daemon=True)
            self._thread.start()

    def _hear(self, events: TreeEvents) -> None:
        for path in events:
            try:
                if not isinstance(path, str):
                    self._look_at_all()
                elif key := self._folder.key_of(path):
                    with self._lock, self._folder.shared():
                        self._look(key, path)
            except StoreError as error:
                self._history.end(error)

    def _look_at_all(self) -> None:
        with self._lock, self._folder.shared():
            self._scan("")


def _compare(write: Write, known: _Known | None) -> None:
    if write.revision is not None and known is None:
        raise NotFound(f"there is no {write.key}")
    if (known.revision if known else None) != write.revision:
        raise Conflict(f"{write.key} changed meanwhile: read it again and retry")


def _text(write: Write) -> _Known | None:
    """What will be in the file; None: no file."""
    if write.document is None:
        return None
    document = kept(write.document) if write.revision else born(write.document, str(uuid.uuid4()), datetime.now(UTC))
    document = framed(write.key, document)
    numbered = {**document, "metadata": {**metadata(document), "resourceVersion": str(time.time_ns())}}
    try:
        plain, text = orjson.dumps(document), orjson.dumps(numbered)
    except TypeError as error:
        raise StoreError(f"{write.key}: cannot be written: {error}") from None
    raw = text + b"\n" if write.key.kind in _FOR_MACHINES else as_yaml(orjson.loads(text)).encode()
    return _Known(raw, plain)


def _read(key: Key, raw: bytes, path: str) -> bytes:
    """The document in a file as JSON."""
    value: object
    try:
        found = [one for one in values(raw.decode(), path) if one is not None]
        value = found[0] if len(found) == 1 else f"{path}: has {len(found)} documents; must have one"
        return orjson.dumps(kept(framed(key, value)))
    except (FelixliteError, UnicodeDecodeError, TypeError) as error:
        return orjson.dumps(framed(key, str(error)))


def _node(document: Document) -> object:
    spec = document.get("spec")
    return spec.get("node") if isinstance(spec, dict) else None


def _never() -> Entry:
    raise StoreError("a file was removed while it was written: try again")
