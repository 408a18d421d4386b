"""The same scenarios against BIRD, FRR and GoBGP."""

import os
import signal
from collections.abc import Iterator, Mapping
from typing import Any

import pytest

from felixlite.answers import DOCUMENTS
from felixlite.intake import Intake
from felixlite.plan import NodePlanner, Surroundings
from felixlite.snapshot import Snapshot, fold
from felixlite.tables import merged
from tests.support.speakers import KINDS, Wish, heard, start
from tests.support.speaking import Rack, rack

BLOCK = "10.42.0.0/26"
pytestmark = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture
def one() -> Iterator[Rack]:
    with rack("fb-r1") as it:
        yield it


@pytest.mark.parametrize("passive", [False, True])
def test_ttl_security_whoever_dials(one: Rack, kind: str, passive: bool) -> None:
    wish = Wish(kind, asn=65000, gtsm=True)
    start(one, wish)
    one.peer(wish.address, peer_as=65000, ttl_security=1, passive=passive)
    one.up(wish.address)


def test_a_passive_range_takes_who_connects_with_its_password_and_outlives_a_reload(one: Rack, kind: str) -> None:
    wish = Wish(kind, password="s3cret")
    router = start(one, wish)
    one.peer("10.99.0.64/26", password="s3cret", passive=True)
    one.announce("10.99.0.64/26", BLOCK)
    one.until(lambda: one.hops(wish.route) == [wish.address])
    one.until(lambda: heard(router, BLOCK))
    since = one.snapshot.sessions[wish.address].since
    one.peer("10.99.0.250")
    one.announce("10.99.0.64/26", "10.42.1.0/26")
    one.until(lambda: heard(router, "10.42.1.0/26"))
    assert (one.snapshot.sessions[wish.address].since, one.snapshot.sessions[wish.address].flaps) == (since, 0)
    one.speaker.peers.delete(["10.99.0.64/26"])
    one.until(lambda: not heard(router, BLOCK))


def test_our_restart_leaves_our_routes_at_the_router(one: Rack, kind: str) -> None:
    wish = Wish(kind, graceful=True)
    router = start(one, wish)
    one.peer(wish.address)
    one.announce(wish.address, BLOCK)
    one.until(lambda: heard(router, BLOCK))
    one.until(lambda: one.hops(wish.route) == [wish.address])
    child = one.speaker.child
    assert child is not None
    one.touched.clear()
    one.history.clear()
    os.kill(child.process.pid, signal.SIGKILL)
    missing = 0
    one.until(lambda: "announcements" in one.touched)
    one.speaker.peers.read()
    one.peer(wish.address)
    one.announce(wish.address, BLOCK)

    def back() -> bool:
        nonlocal missing
        missing += not heard(router, BLOCK)
        return one.state(wish.address) == "Established"

    one.until(back)
    one.until(
        lambda: (
            wish.address in one.speaker.sessions.sessions
            and not one.speaker.sessions.sessions[wish.address].owes_end_of_rib
        )
    )
    assert heard(router, BLOCK)
    assert missing == 0, "the router forgot our route while we were away"
    one.until(lambda: one.speaker.sessions.sessions[wish.address].stale_until is None)
    assert one.hops(wish.route) == [wish.address]
    assert not [change for change in one.history if getattr(change, "kind", "") == "learned"], "never gone here either"


def test_the_routers_crash_and_return_costs_none_of_its_routes(one: Rack, kind: str) -> None:
    wish = Wish(kind, graceful=True)
    router = start(one, wish)
    one.peer(wish.address)
    one.until(lambda: one.hops(wish.route) == [wish.address])
    one.up(wish.address)
    for pid in reversed(router.pids):
        os.kill(pid, signal.SIGKILL)
    one.until(lambda: one.state(wish.address) != "Established")
    assert one.hops(wish.route) == [wish.address]
    assert one.speaker.sessions.sessions[wish.address].stale_until is not None
    one.history.clear()
    one.speaker.planned()  # nothing to announce: our End-of-RIB, for which a router that restarts waits, is due
    start(one, wish, recovers=True)
    one.up(wish.address)
    one.until(lambda: one.speaker.sessions.sessions[wish.address].stale_until is None, 60)
    assert one.hops(wish.route) == [wish.address]
    assert not [change for change in one.history if getattr(change, "kind", "") == "learned"], (
        "never gone, not even once"
    )


