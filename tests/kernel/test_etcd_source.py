"""A source on a real etcd that goes away under it: nothing is invented, nothing that happened meanwhile is lost."""

import queue
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

import pytest

from felixlite.datastore import connect, etcd_watch
from felixlite.datastore.source import NAME, Source
from felixlite.datastore.store import Store
from felixlite.errors import AlreadyExists, Away, Unreachable
from felixlite.intake import Intake
from felixlite.snapshot import Change, Gone, InSync, Put, Snapshot, fold
from tests.support.etcd import Etcd, cluster, cluster_url, etcd
from tests.support.store_contract import POOL, document

PATIENCE = 20.0
KINDS = ("IPPool", "BlockAffinity", "IPAMBlock", "Node", "WorkloadEndpoint", "GlobalNetworkPolicy")


class Told:
    """All that a source told, and the Snapshot that follows from it."""

    def __init__(self) -> None:
        self.inbox: queue.SimpleQueue[Sequence[Change]] = queue.SimpleQueue()
        self.changes: list[Change] = []
        self.snapshot = Snapshot("n1")

    def until(self, holds: Callable[[Snapshot], bool]) -> None:
        deadline = time.monotonic() + PATIENCE
        while not holds(self.snapshot):
            changes = self.inbox.get(timeout=max(0.01, deadline - time.monotonic()))
            self.changes += changes
            self.snapshot = fold(self.snapshot, changes)

    @property
    def moves(self) -> list[Change]:
        return [change for change in self.changes if isinstance(change, Put | Gone)]


@contextmanager
def following(url: str) -> Iterator[tuple[Store, Source, Told]]:
    told = Told()
    store = connect(url, {})
    source = Source(store, KINDS, Intake("n1"), told.inbox.put)
    thread = threading.Thread(target=source.run)
    thread.start()
    try:
        told.until(lambda snapshot: NAME in snapshot.in_sync)
        yield store, source, told
    finally:
        source.stop()
        thread.join(PATIENCE)
        store.close()
        assert not thread.is_alive()


def add_pools(server: Etcd, *names: str) -> None:
    """By another client. What is sent while the members elect a leader is lost, so it is said again."""
    another = connect(server.url + "?timeout=1", {})
    for name in names:
        key = POOL._replace(name=name)
        for _ in range(10):
            with suppress(Unreachable):
                with suppress(AlreadyExists):
                    another.create(key, document(key, cidr="10.0.0.0/16"))
                break
    another.close()


def pools(*names: str) -> Callable[[Snapshot], bool]:
    return lambda snapshot: set(snapshot.pools) == set(names)


def well(source: Source) -> None:
    deadline = time.monotonic() + PATIENCE
    while not source.health.is_well:
        assert time.monotonic() < deadline, source.health
        time.sleep(0.02)


def ill(source: Source) -> None:
    deadline = time.monotonic() + PATIENCE
    while source.health.failing_since is None:
        assert time.monotonic() < deadline, source.health
        time.sleep(0.02)


def test_an_etcd_that_was_stopped_for_a_while_moves_nothing_that_stayed():
    with etcd() as server:
        add_pools(server, "a", "b", "c")
        with following(server.url) as (_store, source, told):
            told.until(pools("a", "b", "c"))
            told.changes.clear()
            server.kill()
            ill(source)
            time.sleep(1.5)
            assert told.inbox.empty()
            server.start()
            add_pools(server, "d")
            server.ctl("del", "/calico/resources/v3/projectcalico.org/ippools/b")
            told.until(pools("a", "c", "d"))
            well(source)
            assert sorted((type(c).__name__, c.key) for c in told.moves if isinstance(c, Put | Gone)) == [
                ("Gone", "b"),
                ("Put", "d"),
            ]
            assert "127.0.0.1" in source.health.last_error
            add_pools(server, "e")
            told.until(pools("a", "c", "d", "e"))


