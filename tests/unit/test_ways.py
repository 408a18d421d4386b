"""How a question about the ways gets to the nodes and their answers back, on a store in memory."""

from felixlite import ways
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key
from felixlite.intake import Intake
from felixlite.model import fromkubernetes
from felixlite.model.parse import parse
from felixlite.snapshot import Put
from felixlite.ways import Way

NARROW = Way("n2", "fd00::2", "eth0", 1500, 1400, "fd00::1 says that they are too big for its MTU 1400")
WIDE = Way("n3", "10.0.0.3", "tunl0", 1480, 1480)


def node(name, **status):
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"bgp": {"ipv4Address": "10.0.0.1/24"}},
        "status": {"accepts": ["native"], **status},
    }


def store_of(*documents):
    store = MemoryStore()
    for document in documents:
        store.create(Key("Node", document["metadata"]["name"]), document)
    return store


def statuses(store):
    return {entry.key.name: entry.document["status"] for entry in store.list("Node").entries}


def test_a_way_is_read_as_it_was_written():
    for way in (NARROW, WIDE):
        assert Way.read(str(way)) == way


def test_every_node_is_asked_and_nothing_of_it_stays():
    store = store_of(node("n1"), node("n2"))

    ways.ask(store, ["n1", "n2"], "w1")
    assert statuses(store) == {name: {"accepts": ["native"], "examine": ["w1"]} for name in ("n1", "n2")}

    ways.forget(store, ["n1", "n2"])
    assert statuses(store) == {name: {"accepts": ["native"]} for name in ("n1", "n2")}


def test_only_an_answer_to_this_very_question_counts():
    answered = node("n1", examine=["w2"], ways=["#w2", str(NARROW), str(WIDE)])
    late = node("n2", examine=["w2"], ways=["#w1", str(NARROW)])
    found = ways.answers(store_of(answered, late, node("n3")).list("Node").entries, "w2")

    assert found == {"n1": [NARROW, WIDE]}


def test_what_was_answered_is_not_examined_again():
    """An agent that starts finds the question still there. (Without others there is nobody to send to.)"""
    store = store_of(node("n1", examine=["w1"]))

    assert ways.answer(store, "n1", "w1", [])
    assert statuses(store)["n1"]["ways"] == ["#w1"]
    assert not ways.answer(store, "n1", "w1", [])


def test_an_answer_that_nobody_waits_for_any_more_is_not_left_in_the_store():
    store = store_of(node("n1"))

    assert not ways.answer(store, "n1", "w1", [])
    assert statuses(store) == {"n1": {"accepts": ["native"]}}


def test_only_the_node_that_is_meant_hears_the_question_and_nobody_decides_anew_because_of_it():
    before, after = node("n2"), node("n2", examine=["w1"], ways=["#w1", str(NARROW)])

    here = Intake("n2").changes(("Node", "n2", ""), after)
    elsewhere = Intake("n1").changes(("Node", "n2", ""), after)

    assert Put("asked", "n2", "w1") in here
    assert elsewhere == [Put("nodes", "n2", parse(before).inside())]


def test_question_and_answer_are_annotations_in_kubernetes():
    written = fromkubernetes.node_annotations(node("n1", examine=["w1"], ways=["#w1", str(NARROW), str(WIDE)]))
    kubernetes = {"metadata": {"name": "n1", "annotations": {k: v for k, v in written.items() if v is not None}}}

    assert ways.answered(fromkubernetes.node(kubernetes), "w1") == [NARROW, WIDE]
