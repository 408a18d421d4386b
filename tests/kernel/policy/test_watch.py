"""The agent hears of others who touch its rules, on every backend, and not of itself."""

import threading
from contextlib import ExitStack
from queue import Empty, Queue

import pytest

from felixlite.policy.backend import PolicyTable
from felixlite.policy.nftables import NftablesTable
from felixlite.policy.plan import Planner
from felixlite.policy.watch import LegacyEvents, NftablesEvents
from felixlite.tables import merged
from tests.support.netns import Namespace, namespace
from tests.unit.policy.world import inputs, pod

ROWS = merged(Planner()(inputs([pod("a", "10.65.0.1")])).tables["policy/4"])


def listening(node: Namespace, heard: Queue[str], closing: ExitStack) -> None:
    events = node.run(NftablesEvents, heard.put)
    closing.callback(events.close)
    thread = threading.Thread(target=events.run)
    closing.callback(thread.join)
    closing.callback(events.stop)
    thread.start()


def test_only_what_others_do_to_our_table_is_heard() -> None:
    with namespace("fp") as node, ExitStack() as closing:
        heard: Queue[str] = Queue()
        listening(node, heard, closing)
        table = node.run(NftablesTable, 4)
        table.read()
        assert not table.upsert(ROWS)
        node.command("nft", "add", "table", "ip", "somebodys")
        with pytest.raises(Empty):
            heard.get(timeout=0.3)
        node.command("nft", "flush", "chain", "ip", "felixlite", "deny")
        assert heard.get(timeout=5) == "policy/4"
        assert table.read() != ROWS
        assert not table.upsert(ROWS)
        assert table.read() == ROWS


def test_what_others_do_to_the_table_of_the_fast_path_is_heard() -> None:
    with namespace("fp") as node, ExitStack() as closing:
        heard: Queue[str] = Queue()
        listening(node, heard, closing)
        node.command("nft", "add", "table", "inet", "felixlite")  # not ours: ours are ip and ip6
        node.command("nft", "add", "table", "inet", "felixlite-flows")
        assert heard.get(timeout=5) == "fast path"
        assert heard.empty()


BY_OTHERS = ["-F fl-deny", "-I FORWARD 1 -s 192.0.2.77 -j ACCEPT", "-F"]


@pytest.mark.parametrize("change", BY_OTHERS)
def test_what_others_do_to_our_chains_in_the_nft_flavour_is_heard(change: str) -> None:
    with namespace("fp") as node, ExitStack() as closing:
        heard: Queue[str] = Queue()
        listening(node, heard, closing)
        table = PolicyTable(4, "nft")
        node.run(table.read)
        assert not node.run(table.upsert, ROWS)
        node.command("iptables-nft", "-N", "THEIRS")
        node.command("iptables-nft", "-A", "THEIRS", "-j", "ACCEPT")
        with pytest.raises(Empty):
            heard.get(timeout=0.3)
        node.command("iptables-nft", *change.split())
        assert heard.get(timeout=10) == "policy/4"
        assert node.run(table.read) != ROWS


@pytest.mark.parametrize("change", BY_OTHERS)
def test_what_others_do_to_legacy_tables_is_seen(change: str) -> None:
    with namespace("fp") as node:
        heard: list[str] = []
        table = PolicyTable(4, "legacy")
        events = LegacyEvents(heard.append, [table, PolicyTable(6, "nftables")])
        node.run(table.read)
        assert not node.run(table.upsert, ROWS)
        for _ in range(3):
            node.run(events.look)
        assert heard == []
        node.command("iptables-legacy", *change.split())
        node.run(events.look)
        assert heard == []  # it may be our own, not noted yet
        node.run(events.look)
        assert heard == ["policy/4"]
        assert node.run(table.read) != ROWS
        assert not node.run(table.upsert, ROWS)
        for _ in range(3):
            node.run(events.look)
        assert heard == ["policy/4"]


def test_what_others_did_to_legacy_tables_is_seen_though_we_write_before_anybody_looks() -> None:
    (own,) = (key for key in ROWS if key.kind == "endpoint" and key.name.startswith("tw-"))
    with namespace("fp") as node:
        heard: list[str] = []
        table = PolicyTable(4, "legacy")
        events = LegacyEvents(heard.append, [table])
        node.run(table.read)
        assert not node.run(table.upsert, ROWS)
        node.command("iptables-legacy", "-F", "FORWARD")
        assert not node.run(table.upsert, {own: ROWS[own]})
        for _ in range(2):
            node.run(events.look)
        assert heard == ["policy/4"]