def accepts(server: Etcd) -> bool:
    """Its port is open; it answers when it has a leader."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", server.port)):
        return True
    return False


def test_the_first_read_after_a_restart_is_answered_however_many_failed_before():
    """gRPC pauses between its own attempts to connect, and fails what is asked meanwhile, without a look."""
    with etcd() as server:
        add_pools(server, "a")
        store = connect(server.url + f"?timeout={PATIENCE}", {})
        server.kill()
        server.begin()
        while not accepts(server):
            with suppress(Away):
                store.list("IPPool")
            time.sleep(0.01)
        assert [entry.key.name for entry in store.list("IPPool").entries] == ["a"]
        store.close()


def test_a_frozen_etcd_moves_nothing_and_is_followed_again(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(etcd_watch, "PROBE_EVERY", 0.3)
    with etcd() as server:
        add_pools(server, "a")
        with following(server.url + "?timeout=0.5") as (_store, source, told):
            server.freeze()
            ill(source)
            server.thaw()
            add_pools(server, "b")
            told.until(pools("a", "b"))
            assert not [change for change in told.changes if isinstance(change, Gone)]


def test_of_three_members_one_dies_and_changes_go_on_arriving():
    with cluster(3) as members:
        add_pools(members[0], "a")
        with following(cluster_url(members)) as (_store, source, told):
            told.until(pools("a"))
            members[0].kill()
            add_pools(members[1], "b")
            told.until(pools("a", "b"))
            well(source)
            members[0].start()
            add_pools(members[0], "c")
            told.until(pools("a", "b", "c"))
            assert not [change for change in told.changes if isinstance(change, Gone)]


def test_a_source_that_was_away_over_a_compaction_misses_nothing(monkeypatch: pytest.MonkeyPatch):
    with etcd() as server:
        add_pools(server, "a")
        with following(server.url) as (_store, source, told):
            told.until(pools("a"))
            server.kill()
            ill(source)
            server.start()
            add_pools(server, "b", "c")
            server.ctl("del", "/calico/resources/v3/projectcalico.org/ippools/a")
            server.ctl("compaction", "4")
            told.until(pools("b", "c"))


def test_the_objects_of_ipam_arrive_as_they_are_written_by_calico(empty_etcd: Etcd):
    with following(empty_etcd.url) as (_store, _source, told):
        empty_etcd.ctl(
            "put", "/calico/ipam/v2/host/n-1/ipv4/block/10.0.0.0-30", '{"state":"confirmed","deleted":false}'
        )
        allocations = '"allocations":[0,null,null,null],"unallocated":[1,2,3]'
        attributes = '"attributes":[{"handle_id":"h","secondary":{"node":"n-2"}}]'
        block = f'{{"cidr":"10.0.0.0/30","affinity":"host:n-1",{allocations},{attributes},"deleted":false}}'
        empty_etcd.ctl("put", "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-30", block)
        told.until(lambda snapshot: bool(snapshot.affinities and snapshot.blocks))
        (found,) = told.snapshot.blocks.values()
        assert found.node == "n-1"
        assert list(found.borrowed.values()) == ["n-2"]


def test_a_bad_value_is_listed_and_a_good_one_takes_its_place(empty_etcd: Etcd):
    with following(empty_etcd.url) as (store, _source, told):
        empty_etcd.ctl("put", "/calico/resources/v3/projectcalico.org/ippools/a", "rubbish")
        told.until(lambda snapshot: ("IPPool", "a") in snapshot.rejected)
        store.update(POOL, document(POOL, cidr="10.0.0.0/16"), (store.get(POOL) or pytest.fail("gone")).revision)
        told.until(lambda snapshot: "a" in snapshot.pools and not snapshot.rejected)


def test_a_first_list_ends_with_in_sync_after_everything_else(empty_etcd: Etcd):
    add_pools(empty_etcd, "a", "b")
    with following(empty_etcd.url) as (_store, _source, told):
        assert isinstance(told.changes[-1], InSync)
        assert [change.key for change in told.changes[:-1] if isinstance(change, Put)] == ["a", "b"]