def test_a_wrong_as_is_told_in_words(one: Rack, kind: str) -> None:
    wish = Wish(kind, asn=65000)
    start(one, wish)
    one.peer(wish.address, peer_as=65001)
    one.until(lambda: "wrong peer AS" in one.error(wish.address))


NODE = {"kind": "Node", "metadata": {"name": "n1"}, "spec": {"bgp": {"ipv4Address": "10.99.0.1/24", "asNumber": 64512}}}
RANGES = {
    "kind": "BGPConfiguration",
    "metadata": {"name": "default"},
    "spec": {
        "nodeToNodeMeshEnabled": False,
        "serviceClusterIPs": [{"cidr": "10.96.0.0/12"}],
        "serviceExternalIPs": [{"cidr": "198.51.100.0/24"}],
    },
}
SERVICE = {
    "kind": "Service",
    "metadata": {"name": "web", "namespace": "shop"},
    "spec": {
        "type": "LoadBalancer",
        "clusterIP": "10.96.0.10",
        "clusterIPs": ["10.96.0.10"],
        "externalIPs": ["198.51.100.5"],
        "externalTrafficPolicy": "Local",
    },
}
ENDPOINTS = {
    "kind": "EndpointSlice",
    "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
    "addressType": "IPv4",
    "endpoints": [{"addresses": ["10.42.0.9"], "nodeName": "n1", "conditions": {"ready": True}}],
    "ports": [{"port": 80}],
}
API = {"Service": "v1", "EndpointSlice": "discovery.k8s.io/v1"}


def test_addresses_of_services_reach_the_router_and_leave_it_with_the_last_endpoint(one: Rack, kind: str) -> None:
    """From the documents, through the planner, to what the router has."""
    wish = Wish(kind)
    router = start(one, wish)
    peer = {"kind": "BGPPeer", "metadata": {"name": "r"}, "spec": {"peerIP": wish.address, "asNumber": 64512}}
    intake, planner, snapshot = Intake("n1", DOCUMENTS), NodePlanner(Surroundings()), Snapshot("n1")

    def wanted(table: str, *documents: dict[str, Any], gone: bool = False) -> Mapping[Any, Any]:
        nonlocal snapshot
        for document in documents:
            about = document["metadata"]
            full = None if gone else {"apiVersion": API.get(document["kind"], "projectcalico.org/v3"), **document}
            changes = intake.changes((document["kind"], about["name"], about.get("namespace", "")), full)
            snapshot = fold(snapshot, changes)
        assert not snapshot.rejected
        return merged(planner(snapshot, 0.0).tables[table])

    assert one.speaker.peers.upsert(wanted("bgp peers", NODE, RANGES, peer)) == {}
    first = wanted("announcements", SERVICE, ENDPOINTS)
    assert one.speaker.announcements.upsert(first) == {}
    for prefix in ("10.96.0.0/12", "198.51.100.0/24", "10.96.0.10/32", "198.51.100.5/32"):
        one.until(lambda prefix=prefix: heard(router, prefix))
    left = wanted("announcements", ENDPOINTS, gone=True)
    assert one.speaker.announcements.delete(first.keys() - left.keys()) == {}
    for prefix in ("10.96.0.10/32", "198.51.100.5/32"):
        one.until(lambda prefix=prefix: not heard(router, prefix))
    assert heard(router, "10.96.0.0/12")
    assert heard(router, "198.51.100.0/24")
