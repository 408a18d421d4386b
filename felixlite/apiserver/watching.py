"""Watches: what happened since a place, in the words of one watcher. Everybody's watches are written by one thread.

A watcher costs a socket and a few hundred bytes, no thread of its own: `Pump` writes to all of them without blocking.
Changes are gathered for a moment and go out together, and how one is told is remembered with it, so a thousand watchers
of the same resource cost a thousand writes and one encoding.  Who does not read is cut off, and lists again.
"""

import logging
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import orjson

from felixlite.apiserver import forms
from felixlite.apiserver.cache import Cache, Change, Feed, Gone
from felixlite.apiserver.catalogue import Served
from felixlite.apiserver.selection import Matches
from felixlite.apiserver.status import expired
from felixlite.datastore.store import Document, Entry

log = logging.getLogger("felixlite")
GATHER = 0.02  # seconds between two rounds; what comes meanwhile goes along
REST = 3  # times as long as a round took: with a thousand watchers most of the time is for requests
TURN, BREATH = 50, 0.0002  # after so many watchers the threads that answer requests have their turn
BOOKMARK_EVERY = 60.0
MOST_BEHIND = 4 << 20  # bytes that a watcher has not taken


def frame(kind: str, found: Document) -> bytes:
    return orjson.dumps({"type": kind, "object": found}, option=orjson.OPT_APPEND_NEWLINE)


def chunk(data: bytes) -> bytes:
    """Of a body of unknown length, in HTTP/1.1."""
    return b"%x\r\n%b\r\n" % (len(data), data)


Encode = Callable[[str, Document], bytes]  # ADDED, MODIFIED or DELETED, and the object


@dataclass(frozen=True, slots=True)
class View:
    """Who watches what, and how it is told to them."""

    served: Served
    namespace: str
    matches: Matches | None
    encode: Encode = frame
    words: str = ""  # what tells this encoding from others

    def told(self, change: Change) -> bytes:
        """b"": nothing that this watcher sees."""
        if self.matches is None and not self.namespace:
            known = change.encoded.get((self.served.title, self.words))
            if known is None:
                known = change.encoded[self.served.title, self.words] = self._told(change)
            return known
        return self._told(change)

    def _told(self, change: Change) -> bytes:
        now, was = self._seen(change.entry), self._seen(change.before)
        if now is not None:
            return self.encode("ADDED" if was is None else "MODIFIED", now)
        if was is None:
            return b""
        was["metadata"] = {**was["metadata"], "resourceVersion": change.revision}
        return self.encode("DELETED", was)

    def _seen(self, entry: Entry | None) -> Document | None:
        if entry is None or (self.namespace and entry.key.namespace != self.namespace):
            return None
        found = forms.shown(self.served, entry)
        return found if self.matches is None or self.matches(found) else None

    def initial(self, entries: Sequence[Entry]) -> bytes:
        seen = (self._seen(entry) for entry in entries)
        return b"".join(self.encode("ADDED", found) for found in seen if found is not None)

    def bookmark(self, revision: str, *, end_of_initial: bool = False) -> bytes:
        notes = {"annotations": {"k8s.io/initial-events-end": "true"}} if end_of_initial else {}
        said = {"resourceVersion": revision, "creationTimestamp": None, **notes}
        return frame("BOOKMARK", {"kind": self.served.kind, "apiVersion": self.served.api_version, "metadata": said})


@dataclass(slots=True, eq=False)
class Watcher:
    feed: Feed
    cache: Cache
    view: View
    place: int
    until: float  # monotonic
    bookmarks: bool
    first: bytes = b""  # what exists, for who asked for that
    behind: bytearray = field(default_factory=bytearray)
    next_bookmark: float = field(default_factory=lambda: time.monotonic() + BOOKMARK_EVERY)
    is_over: bool = False

    def news(self, now: float) -> bytes:
        """What is to be said at this moment."""
        with self.feed.news:
            try:
                changes = self.cache.since(self.place)
            except Gone:
                self.is_over = True
                return chunk(frame("ERROR", expired("too old resource version").document()))
            self.place, revision = self.cache.end, self.cache.revision
        told = b"".join(self.view.told(change) for change in changes)
        if self.bookmarks and now >= self.next_bookmark:
            told += self.view.bookmark(revision)
            self.next_bookmark = now + BOOKMARK_EVERY
        return chunk(told) if told else b""


class Pump:
    """`run` belongs to a thread."""

    def __init__(self) -> None:
        self._selector = selectors.DefaultSelector()
        self._watchers: dict[Watcher, socket.socket] = {}
        self._new: list[tuple[Watcher, socket.socket]] = []
        self._lock = threading.Lock()
        self._awake = threading.Event()
        self._stopping = False

    @property
    def count(self) -> int:
        return len(self._watchers)

    def wake(self) -> None:
        self._awake.set()

    def add(self, watcher: Watcher, connection: socket.socket) -> None:
        with self._lock:
            self._new.append((watcher, connection))
        self.wake()

    def stop(self) -> None:
        self._stopping = True
        self.wake()

    def run(self) -> None:
        while not self._stopping:
            self._awake.wait(0.5)
            self._awake.clear()
            self._take_new()
            began = time.monotonic()
            self._round(began)
            time.sleep(max(GATHER, REST * (time.monotonic() - began)))
        self._take_new()
        for watcher in list(self._watchers):
            self._drop(watcher)
        self._selector.close()

    def _take_new(self) -> None:
        with self._lock:
            new, self._new = self._new, []
        for watcher, connection in new:
            connection.setblocking(False)
            self._selector.register(connection, selectors.EVENT_READ, watcher)
            self._watchers[watcher] = connection

    def _round(self, now: float) -> None:
        for key, _ in self._selector.select(0):
            if _is_closed(self._watchers[key.data]):
                self._drop(key.data)
        for number, (watcher, connection) in enumerate(list(self._watchers.items())):
            if number % TURN == TURN - 1:
                time.sleep(BREATH)
            if now >= watcher.until:
                watcher.is_over = True
            else:
                watcher.behind += watcher.news(now)
            if watcher.is_over:
                watcher.behind += chunk(b"")
            if watcher.behind:
                _write(watcher, connection)
            if watcher.is_over or len(watcher.behind) > MOST_BEHIND:
                self._drop(watcher)

    def _drop(self, watcher: Watcher) -> None:
        connection = self._watchers.pop(watcher)
        self._selector.unregister(connection)
        connection.close()


def _write(watcher: Watcher, connection: socket.socket) -> None:
    try:
        sent = connection.send(watcher.behind)
        del watcher.behind[:sent]
    except (BlockingIOError, ssl.SSLWantWriteError, ssl.SSLWantReadError):
        return
    except OSError:
        watcher.is_over = True


def _is_closed(connection: socket.socket) -> bool:
    """A watcher has nothing more to say: what it sends is its end."""
    try:
        return connection.recv(4096) == b""
    except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
        return False
    except OSError:
        return True
