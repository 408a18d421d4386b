"""The store: one protocol over etcd, Kubernetes, a directory of files, and memory.

A store holds documents: what a user would see as YAML, in the `projectcalico.org/v3` form (IPAM objects included, with
their fields under `spec`), each under a Key, each with a revision that changes at every write.  How a store lays them
out is its own affair.  It validates nothing and knows no kind in particular: felixlite.model does.

What it may change in a document: `create` fills in metadata.uid and metadata.creationTimestamp if they are absent (a
store of etcd's layout keeps no metadata of IPAM's objects), and metadata.resourceVersion is never kept: the revision is
in the Entry.  A value that cannot be read as a document still is an Entry, with what was found as its `spec`, so that
somebody sees and replaces it.

Revisions are opaque and only compared for equality, except that `watch` continues from one.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from felixlite.errors import Conflict

Document = dict[str, Any]


class Key(NamedTuple):
    kind: str  # IPPool, NetworkPolicy, BlockAffinity, ...
    name: str
    namespace: str = ""

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace + '/' if self.namespace else ''}{self.name}"


@dataclass(frozen=True, slots=True)
class Entry:
    key: Key
    document: Document
    revision: str


@dataclass(frozen=True, slots=True)
class Listing:
    entries: tuple[Entry, ...]
    revision: str  # watch from here and nothing is missed or seen twice


@dataclass(frozen=True, slots=True)
class Changed:
    """Created or updated."""

    entry: Entry


@dataclass(frozen=True, slots=True)
class Deleted:
    key: Key
    revision: str


@dataclass(frozen=True, slots=True)
class Bookmark:
    """Nothing changed; a later watch may continue from here."""

    revision: str


Event = Changed | Deleted | Bookmark


@dataclass(frozen=True, slots=True)
class Write:
    """One compare-and-swap. document None: delete. revision None: the object must not exist (both: nothing but that)."""

    key: Key
    document: Document | None
    revision: str | None


class Overtaken(Conflict):
    """A commit that lost; `now` is what stands at the keys of its writes, which so need not be read again."""

    def __init__(self, message: str, now: Sequence[Entry | None]) -> None:
        super().__init__(message)
        self.now = now


Meanwhile = Callable[[], None] | None  # what the caller wants to do himself while the store is at work


class Store(Protocol):
    """Raises only StoreErrors (felixlite.errors). Safe to use from several threads."""

    atomic: bool  # commit() of several writes is all or nothing
    address: str  # where it is, for a person; never with a password

    def get(self, key: Key) -> Entry | None: ...

    def read(self, keys: Sequence[Key]) -> Sequence[Entry | None]:
        """Several gets in one round trip where the store can."""
        ...

    def list(self, kind: str, *, namespace: str = "", node: str = "") -> Listing:
        """All of a kind, by namespace and name. `node` narrows BlockAffinity to one node's."""
        ...

    def create(self, key: Key, document: Document) -> Entry:
        """AlreadyExists if there is one."""
        ...

    def update(self, key: Key, document: Document, revision: str) -> Entry:
        """Conflict if it is no longer at that revision, NotFound if it is gone."""
        ...

    def delete(self, key: Key, revision: str | None = None) -> None:
        """NotFound if there is none; Conflict if a revision is given and it is another."""
        ...

    def commit(self, writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        """All of the writes, in order; Conflict if any comparison fails (Overtaken where the store tells what it met).

        `meanwhile` is called once, while the store is at work where that can be; it must not raise.

        With `atomic` nothing is written then; without, the writes before the failed one stay (the caller orders them
        so that a crash between any two is repairable).
        """
        ...

    def watch(self, kind: str, revision: str) -> "AbstractContextManager[Watch]":
        """Every change of that kind after `revision`, in order, none twice.

        Iterating ends when the watch is closed and raises Compacted (list again) or another StoreError (list again
        later).  Opening one may raise them, too.
        """
        ...

    def watch_many(self, since: Mapping[str, str]) -> "AbstractContextManager[Watch]":
        """Several kinds, each from its own revision, over one connection and in one thread: 16 watches of a kind each
        cost etcd3's client 32 threads that wake ten times a second. In order within a kind."""
        ...

    def close(self) -> None: ...


class Watch(Protocol):
    def __iter__(self) -> Iterator[Event]: ...

    def close(self) -> None:
        """From any thread: ends the iteration."""
        ...


def in_order(entries: Iterable[Entry]) -> tuple[Entry, ...]:
    return tuple(sorted(entries, key=lambda entry: (entry.key.namespace, entry.key.name)))


def metadata(document: Mapping[str, Any]) -> Mapping[str, Any]:
    found = document.get("metadata")
    return found if isinstance(found, dict) else {}
