"""Everything that `lab break` breaks is noticed by an agent and whole again within the bound that docs/lab.md states."""

import re
from pathlib import Path

import pytest

from felixlite.errors import FelixliteError
from felixlite.lab import trial
from felixlite.lab.faults import FAULTS
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology
from tests.support.labs import clean_leftovers, lab_name

DOCUMENT = Path(__file__).parents[2] / "docs/lab.md"


@pytest.fixture(scope="module")
def rack():
    """Three members of etcd, so that one can be lost, and sessions that notice silence after nine seconds."""
    clean_leftovers()
    made = Lab(Topology(name=lab_name("f"), pods=1, members=3, hold=9))
    try:
        made.up()
        yield made
    finally:
        made.down()


@pytest.mark.parametrize("name", [name for name in FAULTS if name != "route"])
def test_what_is_broken_is_noticed_and_heals_within_its_bound(rack, name):
    outcome = trial.whole(rack, FAULTS[name])  # raises if the bound passes

    assert outcome.sent > 0
    if FAULTS[name].harmless:
        assert outcome.lost == 0


def test_what_heals_by_itself_needs_no_fix(rack):
    outcome = trial.inflict(rack, FAULTS["route"])

    assert outcome.healed is not None
    with pytest.raises(FelixliteError, match="nothing of this lab is broken"):
        trial.mend(rack)


def test_what_needs_a_person_stays_broken_until_it_is_mended(rack):
    assert trial.inflict(rack, FAULTS["link"]).healed is None
    with pytest.raises(FelixliteError, match="'link' is broken already"):
        trial.inflict(rack, FAULTS["route"])

    assert trial.mend(rack).healed is not None


def test_the_bounds_in_the_documentation_are_those_in_force():
    rows = re.findall(r"^\| `(\w+)` \| [^|]+ \| [^|]+ \| (\d+) s \|", DOCUMENT.read_text(), re.MULTILINE)

    assert {name: float(bound) for name, bound in rows} == {fault.name: fault.bound for fault in FAULTS.values()}
