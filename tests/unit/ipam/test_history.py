"""The judge of histories must itself be right: it is shown histories with a known verdict."""

import json

import pytest

from felixlite.addresses import Prefix
from felixlite.datastore.memory import MemoryStore
from felixlite.ipam import blocks, documents
from tests.support.history import NEVER, Hold, Span, unordered, verdict

ADDRESS = "10.0.0.0/32"


def hold(name, taken, freed=None):
    return Hold(name, Span(*taken), Span(*freed) if freed else NEVER)


@pytest.mark.parametrize(
    ("holds", "wrong"),
    [
        ([hold("a", (0, 1), (2, 3)), hold("b", (4, 5))], False),
        ([hold("a", (0, 1)), hold("b", (4, 5))], True),  # a never gave it back
        ([hold("a", (0, 1), (2, 9)), hold("b", (3, 4))], False),  # freed early within its call
        ([hold("a", (0, 1), (5, 9)), hold("b", (3, 4))], True),  # b was told before the release began
        ([hold("a", (0, 10), (11, 12)), hold("b", (0, 2), (3, 4))], False),  # b came first
        ([hold("a", (0, 10), (11, 12)), hold("b", (0, 2), (13, 14))], True),
        ([hold("a", (0, 9), (0, 9)), hold("b", (0, 9), (0, 9)), hold("c", (0, 9))], False),
    ],
)
def test_an_address_has_one_holder_at_a_time(holds, wrong):
    assert unordered(holds) is wrong
    assert unordered(holds[::-1]) is wrong


class Story:
    def __init__(self, folder):
        self.file, self.store, self.now = folder / "w0.jsonl", MemoryStore(), 0

    def tell(self, **said):
        self.now += 1
        with self.file.open("a") as log:
            log.write(json.dumps({"at": self.now, **said}) + "\n")

    def assign(self, handle, fate="keep"):
        self.tell(begin="assign", handle=handle, fate=fate)
        self.tell(end="assign", handle=handle, addresses=[ADDRESS])

    def call(self, what, handle, addresses=(ADDRESS,)):
        self.tell(begin=what, handle=handle, addresses=list(addresses))
        self.tell(end=what, handle=handle, addresses=list(addresses))

    def stored(self, *handles):
        ledger = blocks.empty(Prefix.parse("10.0.0.0/28"), "host:n1", 0)
        for handle in handles:
            ledger, _ = blocks.take(ledger, 1, blocks.holding(handle, {}))
        self.store.create(documents.block_key(ledger.cidr), blocks.document(ledger))

    def wrong(self):
        return verdict(self.file.parent, self.store)[1]


@pytest.fixture
def story(tmp_path):
    return Story(tmp_path)


def test_a_story_that_is_in_order_has_nothing_wrong(story):
    story.assign("a")
    story.call("release", "a")
    story.assign("b", fate="leak")
    story.call("collect", "b")
    story.assign("c")
    story.stored("c")

    assert story.wrong() == []


def test_a_release_that_frees_less_than_was_held_is_wrong(story):
    story.assign("a")
    story.call("release", "a", addresses=())
    story.stored()

    assert "its release freed []" in story.wrong()[0]


def test_collecting_from_the_living_is_wrong(story):
    story.assign("a")
    story.call("collect", "a")
    story.stored()

    assert "which lives" in story.wrong()[0]


def test_a_store_that_forgot_a_holder_or_remembers_a_former_one_is_wrong(story):
    story.assign("a")
    story.call("release", "a")
    story.assign("b")
    story.stored("a")

    assert len(story.wrong()) == 2


def test_what_a_release_found_was_held_though_nobody_heard_of_it(story):
    story.assign("a")
    story.tell(begin="assign", handle="x", fate="after")
    story.call("release", "x")
    story.stored("a")

    assert "was held twice" in story.wrong()[0]


def test_an_assignment_that_nobody_heard_the_end_of_may_or_may_not_have_happened(story):
    story.tell(begin="assign", handle="x", fate="after")
    story.stored("x")

    assert story.wrong() == []
