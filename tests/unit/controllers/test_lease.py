import pytest

from felixlite.controllers.lease import Lease
from felixlite.datastore.memory import MemoryStore
from felixlite.errors import Unreachable


class Clock:
    def __init__(self, now=0.0):
        self.now = now

    def __call__(self):
        return self.now


@pytest.fixture
def store():
    return MemoryStore()


def lease(store, identity, clock):
    return Lease(store, "felixlite-controllers", identity, duration=15, clock=clock)


def test_one_of_two_holds_it(store):
    clock = Clock()
    a, b = lease(store, "a", clock), lease(store, "b", clock)

    assert a.renew()
    assert not b.renew()
    assert (a.held, b.held) == (True, False)


def test_a_holder_that_renews_keeps_it(store):
    clock = Clock()
    a, b = lease(store, "a", clock), lease(store, "b", clock)
    for second in range(0, 60, 5):
        clock.now = second
        assert a.renew()
        assert not b.renew()


def test_a_silent_holder_loses_it_after_the_duration_and_knows_before(store):
    clock = Clock()
    a, b = lease(store, "a", clock), lease(store, "b", clock)
    a.renew()
    b.renew()

    clock.now = 11
    assert not a.held
    assert not b.renew()
    clock.now = 15
    assert b.renew()
    assert not a.renew()


def test_a_clock_that_is_an_hour_ahead_takes_nothing_early(store):
    a, ahead = lease(store, "a", Clock(0)), lease(store, "b", Clock(3600))
    a.renew()

    assert not ahead.renew()


def test_a_released_lease_is_taken_at_once(store):
    clock = Clock()
    a, b = lease(store, "a", clock), lease(store, "b", clock)
    a.renew()
    a.release()

    assert not a.held
    assert b.renew()
    assert store.get(a.key).document["spec"]["leaseTransitions"] == 1


def test_releasing_what_somebody_else_took_leaves_it_his(store):
    clock = Clock()
    a, b = lease(store, "a", clock), lease(store, "b", clock)
    a.renew()
    b.renew()
    clock.now = 20
    b.renew()

    a.release()

    assert not a.renew()
    assert b.renew()


def test_a_store_that_is_away_does_not_end_the_lease_before_its_time(store):
    clock = Clock()

    class Away(MemoryStore):
        away = False

        def read(self, keys):
            if self.away:
                raise Unreachable("nobody answers")
            return super().read(keys)

    flaky = Away()
    a = lease(flaky, "a", clock)
    a.renew()
    flaky.away = True
    clock.now = 5

    assert a.renew()
    clock.now = 12
    assert not a.renew()
