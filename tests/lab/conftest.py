"""Labs are expensive (seconds): one for all tests that leave it as they found it."""

from collections.abc import Iterator

import pytest

from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology
from tests.support.backends import backends
from tests.support.labs import clean_leftovers, lab_name


@pytest.fixture(scope="session")
def told() -> list[str]:
    """What the lab said while it came up."""
    return []


@pytest.fixture(scope="session")
def lab(told: list[str]) -> Iterator[Lab]:
    """Three nodes on two subnets, two pods each, one BIRD. Whoever changes it changes it back."""
    clean_leftovers()
    busy = {"FELIXLITE_WAITFORACCEPTS": "60"}  # however busy the machine is
    made = Lab(Topology(name=lab_name("l"), settings=busy), told.append)
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.fixture
def configurable(lab: Lab) -> Iterator[Lab]:
    """Its agents choose their backend by themselves before and afterwards."""
    before = backends(lab)
    try:
        yield lab
    finally:
        lab.felixlite("delete", "felixconfiguration", "default")
        world.wait_for(lambda: backends(lab) == before, f"all nodes to be back on {before}", 60.0)
