"""CalicoNodeStatus: filled for whom it asks, when it asks, with what the node knows."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv6Address

import pytest

from felixlite.addresses import Prefix
from felixlite.bgp import report as reports
from felixlite.bgp.report import Engine, View, peers_in, report, routes_in
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key
from felixlite.errors import Unreachable
from felixlite.intake import Intake
from felixlite.model.inside import StatusRequest
from felixlite.model.parse import parse
from felixlite.nodereports import NodeReports
from felixlite.snapshot import Learned

P = Prefix.parse
HOP = IPv4Address("10.0.0.9")
ENGINE = Engine(True, "exabgp 5.0.15", "10.0.0.1", 1_000_000_000.0, 1_000_000_100.0)
PEERS = [
    {"peer": "10.0.0.9", "type": "node-to-node mesh", "state": "Established", "since": 1_000_000_200.0},
    {"peer": "10.0.0.8", "type": "global", "state": "Active", "since": 1_000_000_300.0},
    {"peer": "fd00::9", "type": "node specific", "state": "Established", "since": 1_000_000_400.0},
]
LEARNED = {P("10.2.0.0/26"): Learned((HOP,), ("10.0.0.9",)), P("10.3.0.0/26"): Learned((HOP,), ("10.0.0.8",))}
VIEW = View(
    ENGINE, (4,), PEERS, {P("10.1.0.0/26")}, LEARNED, {"eth0": [P("10.0.0.0/24")]}, lambda p: p != P("10.3.0.0/26")
)


def request(*classes, node="n1", period=10):
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "CalicoNodeStatus",
        "metadata": {"name": "ask"},
        "spec": {"node": node, "classes": list(classes), "updatePeriodSeconds": period},
    }


def test_a_report_is_what_the_resource_may_hold_and_says_what_the_node_knows():
    found = report(["Agent", "BGP", "Routes"], VIEW, 1_000_000_500.0)

    parse({**request("Agent", "BGP", "Routes"), "status": found})
    assert found["lastUpdated"] == "2001-09-09T01:55:00Z"
    assert found["agent"]["birdV4"]["state"] == "Ready"
    assert found["agent"]["birdV4"]["lastBootTime"] == "2001-09-09T01:46:40Z"
    assert (found["bgp"]["numberEstablishedV4"], found["bgp"]["numberNotEstablishedV4"]) == (1, 1)
    assert [peer["type"] for peer in found["bgp"]["peersV4"]] == ["NodeMesh", "GlobalPeer"]
    assert found["routes"]["routesV4"] == [
        {
            "type": "FIB",
            "destination": "10.1.0.0/26",
            "gateway": "N/A",
            "interface": "blackhole",
            "learnedFrom": {"sourceType": "Static"},
        },
        {
            "type": "FIB",
            "destination": "10.2.0.0/26",
            "gateway": "10.0.0.9",
            "interface": "eth0",
            "learnedFrom": {"sourceType": "NodeMesh", "peerIP": "10.0.0.9"},
        },
        {
            "type": "RIB",
            "destination": "10.3.0.0/26",
            "gateway": "10.0.0.9",
            "interface": "eth0",
            "learnedFrom": {"sourceType": "BGPPeer", "peerIP": "10.0.0.8"},
        },
    ]


def test_only_what_was_asked_for_is_told():
    assert report(["BGP"], VIEW, 1.0).keys() == {"lastUpdated", "bgp"}
    assert report([], VIEW, 1.0).keys() == {"lastUpdated"}


def test_a_full_table_does_not_fit_into_a_document(monkeypatch):
    monkeypatch.setattr(reports, "MOST_ROUTES", 2)
    assert len(report(["Routes"], VIEW, 1.0)["routes"]["routesV4"]) == 2


def test_the_sessions_of_a_report_read_back():
    found = peers_in(report(["BGP"], VIEW, 1.0))
    assert [(peer["peer"], peer["type"], peer["state"]) for peer in found] == [
        (peer["peer"], peer["type"], peer["state"]) for peer in PEERS
    ]


def test_the_learned_routes_of_a_report_read_back_with_all_their_next_hops():
    shared = Learned((HOP, IPv4Address("10.0.0.8")), ("10.0.0.9", "10.0.0.8"))
    six = Learned((IPv6Address("fd00::9"),), ("fd00::9",))
    view = replace(VIEW, learned={**LEARNED, P("10.2.0.0/26"): shared, P("fd01::/64"): six})

    assert routes_in(report(["Routes"], view, 1.0)) == [
        {
            "prefix": "10.2.0.0/26",
            "hops": ["10.0.0.9", "10.0.0.8"],
            "from": ["10.0.0.9", "10.0.0.8"],
            "in_kernel": True,
        },
        {"prefix": "10.3.0.0/26", "hops": ["10.0.0.9"], "from": ["10.0.0.8"], "in_kernel": False},
        {"prefix": "fd01::/64", "hops": ["fd00::9"], "from": ["fd00::9"], "in_kernel": True},
    ]


def test_a_request_for_another_node_is_none_of_ours():
    assert Intake("n1").changes(("CalicoNodeStatus", "ask", ""), request("BGP", node="n2")) == []
    (put,) = Intake("n1").changes(("CalicoNodeStatus", "ask", ""), request("BGP"))
    assert put.value == StatusRequest("n1", frozenset({"BGP"}), 10)


class World:
    def __init__(self, store):
        self.store, self.now = store, 1000.0
        self.asked = {"ask": StatusRequest("n1", frozenset({"BGP"}), 10)}
        self.reports = NodeReports(store, lambda: self.asked, lambda: VIEW, lambda: self.now)

    def told(self):
        self.reports.once()
        entry = self.store.get(Key("CalicoNodeStatus", "ask"))
        return (entry.document.get("status") or {}).get("lastUpdated")


@pytest.fixture
def asked():
    store = MemoryStore()
    store.create(Key("CalicoNodeStatus", "ask"), request("BGP"))
    return World(store)


def test_it_is_written_at_once_and_then_once_a_period(asked):
    first = asked.told()
    asked.now += 9
    assert asked.told() == first
    asked.now += 1
    assert asked.told() != first


def test_a_clock_that_was_set_back_does_not_end_the_reports(asked):
    first = asked.told()
    asked.now -= 500
    assert asked.told() != first


def test_whoever_asks_for_more_gets_it_at_once_and_a_period_of_zero_ends_it(asked):
    first = asked.told()
    asked.now += 1
    asked.asked["ask"] = StatusRequest("n1", frozenset({"BGP", "Agent"}), 10)
    second = asked.told()
    assert second != first
    asked.now += 100
    asked.asked["ask"] = StatusRequest("n1", frozenset({"BGP"}), 0)
    assert asked.told() == second


def test_a_request_that_is_deleted_meanwhile_is_no_fault(asked):
    asked.asked["gone"] = StatusRequest("n1", frozenset({"BGP"}), 10)
    assert asked.told()
    assert asked.reports.error == ""


class Away(MemoryStore):
    away = True

    def update(self, key, document, revision):
        if self.away:
            raise Unreachable("etcd is away")
        return super().update(key, document, revision)


def test_a_store_that_is_away_is_named_and_tried_again():
    store = Away()
    store.create(Key("CalicoNodeStatus", "ask"), request("BGP"))
    asked = World(store)
    assert asked.told() is None
    assert "CalicoNodeStatus ask" in asked.reports.error
    store.away = False
    assert asked.told()
    assert asked.reports.error == ""
