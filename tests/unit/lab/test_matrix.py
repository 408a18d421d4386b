"""The matrix: who asks whom, what a right answer is, and who is asked again."""

import pytest

from felixlite.errors import FelixliteError
from felixlite.lab.matrix import pairs, wait_until_green
from felixlite.lab.probe import Cell, Place

A = Place("n1-a", "l-p-n1-a", "10.244.0.1", "10.0.1.11")
B = Place("n2-a", "l-p-n2-a", "10.244.1.1", "10.0.2.12")
ROUTER = Place("r1", "l-r1", "10.0.1.1")
OUTSIDE = Place("outside", "l-out", "203.0.113.100")
ALL = pairs([A, B, ROUTER, OUTSIDE])


def answered(pair, seen_from="", *, arrives=True):
    source, target = pair
    own = source.address if target.node or not source.node else source.node
    return Cell(source, target, sent=1, answered=int(arrives), seen_from=seen_from or own)


class Answers:
    """A prober whose pairs begin to answer after so many questions."""

    def __init__(self, late):
        self.late, self.asked = dict(late), []

    def matrix(self, wanted, patience):
        self.asked.append(list(wanted))
        cells = [answered(pair, arrives=not self.late.get(pair, 0)) for pair in wanted]
        self.late = {pair: max(0, self.late.get(pair, 0) - 1) for pair in ALL}
        return cells


def test_everybody_asks_everybody_but_the_outside_asks_nobody():
    assert {(a.name, b.name) for a, b in ALL} == {
        ("n1-a", "n2-a"), ("n2-a", "n1-a"), ("n1-a", "r1"), ("n2-a", "r1"), ("n1-a", "outside"), ("n2-a", "outside"),
        ("r1", "n1-a"), ("r1", "n2-a"),
    }  # fmt: skip


@pytest.mark.parametrize(
    ("pair", "seen_from", "right"),
    [
        ((A, B), "10.244.0.1", True),
        ((A, B), "10.0.1.11", False),  # masqueraded inside
        ((A, OUTSIDE), "10.0.1.11", True),
        ((A, OUTSIDE), "10.244.0.1", False),  # not masqueraded outside
        ((A, ROUTER), "10.0.1.11", True),
        ((ROUTER, A), "10.0.1.1", True),
    ],
)
def test_a_pod_is_itself_inside_and_its_node_outside(pair, seen_from, right):
    assert answered(pair, seen_from).is_right is right
    assert not answered(pair, seen_from, arrives=False).is_right


def test_only_what_was_wrong_is_asked_again_and_all_of_it_once_at_the_end():
    prober = Answers({(A, B): 2})

    wait_until_green(prober, ALL, 30)

    assert prober.asked == [ALL, [(A, B)], [(A, B)], ALL]


def test_who_does_not_answer_in_time_is_named():
    with pytest.raises(FelixliteError, match=r"1 pairs still .*: n1-a -> n2-a"):
        wait_until_green(Answers({(A, B): 10**9}), ALL, 0)
