"""What a failure costs the reconciler: the row that failed, for a growing while, and nobody else."""

import pytest

from felixlite.turn import READING
from tests.support.tables import Core, DictTable


@pytest.fixture
def table():
    return DictTable()


@pytest.fixture
def core(table):
    return Core(table)


def test_one_refused_row_spoils_nothing_and_is_told_once(core, table):
    table.refuse["bad"] = OSError("no")

    outcome = core.round(things={"good": 1, "bad": 1})["things"]

    assert table.rows == {"good": 1}
    assert [(key, str(f.error), f.attempts) for key, f in outcome.failures.items()] == [("bad", "no", 1)]


def test_a_failed_key_is_tried_again_after_a_pause_that_grows_up_to_a_limit(core, table):
    table.refuse["bad"] = OSError("no")
    pauses = []
    for _ in range(12):
        core.round(things={"bad": 1})
        pauses.append(core.reconciler.retry_at() - core.now)
        core.now = core.reconciler.retry_at()

    assert pauses[:3] == pytest.approx([0.05, 0.1, 0.2])
    assert pauses[-1] == pytest.approx(10.0)


def test_nothing_is_tried_before_its_time(core, table):
    table.refuse["bad"] = OSError("no")
    core.round(things={"bad": 1})
    tries = table.upserts

    core.round(things={"bad": 1})

    assert table.upserts == tries


def test_another_row_for_a_failed_key_is_tried_at_once(core, table):
    table.refuse["a"] = OSError("no")
    core.round(things={"a": 1})
    table.refuse.clear()

    outcome = core.round(things={"a": 2})["things"]

    assert table.rows == {"a": 2}
    assert list(outcome.recovered) == ["a"]


def test_a_failed_key_that_nobody_wants_any_more_is_forgotten_at_once(core, table):
    table.refuse["a"] = OSError("no")
    core.round(things={"a": 1})

    outcome = core.round(things={})["things"]

    assert dict(outcome.failures) == {}
    assert list(outcome.recovered) == ["a"]
    assert core.reconciler.retry_at() is None


def test_after_its_first_failure_the_table_is_read_again_but_not_after_each(core, table):
    table.refuse["bad"] = OSError("no")
    for _ in range(5):
        core.round(things={"bad": 1})
        core.now += 60

    assert table.reads == 2


def test_a_failure_that_came_right_by_itself_is_found_by_the_reading(core, table):
    table.refuse["a"] = OSError("no")
    core.round(things={"a": 1})
    table.rows["a"] = 1

    outcome = core.round(things={"a": 1})["things"]

    assert list(outcome.recovered) == ["a"]
    assert core.reconciler.settled


def test_a_failed_removal_is_tried_again_and_then_forgotten(core, table):
    table.rows = {"stray": 1}
    table.refuse["stray"] = OSError("in use")
    core.round(things={})
    assert list(core.mirror.failures) == ["stray"]
    table.refuse.clear()
    core.now += 1

    core.round(things={})

    assert table.rows == {}
    assert core.reconciler.settled


def test_a_failed_removal_of_what_is_wanted_again_is_no_failure(core, table):
    table.rows = {"a": 1}
    table.refuse["a"] = OSError("in use")
    core.round(things={})

    outcome = core.round(things={"a": 1})["things"]

    assert dict(outcome.failures) == {}
    assert core.reconciler.retry_at() is None


def test_a_table_that_raises_has_failed_with_every_key_and_harms_no_other_table(table):
    other = DictTable("other")
    core = Core(table, other)
    core.round()
    table.broken = OSError("gone")

    outcomes = core.round(things={"a": 1}, other={"b": 1})

    assert list(outcomes["things"].failures) == ["a"]
    assert other.rows == {"b": 1}


def test_a_table_that_cannot_be_read_is_left_alone_until_it_can(core, table):
    table.broken = OSError("no answer")
    outcome = core.round(things={"a": 1})["things"]
    assert list(outcome.failures) == [READING]
    assert core.reconciler.retry_at() > core.now

    table.broken = None
    core.round(things={"a": 1})
    assert table.rows == {}
    core.now += 1
    outcome = core.round(things={"a": 1})["things"]

    assert table.rows == {"a": 1}
    assert list(outcome.recovered) == [READING]


def test_the_loop_may_sleep_while_a_table_with_failed_rows_cannot_be_read(core, table):
    table.refuse["a"] = OSError("no")
    core.round(things={"a": 1})
    table.broken = OSError("no answer")
    for _ in range(20):
        core.round(things={"a": 1})
        assert core.reconciler.retry_at() > core.now
        core.now = core.reconciler.retry_at()


def test_when_the_world_changed_failures_are_tried_at_once(core, table):
    table.refuse["a"] = OSError("no such link")
    core.round(things={"a": 1})
    table.refuse.clear()

    core.reconciler.retry()
    core.round(things={"a": 1})

    assert table.rows == {"a": 1}
