"""`felixlite explain` next to an agent: who is at both ends, the way between them, the rule that decides and its counter."""

import json
import os
import socket
import subprocess
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from felixlite.datastore import connect
from felixlite.datastore.store import Key
from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.world import within

API = "projectcalico.org/v3"
PORT = 9999
DENIED = 3  # datagrams
WRONG = [{"action": "Alow"}]


def document(kind: str, name: str, **more: Any) -> dict[str, Any]:
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name, "labels": {"role": name}}, **more}


def guard(action: str) -> dict[str, Any]:
    rule = {"action": action, "protocol": "UDP", "destination": {"ports": [PORT]}}
    spec = {"selector": "projectcalico.org/namespace == 'default'", "ingress": [rule, {"action": "Allow"}]}
    return document("GlobalNetworkPolicy", "guard", spec=spec)


@pytest.fixture(scope="module")
def guarded(lab: Lab) -> Iterator[Lab]:
    """Nobody may send to one port of any pod, and somebody has tried to."""
    office = document("GlobalNetworkSet", "office", spec={"nets": [f"{lab.topology.outside.address}/32"]})
    lab.felixlite("apply", "-f", "-", stdin=f"{json.dumps(guard('Deny'))}\n---\n{json.dumps(office)}\n")
    try:
        world.wait_for(lambda: hits(lab) is not None, "the policy in force on n1", 60.0)
        within(lab.pod("n2-a").namespace, lambda: send(lab.pod("n1-a").address))
        world.wait_for(lambda: hits(lab) == DENIED, "what was sent to be denied", 60.0)
        yield lab
    finally:
        lab.felixlite("delete", "globalnetworkpolicy", "guard")
        lab.felixlite("delete", "globalnetworkset", "office")


def send(address: str) -> None:
    for _ in range(DENIED):  # each from a port of its own: another connection
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", (address, PORT))


def explain(lab: Lab, *arguments: str) -> tuple[int, str]:
    """Its exit code and what it prints, asked on n1."""
    command = world.inside(lab.machine("n1").namespace, [*lab.command, "explain", *arguments])
    environment = {**os.environ, "FELIXLITE_RUN_DIR": str(lab.run_directory("n1"))}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, done.stdout


def asked(lab: Lab, source: str, destination: str, *more: str) -> dict[str, Any]:
    question = (source, destination, "--protocol", "UDP", "--port", str(PORT), "-o", "json", *more)
    found: dict[str, Any] = json.loads(explain(lab, *question)[1])
    return found


def hits(lab: Lab) -> int | None:
    (step,) = (step for step in asked(lab, "n2-a", "n1-a")["way"] if step["decides"])
    return step.get("packets")


def test_it_tells_the_way_and_counts_what_the_deciding_rule_met(guarded: Lab) -> None:
    code, text = explain(guarded, "n2-a", "n1-a", "--protocol", "UDP", "--port", str(PORT))
    (deciding,) = (line for line in text.splitlines() if line.startswith("  * "))
    assert (code, deciding) == (
        1,
        f"  * default/n1-a ingress: tier default, GlobalNetworkPolicy guard rule 0: Deny ({DENIED} packets here so far)",
    )
    back = explain(guarded, "n1-a", "n2-a", "--port", "80")[1]
    assert "pool default-ipv4-ippool" in back
    assert "tunnel       ipip" in back
    assert "the source address is kept" in back
    (route,) = (line for line in back.splitlines() if line.startswith("route "))
    assert "via 10.0.2.12 dev tunl0" in route


def test_the_ends_may_be_pods_addresses_sets_and_nodes(guarded: Lab) -> None:
    address, outside = guarded.pod("n2-a").address, str(guarded.topology.outside.address)
    by_pod, by_address = asked(guarded, "default/n2-a", "n1-a"), asked(guarded, address, "n1-a")
    assert (by_pod["source"], by_pod["way"]) == (by_address["source"], by_address["way"])
    by_set = asked(guarded, "office", "n1-a")
    assert (by_set["source"]["address"], by_set["source"]["network_sets"]) == (outside, ["office"])
    by_node = asked(guarded, "n1-a", "n2")
    assert (by_node["destination"]["node"], by_node["action"]) == ("n2", "Allow")
    assert {found["action"] for found in (by_pod, by_address, by_set)} == {"Deny"}


def scribbled(lab: Lab) -> None:
    """The policy, written past every check."""

    def write() -> None:
        with closing(connect(lab.store_url)) as store:
            entry = store.get(Key("GlobalNetworkPolicy", "guard"))
            assert entry
            store.update(
                entry.key, {**entry.document, "spec": guard("Deny")["spec"] | {"ingress": WRONG}}, entry.revision
            )

    within(lab.topology.switch, write)


def note(lab: Lab, *more: str) -> str | None:
    found: str | None = asked(lab, "n2-a", "n1-a", *more)["way"][-1]["note"]
    return found


def test_an_agent_judges_by_the_version_that_it_enforces(guarded: Lab, tmp_path: Path) -> None:
    scribbled(guarded)
    try:
        good = "its last good version: the one in the store is invalid"
        world.wait_for(lambda: note(guarded) == good, "the agent to have read it", 60.0)
        assert asked(guarded, "n2-a", "n1-a")["way"][-1]["rule"] == 0
        assert note(guarded, "--run-dir", str(tmp_path)) == "invalid: closes what it selects"  # no agent there
    finally:
        guarded.felixlite("apply", "-f", "-", stdin=json.dumps(guard("Deny")))
        world.wait_for(lambda: note(guarded) is None, "the policy to be good again", 60.0)


def test_a_change_is_judged_without_being_made(guarded: Lab, tmp_path: Path) -> None:
    change = tmp_path / "change.json"
    change.write_text(json.dumps(guard("Allow")))
    then = asked(guarded, "n2-a", "n1-a", "-f", str(change))
    assert (then["action"], [step.get("packets") for step in then["way"]]) == ("Allow", [None] * len(then["way"]))
    assert asked(guarded, "n2-a", "n1-a")["action"] == "Deny"
