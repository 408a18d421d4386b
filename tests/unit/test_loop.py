import pytest

from felixlite import show
from felixlite.loop import Loop, Planned
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Gone, InSync, Put, Snapshot


class DictTable:
    """A table that is a dict, and counts how often it is asked."""

    name, guard = "things", False

    def __init__(self):
        self.rows, self.reads, self.writes = {}, 0, 0

    def read(self):
        self.reads += 1
        return dict(self.rows)

    def upsert(self, items):
        self.writes += len(items)
        self.rows.update(items)
        return {}

    def delete(self, keys):
        for key in keys:
            del self.rows[key]
        return {}


class Clock:
    now = 100.0

    def __call__(self):
        return self.now


@pytest.fixture
def table():
    return DictTable()


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def loop(table, clock):
    def planner(snapshot, _now):
        return Planned({"things": (snapshot.bgp_peers,)})

    return Loop(Snapshot("n1"), planner, Reconciler([table]), needs=["store"], clock=clock)


def test_a_burst_of_changes_is_one_round(loop, table):
    for number in range(50):
        loop.put([Put("bgp_peers", str(number), number)])

    loop.step(0)

    assert loop.rounds == 1
    assert len(table.rows) == 50


def test_a_submitted_change_is_answered_after_its_round_has_converged(loop, table):
    done = loop.submit([Put("bgp_peers", "a", 1)])
    assert not done.done()

    loop.step(0)

    assert done.result(0).outcomes["things"].written == 1
    assert table.rows == {"a": 1}


def test_nothing_is_removed_before_the_sources_are_in_sync(loop, table):
    table.rows["stale"] = 1
    loop.put([Put("bgp_peers", "a", 1)])
    loop.step(0)
    assert table.rows == {"stale": 1, "a": 1}

    loop.put([InSync("store")])
    loop.step(0)
    assert table.rows == {"a": 1}
    assert loop.settled


def test_a_touched_table_is_read_again_and_healed(loop, table):
    loop.put([Put("bgp_peers", "a", 1), InSync("store")])
    loop.step(0)
    del table.rows["a"]

    loop.touched("things")
    loop.step(0)

    assert table.rows == {"a": 1}


def test_a_round_without_news_neither_reads_nor_writes(loop, table):
    loop.put([Put("bgp_peers", "a", 1), InSync("store")])
    loop.step(0)
    reads, writes = table.reads, table.writes

    loop.put([Put("bgp_peers", "a", 1)])
    loop.step(0)

    assert (table.reads, table.writes) == (reads, writes)


def test_the_resync_tick_reads_every_table(loop, table, clock):
    loop.put([InSync("store")])
    loop.step(0)
    reads = table.reads
    clock.now += 91

    loop.step(0)

    assert table.reads == reads + 1


def test_a_question_is_answered_in_the_core_thread_and_costs_no_round(loop):
    import threading

    answers = []
    asker = threading.Thread(target=lambda: answers.append(loop.ask(lambda it: it.snapshot.here)))
    asker.start()
    loop.step(5)
    asker.join(5)

    assert answers == ["n1"]
    assert loop.rounds == 0


def test_stopping_cancels_who_still_waits(loop):
    done = loop.submit([Put("bgp_peers", "a", 1)])
    loop.stop()

    assert not loop.step(0)
    assert done.cancelled()


def test_a_spared_row_stays_until_it_is_no_longer_spared(table, clock):
    sparing = [True]

    def planner(_snapshot, _now):
        return Planned({"things": ({},)}, spare=lambda _table, key, _row: sparing[0] and key == "learned")

    table.rows.update(learned=1, stale=2)
    loop = Loop(Snapshot("n1"), planner, Reconciler([table]), clock=clock)
    loop.put([InSync("store")])
    loop.step(0)
    assert table.rows == {"learned": 1}

    sparing[0] = False
    loop.put([InSync("bgp")])
    loop.step(0)
    assert table.rows == {}


def test_news_that_change_nothing_are_no_round(loop, table):
    loop.put([Put("bgp_peers", "a", 1), InSync("store")])
    loop.step(0)
    reads = table.reads

    loop.put([Put("bgp_peers", "a", 1)])
    loop.step(0)
    assert (loop.rounds, table.reads) == (1, reads)

    done = loop.submit([Put("bgp_peers", "a", 1)])
    loop.step(0)
    assert done.result(0).number == 1


def test_who_waits_while_something_fails_gets_a_round(loop, table, monkeypatch):
    monkeypatch.setattr(table, "upsert", lambda items: {key: OSError("no") for key in items})
    loop.put([Put("bgp_peers", "a", 1), InSync("store")])
    loop.step(0)

    done = loop.submit([])
    loop.step(0)

    assert done.result(0).number == 2


def test_what_is_due_is_not_put_off_by_news_that_change_nothing(loop, clock):
    loop.put([InSync("store")])
    loop.step(0)
    clock.now += 10_000  # the resync

    loop.put([InSync("store")])
    loop.step(0)

    assert loop.last_round.number == 2


def test_a_planner_that_stumbles_ends_no_agent_and_takes_nothing_away(table, clock):
    def planner(snapshot, _now):
        if "odd" in snapshot.bgp_peers:
            raise KeyError("odd")
        return Planned({"things": (snapshot.bgp_peers,)})

    loop = Loop(Snapshot("n1"), planner, Reconciler([table]), needs=["store"], clock=clock)
    loop.put([Put("bgp_peers", "a", 1), InSync("store")])
    loop.step(0)
    done = loop.submit([Put("bgp_peers", "odd", 2), Gone("bgp_peers", "a")])
    loop.step(0)

    (failure,) = done.result(0).failures["planning"].values()
    assert "KeyError('odd') in test_loop.py" in str(failure.error)
    assert table.rows == {"a": 1}
    assert not loop.settled
    assert any("KeyError" in line for line in show.status(loop)["degraded"])
    assert not show.status(loop)["ready"]

    loop.put([Put("bgp_peers", "b", 3)])
    loop.step(0)
    assert loop.fault.attempts == 2

    loop.put([Gone("bgp_peers", "odd")])
    loop.step(0)
    assert table.rows == {"b": 3}
    assert loop.settled
    assert show.status(loop)["ready"]


def test_what_no_planner_can_plan_is_tried_again_though_nothing_changes(table, clock):
    broken = [True]

    def planner(_snapshot, _now):
        if broken:
            raise broken.pop()
        return Planned({"things": ({"a": 1},)})

    broken[0] = ZeroDivisionError()
    loop = Loop(Snapshot("n1"), planner, Reconciler([table]), clock=clock)
    loop.put([Put("bgp_peers", "a", 1)])
    loop.step(0)
    assert not table.rows

    clock.now += 60
    loop.step(0)
    assert table.rows == {"a": 1}
