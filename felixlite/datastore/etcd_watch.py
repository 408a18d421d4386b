"""A watch on etcd: one stream for several kinds, which tells when it is dead instead of being silent.

etcd3's own watcher takes no notice when a watch is refused (it waits for ever after the login's token expired), when a
member is cut off, or when the other side is frozen.  Here every stream asks from time to time whether somebody is still
there, demands that the member has a leader, and reads the reason of a refusal.  A watch that ends with an error is not
resumed but left to the caller, who lists again: what a restored backup forgot is seen only that way.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from typing import Any, Self

import grpc
import orjson

from felixlite.datastore.cluster import Cluster, Connection, is_token_refused, rpc
from felixlite.datastore.layout import document_of, key_of, prefixes
from felixlite.datastore.store import Changed, Deleted, Entry, Event, Key
from felixlite.errors import Compacted, Denied, Unreachable

PROBE_EVERY = 10.0  # seconds; a silent watch is given up within twice that
_PROBE = b"\x1a\x00"  # WatchRequest{progress_request: {}}, etcd 3.4; etcd3 0.12.0 was generated before there was one


class EtcdWatch:
    def __init__(self, cluster: Cluster, since: Mapping[str, int]) -> None:
        self._cluster, self._since, self._probe_every = cluster, since, PROBE_EVERY
        self._over = threading.Event()
        self._call: Any = None
        self._asked = 0.0  # when the last probe went out
        self._heard = 0.0  # when anything came in
        self._waiting = False  # false: the reader is busy with what came, and silence means nothing
        self._silent = False
        self._told = False  # an event was delivered

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._over.set()
        if self._call:
            self._call.cancel()

    def __iter__(self) -> Iterator[Event]:
        connection = self._cluster.connection()
        try:
            yield from self._events(connection)
        except _Refused as refusal:
            # a token that expired is refused in the same words as a missing right
            self._cluster.forget(connection.endpoint)
            if self._told:
                raise Unreachable(f"etcd at {connection.endpoint} ended the session: {refusal}") from None
            try:
                yield from self._events(self._cluster.connection())
            except _Refused as again:
                user = self._cluster.address.user
                raise Denied(f"etcd at {connection.endpoint}: user {user!r} may not watch: {again}") from None

    def _events(self, connection: Connection) -> Iterator[Event]:
        over = threading.Event()  # of this stream
        self._call = call = connection.watch(self._requests(over))
        self._heard = time.monotonic()
        if self._over.is_set():
            call.cancel()
        try:
            for response in self._responses(call):
                yield from self._read(response)
        except grpc.RpcError as error:
            if self._over.is_set():
                return
            raise self._failure(error, connection) from None
        finally:
            over.set()
            call.cancel()
        if not self._over.is_set():
            raise Unreachable(f"etcd at {connection.endpoint} ended the watch")

    def _responses(self, call: Any) -> Iterator[Any]:
        while True:
            self._waiting = True
            response = next(call, None)
            self._waiting = False
            self._heard = time.monotonic()
            if response is None:
                return
            yield rpc.WatchResponse.FromString(response)

    def _requests(self, over: threading.Event) -> Iterator[Any]:
        """Runs in gRPC's thread: one creation for each prefix, then probes."""
        for kind, revision in self._since.items():
            for prefix in prefixes(kind):
                yield rpc.WatchRequest(
                    create_request=rpc.WatchCreateRequest(
                        key=prefix.encode(), range_end=end_of(prefix), start_revision=revision + 1
                    )
                )
        while not over.wait(self._probe_every):
            if self._waiting and self._heard < self._asked:
                self._silent = True
                self._call.cancel()
                return
            self._asked = time.monotonic()
            yield _PROBE

    def _read(self, response: Any) -> Iterator[Event]:
        if response.compact_revision:
            raise Compacted(f"the revisions before {response.compact_revision} are gone: list again")
        if response.canceled:
            raise _Refused(response.cancel_reason or "no reason given")
        newest = max(self._since.values(), default=0)
        if response.created and response.header.revision < newest:
            raise Compacted(f"etcd is at revision {response.header.revision}, before {newest}: a backup? list again")
        for event in response.events:
            key = key_of(event.kv.key.decode(errors="replace"))
            if key and key.kind in self._since:
                self._told = True
                yield _event(key, event)

    def _failure(self, error: grpc.RpcError, connection: Connection) -> Exception:
        endpoint = connection.endpoint
        if is_token_refused(error):
            return _Refused(error.details())
        self._cluster.avoid(endpoint)
        if self._silent:
            return Unreachable(f"etcd at {endpoint} fell silent: no answer to a watch within {self._probe_every:g} s")
        return self._cluster.explained(error, endpoint)


class _Refused(Exception):
    """Never leaves this module."""


def end_of(prefix: str) -> bytes:
    """The end of the range of all keys with this prefix."""
    key = prefix.encode()
    return key[:-1] + bytes([key[-1] + 1])


def entry_of(key: Key, kv: Any) -> Entry:
    return entry_at(key, kv.value, kv.mod_revision)


def entry_at(key: Key, value: bytes, revision: int) -> Entry:
    return Entry(key, document_of(key, _value(value)), str(revision))


def _value(raw: bytes) -> object:
    try:
        return orjson.loads(raw) if raw else {}
    except orjson.JSONDecodeError:
        return raw.decode(errors="replace")


def _event(key: Key, event: Any) -> Event:
    if event.type == 1:  # mvccpb.Event.DELETE
        return Deleted(key, str(event.kv.mod_revision))
    return Changed(entry_of(key, event.kv))
