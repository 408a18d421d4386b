"""What a transaction of the nftables backend says: only what is new, and nothing that makes libnftables list the kernel's sets."""

from collections.abc import Mapping

from felixlite.addresses import Prefix
from felixlite.model.policy import Direction
from felixlite.policy import rows
from felixlite.policy.nftables import NftablesTable, Ruleset
from felixlite.policy.rows import Dispatch, IpSet, Key, Row


class Recorded(Ruleset):
    """Keeps every text and tells nobody: no library, no kernel."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def run(self, text: str) -> str:
        self.texts.append(text)
        return ""


def told(known: Mapping[Key, Row], wanted: Mapping[Key, Row]) -> list[str]:
    ruleset = Recorded()
    table = NftablesTable(4, ruleset)
    assert table.upsert(known) == {}
    assert table.upsert(wanted) == {}
    return ruleset.texts[-1].splitlines()


def test_members_without_intervals_come_with_the_declaration_of_their_set() -> None:
    key = Key("set", "s")
    one, two = Prefix.parse("10.0.0.1/32"), Prefix.parse("10.0.0.2/32")
    said = told({key: IpSet("ip", frozenset([one]))}, {key: IpSet("ip", frozenset([one, two]))})
    assert said == ["add set ip felixlite s { type ipv4_addr; elements = { 10.0.0.2 }; }"]


def test_members_with_intervals_are_added_to_what_libnftables_finds_there() -> None:
    key = Key("set", "s")
    one, two = Prefix.parse("10.1.0.0/16"), Prefix.parse("10.2.0.0/16")
    said = told({key: IpSet("net", frozenset([one]))}, {key: IpSet("net", frozenset([one, two]))})
    assert said == ["add element ip felixlite s { 10.2.0.0/16 }"]


def test_a_pod_comes_into_the_dispatch_with_its_declaration() -> None:
    key = rows.FROM_WORKLOADS
    before, after = frozenset([("cali1", "fw-1")]), frozenset([("cali1", "fw-1"), ("cali2", "fw-2")])
    said = told({key: Dispatch(Direction.EGRESS, before)}, {key: Dispatch(Direction.EGRESS, after)})
    assert said[-1] == (
        'add map ip felixlite from-workload { type ifname : verdict; elements = { "cali2" : goto fw-2 }; }'
    )
    assert not any(line.startswith("add element") for line in said)
