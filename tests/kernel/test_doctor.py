"""`felixlite doctor` on a machine that was made sick on purpose, in a namespace of its own."""

import json
import subprocess
import sys

from tests.support.netns import namespace

DOCTOR = [sys.executable, "-m", "felixlite", "doctor", "-o", "json"]


def findings(net, store):
    command = ["ip", "netns", "exec", net.name, *DOCTOR, "--store", store]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, {each["check"]: each for each in json.loads(done.stdout)}


def test_doctor_finds_what_was_broken_and_nothing_else(tmp_path):
    with namespace("fk-doctor") as net:
        store = f"file://{tmp_path}"
        code, before = findings(net, store)
        assert (code, [c for c, each in before.items() if each["verdict"] == "bad"]) == (0, [])

        net.command("nft", "add table inet other")
        net.command("nft", "add chain inet other f { type filter hook forward priority 0; policy drop; }")
        net.command("sysctl", "-qw", "net.ipv4.conf.all.rp_filter=1")
        net.ip("link add eth9 type bridge")
        net.command("iptables-legacy", "-P", "FORWARD", "DROP")
        _, after = findings(net, store)

    assert "inet other f" in after["foreign rules"]["what"]
    assert "eth9" in after["rp_filter"]["what"]
    assert "legacy: policy DROP" in after["iptables FORWARD"]["what"]
    assert before["foreign rules"]["verdict"] == "ok"
    assert "iptables FORWARD" not in before


def test_a_store_that_nobody_answers_for_is_bad():
    with namespace("fk-doctor") as net:
        code, found = findings(net, "etcd://127.0.0.1:1?timeout=1")

    assert code == 1
    assert (found["store"]["verdict"], "127.0.0.1:1" in found["store"]["what"]) == ("bad", True)


DOCKER = ["-t", "nat", "-A", "POSTROUTING", "-s", "10.65.0.0/16", "!", "-o", "docker0", "-j", "MASQUERADE"]
NATIVE = 'table ip docks { chain out { type nat hook postrouting priority srcnat; oifname != "docker0" masquerade; }; }'
NATIVE6 = "table inet docks { chain out { type nat hook postrouting priority 120; snat ip6 to 2001:db8::1; }; }"
RULES = [["iptables-legacy", *DOCKER], ["iptables-nft", *DOCKER], ["nft", NATIVE], ["nft", NATIVE6]]
POOLS = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: four}
spec: {cidr: 10.65.0.0/16}
---
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: six}
spec: {cidr: fd00::/64}
"""
KEPT = """\
apiVersion: projectcalico.org/v3
kind: FelixConfiguration
metadata: {name: default}
spec: {keepPodAddresses: true}
"""


def applied(store: str, text: str) -> None:
    command = [sys.executable, "-m", "felixlite", "apply", "--store", store, "-f", "-"]
    subprocess.run(command, input=text, text=True, check=True, capture_output=True)


def test_a_rule_of_others_that_takes_pods_their_addresses_is_named_whoever_wrote_it(tmp_path):
    store = f"file://{tmp_path}"
    applied(store, POOLS)
    found = []
    with namespace("fk-doctor") as net:
        _, before = findings(net, store)
        for rule in RULES:
            net.command(*rule)
            found.append(findings(net, store)[1]["foreign NAT"])
            net.command("iptables-legacy", "-t", "nat", "-F")
            net.command("nft", "flush", "ruleset")
        net.command(*RULES[0])
        applied(store, KEPT)
        _, kept = findings(net, store)

    assert before["foreign NAT"]["verdict"] == "ok"
    assert [each["what"].split()[0] for each in found] == [rule[0] for rule in RULES]
    for each in found:
        assert each["verdict"] == "warn"
        assert "rewrites what pods send to pods" in each["what"]
        assert "keepPodAddresses: true" in each["fix"]
    assert (kept["foreign NAT"]["verdict"], "keepPodAddresses keeps" in kept["foreign NAT"]["what"]) == ("ok", True)
