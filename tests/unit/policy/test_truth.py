"""The evaluator says what the documents say."""

import pytest

from felixlite.model.policy import Action
from felixlite.policy.evaluate import verdict
from tests.support.truth import Scenario
from tests.support.truth_calico import CALICO
from tests.support.truth_kubernetes import KUBERNETES


@pytest.mark.parametrize("scenario", [*KUBERNETES, *CALICO], ids=lambda scenario: scenario.title.replace(" ", "-"))
def test_the_evaluator_agrees_with_the_documents(scenario: Scenario) -> None:
    found = {packet: verdict(scenario.inputs, packet).action is Action.ALLOW for packet in scenario.expected}
    assert found == scenario.expected


def test_there_are_enough_cases() -> None:
    assert sum(len(scenario.expected) for scenario in [*KUBERNETES, *CALICO]) >= 120
