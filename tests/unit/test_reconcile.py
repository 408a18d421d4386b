"""The reconciler on dicts: what it writes, when, in which order, and on which links."""

import pytest

from felixlite.tables import Foreign, Overlap
from tests.support.tables import Core, DictTable


@pytest.fixture
def table():
    return DictTable()


@pytest.fixture
def core(table):
    return Core(table)


# -- the ordinary way


def test_what_is_missing_is_added_what_differs_replaced_what_nobody_wants_removed(core, table):
    table.rows = {"kept": 1, "changed": 1, "stray": 1}

    outcome = core.round(things={"kept": 1, "changed": 2, "new": 1})["things"]

    assert table.rows == {"kept": 1, "changed": 2, "new": 1}
    assert (outcome.written, outcome.removed, outcome.read) == (2, 1, True)


def test_the_second_round_does_nothing_and_reads_nothing(core, table):
    core.round(things={"a": 1})
    table.broken = AssertionError("touched")

    outcome = core.round(things={"a": 1})["things"]

    assert (outcome.written, outcome.removed, outcome.read, dict(outcome.failures)) == (0, 0, False, {})


def test_only_a_slice_that_is_another_object_is_compared(core, table):
    same, other = {"a": 1}, {"b": 1}
    core.round(things=(same, other))
    same["a"] = 2  # a planner would never; here it shows who looks

    core.round(things=(same, {"b": 2}))

    assert table.rows == {"a": 1, "b": 2}


def test_a_row_that_moves_to_another_slice_is_neither_written_nor_removed(core, table):
    core.round(things=({"a": 1}, {"b": 1}))
    written = table.upserts

    outcome = core.round(things=({}, {"b": 1, "a": 1}))["things"]

    assert (table.upserts, outcome.removed) == (written, 0)


def test_a_key_that_two_slices_want_is_a_failure_of_its_table_which_stays_as_it_is(core, table):
    core.round(things=({"a": 1}, {"b": 1}))
    for slices in (({"a": 1}, {"b": 1, "a": 2}), ({"a": 3}, {"b": 1, "a": 2})):  # one changed, or both
        (failure,) = core.round(things=slices)["things"].failures.values()
        assert "two planners want a" in str(failure.error)
        assert isinstance(failure.error, Overlap)
    assert table.rows == {"a": 1, "b": 1}
    assert not core.reconciler.settled

    core.now += 600
    assert not core.round(things=({"a": 3}, {"b": 1}))["things"].failures
    assert table.rows == {"a": 3, "b": 1}


def test_a_distrusted_table_is_read_again_and_healed(core, table):
    plan = {"a": 1, "b": 1}
    core.round(things=plan)
    del table.rows["a"]
    table.rows["stray"] = 1

    core.reconciler.distrust("things")
    core.round(things=plan)

    assert table.rows == plan


def test_a_plan_without_a_table_wants_nothing_of_it(core, table):
    table.rows = {"stray": 1}

    core.round()

    assert table.rows == {}


def test_differences_touch_nothing(core, table):
    table.rows = {"kept": 1, "changed": 1, "stray": 1}
    before = dict(table.rows)

    diff = core.reconciler.differences({"things": ({"kept": 1, "changed": 2, "new": 1},)})["things"]

    assert table.rows == before
    assert diff.upserts == {"changed": (1, 2), "new": (None, 1)}
    assert diff.deletes == {"stray": 1}


# -- before the sources are in sync


def test_before_the_sources_are_in_sync_rows_are_added_but_neither_replaced_nor_removed(core, table):
    table.rows = {"changed": 1, "stray": 1}

    core.round(things={"changed": 2, "new": 1}, may_delete=False)
    assert table.rows == {"changed": 1, "stray": 1, "new": 1}

    core.round(things={"changed": 2, "new": 1})
    assert table.rows == {"changed": 2, "new": 1}


def test_what_waited_for_the_sync_is_done_though_the_plan_is_the_same_object(core, table):
    table.rows = {"changed": 1, "stray": 1}
    plan = ({"changed": 2},)

    core.round(things=plan, may_delete=False)
    core.round(things=plan)

    assert table.rows == {"changed": 2}
    assert core.reconciler.settled


# -- links


def test_rows_on_a_link_that_came_back_are_written_again_and_no_others(core, table):
    plan = {"a": "eth0", "b": "eth1"}
    core.round(things=plan)
    table.rows.clear()  # as the kernel does, without a word

    core.reconciler.came_up(["eth0"])
    core.round(things=plan)

    assert table.rows == {"a": "eth0"}


def test_a_row_that_moved_to_another_link_or_came_later_is_lost_with_the_link_that_it_is_on(core, table):
    core.round(things={"a": "eth0", "b": "eth1"})
    core.reconciler.came_up(["eth9"])
    plan = {"a": "eth1", "b": "eth1", "c": "eth0", "d": "eth0"}
    core.round(things=plan)
    core.round(things=(plan := {key: plan[key] for key in "abc"}))
    table.rows.clear()

    core.reconciler.came_up(["eth0"])
    core.round(things=plan)

    assert table.rows == {"c": "eth0"}


def test_a_link_that_comes_costs_what_is_on_it_and_not_the_whole_table(core, table):
    asked = []

    def links_of(key, row):
        asked.append(key)
        return [row]

    table.links_of = links_of
    core = Core(table)
    plan = dict.fromkeys(range(5000), "eth0")
    core.round(things=plan)
    core.reconciler.came_up(["cali0"])
    asked.clear()

    for number in range(100):
        plan = {**plan, f"pod{number}": f"cali{number}"}
        core.round(things=plan)
        core.reconciler.came_up([f"cali{number}"])

    assert len(asked) < 500


