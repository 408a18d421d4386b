"""The policy table of a family, whatever it is written with."""

from felixlite.policy.backend import PolicyTable
from felixlite.policy.rows import GATES
from tests.unit.policy.test_plan import A, rows_of
from tests.unit.policy.world import inputs


class Asked:
    """A backend that notes in which order it is asked what."""

    def __init__(self):
        self.asked = []

    def take_settings(self, items):
        self.asked.append(("settings", items[GATES]))

    def read(self):
        self.asked.append("read")
        return {}


def test_a_restarted_agent_reads_with_the_settings_that_are_wanted():
    """What is there is judged by them, and what is written next is spelled with the marks of what stays."""
    table, asked = PolicyTable(4, "nftables"), Asked()
    table._tables = dict.fromkeys(("nftables", "legacy", "nft"), asked)
    wanted = rows_of(inputs([A]))
    table.read_for(wanted)
    assert asked.asked[:2] == [("settings", wanted[GATES]), "read"]
