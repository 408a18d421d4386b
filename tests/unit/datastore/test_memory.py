import pytest

from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key
from felixlite.errors import Compacted
from tests.support.store_contract import POOL, StoreContract, document


class TestMemory(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore()


def test_a_watch_from_before_the_history_has_to_list_again():
    store = MemoryStore(history=2)
    before = store.list("IPPool").revision
    for name in "abc":
        store.create(Key("IPPool", name), document(POOL))
    with pytest.raises(Compacted):
        store.watch("IPPool", before)


def test_a_watch_from_just_inside_the_history_misses_nothing():
    store = MemoryStore(history=2)
    store.create(Key("IPPool", "a"), document(POOL))
    after_first = store.list("IPPool").revision
    for name in "bc":
        store.create(Key("IPPool", name), document(POOL))
    with store.watch("IPPool", after_first) as watch:
        events = iter(watch)
        assert [next(events).entry.key.name for _ in range(2)] == ["b", "c"]
