"""The last changes of a store that keeps its own: who listens hears each once, from the number that they name.

memory.py and file.py publish here; etcd and Kubernetes have a history of their own.
"""

import queue
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from typing import Self

from felixlite.datastore.store import Bookmark, Changed, Deleted, Event
from felixlite.errors import Compacted, StoreError


class History:
    """`number` counts the changes."""

    def __init__(self, length: int) -> None:
        self.number = 0
        self._events: deque[tuple[int, Event]] = deque(maxlen=length)
        self._forgotten = 0
        self._listeners: list[Listener] = []
        self._lock = threading.RLock()

    def tell(self, event: Event) -> None:
        with self._lock:
            self.number += 1
            if len(self._events) == self._events.maxlen:
                self._forgotten = self._events[0][0]
            self._events.append((self.number, event))
            for listener in self._listeners:
                listener.hear(self.number, event)

    def listen(self, after: Mapping[str, int]) -> "Listener":
        """From each kind's own number. Compacted if that is no longer known."""
        with self._lock:
            oldest = min(after.values(), default=self.number)
            if oldest < self._forgotten:
                raise Compacted(f"revision {oldest} is no longer in the history: list again")
            listener = Listener(self, after)
            for number, event in self._events:
                listener.hear(number, event)
            self._listeners.append(listener)
            return listener

    def leave(self, listener: "Listener") -> None:
        with self._lock:
            if listener in self._listeners:
                self._listeners.remove(listener)

    def forget(self) -> None:
        with self._lock:
            self._events.clear()
            self._forgotten = self.number

    def end(self, error: StoreError | None = None) -> None:
        """For all who listen: nothing more will be told, because of the error or because the store was closed."""
        with self._lock:
            listeners, self._listeners = self._listeners, []
        for listener in listeners:
            listener.end(error)


class Listener:
    def __init__(self, history: History, after: Mapping[str, int]) -> None:
        self._history, self._after = history, dict(after)
        self._events: queue.SimpleQueue[Event | StoreError | None] = queue.SimpleQueue()

    def hear(self, number: int, event: Event) -> None:
        match event:
            case Changed(entry):
                kind = entry.key.kind
            case Deleted(key, _):
                kind = key.kind
            case Bookmark():
                return
        if number > self._after.get(kind, number):
            self._events.put(event)

    def end(self, error: StoreError | None) -> None:
        self._events.put(error)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __iter__(self) -> Iterator[Event]:
        while (event := self._events.get()) is not None:
            if isinstance(event, StoreError):
                raise event
            yield event

    def close(self) -> None:
        self._history.leave(self)
        self._events.put(None)
