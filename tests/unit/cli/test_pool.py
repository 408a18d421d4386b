"""`felixlite pool watch` over a store in memory."""

import pytest

from felixlite.cli.main import run
from felixlite.cli.session import Session
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key

API = "projectcalico.org/v3"


class Lasting(MemoryStore):
    def close(self):
        pass


@pytest.fixture
def store():
    made = Lasting()
    spec = {"cidr": "10.42.0.0/16", "ipipMode": "Never", "vxlanMode": "Always"}
    made.create(Key("IPPool", "p"), {"apiVersion": API, "kind": "IPPool", "metadata": {"name": "p"}, "spec": spec})
    return made


def add_node(store, name, **status):
    number = int(name[1:])
    document = {
        "apiVersion": API,
        "kind": "Node",
        "metadata": {"name": name},
        "spec": {"bgp": {"ipv4Address": f"192.168.50.{number}/24"}},
        "status": status,
    }
    store.create(Key("Node", name), document)


def watched(store, capsys, *more):
    code = run(["pool", "watch", "p", *more], Session(connect=lambda _: store, url="memory://"))
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_it_ends_when_every_node_has_moved(store, capsys):
    for name in ("n1", "n2"):
        add_node(store, name, accepts=["native", "vxlan"], sends=["vxlan"])

    code, out, _ = watched(store, capsys)

    assert code == 0
    assert out.splitlines()[0] == "pool p, 10.42.0.0/16: ipipMode Never, vxlanMode Always (vxlan)"
    assert out.splitlines()[-1] == "all 2 nodes have moved"


def test_it_says_who_is_still_on_the_way_and_why(store, capsys):
    add_node(store, "n1", accepts=["native", "vxlan"], sends=["vxlan", "ipip"])
    add_node(store, "n2", accepts=["native", "ipip"], sends=["ipip"])
    add_node(store, "n3")

    code, out, err = watched(store, capsys, "--timeout", "0")

    assert code == 1
    rows = [line.split("  ") for line in out.splitlines()[2:]]
    assert [[cell.strip() for cell in row if cell] for row in rows] == [
        ["n1", "yes", "ipip, vxlan", "on the way"],
        ["n2", "not yet", "ipip", "on the way"],
        ["n3", "does not say", "does not say", "done"],
    ]
    assert "after 0 s n1, n2 have not moved" in err


def test_a_pool_that_is_not_there_is_named(store, capsys):
    code, _, err = run(["pool", "watch", "q"], Session(connect=lambda _: store, url="memory://")), *capsys.readouterr()

    assert code == 1
    assert "there is no valid IPPool q" in err
