"""Under which source packets arrive, in every overlay mode, next to a Docker that masquerades the pods' range."""

import json
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from felixlite.lab import world
from felixlite.lab.lab import POOL, Lab
from tests.lab.test_switch import CROSS, RING, switched

DOCKERS_RULE = ["-s", POOL, "!", "-o", "docker0", "-j", "MASQUERADE"]


@contextmanager
def docker(lab: Lab) -> Iterator[None]:
    """Its default rule, for a bridge whose range is the pool, on every node."""

    def nat(action: str) -> None:
        for node in lab.topology.node_machines():
            world.run(["iptables-nft", "-t", "nat", action, "POSTROUTING", *DOCKERS_RULE], namespace=node.namespace)

    nat("-A")
    try:
        yield
    finally:
        nat("-D")


CONFIGURATION = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "FelixConfiguration",
    "metadata": {"name": "default"},
    "spec": {"keepPodAddresses": True},
}


@pytest.fixture
def kept(lab: Lab) -> Iterator[Lab]:
    lab.felixlite("apply", "-f", "-", stdin=json.dumps(CONFIGURATION))
    try:
        with docker(lab):
            yield lab
    finally:
        lab.felixlite("delete", "felixconfiguration", "default")
        switched(lab, CROSS)


def warned(lab: Lab) -> bool:
    return any("rewrites what pods send to pods" in note for note in lab.status("n1")["notes"])


def test_pods_keep_their_addresses_in_every_mode_and_are_masqueraded_once_outside(kept: Lab) -> None:
    for mode in RING:
        switched(kept, mode)
        world.wait_for(lambda: all(cell.is_right for cell in kept.ping(count=2)), f"the right sources in {mode}", 30.0)


def test_status_names_the_rule_while_nothing_keeps_it_away(lab: Lab) -> None:
    assert not warned(lab)
    with docker(lab):
        world.wait_for(lambda: warned(lab), "the note in status", 30.0)  # keepPodAddresses may have gone just now
