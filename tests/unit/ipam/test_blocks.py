"""The arithmetic of one block against a naive model: a queue of free ordinals and a dict of holders."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.addresses import Prefix
from felixlite.ipam import blocks
from felixlite.ipam.blocks import Corrupt

CIDR = Prefix.parse("10.0.0.0/28")
HANDLES = ("a", "b", "c")

steps = st.lists(
    st.one_of(
        st.tuples(st.just("take"), st.integers(1, 5), st.sampled_from(HANDLES)),
        st.tuples(st.just("ordinal"), st.integers(0, 15), st.sampled_from(HANDLES)),
        st.tuples(st.just("release"), st.sets(st.integers(0, 15), max_size=5), st.sampled_from([0, 30])),
        st.tuples(st.just("handle"), st.sampled_from(HANDLES), st.sampled_from([0, 30])),
        st.tuples(st.just("wait"), st.integers(1, 40), st.none()),
        st.tuples(st.just("renew"), st.sampled_from(HANDLES), st.none()),
    ),
    max_size=25,
)


class Naive:
    def __init__(self):
        self.free, self.held, self.cooling = list(range(16)), {}, {}

    def take(self, count, handle):
        chosen, self.free = self.free[:count], self.free[count:]
        self.held.update(dict.fromkeys(chosen, handle))
        return tuple(chosen)

    def ordinal(self, ordinal, handle):
        if ordinal in self.held:
            return False
        if self.cooling.pop(ordinal, None) is None:
            self.free.remove(ordinal)
        self.held[ordinal] = handle
        return True

    def release(self, ordinals, now, cooldown):
        for ordinal in ordinals:
            if self.held.pop(ordinal, None) is not None:
                if cooldown:
                    self.cooling[ordinal] = now
                else:
                    self.free.append(ordinal)

    def settle(self, now, cooldown):
        for ordinal in sorted(o for o, at in self.cooling.items() if now - at >= cooldown):
            del self.cooling[ordinal]
            self.free.append(ordinal)


def attribute(handle):
    return blocks.holding(handle, {"pod": handle})


@settings(max_examples=60, deadline=None)
@given(steps)
def test_a_block_does_what_a_queue_and_a_dict_would_do(actions):
    ledger, naive, now = blocks.empty(CIDR, "host:n1", 1000.0), Naive(), 1000
    for action, one, two in actions:
        before = ledger
        if action == "take":
            ledger, chosen = blocks.take(ledger, one, attribute(two))
            assert chosen == naive.take(one, two)
        elif action == "ordinal":
            taken = blocks.take_ordinal(ledger, one, attribute(two))
            assert (taken is not None) == naive.ordinal(one, two)
            ledger = taken or ledger
        elif action in ("release", "handle"):
            ordinals = sorted(one) if action == "release" else blocks.held_by(ledger, one)
            ordinals = [o for o in ordinals if o in naive.held]
            ledger = blocks.release(ledger, ordinals, now, two)
            naive.release(ordinals, now, two)
        elif action == "renew":
            ordinals = blocks.held_by(ledger, one)
            ledger = blocks.renewed(ledger, ordinals, attribute(one)) if ordinals else ledger
        else:
            now += one
            ledger = blocks.settled(ledger, now, 30)
            naive.settle(now, 30)
        assert ledger is before or ledger.sequence > before.sequence
        assert list(ledger.unallocated) == naive.free
        assert {o: blocks.handle_of(a) for o, a in blocks.in_use(ledger)} == naive.held
        assert list(blocks.faults(ledger)) == []
        assert ledger.sequences.keys() >= naive.held.keys()
        assert blocks.is_empty(ledger) == (not naive.held and not naive.cooling)
        assert blocks.parse(json.loads(json.dumps(blocks.document(ledger)))) == ledger_with_envelope(ledger)


def ledger_with_envelope(ledger):
    return blocks.parse(blocks.document(ledger))


ordinal_like = st.one_of(st.none(), st.integers(-3, 20), st.just("x"))


@settings(max_examples=100, deadline=None)
@given(
    st.lists(ordinal_like, max_size=20),
    st.lists(st.integers(-3, 20), max_size=20),
    st.lists(st.one_of(st.just({"handle_id": "h", "secondary": {}}), st.just("garbage")), max_size=4),
)
def test_whatever_is_wrong_with_a_block_mending_it_frees_nothing_and_leaves_no_fault(
    allocations, unallocated, attributes
):
    spec = {"cidr": "10.0.0.0/28", "allocations": allocations, "unallocated": unallocated, "attributes": attributes}
    broken = blocks.parse_leniently({"spec": spec})

    mended = blocks.mended(broken)

    assert list(blocks.faults(mended)) == []
    assert all(mended.allocations[o] is not None for o, index in enumerate(allocations[:16]) if index is not None)


def test_a_block_written_by_calico_is_continued_and_its_own_fields_stay():
    document = {
        "metadata": {"name": "10-0-0-0-30", "uid": "u"},
        "spec": {
            "cidr": "10.0.0.0/30",
            "affinity": "host:n1",
            "allocations": [0, None, None, None],
            "unallocated": [2, 3, 1],
            "attributes": [{"handle_id": "h", "secondary": {"pod": "p"}, "alternateOwnerAttrs": {"vm": "x"}}],
            "sequenceNumber": 41,
            "sequenceNumberForAllocation": {"0": 40},
            "strictAffinity": False,
            "deleted": False,
        },
    }

    ledger, chosen = blocks.take(blocks.parse(document), 1, attribute("new"))
    written = blocks.document(ledger)

    assert chosen == (2,)
    assert written["metadata"]["uid"] == "u"
    assert written["spec"]["strictAffinity"] is False
    assert written["spec"]["attributes"][0]["alternateOwnerAttrs"] == {"vm": "x"}
    assert written["spec"]["sequenceNumberForAllocation"] == {"0": 40, "2": 41}
    assert written["spec"]["sequenceNumber"] == 42


@pytest.mark.parametrize(
    ("spec", "complaint"),
    [
        ({"cidr": "10.0.0.0/30", "allocations": [], "unallocated": []}, "must have 4 entries"),
        ({"cidr": "10.0.0.0/8", "allocations": [], "unallocated": []}, "between /20 and /32"),
        ({"cidr": "nonsense"}, "cannot be read"),
        ({}, "cannot be read"),
        ({"cidr": "10.0.0.0/30", "allocations": [None] * 4, "unallocated": [0, 1, 2]}, "neither allocated nor free"),
        ({"cidr": "10.0.0.0/30", "allocations": 7}, "cannot be read"),
    ],
)
def test_a_block_that_does_not_add_up_is_refused_in_words(spec, complaint):
    with pytest.raises(Corrupt, match=complaint) as error:
        blocks.parse({"metadata": {"name": "b"}, "spec": spec})
    assert "felixlite ipam check --fix" in str(error.value)


def test_a_clock_that_jumped_back_does_not_hold_an_address_for_ever():
    ledger, _ = blocks.take(blocks.empty(CIDR, "host:n1", 10_000.0), 1, attribute("a"))
    cooling = blocks.release(ledger, [0], 10_000.0, 30)

    assert 0 not in blocks.settled(cooling, 9_990.0, 30).unallocated
    assert 0 in blocks.settled(cooling, 1_000.0, 30).unallocated
