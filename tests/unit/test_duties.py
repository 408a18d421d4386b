import queue
import threading
import time
from contextlib import contextmanager

from felixlite.backoff import FIRST_PAUSE
from felixlite.duties import Duties, Duty
from felixlite.errors import Unreachable
from felixlite.snapshot import Put, Snapshot, fold


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_a_duty_runs_again_only_when_something_it_reads_is_another_object():
    runs = []
    duties = Duties([Duty("count", lambda s: (s.pools,), lambda s: runs.append(len(s.pools)))], Clock())
    first = Snapshot("n1")
    duties.once(first)
    duties.once(fold(first, [Put("nodes", "n2", 1)]))
    duties.once(fold(first, [Put("pools", "p", 1)]))

    assert runs == [0, 1]


def test_a_failed_duty_is_tried_again_after_a_pause_and_says_why():
    clock, tries = Clock(), []

    def fails_twice(_snapshot):
        tries.append(clock.now)
        if len(tries) < 3:
            raise Unreachable("the store is away")

    duty = Duty("write", lambda s: (s.pools,), fails_twice)
    duties, snapshot = Duties([duty], clock), Snapshot("n1")
    duties.once(snapshot)
    assert duty.error == "the store is away"

    duties.once(snapshot)
    assert len(tries) == 1
    for _ in range(2):
        clock.now += 1
        duties.once(snapshot)
    assert len(tries) == 3
    assert duty.error == ""


def test_a_failed_duty_that_nothing_calls_for_any_more_keeps_nobody_awake():
    """Else the thread would turn round and round: its time is up, and there is nothing to try."""

    def fails(_snapshot):
        raise Unreachable("the store is away")

    clock = Clock()
    duty = Duty("write", lambda s: (s.pools,), fails, needs=lambda s: "n1" in s.nodes)
    duties, registered = Duties([duty], clock), fold(Snapshot("n1"), [Put("nodes", "n1", 1)])
    duties.see(registered)
    duties.once(registered)
    assert duties.patience() == FIRST_PAUSE

    clock.now += 1
    duties.see(Snapshot("n1"))

    assert duties.patience() is None


def test_what_failed_since_is_done_again_when_all_is_as_it_was_when_it_was_done():
    clock, done = Clock(), []

    def needs_a_pool(snapshot):
        if not snapshot.pools:
            raise Unreachable("there is no pool")
        done.append(1)

    full, empty = {"p": 1}, {}
    duty = Duty("write", lambda s: (s.pools,), needs_a_pool)
    for pools in (full, empty, full):
        clock.now += 60
        Duties([duty], clock).once(Snapshot("n1", pools=pools))

    assert len(done) == 2
    assert duty.error == ""


@contextmanager
def running(*duties):
    told = Duties(duties)
    thread = threading.Thread(target=told.run)
    thread.start()
    try:
        yield told
    finally:
        told.stop()
        thread.join(10)
        assert not thread.is_alive()


def test_a_round_that_changed_nothing_that_a_duty_reads_wakes_nobody():
    reads, runs = [], queue.SimpleQueue()

    def inputs(snapshot):
        reads.append(threading.current_thread().name)
        return (snapshot.pools,)

    first = Snapshot("n1")
    with running(Duty("count", inputs, lambda s: runs.put(len(s.pools)))) as duties:
        duties.see(first)
        assert runs.get(timeout=10) == 0
        while duties._busy:
            time.sleep(0.001)
        reads.clear()
        for number in range(100):
            duties.see(fold(first, [Put("nodes", f"n{number}", 1)]))
        assert set(reads) == {threading.current_thread().name}
        duties.see(fold(first, [Put("pools", "p", 1)]))
        assert runs.get(timeout=10) == 1


def test_what_becomes_so_while_a_duty_runs_is_seen_afterwards_even_if_it_is_what_was_done_before():
    one, other = Snapshot("n1"), Snapshot("n1", pools={"p": 1})
    began, go_on, runs = threading.Event(), threading.Event(), queue.SimpleQueue()

    def run(snapshot):
        runs.put(snapshot)
        if snapshot is other:
            began.set()
            go_on.wait(10)

    with running(Duty("write", lambda s: (s.pools,), run)) as duties:
        duties.see(one)
        assert runs.get(timeout=10) is one
        duties.see(other)
        assert began.wait(10)
        duties.see(one)
        go_on.set()
        assert [runs.get(timeout=10) for _ in range(2)] == [other, one]


def test_a_duty_that_failed_is_tried_again_though_nothing_happens():
    tries = queue.SimpleQueue()

    def fails_twice(_snapshot):
        tries.put(1)
        if tries.qsize() < 3:
            raise Unreachable("the store is away")

    duty = Duty("write", lambda s: (s.pools,), fails_twice)
    with running(duty) as duties:
        duties.see(Snapshot("n1"))
        deadline = time.monotonic() + 10
        while tries.qsize() < 3 or duty.error:
            assert time.monotonic() < deadline
            time.sleep(0.001)
