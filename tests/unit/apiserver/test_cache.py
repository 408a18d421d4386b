"""What is kept at hand of a store, and what a watcher is told when the store jumps."""

import pytest

from felixlite.apiserver.cache import KEPT, Cache, Gone
from felixlite.datastore.store import Entry, Key


def entry(name: str, revision: int) -> Entry:
    return Entry(Key("Tier", name), {"metadata": {"name": name}, "spec": {"order": revision}}, str(revision))


def filled(*entries: Entry, revision: int) -> Cache:
    cache = Cache()
    cache.fill(entries, str(revision))
    return cache


def told(cache: Cache, place: int) -> list[tuple[str, str]]:
    return [
        (
            change.entry.key.name if change.entry else f"-{change.before.key.name if change.before else ''}",
            change.revision,
        )
        for change in cache.since(place)
    ]


def test_a_second_list_tells_what_differs_in_order_of_time() -> None:
    cache = filled(entry("a", 1), entry("b", 2), entry("c", 3), revision=3)
    place = cache.end
    cache.fill([entry("a", 6), entry("b", 2), entry("d", 5)], "7")
    assert told(cache, place) == [("d", "5"), ("a", "6"), ("-c", "7")]
    assert {key.name for key in cache.entries} == {"a", "b", "d"}


def test_who_comes_with_a_revision_goes_on_behind_it() -> None:
    cache = filled(entry("a", 1), revision=4)
    for number in (5, 6, 9):
        cache.put(entry(f"x{number}", number))
    assert told(cache, cache.place("5")) == [("x6", "6"), ("x9", "9")]
    assert told(cache, cache.place("9")) == []
    assert told(cache, cache.place("4")) == [("x5", "5"), ("x6", "6"), ("x9", "9")]
    with pytest.raises(Gone):
        cache.place("3")


def test_a_store_set_back_to_an_older_state_is_listed_again_by_everybody() -> None:
    cache = filled(entry("a", 1), revision=10)
    place = cache.end
    cache.put(entry("b", 11))
    cache.fill([entry("a", 1)], "2")
    assert set(cache.entries) == {Key("Tier", "a")}
    with pytest.raises(Gone):
        cache.since(place)
    assert told(cache, cache.place("2")) == []


def test_only_the_last_changes_are_known() -> None:
    cache = filled(revision=0)
    place = cache.end
    for number in range(1, 2 * KEPT + 1):
        cache.put(entry("a", number))
    with pytest.raises(Gone):
        cache.since(place)
    with pytest.raises(Gone):
        cache.place("1")
    assert len(cache.since(cache.place(str(2 * KEPT - 5)))) == 5


def test_what_is_heard_twice_is_told_once() -> None:
    cache = filled(revision=0)
    place = cache.end
    cache.put(entry("a", 1))
    cache.put(entry("a", 1))
    cache.drop(Key("Tier", "a"), "2")
    cache.drop(Key("Tier", "a"), "3")
    assert told(cache, place) == [("a", "1"), ("-a", "2")]
