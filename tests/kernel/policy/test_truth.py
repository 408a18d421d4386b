"""Real packets do what the documents say, on every backend."""

from collections.abc import Iterator

import pytest

from felixlite.policy.choice import Backend
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.policylab import PolicyLab, one_cpu, policy_lab
from tests.support.truth import PODS, Scenario
from tests.support.truth_cases import CASES


@pytest.fixture(scope="module", params=["nftables", "legacy", "nft"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture(scope="module")
def lab(backend: Backend) -> Iterator[PolicyLab]:
    assert backend
    one_cpu()
    with policy_lab("fp", PODS) as lab:
        yield lab


@pytest.fixture(scope="module")
def reconciler(lab: PolicyLab, backend: Backend) -> Reconciler:
    return Reconciler(lab.tables(backend))


@pytest.mark.parametrize("scenario", CASES, ids=lambda scenario: scenario.title.replace(" ", "-"))
def test_packets_do_what_the_documents_say(lab: PolicyLab, reconciler: Reconciler, scenario: Scenario) -> None:
    lab.apply(reconciler, Planner()(scenario.inputs).tables)
    expected = {packet for packet, passes in scenario.expected.items() if passes}
    assert lab.arrived(list(scenario.expected), expected) == expected
