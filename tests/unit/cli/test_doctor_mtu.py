"""`felixlite doctor mtu` over a store in memory, whose nodes answer as soon as they are asked."""

import pytest

from felixlite.cli.main import run
from felixlite.cli.session import Session
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key

API = "projectcalico.org/v3"


class Answering(MemoryStore):
    """`says` maps a node to what it finds; the others are silent."""

    def __init__(self):
        super().__init__()
        self.says: dict[str, list[str]] = {}

    def close(self):
        pass

    def update(self, key, document, revision):
        asked = (document.get("status") or {}).get("examine")
        if asked and key.name in self.says:
            found = [f"#{asked[0]}", *self.says[key.name]]
            document = {**document, "status": {**document["status"], "ways": found}}
        return super().update(key, document, revision)


@pytest.fixture
def store():
    made = Answering()
    for number, status in ((1, {"accepts": ["native"]}), (2, {"accepts": ["native"]}), (3, {})):
        spec = {"bgp": {"ipv4Address": f"10.0.1.{number}/24"}}
        metadata = {"name": f"n{number}"}
        document = {"apiVersion": API, "kind": "Node", "metadata": metadata, "spec": spec, "status": status}
        made.create(Key("Node", f"n{number}"), document)
    made.says = {"n1": ["n2 10.0.1.2 eth0 1500 1500"], "n2": ["n1 10.0.1.1 eth0 1500 1500"]}
    return made


def asked(store, capsys, *more):
    code = run(["doctor", "mtu", *more], Session(connect=lambda _: store, url="memory://"))
    captured = capsys.readouterr()
    assert not any("examine" in str(e.document) or "ways" in str(e.document) for e in store.list("Node").entries)
    return code, captured.out, captured.err


def test_all_pairs_of_those_that_can_answer_are_shown(store, capsys):
    code, out, _ = asked(store, capsys)

    assert code == 0
    assert "not asked, because no agent of felixlite publishes anything there: n3" in out
    assert [line.split() for line in out.splitlines()[2:]] == [
        ["n1", "n2", "10.0.1.2", "eth0", "1500", "all"],
        ["n2", "n1", "10.0.1.1", "eth0", "1500", "all"],
    ]


def test_a_narrow_way_is_told_with_its_hop_and_the_remedy(store, capsys):
    store.says["n2"] = ["n1 10.244.0.1 tunl0 1480 1380 10.0.1.254 says that they are too big for its MTU 1400"]

    code, out, _ = asked(store, capsys)

    assert code == 1
    assert out.endswith(
        "n2 -> n1 (10.244.0.1, tunl0): packets of 1480 bytes do not arrive, those of 1380 do:"
        " 10.0.1.254 says that they are too big for its MTU 1400.\n"
        "Raise the MTU there to 1480, or lower that of n2: FelixConfiguration ipipMTU: 1380\n"
    )


def test_who_does_not_answer_is_named(store, capsys):
    del store.says["n2"]

    code, out, error = asked(store, capsys, "--timeout", "0.1")

    assert code == 1
    assert "n1     n2" in out
    assert "nothing came from n2: is the agent there running?" in error
