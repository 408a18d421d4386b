"""Whole nodes on each packet filter: moved from one to another under traffic, and with their rules flushed by others."""

import pytest

from felixlite.lab import world
from felixlite.lab.lab import Lab
from tests.lab.test_switch import nothing_lost
from tests.support.backends import BACKENDS, moved, rules

FLUSHES = {
    "nftables": "nft flush table ip felixlite",
    "legacy": "iptables-legacy -w 60 -F",
    "nft": "iptables-nft -F",
}


def test_all_nodes_move_to_another_backend_and_back_under_traffic_and_nothing_is_lost(configurable: Lab) -> None:
    with nothing_lost(configurable):
        for backend in ("nftables", "nft", "legacy", "nftables"):
            moved(configurable, backend)


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_another_program_flushes_is_back_by_event(configurable: Lab, backend: str) -> None:
    """Long before all tables are read again, which is every 90 s."""
    lab = configurable
    moved(lab, backend)
    before = rules(lab, "n1", backend)
    rounds = lab.status("n1")["rounds"]
    world.run(FLUSHES[backend].split(), namespace=lab.machine("n1").namespace)
    world.wait_for(lambda: lab.status("n1")["rounds"] > rounds, "a round of n1", 30.0)
    world.wait_for(lambda: sorted(rules(lab, "n1", backend)) == sorted(before), "the rules of n1 to be back", 30.0)
