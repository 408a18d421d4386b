"""Versions of a mapping against plain dicts: every version stays what it was, and no difference is missed."""

import random
import threading

import pytest

from felixlite.remember import PerKey
from felixlite.snapshot import Many, Put, Snapshot, fold
from felixlite.versions import Versions, changed_keys, differing, holds_none_of, patched


def burst(rows, dice):
    """Values and keys that go, of many sizes, overlapping now and then."""
    values = {dice.randrange(300): dice.random() for _ in range(dice.choice([0, 1, 3, 100]))}
    known = [*rows, *values]
    gone = dice.sample(known, min(len(known), dice.choice([0, 0, 1, 5, 250])))
    return values, list(dict.fromkeys(gone))


@pytest.mark.parametrize("seed", range(60))
def test_every_version_stays_what_it_was(seed):
    dice = random.Random(seed)
    history = [({}, Versions({}))]
    for _ in range(30):
        rows, version = dice.choice(history[-3:])  # mostly the newest; an older one makes a branch
        values, gone = burst(rows, dice)
        after = {key: row for key, row in {**rows, **values}.items() if key not in gone}
        history.append((after, version.after(values, gone)))

        some = dice.sample(range(300), 10)
        for want, have in history:
            assert have == want
            assert len(have) == len(want)
            assert all(have.get(key) == want.get(key) and (key in have) == (key in want) for key in some)
            assert holds_none_of(have, want.keys()) == (not want)
    for want, have in history:
        assert all(have.get(key) == want.get(key) and (key in have) == (key in want) for key in range(300))


@pytest.mark.parametrize("seed", range(60))
def test_no_difference_between_two_versions_is_missed(seed):
    dice = random.Random(seed)
    history = [({}, Versions({}))]
    for _ in range(30):
        rows, version = history[-1]
        values, gone = burst(rows, dice)
        after = {key: row for key, row in {**rows, **values}.items() if key not in gone}
        history.append((after, version.after(values, gone)))
        old_rows, old = dice.choice(history)

        before, now = differing(old, history[-1][1])

        other = {k for k in old_rows.keys() | after.keys() if old_rows.get(k) != after.get(k)}
        assert other <= before.keys() | now.keys()
        assert all(old_rows[key] == row for key, row in before.items())
        assert all(after[key] == row for key, row in now.items())
        assert other <= set(changed_keys(old, history[-1][1]))


def test_one_row_more_of_many_is_one_difference():
    old = Versions({key: object() for key in range(50_000)})
    new = old.after({-1: "more"})

    assert differing(old, new) == ({}, {-1: "more"})


def test_who_kept_an_old_version_keeps_a_bounded_history():
    kept = newest = Versions(dict.fromkeys(range(100), 0))
    for number in range(5_000):
        newest = newest.after({number % 100: number})

    steps, version = 0, kept
    while version._next is not None:
        steps, version = steps + 1, version._next
    assert steps < 1_500
    assert kept == dict.fromkeys(range(100), 0)


def test_another_thread_may_read_any_version_meanwhile():
    wrong, done = [], threading.Event()
    first = Versions(dict.fromkeys(range(2000), 0))

    def read():
        while not done.is_set():
            if first.copy() != dict.fromkeys(range(2_000), 0) or any(
                first.get(key) != 0 for key in range(0, 2_000, 97)
            ):
                wrong.append("seen otherwise")

    reader = threading.Thread(target=read)
    reader.start()
    newest = first
    for number in range(1, 400):
        newest = newest.after({number: number, 3_000 + number: 1}, [number + 500])
    done.set()
    reader.join()
    assert not wrong


@pytest.mark.parametrize("seed", range(40))
def test_a_function_per_key_answers_as_if_asked_for_all(seed):
    dice = random.Random(seed)
    rule = PerKey(lambda items, factor: {("row", key): row * factor for key, row in items.items() if row > 0.2})
    source = Versions({})
    for _ in range(25):
        values, gone = burst(source, dice)
        source = source.after(values, gone) if dice.random() < 0.8 else dict(patched(source, values, gone))
        factor = dice.choice([2.0, 2.0, 2.0, 3.0])

        rows = rule(source, factor)

        assert rows == {("row", key): row * factor for key, row in source.items() if row > 0.2}
        source = source if isinstance(source, Versions) else Versions(dict(source))


@pytest.mark.parametrize("seed", range(40))
def test_bursts_of_one_round_are_folded_in_their_order(seed):
    dice = random.Random(seed)
    rows, changes = {}, []
    for _ in range(dice.randrange(1, 6)):
        values, gone = burst(rows, dice)
        rows = {key: row for key, row in {**rows, **values}.items() if key not in gone}
        changes.append(Many("learned", values, tuple(gone)))
        if dice.random() < 0.3:
            changes.append(Put("learned", 7, 0.5))
            rows = {**rows, 7: 0.5}

    assert fold(Snapshot("n1"), changes).learned == rows
