"""What people are told of BGP, as values and as text."""

from dataclasses import replace
from ipaddress import IPv4Interface
from itertools import pairwise

import pytest

from felixlite.addresses import Prefix
from felixlite.bgp.announcing import Candidate, Speech
from felixlite.bgp.rows import Announcement, AnnouncementKey
from felixlite.bgp.sessions import Sessions
from felixlite.bgp.tell import Known, answer, news
from felixlite.bgp.wire import Down, Received
from felixlite.cli.bgp import status_text, why_text
from felixlite.cli.table import lasted
from felixlite.errors import FelixliteError
from felixlite.model.inside import BgpConfiguration, Node, Pool
from felixlite.snapshot import SessionState
from tests.unit.bgp.test_sessions import END_OF_RIB, ROW, A, B, P, come_up, update

BLOCK = Prefix.parse("10.42.0.0/26")
TOLD = {AnnouncementKey(A, BLOCK): Announcement(as_path=(1, 2), communities=("1:2",))}
HERE = Node("n1", ipv4=IPv4Interface("10.0.0.1/24"))


@pytest.fixture
def known() -> Known:
    it = Sessions()
    rows = {A: ROW, B: replace(ROW, kind="global", name="tor", peer_as=65000)}
    it.want(rows, 1000.0)
    come_up(it, now=1000.0)
    it.heard(Received(A, update(P)), 1000.0)
    it.heard(Received(A, END_OF_RIB), 1000.0)
    it.heard(Down(B, "sent: OPEN refused: wrong peer AS"), 1000.0)
    it.changes()
    speech = Speech(HERE, (Pool("p", Prefix.parse("10.42.0.0/16")),), BgpConfiguration(), rows)
    return Known(it, TOLD, speech, {BLOCK: Candidate(BLOCK, "block")})


def test_the_status_is_the_table_that_people_know(known: Known) -> None:
    text = status_text(answer(known, "peers", ""), 1000.0 + 3 * 3600 + 62)
    lines = [" ".join(line.split()) for line in text.splitlines()]
    assert lines[:4] == [
        "felixlite process is running.",
        "",
        "IPv4 BGP status",
        "PEER ADDRESS PEER TYPE STATE SINCE UP-TIME IN OUT INFO",
    ]
    assert lines[4].endswith("3h1m 1 1 Established")
    assert lines[4].startswith("10.0.0.11 node-to-node mesh up ")
    assert lines[5].endswith("- 0 0 Idle sent: OPEN refused: wrong peer AS")
    assert lines[-1] == "No IPv6 peers found."


def test_routes_received_and_advertised(known: Known) -> None:
    assert answer(known, "routes", "") == [{"prefix": "172.20.0.0/24", "hops": ["10.0.0.2"], "from": [A], "ibgp": True}]
    assert [(r["prefix"], r["refused"], r["stale"]) for r in answer(known, "received", A)] == [(str(P), "", False)]
    assert answer(known, "received", "10.9.9.9") == []
    assert [(r["prefix"], r["as_path"]) for r in answer(known, "advertised", A)] == [("10.42.0.0/26", "1 2")]


def test_why_says_both_how_it_was_heard_and_how_it_is_told(known: Known) -> None:
    assert why_text("172.20.0.0/24", answer(known, "why", "172.20.0.0/24")).splitlines() == [
        "172.20.0.0/24, as we heard it:",
        "-> 10.0.0.11 says via 10.0.0.2: the only usable path",
        "As we tell it:",
        "   10.0.0.11: no, it was learned by iBGP, and this node is no route reflector",
        "   10.0.0.12: no, it was learned by iBGP, and this node is no route reflector",
    ]
    told = why_text("10.42.0.0/26", answer(known, "why", "10.42.0.0/26")).splitlines()
    assert told[1] == "   no peer told of it"
    assert told[3] == "-> 10.0.0.11: yes, it is a block of this node"
    unknown = answer(known, "why", "9.9.9.0/24")
    assert {one["told"] for one in unknown["peers"]} == {False}


def test_a_wrong_question_is_answered_in_words(known: Known) -> None:
    with pytest.raises(FelixliteError, match="is no question"):
        answer(known, "weather", "")
    with pytest.raises(FelixliteError, match="is not an IP prefix"):
        answer(known, "why", "here")


def test_times_are_short() -> None:
    assert [lasted(s) for s in (6, 306, 14700, 273600)] == ["6s", "5m6s", "4h5m", "3d4h"]


def test_the_log_hears_of_each_change_once_and_why() -> None:
    down = SessionState("Idle", 0.0, error="cannot connect to port 179: Connection refused")
    up = SessionState("Established", 1.0, peer_as=65000)
    lost = SessionState("Idle", 2.0, error="hold timer expired", peer_as=65000, flaps=1)
    states = [{}, {A: down}, {A: replace(down, state="Connect")}, {A: up}, {A: up}, {A: lost}, {}]
    told = [one.sentence for before, now in pairwise(states) for one in news(before, now)]
    assert told == [
        f"no session with {A}: cannot connect to port 179: Connection refused",
        f"session with {A} (AS 65000) is established",
        f"session with {A} is lost: hold timer expired",
        f"session with {A} is no longer wanted",
    ]
    (again,) = news({A: up}, {A: replace(up, flaps=1, since=9.0)})
    assert not again.bad
