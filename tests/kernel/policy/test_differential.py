"""The kernel and the evaluator agree about random worlds of policy, packet by packet, on every backend."""

from collections.abc import Iterator
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from felixlite.policy.choice import Backend
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.agreement import PACKETS, PODS, disagreements, foretold
from tests.support.policylab import PolicyLab, one_cpu, policy_lab
from tests.support.randompolicy import strays, world

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


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow])
@given(st.randoms(use_true_random=False))
def test_hypothesis_finds_no_world_and_no_packet_that_they_disagree_about(
    lab: PolicyLab, backend: Backend, random: Random
) -> None:
    """Each world from nothing, so that what fails can be made smaller."""
    expected = foretold(Planner(), world(random, PODS), [*PACKETS[::5], *strays(random, PODS)])
    assert disagreements(lab, Reconciler(lab.tables(backend)), expected) == []
