"""Lost BGP sessions are told to whoever collects Events."""

import pytest

from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Entry, Key
from felixlite.errors import Unreachable
from felixlite.sessionevents import SessionEvents
from felixlite.snapshot import SessionState, Snapshot

UP, DOWN = SessionState("Established", 1.0, peer_as=65000), SessionState("Idle", 2.0, error="hold timer expired")
NODE = {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "n1"}, "spec": {}}


class Collector:
    def __init__(self) -> None:
        self.events: list[tuple[str, str, str]] = []
        self.away = False

    def announce(self, node: str, *, is_up: bool) -> None:
        raise AssertionError(f"not asked for: {node} {is_up}")

    def warn(self, about: Entry, reason: str, message: str) -> None:
        if self.away:
            raise Unreachable("the API server is away")
        self.events.append((str(about.key), reason, message))


def test_a_lost_session_is_told_once_and_again_when_the_server_was_away() -> None:
    store, collector = MemoryStore(), Collector()
    store.create(Key("Node", "n1"), NODE)
    duty = SessionEvents(store, collector)
    duty.tell(Snapshot("n1", sessions={"10.0.0.2": UP}))
    assert collector.events == []
    collector.away = True
    with pytest.raises(Unreachable):
        duty.tell(Snapshot("n1", sessions={"10.0.0.2": DOWN}))
    collector.away = False
    for _ in range(2):
        duty.tell(Snapshot("n1", sessions={"10.0.0.2": DOWN}))
    assert collector.events == [
        (str(Key("Node", "n1")), "BGPSessionDown", "session with 10.0.0.2 is lost: hold timer expired")
    ]
