"""Comparing what is wanted with what was wanted, and with what is there: no difference is missed."""

import random

import pytest

from felixlite.tables import difference
from felixlite.versions import changed_keys


def patched(slice_, dice):
    """What a planner makes of a slice when some inputs change: drop, replace in place, move to the end, add, all anew."""
    rows = dict(slice_)
    for _ in range(dice.choice([0, 1, 1, 2, 5, 40])):
        key = dice.choice(list(rows) or ["none"])
        match dice.randrange(5):
            case 0:
                rows.pop(key, None)
            case 1:
                rows[key] = dice.random()
            case 2:
                rows[key] = rows.pop(key, 0.5)
            case 3:
                rows[str(dice.random())] = dice.random()
            case _:
                rows = dict(sorted(rows.items(), key=lambda _: dice.random())) if dice.random() < 0.1 else rows
    return rows


@pytest.mark.parametrize("seed", range(60))
def test_comparing_two_versions_of_a_slice_misses_no_difference(seed):
    dice = random.Random(seed)
    old = {str(i): float(i) for i in range(dice.choice([0, 1, 3, 200]))}
    for _ in range(20):
        new = patched(old, dice)

        found = changed_keys(old, new)

        differing = {key for key in old.keys() | new.keys() if old.get(key) != new.get(key)}
        assert differing <= found
        old = new


def test_comparing_a_slice_in_which_one_row_of_many_changed_names_few_others():
    old = {(i,): object() for i in range(5000)}
    removed, replaced = dict(old), dict(old)
    del removed[(17,)]
    replaced.pop((17,))
    replaced[(17,)] = object()

    assert changed_keys(old, removed) == {(17,)}
    assert changed_keys(old, replaced) == {(17,)}
    assert changed_keys(removed, old) == {(17,)}
    assert changed_keys(old, dict(old)) == set()


@pytest.mark.parametrize("seed", range(20))
def test_a_difference_applied_gives_what_was_desired(seed):
    dice = random.Random(seed)
    actual = {dice.randrange(30): dice.randrange(3) for _ in range(20)}
    desired = {dice.randrange(30): dice.randrange(3) for _ in range(20)}

    diff = difference(desired, actual)
    after = {key: row for key, row in actual.items() if key not in diff.deletes}
    after |= {key: row for key, (_, row) in diff.upserts.items()}

    assert after == desired
    assert all(before == actual.get(key) for key, (before, _) in diff.upserts.items())
