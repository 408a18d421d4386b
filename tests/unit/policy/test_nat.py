"""Which rules of others would rewrite the source of what one pod sends to another."""

import pytest

from felixlite.addresses import Prefix
from felixlite.policy.nat import rewriting

POOLS = [Prefix.parse("172.17.0.0/16")]


def found(rule: str, table: str = "nat") -> list[str]:
    return list(rewriting(f"*{table}\n:POSTROUTING ACCEPT [0:0]\n{rule}\nCOMMIT\n", POOLS))


@pytest.mark.parametrize(
    "rule",
    [
        "-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE",
        "-A POSTROUTING -s 172.16.0.0/12 -j SNAT --to-source 192.0.2.1",
        "-A POSTROUTING -s 172.17.5.0/24 -j MASQUERADE",
        "-A POSTROUTING -j MASQUERADE",
        "-A POSTROUTING -s 172.17.0.0/16 ! -d 10.0.0.0/8 -j MASQUERADE",
    ],
)
def test_a_rule_that_covers_pods_on_both_ends_is_shown(rule: str) -> None:
    assert found(rule) == [rule]


@pytest.mark.parametrize(
    "rule",
    [
        "-A POSTROUTING -s 10.0.0.0/8 -j MASQUERADE",
        "-A POSTROUTING -s 172.17.0.0/16 ! -d 172.16.0.0/12 -j MASQUERADE",
        "-A POSTROUTING ! -s 172.17.0.0/16 -j MASQUERADE",
        "-A POSTROUTING -s 172.17.0.0/16 -d 192.0.2.0/24 -j MASQUERADE",
        "-A POSTROUTING -s 172.17.0.0/16 -j ACCEPT",
        "-A fl-POSTROUTING -m set --match-set fl4-masq-pools src -j MASQUERADE",
        "-A KUBE-POSTROUTING -m mark --mark 0x4000/0x4000 -j MASQUERADE",
        "-A POSTROUTING -s 172.17.0.2/32 -d 172.17.0.2/32 -p tcp -m tcp --dport 80 -j MASQUERADE",
    ],
)
def test_a_rule_that_cannot_touch_pod_to_pod_traffic_is_not(rule: str) -> None:
    assert found(rule) == []


def test_kube_proxys_own_chain_is_known_by_the_mark_that_it_asks_for() -> None:
    kube_proxy = (
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN\n"
        "-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0\n"
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully"
    )
    assert found(kube_proxy) == []


def test_a_net_that_talks_to_itself_is_no_hairpin() -> None:
    rule = "-A POSTROUTING -s 172.17.0.0/16 -d 172.17.0.0/16 -j MASQUERADE"
    assert found(rule) == [rule]


def test_other_tables_rewrite_nothing() -> None:
    assert found("-A POSTROUTING -j MASQUERADE", table="mangle") == []
