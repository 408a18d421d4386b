"""The agent hears of others who touch its rules, on every backend, and not of itself."""

import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import ExitStack, suppress
from pathlib import Path
from queue import Empty, Queue

import pytest

from felixlite.policy import ipset, xtables
from felixlite.policy.backend import PolicyTable
from felixlite.policy.nftables import NftablesTable
from felixlite.policy.plan import Planner
from felixlite.policy.rows import ANYWHERE, IpSet, Key, Match, PolicyChain, Row, Rule, Side, chained
from felixlite.policy.watch import LegacyEvents, NftablesEvents
from felixlite.tables import merged
from tests.support.cni import eventually
from tests.support.netns import Namespace, namespace
from tests.unit.policy.world import inputs, pod, rule

ROWS = merged(Planner()(inputs([pod("a", "10.65.0.1")])).tables["policy/4"])
(OWN,) = (key for key in ROWS if key.kind == "endpoint" and key.name.startswith("tw-"))


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


class Legacy:
    """A table in legacy iptables that is in force, and what is heard of it."""

    def __init__(self, node: Namespace) -> None:
        self.node, self.table = node, PolicyTable(4, "legacy")
        self.heard: list[str] = []
        self.events = LegacyEvents(self.heard.append, [self.table])
        node.run(self.table.read)
        assert not self.write(ROWS)

    def write(self, rows: Mapping[Key, Row]) -> Mapping[Key, Exception]:
        return self.node.run(self.table.upsert, rows)

    def looked(self) -> list[str]:
        for _ in range(2):
            self.node.run(self.events.look)
        return self.heard

    def broken_under_the_lock(self) -> None:
        """By somebody who holds the lock."""
        self.node.command("env", f"XTABLES_LOCKFILE={xtables.NO_LOCK}", "iptables-legacy", "-F", "FORWARD")


@pytest.fixture
def legacy() -> Iterator[Legacy]:
    with namespace("fp") as node:
        yield Legacy(node)


def test_what_others_did_to_legacy_tables_is_seen_though_we_write_before_anybody_looks(legacy: Legacy) -> None:
    legacy.node.command("iptables-legacy", "-F", "FORWARD")
    assert not legacy.write({OWN: ROWS[OWN]})
    assert legacy.looked() == ["policy/4"]


@pytest.mark.parametrize("patience", [0.5, 60])
def test_what_the_holder_of_the_lock_did_while_we_waited_for_it_is_seen(
    legacy: Legacy, monkeypatch: pytest.MonkeyPatch, patience: float
) -> None:
    """Whether we gave up waiting or got it."""
    failed: list[Collection[Key]] = []
    writing = threading.Thread(target=lambda: failed.append(legacy.write({OWN: ROWS[OWN]}).keys()))
    with xtables.locked():
        monkeypatch.setattr(xtables, "PATIENCE", patience)
        writing.start()
        eventually(lambda: waits_for_the_lock() or not writing.is_alive(), 30)
        legacy.broken_under_the_lock()
        if patience < 1:
            writing.join()
    writing.join()
    assert failed == [{OWN} if patience < 1 else set()]
    assert legacy.looked() == ["policy/4"]


def waits_for_the_lock() -> bool:
    """Beside this test, which has it open once."""
    found = 0
    for process in ("self", *ipset.started):
        with suppress(OSError):
            for descriptor in Path(f"/proc/{process}/fd").iterdir():
                with suppress(OSError):
                    found += descriptor.readlink() == Path(xtables.LOCK)
    return found > 1


def test_what_others_did_is_seen_though_we_read_when_a_row_was_refused(legacy: Legacy) -> None:
    """Who asked us to write has not heard what we found."""
    missing_set = Match(source=Side(sets=("s-nobody",)), destination=ANYWHERE)
    bad = Key("policy", "pi-bad")
    legacy.node.command("iptables-legacy", "-F", "FORWARD")
    assert legacy.write({bad: chained(PolicyChain("bad", (Rule(missing_set, rule().action),)))}).keys() == {bad}
    assert legacy.looked() == ["policy/4"]


def test_a_set_does_not_wait_for_the_lock(legacy: Legacy) -> None:
    sets = {key: row for key, row in ROWS.items() if isinstance(row, IpSet)}
    with xtables.locked():
        assert sets
        assert not legacy.write({key: IpSet(row.kind) for key, row in sets.items()})
