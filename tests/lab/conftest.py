"""Labs are expensive (seconds): one for all tests that leave it as they found it."""

from collections.abc import Iterator

import pytest

from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology
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
