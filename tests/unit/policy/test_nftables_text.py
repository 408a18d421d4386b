"""What the rows are in nftables' words: texts that a person would type."""

import pytest

from felixlite.model.policy import ICMP, SCTP, TCP, UDP, Action, Direction, Icmp, PolicyRule
from felixlite.policy import rows
from felixlite.policy.lowering import Wanted, lowered
from felixlite.policy.nftables_match import match_text
from felixlite.policy.nftables_text import RENDERING, Spelling
from tests.unit.policy.world import entity, rule


def spelled(one: PolicyRule, family: int = 4) -> list[str]:
    def named(wanted: Wanted) -> str:
        return type(wanted).__name__.lower()

    return [match_text(match, family) for match in lowered(one, "", family, named)]


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (rule(), ""),
        (rule(protocol=TCP), "meta l4proto tcp"),
        (rule(protocol=47), "meta l4proto 47"),
        (rule(not_protocol=UDP), "meta l4proto != udp"),
        (rule(protocol=TCP, destination=entity(ports="80")), "tcp dport 80"),
        (rule(protocol=UDP, destination=entity(ports="53 8000:8080")), "udp dport { 53, 8000-8080 }"),
        (rule(protocol=SCTP, source=entity(ports="7")), "sctp sport 7"),
        (rule(protocol=TCP, destination=entity(ports="1:10 5:20 21")), "tcp dport 1-21"),
        (rule(protocol=TCP, destination=entity(not_ports="80")), "tcp dport != 80"),
        (
            rule(protocol=TCP, source=entity(not_ports="80"), destination=entity(not_ports="81")),
            "tcp sport != 80 meta l4proto . th dport != { tcp . 81 }",
        ),
        (rule(protocol=ICMP, icmp=Icmp(8)), "icmp type 8"),
        (rule(protocol=ICMP, icmp=Icmp(3, 4)), "icmp type 3 icmp code 4"),
        (rule(protocol=ICMP, not_icmp=Icmp(8)), "meta l4proto icmp icmp type != 8"),
        (rule(protocol=ICMP, not_icmp=Icmp(3, 1)), "meta l4proto icmp @th,0,16 != 0x0301"),
        (rule(source=entity(nets="10.0.0.0/8")), "ip saddr 10.0.0.0/8"),
        (rule(source=entity(nets="10.0.0.0/8 10.1.0.0/16 11.0.0.1")), "ip saddr { 10.0.0.0/8, 11.0.0.1 }"),
        (rule(destination=entity(not_nets="10.0.0.0/8")), "ip daddr != 10.0.0.0/8"),
        (rule(destination=entity(nets="0.0.0.0/0")), ""),
        (rule(source=entity(selector="a == 'b'")), "ip saddr @selected"),
        (rule(source=entity(not_selector="a == 'b'")), "ip saddr != @selected"),
        (
            rule(protocol=TCP, destination=entity(not_ports="http")),
            "meta l4proto tcp ip daddr . meta l4proto . th dport != @ported",
        ),
    ],
)
def test_a_rule_is_spelled_as_a_person_would(one: PolicyRule, text: str) -> None:
    assert spelled(one) == [text]


def test_named_and_numbered_ports_are_alternatives() -> None:
    one = rule(protocol=TCP, destination=entity(ports="80 http"))
    assert spelled(one) == ["tcp dport 80", "meta l4proto tcp ip daddr . meta l4proto . th dport @ported"]


@pytest.mark.parametrize(
    "one",
    [
        rule(source=entity(nets="fd00::/8")),
        rule(family=6),
        rule(protocol=58),
        rule(source=entity(not_nets="0.0.0.0/0")),
    ],
)
def test_a_rule_that_cannot_match_in_the_family_is_left_out(one: PolicyRule) -> None:
    assert spelled(one) == []


def test_nets_of_the_other_family_do_not_widen_a_rule() -> None:
    one = rule(source=entity(nets="fd00::/8 10.0.0.0/8"), destination=entity(not_nets="fd01::/16"))
    assert spelled(one, 4) == ["ip saddr 10.0.0.0/8"]
    assert spelled(one, 6) == ["ip6 saddr fd00::/8 ip6 daddr != fd01::/16"]


def text(key: rows.Key, body: rows.Body, family: int = 4) -> str:
    chains = Spelling(family).chains(key, rows.Chained("D", body))
    return "\n".join(
        f"{name}: {rule.partition(' comment ')[0].strip()}" for name, chain in chains.items() for rule in chain.rules
    )


def endpoint(*tiers: rows.TierStep, profiles: tuple[str, ...] = ("pri-1",)) -> rows.EndpointChain:
    return rows.EndpointChain("cali1", Direction.INGRESS, tiers, profiles)


KEY = rows.Key("endpoint", "tw-cali1")


def test_a_tier_that_denies_at_its_end_closes_the_chain() -> None:
    tier = rows.TierStep(
        "default", (rows.PolicyStep("pi-1", may_pass=False), rows.PolicyStep("pi-2", False)), Action.DENY
    )
    assert text(KEY, endpoint(tier)) == "tw-cali1: jump pi-1\ntw-cali1: jump pi-2\ntw-cali1: counter goto deny"


def test_a_tier_that_passes_at_its_end_leads_to_the_profiles() -> None:
    tier = rows.TierStep("admin", (rows.PolicyStep("pi-1", may_pass=False),), Action.PASS)
    assert text(KEY, endpoint(tier)) == "tw-cali1: jump pi-1\ntw-cali1: jump pri-1\ntw-cali1: counter goto deny"


def test_a_policy_that_may_pass_jumps_over_the_rest_of_its_tier() -> None:
    tier = rows.TierStep("t", (rows.PolicyStep("pi-1", may_pass=True), rows.PolicyStep("pi-2", False)), Action.DENY)
    assert text(KEY, endpoint(tier)).splitlines() == [
        "tw-cali1: meta mark set meta mark & 0xfffeffff",
        "tw-cali1: jump pi-1",
        "tw-cali1: meta mark & 0x10000 != 0 goto tw-cali1/2",
        "tw-cali1: jump pi-2",
        "tw-cali1: counter goto deny",
        "tw-cali1/2: jump pri-1",
        "tw-cali1/2: counter goto deny",
    ]


def test_without_policy_the_profiles_decide_and_then_nothing_passes() -> None:
    assert text(KEY, endpoint(profiles=())) == "tw-cali1: counter goto deny"


def test_masquerading_stops_at_the_pools() -> None:
    nat = text(rows.NAT, rows.Nat(outgoing=True))
    assert nat == "nat-postrouting: ip saddr @masq-pools ip daddr != @all-pools masquerade fully-random"


def test_comments_number_the_rules_of_a_row_through_all_its_chains() -> None:
    tier = rows.TierStep("t", (rows.PolicyStep("pi-1", may_pass=True),), Action.DENY)
    chains = Spelling(4).chains(KEY, rows.Chained("D", endpoint(tier)))
    comments = [rule.partition(" comment ")[2] for chain in chains.values() for rule in chain.rules]
    assert comments == [f'"fl{RENDERING}:D:{n}{"." if n == 5 else ""}"' for n in range(6)]
