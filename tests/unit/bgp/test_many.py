"""A burst of a source is one Change."""

from felixlite.addresses import Prefix
from felixlite.snapshot import Gone, Learned, Many, Put, Snapshot, fold

A, B, C = (Prefix.parse(f"10.0.{i}.0/24") for i in range(3))
HERE, THERE = Learned((), ("a",)), Learned((), ("b",))


def test_many_keys_in_one_change_are_the_same_as_one_change_each() -> None:
    start = Snapshot("n1", learned={A: HERE, B: HERE})
    one_by_one = fold(start, [Put("learned", B, THERE), Put("learned", C, HERE), Gone("learned", A)])
    assert fold(start, [Many("learned", {B: THERE, C: HERE}, (A,))]) == one_by_one


def test_the_snapshot_before_keeps_its_routes() -> None:
    start = Snapshot("n1", learned={A: HERE})
    fold(start, [Many("learned", {}, (A,))])
    assert start.learned == {A: HERE}
