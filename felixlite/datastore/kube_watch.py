"""Watches of several kinds in one thread: a connection each, followed together, each continued where it broke.

A server ends every watch after some minutes, and it ends all of them when it is restarted: that is no reason to list
thousands of objects again, so a watch continues after the last revision that it heard of (events and bookmarks tell).
What ends the whole is a revision that is forgotten (Compacted), a refusal, or servers that stay away for PATIENCE.
"""

import os
import random
import selectors
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import urlencode

import orjson

from felixlite.backoff import pause
from felixlite.datastore.kube_api import Api, reason
from felixlite.datastore.kube_forms import event_of
from felixlite.datastore.kube_status import BUSY, error_of, retry_after, status_of
from felixlite.datastore.kube_stream import Garbled, Stream
from felixlite.datastore.kubeconfig import Access, Server
from felixlite.datastore.store import Event, metadata
from felixlite.errors import Unreachable

PATIENCE = 15.0  # seconds without a server before the caller hears of it
LONGEST = 300  # seconds of a watch, and up to as much again: not all nodes of a cluster come back at once
PIECE = 1 << 16


@dataclass(slots=True)
class _Followed:
    """The watch of one kind, open or not."""

    kind: str
    path: str
    revision: str
    due: float = 0.0  # when to open it again
    failures: int = 0
    failing_since: float | None = None
    server: Server | None = None
    used: Access | None = None  # as whom it was opened
    connection: socket.socket | None = None
    stream: Stream = field(default_factory=Stream)
    ends: float = 0.0  # by then the server has ended it, or is dead

    @property
    def what(self) -> str:
        return f"watch {self.kind}"


class KubernetesWatch:
    """`paths`: the collection of each kind."""

    def __init__(self, api: Api, since: Mapping[str, str], paths: Mapping[str, str]) -> None:
        self._api, self._patience = api, PATIENCE
        self._followed = [_Followed(kind, paths[kind], revision) for kind, revision in since.items() if kind in paths]
        self._selector = selectors.DefaultSelector()
        self._wake = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._selector.register(self._wake, selectors.EVENT_READ)
        self._over = threading.Event()
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
        for one in self._followed:
            self._shut(one)
        with self._lock:
            self._selector.close()
            os.close(self._wake)
            self._wake = -1

    def close(self) -> None:
        self._over.set()
        with self._lock:
            if self._wake >= 0:
                os.eventfd_write(self._wake, 1)

    def __iter__(self) -> Iterator[Event]:
        while not self._over.is_set():
            for one in self._followed:
                if one.connection is None and one.due <= time.monotonic() and not self._over.is_set():
                    self._open(one)
            for ready, _ in self._selector.select(self._pause()):
                if ready.data and not self._over.is_set():
                    yield from self._heard(ready.data)
            for one in self._followed:
                if one.connection and time.monotonic() > one.ends:
                    self._broke(one, "the watch fell silent")

    def _pause(self) -> float:
        now = time.monotonic()
        return max(
            0.0, min((one.ends if one.connection else one.due for one in self._followed), default=now + 60) - now
        )

    # -- opening

    def _open(self, one: _Followed) -> None:
        lasts = int(LONGEST * (1 + random.random()))  # noqa: S311  no secret
        query = {
            "watch": "1",
            "allowWatchBookmarks": "true",
            "resourceVersion": one.revision,
            "timeoutSeconds": str(lasts),
        }
        one.used = self._api.access
        try:
            one.server, connection = self._api.connect()
        except Unreachable as error:
            if self._over.is_set():
                return
            self._broke(one, str(error))
            return
        one.connection, one.stream, one.ends = connection, Stream(), time.monotonic() + lasts + 30
        try:
            connection.sendall(self._api.head(one.server, f"{one.path}?{urlencode(query)}"))
        except OSError as error:
            self._broke(one, reason(error))
            return
        connection.setblocking(False)
        self._selector.register(connection, selectors.EVENT_READ, one)

    def _shut(self, one: _Followed) -> None:
        if one.connection is None:
            return
        with suppress(KeyError, ValueError):  # it broke before it was registered
            self._selector.unregister(one.connection)
        one.connection.close()
        one.connection = None

    def _broke(self, one: _Followed, why: str, wait: float | None = None) -> None:
        """It is opened again, after a while that grows; the caller hears of it when it takes too long."""
        self._shut(one)
        if one.server and not one.failures:
            self._api.avoid(one.server)
        now = time.monotonic()
        one.failures += 1
        one.failing_since = one.failing_since or now
        if now - one.failing_since > self._patience:
            raise Unreachable(f"{one.what}: {why}")
        one.due = now + max(wait or 0.0, min(pause(one.failures), 5.0)) * (0.5 + random.random())  # noqa: S311  no secret

    # -- reading

    def _heard(self, one: _Followed) -> Iterator[Event]:
        while one.connection:
            try:
                data = one.connection.recv(PIECE)
            except (ssl.SSLWantReadError, ssl.SSLWantWriteError, BlockingIOError):
                return
            except OSError as error:
                self._broke(one, reason(error))
                return
            try:
                yield from self._read(one, data)
            except Garbled as error:
                self._broke(one, str(error))
                return
            if one.connection and (one.stream.is_over or not data):
                self._ended(one, cut=not data)
                return
            if len(data) < PIECE and not _pending(one.connection):
                return  # the others' turn

    def _read(self, one: _Followed, data: bytes) -> Iterator[Event]:
        for line in one.stream.feed(data):
            found = _parsed(line)
            if found.get("type") == "ERROR":
                self._refused(one, found["object"])
                return
            yield from self._event(one, str(found.get("type")), found["object"])
            if self._over.is_set():
                return

    def _event(self, one: _Followed, word: str, found: dict[str, Any]) -> Iterator[Event]:
        one.failures, one.failing_since = 0, None
        one.revision = str(metadata(found).get("resourceVersion") or one.revision)
        if event := event_of(one.kind, word, found):
            yield event

    def _ended(self, one: _Followed, *, cut: bool) -> None:
        stream = one.stream
        if stream.status not in (0, 200):
            self._refused(one, status_of(stream.status, stream.rest), stream.headers.get("retry-after"))
        elif cut:
            self._broke(one, "the connection was cut")
        else:
            self._shut(one)  # after its time, as agreed
            one.due = 0.0

    def _refused(self, one: _Followed, status: Mapping[str, Any], header: str | None = None) -> None:
        server, code = one.server, int(status.get("code") or 0)
        if code in BUSY or code >= 500:
            self._broke(one, str(status.get("message") or code), retry_after(status, header))
        elif code == 401 and one.used and self._api.identify_again(one.used):
            self._broke(one, "our token was replaced")
        else:
            self._shut(one)
            raise error_of(status, one.what, str(server))


def _parsed(line: bytes) -> dict[str, Any]:
    try:
        found = orjson.loads(line)
    except orjson.JSONDecodeError:
        raise Garbled(f"{line[:40]!r} is no event") from None
    if not isinstance(found, dict) or not isinstance(found.get("object"), dict):
        raise Garbled(f"{line[:40]!r} is no event")
    return found


def _pending(connection: socket.socket) -> bool:
    """Bytes that OpenSSL has read already, of which no selector knows."""
    return isinstance(connection, ssl.SSLSocket) and connection.pending() > 0
