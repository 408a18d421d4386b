"""Signs of life of nodes that are gone: removed, so that a cluster whose nodes come and go does not collect them. IO.

A Node is always written before its sign of life, and here the signs are listed first: one without a Node has outlived it.
"""

from collections.abc import Callable, Iterator, Sequence

from felixlite.controllers.runner import Event
from felixlite.datastore.store import Entry, Store
from felixlite.errors import Conflict, FelixliteError, NotFound
from felixlite.heartbeat import NAMESPACE


class Departed:
    name = "departed"
    every = 600.0

    def __init__(self, store: Store) -> None:
        self.store = store

    def once(self, may_go_on: Callable[[], bool]) -> Sequence[Event]:
        signs = self.store.list("Lease", namespace=NAMESPACE).entries
        nodes = {entry.key.name for entry in self.store.list("Node").entries} if signs else set()
        gone = [entry for entry in signs if entry.key.name not in nodes]
        return [event for entry in gone if may_go_on() for event in self._one(entry)]

    def _one(self, entry: Entry) -> Iterator[Event]:
        try:
            self.store.delete(entry.key, entry.revision)
        except (Conflict, NotFound):
            return  # it has written again, or somebody was faster: the next round sees it
        except FelixliteError as error:
            yield Event(self.name, "sign-failed", str(entry.key), str(error), failed=True)
        else:
            yield Event(self.name, "sign-removed", str(entry.key), "its Node is gone")
