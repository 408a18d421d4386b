"""The evaluator says what the documents say."""

import pytest

from felixlite.model.policy import Action
from felixlite.policy.passage import verdict
from tests.support.truth import Scenario
from tests.support.truth_cases import CASES


@pytest.mark.parametrize("scenario", CASES, ids=lambda scenario: scenario.title.replace(" ", "-"))
def test_the_evaluator_agrees_with_the_documents(scenario: Scenario) -> None:
    found = {packet: verdict(scenario.inputs, packet).action is Action.ALLOW for packet in scenario.expected}
    assert found == scenario.expected


def test_there_are_enough_cases_and_no_two_of_one_name() -> None:
    """A case is a set of policies; the packets that are sent for it are more."""
    assert len({scenario.title for scenario in CASES}) == len(CASES) >= 120
    assert all(scenario.expected for scenario in CASES)
    assert sum(len(scenario.expected) for scenario in CASES) >= 500
