"""The picture in the documentation is that of a lab."""

import re
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.picture import picture
from felixlite.lab.topology import Topology
from tests.support.labs import clean_leftovers, lab_name

WRITTEN = Path(__file__).parents[2] / "docs/pictures/lab.svg"


@pytest.fixture
def fresh():
    clean_leftovers()
    made = Lab(Topology(name=lab_name("p")))
    try:
        made.up()
        yield made
    finally:
        made.down()


def unnumbered(text):
    """Which of its block's addresses a pod has depends on who asked first, it or the tunnel."""
    return re.sub(r"10\.244\.\d+\.\d+<", "10.244.x.x<", text)


def test_the_picture_in_the_documentation_is_that_of_a_fresh_lab(fresh):
    written = unnumbered(WRITTEN.read_text())

    world.wait_for(lambda: unnumbered(picture(fresh)) == written, "the picture in docs/pictures", 60, every=0.5)
    texts = [each.text for each in ET.fromstring(picture(fresh)).iter() if each.text]  # noqa: S314  our own
    assert {f"{pod.name}  {pod.address}" for pod in fresh.pods()} <= set(texts)