def test_a_row_that_is_perhaps_lost_is_still_removed_when_nobody_wants_it(core, table):
    core.round(things={"a": "eth0"})

    core.reconciler.came_up(["eth0"])
    core.round(things={})

    assert table.rows == {}


# -- order and guards


@pytest.fixture
def journal():
    return []


@pytest.fixture
def guarded(journal):
    return Core(DictTable("chains", guard=True, journal=journal), DictTable("routes", journal=journal))


def test_rows_are_written_in_the_order_of_the_tables_and_removed_in_reverse(guarded, journal):
    guarded.round(chains={"w": 1}, routes={"w": 1})
    guarded.round(chains={}, routes={})

    assert journal == ["chains: w = 1", "routes: w = 1", "routes: no w", "chains: no w"]


def test_a_failing_guard_holds_back_what_is_new_and_lets_pass_what_was_open(guarded):
    chains, routes = guarded.tables
    guarded.round(chains={"old": 1}, routes={"old": 1})
    chains.refuse["new"] = OSError("no")

    outcomes = guarded.round(chains={"old": 1, "new": 1}, routes={"old": 2, "new": 1})

    assert routes.rows == {"old": 2}
    assert outcomes["routes"].held_back == 1


def test_what_a_guard_held_back_comes_when_the_guard_recovers(guarded):
    chains, routes = guarded.tables
    chains.refuse["w"] = OSError("no")
    plan = {"chains": ({"w": 1},), "routes": ({"w": 1},)}
    guarded.round(**plan)
    assert routes.rows == {}

    chains.refuse.clear()
    guarded.now = guarded.reconciler.retry_at()
    guarded.round(**plan)

    assert routes.rows == {"w": 1}
    assert guarded.reconciler.settled


def test_an_unreadable_guard_holds_back_too(guarded):
    chains, routes = guarded.tables
    chains.broken = OSError("no answer")

    guarded.round(chains={"w": 1}, routes={"w": 1})

    assert routes.rows == {}


def test_a_stray_that_a_guard_cannot_remove_holds_back_nothing(guarded):
    chains, routes = guarded.tables
    chains.rows = {"stray": 1}
    chains.refuse["stray"] = OSError("in use")
    guarded.round(chains={}, routes={})

    guarded.round(chains={}, routes={"w": 1})

    assert routes.rows == {"w": 1}


def test_a_guard_stays_while_what_it_guards_cannot_be_removed(guarded):
    chains, routes = guarded.tables
    guarded.round(chains={"w": 1}, routes={"w": 1})
    routes.refuse["w"] = OSError("no")
    guarded.round(chains={}, routes={})
    assert chains.rows == {"w": 1}

    routes.refuse.clear()
    guarded.now += 1
    guarded.round(chains={}, routes={})

    assert chains.rows == {}
    assert guarded.reconciler.settled


def test_a_guard_that_may_not_be_replaced_yet_holds_back_what_it_would_guard(guarded):
    chains, routes = guarded.tables
    chains.rows = {"dispatch": "old"}

    guarded.round(chains={"dispatch": "old and new"}, routes={"new": 1}, may_delete=False)

    assert routes.rows == {}


def test_the_loop_may_sleep_while_a_failed_row_is_held_back(guarded):
    chains, routes = guarded.tables
    routes.refuse["w"] = OSError("no")
    guarded.round(chains={}, routes={"w": 1})
    chains.refuse["c"] = OSError("no")
    for _ in range(20):
        guarded.round(chains={"c": 1}, routes={"w": 1})
        assert guarded.reconciler.retry_at() > guarded.now
        guarded.now = guarded.reconciler.retry_at()


# -- what belongs to others


def test_nothing_is_put_upon_a_link_of_somebody_else_or_taken_off_it_until_it_is_gone():
    links, addresses = DictTable("links"), DictTable("addresses")
    core = Core(links, addresses)
    links.refuse["tunl0"] = Foreign("it is somebody's")
    addresses.rows["theirs"] = "tunl0"
    plan = {"links": {"tunl0": 1, "eth0": 1}, "addresses": {"ours": "tunl0", "other": "eth0"}}

    held = core.round(**plan)["addresses"].held_back
    assert (addresses.rows, held) == ({"theirs": "tunl0", "other": "eth0"}, 1)
    core.round(**plan)  # the link is left alone until it is tried again, and so is what is upon it
    assert addresses.rows == {"theirs": "tunl0", "other": "eth0"}

    del links.refuse["tunl0"]
    core.now = core.reconciler.retry_at()
    core.round(**plan)
    assert addresses.rows == {"ours": "tunl0", "other": "eth0"}
    assert core.reconciler.settled


def test_a_link_that_merely_fails_keeps_nothing_off_it():
    links, addresses = DictTable("links"), DictTable("addresses")
    links.refuse["tunl0"] = OSError("its MTU is refused")

    Core(links, addresses).round(links={"tunl0": 1}, addresses={"ours": "tunl0"})

    assert addresses.rows == {"ours": "tunl0"}


def test_what_may_be_lost_and_is_not_wanted_any_more_goes_beside_a_link_of_somebody_else():
    links, addresses = DictTable("links"), DictTable("addresses")
    addresses.upon = lambda names, rows: [key for key, row in rows.items() if row.startswith(tuple(names))]
    core = Core(links, addresses)
    links.refuse["tunl0"] = Foreign("it is somebody's")
    core.round(links={"tunl0": 1}, addresses={"ours": "eth0"})
    core.reconciler.came_up(["eth0"])

    core.round(links={"tunl0": 1}, addresses={})

    assert addresses.rows == {}
