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
