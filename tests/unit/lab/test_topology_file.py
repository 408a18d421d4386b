"""A topology from a file: what it may say, and every mistake in it named at once."""

import pytest

from felixlite.errors import Rejected
from felixlite.lab.topology import Topology
from felixlite.lab.topology_file import topology


def test_a_file_says_what_differs_and_the_command_line_beats_it():
    given = {"name": "rack", "nodes": 5, "router": "frr", "settings": {"FELIXLITE_IPIPCARRIER": "UserSpace"}}

    made = topology(given, {"nodes": 7})

    assert (made.name, made.nodes, made.router, made.pods) == ("rack", 7, "frr", Topology().pods)
    assert made.settings == {"FELIXLITE_IPIPCARRIER": "UserSpace"}


def test_every_mistake_is_named_at_once():
    given = {
        "name": "My Rack", "nods": 3, "nodes": "five", "pods": True, "routers": 9, "router": "quagga", "store": "consul",
        "settings": {"FELIXLITE_NONSENSE": "1", "FELIXLITE_VXLANPORT": 4790},
    }  # fmt: skip

    with pytest.raises(Rejected) as caught:
        topology(given, {})

    assert {problem.field for problem in caught.value.problems} == {
        "name", "nods", "nodes", "pods", "routers", "router", "store", "settings.FELIXLITE_NONSENSE", "settings.FELIXLITE_VXLANPORT",
    }  # fmt: skip
    assert "did you mean nodes?" in str(caught.value)


@pytest.mark.parametrize("given", [[], "lab", 3, None])
def test_a_file_that_is_no_map_is_refused(given):
    with pytest.raises(Rejected, match="must be a map of name, router, store, nodes"):
        topology(given, {})


def test_a_topology_survives_being_written_down():
    made = Topology(name="x", nodes=4).without(Topology(nodes=4).node_machine(2))

    assert Topology(**made.as_dict()) == made
    assert [machine.name for machine in made.node_machines()] == ["n1", "n3", "n4"]
    assert made.with_one_more()[1] == 2
