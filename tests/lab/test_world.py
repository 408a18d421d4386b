"""The lab's own machinery: cables, probes, and taking it all down."""

import shutil
import subprocess

import pytest

from felixlite.errors import FelixliteError, Rejected
from felixlite.lab import world
from felixlite.lab.probe import Place, Prober
from felixlite.lab.topology import Topology
from tests.support.labs import clean_leftovers, lab_name

NAME = lab_name("w")
TOPOLOGY = Topology(name=NAME, nodes=3, subnets=2)


@pytest.fixture
def built():
    world.directory(TOPOLOGY.name).mkdir(parents=True, exist_ok=True)
    world.build(TOPOLOGY)
    for router in TOPOLOGY.router_machines():
        world.forward(router.namespace)
    yield TOPOLOGY
    world.clean(TOPOLOGY.name)


def places():
    machines = [*TOPOLOGY.node_machines(), *TOPOLOGY.router_machines(), TOPOLOGY.outside]
    return [Place(m.name, m.namespace, str(m.address)) for m in machines]


def test_all_machines_reach_each_other_and_the_receiver_sees_the_senders_own_address(built):
    nodes = [place for place in places() if place.name.startswith("n")]
    with Prober(places()) as prober:
        cells = prober.matrix([(a, b) for a in nodes for b in places() if a != b], count=2)

    assert [cell for cell in cells if cell.answered != 2] == []
    assert {cell.seen_from for cell in cells if cell.source.name == "n2"} == {"10.0.2.12"}


def test_a_cut_cable_is_seen_as_loss(built):
    world.run(["ip", "-n", TOPOLOGY.switch, "link", "set", "n1.eth0", "down"])
    n1, n3 = places()[0], places()[2]
    with Prober([n1, n3]) as prober:
        (cell,) = prober.matrix([(n1, n3)], count=3, patience=0.1)

    assert (cell.answered, cell.loss) == (0, 1.0)


def test_down_ends_processes_and_leaves_nothing(built):
    pid = world.start(f"{NAME}-n1", ["sleep", "600"], world.directory(NAME) / "sleep.log")

    assert world.clean(NAME) == 6
    assert not world._lives(pid)
    assert world.namespaces(NAME) == []
    assert NAME not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout


def test_the_labs_of_a_test_run_that_is_gone_are_taken_down_and_those_of_a_living_one_are_not(built):
    with subprocess.Popen(["true"]) as gone:
        pass
    dead = Topology(name=lab_name("x", gone.pid), nodes=1, subnets=1)
    world.directory(dead.name).mkdir(parents=True)
    world.build(dead)

    clean_leftovers()

    assert not world.directory(dead.name).exists()
    assert dead.name not in subprocess.run(["ip", "netns"], capture_output=True, text=True, check=True).stdout
    assert len(world.namespaces(NAME)) == 6


def test_a_namespace_of_somebody_else_is_neither_taken_nor_removed():
    other = lab_name("o")
    subprocess.run(["ip", "netns", "add", f"{other}-n1"], check=True)
    try:
        world.directory(other).mkdir(parents=True, exist_ok=True)
        with pytest.raises(FelixliteError, match=f"{other}-n1 exist already"):
            world.build(Topology(name=other))
        world.clean(other)
        assert (world.NETNS / f"{other}-n1").exists()
    finally:
        subprocess.run(["ip", "netns", "delete", f"{other}-n1"], check=True)
        shutil.rmtree(world.directory(other), ignore_errors=True)


def test_all_errors_of_a_topology_are_named_at_once():
    with pytest.raises(Rejected) as caught:
        Topology(name="My Lab", nodes=0, routers=9).checked()

    assert [problem.field for problem in caught.value.problems] == ["name", "nodes", "routers"]
