"""The agent hears of others who touch its nftables table, and not of itself."""

import threading
from queue import Empty, Queue

import pytest

from felixlite.policy.nftables import NftablesTable
from felixlite.policy.plan import Planner
from felixlite.policy.watch import NftablesEvents
from felixlite.reconcile import merged
from tests.support.netns import namespace
from tests.unit.policy.world import inputs, pod

ROWS = merged(Planner()(inputs([pod("a", "10.65.0.1")])).tables["policy/4"])


def test_only_what_others_do_to_our_table_is_heard() -> None:
    with namespace("fp") as node:
        heard: Queue[str] = Queue()
        events = node.run(NftablesEvents, heard.put)
        threading.Thread(target=events.run, daemon=True).start()
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
