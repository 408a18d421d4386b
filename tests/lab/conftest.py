"""Labs are expensive (seconds): one for all tests that leave it as they found it."""

from collections.abc import Iterator

import pytest

from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology
from tests.support.labs import clean_leftovers, lab_name


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three nodes on two subnets, two pods each, one BIRD. Whoever changes it changes it back."""
    clean_leftovers()
    made = Lab(Topology(name=lab_name("l"), settings={"FELIXLITE_WAITFORACCEPTS": "60"}))  # however busy the machine is
    try:
        made.up()
        yield made
    finally:
        made.down()
