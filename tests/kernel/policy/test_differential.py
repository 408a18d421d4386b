"""The kernel and the evaluator agree about random worlds of policy, packet by packet, on every backend."""

from collections.abc import Iterator
from random import Random

import pytest

from felixlite.policy.choice import Backend
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.agreement import PODS, disagreements, foretold
from tests.support.policylab import PolicyLab, one_cpu, policy_lab
from tests.support.randompolicy import world

WORLDS = 500
BATCH = 50


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


@pytest.mark.parametrize("batch", range(WORLDS // BATCH))
def test_the_kernel_and_the_evaluator_agree_about_random_policies(lab: PolicyLab, backend: Backend, batch: int) -> None:
    reconciler, planner = Reconciler(lab.tables(backend)), Planner()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        wrong = disagreements(lab, reconciler, foretold(planner, world(Random(seed), PODS)))
        assert wrong == [], f"seed {seed}"
