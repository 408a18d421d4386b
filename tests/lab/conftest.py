"""Labs are expensive (seconds): one for all tests that leave it as they found it."""

from collections.abc import Iterator

import pytest

from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Three nodes on two subnets, two pods each, one BIRD. Whoever changes it changes it back."""
    made = Lab(Topology(name="tlab"))
    made.down()
    try:
        made.up()
        yield made
    finally:
        made.down()
