"""Which rules of others would rewrite the source of what one pod sends to another."""

import pytest

from felixlite.addresses import Prefix
from felixlite.policy import nat_nftables
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
        "-A POSTROUTING -m set --match-set pairs src,dst -j MASQUERADE",
        "-A POSTROUTING -s 172.17.0.0/16 ! -o fl-br0 -j MASQUERADE",
        "-A POSTROUTING -s 172.17.0.0/16 -j NETMAP --to 10.0.0.0/16",
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
        "-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE",
    ],
)
def test_a_rule_that_cannot_touch_pod_to_pod_traffic_is_not(rule: str) -> None:
    assert found(rule) == []


SPARED = {
    "flannel": ["-s 172.17.0.0/16 -d 172.17.0.0/16 -m comment --comment flanneld -j RETURN", "-s 172.17.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE"],
    "ip-masq-agent": ["-d 172.16.0.0/12 -j RETURN", "-j MASQUERADE"],
    "accepted": ["-s 172.17.0.0/16 -d 172.17.0.0/16 -j ACCEPT", "-j MASQUERADE"],
}  # fmt: skip


@pytest.mark.parametrize("who", SPARED)
def test_what_is_behind_a_rule_that_lets_pods_go_is_no_danger(who: str) -> None:
    rules = "".join(f"\n-A THEIRS {rule}" for rule in SPARED[who])
    assert found(f"-A POSTROUTING -j THEIRS{rules}") == []
    last = f"-A THEIRS {SPARED[who][-1]}"
    assert found(f"-A POSTROUTING -j THEIRS\n{last}") == [last]


@pytest.mark.parametrize(
    "spared",
    ["-s 172.17.5.0/24 -j RETURN", "-p tcp -j RETURN", "-m set --match-set some src -j RETURN", "! -s 10.0.0.0/8 -j RETURN", "-s 172.0.0.0/255.0.255.0 -j RETURN"],
)  # fmt: skip
def test_what_is_behind_a_rule_that_lets_some_go_is_shown(spared: str) -> None:
    assert found(f"-A POSTROUTING {spared}\n-A POSTROUTING -j MASQUERADE") == ["-A POSTROUTING -j MASQUERADE"]


def test_chains_that_no_pod_reaches_are_no_danger() -> None:
    rule = "-A DOCKER -s 172.17.0.0/16 -j MASQUERADE"
    assert found(rule) == []
    assert found(f"-A POSTROUTING -s 10.0.0.0/8 -j DOCKER\n{rule}") == []
    assert found(f"-A PREROUTING -j NETMAP --to 10.0.0.0/8\n-A PREROUTING -j DOCKER\n{rule}") == []
    assert found(f"-A POSTROUTING -s 172.16.0.0/12 -g OTHER\n-A OTHER -j DOCKER\n-A DOCKER -j OTHER\n{rule}") == [rule]


def test_kube_proxys_own_chain_is_known_by_the_mark_that_it_asks_for() -> None:
    kube_proxy = (
        "-A POSTROUTING -j KUBE-POSTROUTING\n"
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


# -- rules of nftables itself


def native(*rules: str, family: str = "ip", known: tuple[str, ...] = (), chains: str = "") -> list[str]:
    body = "".join(f"\t\t{rule}\n" for rule in rules)
    hook = "type nat hook postrouting priority srcnat + 10; policy accept;"
    table = f"table {family} theirs {{\n\tchain post {{\n\t\t{hook}\n{body}\t}}\n{chains}}}\n"
    return [rule.partition(": ")[2] for rule in nat_nftables.rewriting(table, POOLS, known)]


@pytest.mark.parametrize(
    "rule",
    [
        'oifname != "docker0" ip saddr 172.17.0.0/16 counter packets 0 bytes 0 masquerade',
        "ip saddr { 10.0.0.0/8, 172.16.0.0/12 } snat to 192.0.2.1",
        "ip saddr != 172.17.5.0/24 masquerade random",
        "ip saddr @somebody masquerade",
        'meta nfproto ipv4 oifname != "lo" masquerade',
        "ip saddr 172.17.0.0/16 ip daddr 172.17.0.0/16 masquerade",
    ],
)
def test_a_native_rule_that_covers_pods_on_both_ends_is_shown(rule: str) -> None:
    assert native(rule, family="inet") == [rule]


@pytest.mark.parametrize(
    "rule",
    [
        "ip saddr 10.0.0.0/8 masquerade",
        "ip saddr { 10.0.0.0/8, 192.0.2.0/24 } masquerade",
        "ip saddr 172.17.0.0/16 ip daddr != 172.16.0.0/12 masquerade",
        "ip saddr != 172.17.0.0/16 masquerade",
        "ip saddr 172.17.0.0/16 ip daddr 192.0.2.0/24 masquerade",
        "ip saddr 172.17.0.2 ip daddr 172.17.0.2 tcp dport 80 masquerade",
        "ip6 saddr fd00::/8 masquerade",
        "meta nfproto ipv6 masquerade",
        "meta mark & 0x00004000 == 0x00004000 masquerade",
        'ip saddr 172.17.0.0/16 counter accept comment "no masquerade here"',
    ],
)
def test_a_native_rule_that_cannot_touch_pod_to_pod_traffic_is_not(rule: str) -> None:
    assert native(rule, family="inet") == []


def test_native_chains_are_followed_where_pods_could_go() -> None:
    further = "\tchain zone {\n\t\tmasquerade\n\t}\n"
    assert native('oifname "eth0" goto zone', chains=further) == ["masquerade"]
    assert native('oifname vmap { "eth0" : jump zone, "eth1" : jump other }', chains=further) == ["masquerade"]
    assert native("ip saddr 10.0.0.0/8 jump zone", chains=further) == []
    assert native(chains=further) == []


def test_a_native_chain_that_lets_only_marked_connections_through_is_no_danger() -> None:
    assert native("meta mark & 0x00004000 == 0x00000000 return", "masquerade fully-random") == []


def test_tables_of_another_family_and_those_of_iptables_are_not_looked_at() -> None:
    assert native("masquerade", family="ip6") == []
    assert native("masquerade", known=("ip theirs",)) == []
