"""A node's sign of life: what it says, when it says nothing, what the whole cluster's look like, and whose is removed."""

import threading
import time
from datetime import timedelta

import pytest

from felixlite import heartbeat
from felixlite.cli.cluster_status import cells, cluster
from felixlite.controllers.departed import Departed
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key
from felixlite.errors import Unreachable
from felixlite.heartbeat import Heartbeat, Pace, sign, signs

PACE = Pace(30.0, 90.0)
API = {"apiVersion": "projectcalico.org/v3"}


def node(name, number):
    spec = {"bgp": {"ipv4Address": f"192.0.2.{number}/24"}}
    status = {"accepts": ["ipip"], "sends": ["ipip"]}
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Node",
        "metadata": {"name": name},
        "spec": spec,
        "status": status,
    }


@pytest.fixture
def store():
    found = MemoryStore()
    for number, name in enumerate(("n1", "n2", "n3"), 1):
        found.create(Key("Node", name), node(name, number))
    return found


def heart(store, name, *, answers=True):
    return Heartbeat(store, name, lambda: PACE, lambda: answers)


def beaten(store, name, not_ready=""):
    one = heart(store, name)
    one.hear(not_ready)
    one.beat(PACE)
    return signs(store)[name]


def rows(store, now):
    return {row["node"]: row for row in cluster(store, now)}


def test_a_beat_says_when_and_for_how_long_and_that_the_node_is_not_ready(store):
    first = beaten(store, "n1", "routes: no such device")
    second = beaten(store, "n1")

    assert second.at >= first.at
    assert (first.lasts, first.not_ready, second.not_ready) == (90.0, "routes: no such device", "")


def test_a_core_that_does_not_answer_is_not_alive(store):
    heart(store, "n1", answers=False).beat(PACE)

    assert signs(store) == {}


def test_a_store_that_refuses_is_an_error_until_it_takes_the_next_beat(store):
    class Away(MemoryStore):
        away = True

        def get(self, key):
            if self.away:
                raise Unreachable("nobody answers")
            return super().get(key)

    one = heart(kept := Away(), "n1")
    one.beat(PACE)
    assert one.error == "nobody answers"

    kept.away = False
    one.beat(PACE)
    assert (one.error, list(signs(kept))) == ("", ["n1"])


def test_the_cluster_tells_the_living_from_the_silent_and_from_those_that_say_nothing(store):
    beaten(store, "n1")
    seen = beaten(store, "n2", "waits for the store").at

    early, late = rows(store, seen + timedelta(seconds=5)), rows(store, seen + timedelta(minutes=3))

    assert [early[name]["agent"] for name in ("n1", "n2", "n3")] == ["ready", "not ready", "unknown"]
    assert early["n2"]["problems"] == ["not ready: waits for the store"]
    assert early["n1"]["problems"] == early["n3"]["problems"] == []
    assert late["n1"]["agent"] == "silent"
    assert late["n1"]["problems"][0].startswith("its agent was last seen 3m")
    assert cells(early["n3"])[3:6] == ("unknown", "-", "-")


def test_a_clock_that_is_behind_makes_nobody_silent(store):
    seen = beaten(store, "n1").at

    assert rows(store, seen - timedelta(seconds=40))["n1"]["agent"] == "ready"


def test_a_node_without_an_as_number_has_that_of_the_cluster(store):
    beaten(store, "n1")
    seen = beaten(store, "n2").at
    store.create(
        Key("BGPConfiguration", "default"),
        {**API, "kind": "BGPConfiguration", "metadata": {"name": "default"}, "spec": {"asNumber": 65001}},
    )

    assert {row["as"] for row in rows(store, seen).values()} == {65001}


@pytest.mark.parametrize("spec", [{}, {"renewTime": "yesterday", "leaseDurationSeconds": 1}, {"renewTime": None}])
def test_what_is_not_a_sign_of_life_is_none(spec):
    assert sign({"spec": spec}) is None


def test_the_sign_of_a_node_that_is_gone_is_removed_and_no_other_lease(store):
    beaten(store, "n1")
    beaten(store, "n2")
    store.create(Key("Lease", "n1", "kube-node-lease"), {"kind": "Lease", "spec": {}})
    store.delete(Key("Node", "n1"))

    (event,) = Departed(store).once(lambda: True)

    assert (event.code, list(signs(store))) == ("sign-removed", ["n2"])
    assert store.get(Key("Lease", "n1", "kube-node-lease"))


def test_a_controller_that_lost_its_lease_removes_nothing(store):
    beaten(store, "n1")
    store.delete(Key("Node", "n1"))

    assert list(Departed(store).once(lambda: False)) == []
    assert list(signs(store)) == ["n1"]


def test_the_heart_beats_again_when_something_is_new_and_ends_when_told_to(store, monkeypatch):
    monkeypatch.setattr(heartbeat, "SPACED", 0.01)
    one = heart(store, "n1")
    thread = threading.Thread(target=one.run)
    thread.start()
    for why in ("later", ""):
        one.hear(why)
        deadline = time.monotonic() + 60
        while signs(store).get("n1") is None or signs(store)["n1"].not_ready != why:
            assert time.monotonic() < deadline, "nothing new was written"
            time.sleep(0.01)
    one.stop()
    thread.join(60)

    assert not thread.is_alive()
