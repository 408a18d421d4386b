"""The kernel and the evaluator agree about random worlds of policy, packet by packet, on every backend."""

from collections.abc import Iterator
from random import Random

import pytest

from felixlite.model.policy import Action
from felixlite.policy.evaluate import World, verdict_in
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.policylab import PolicyLab, one_cpu, policy_lab
from tests.support.randompolicy import packets, pods, world

WORLDS = 500
BATCH = 50
PODS = pods()
PACKETS = packets(PODS)


@pytest.fixture(scope="module", params=["nftables", "legacy", "nft"])
def backend(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def lab(backend: str) -> Iterator[PolicyLab]:
    one_cpu()
    with policy_lab("fp", PODS) as lab:
        yield lab


def disagreements(lab: PolicyLab, reconciler: Reconciler, planner: Planner, seed: int) -> list[str]:
    inputs = world(Random(seed), PODS)
    lab.apply(reconciler, planner(inputs).tables)
    seen = World(inputs)
    verdicts = {packet: verdict_in(seen, packet) for packet in PACKETS}
    expected = {packet for packet, found in verdicts.items() if found.action is Action.ALLOW}
    arrived = lab.arrived(PACKETS, expected)
    return [f"seed {seed}: {packet}: {'; '.join(map(str, verdicts[packet].way))}" for packet in arrived ^ expected]


@pytest.mark.parametrize("batch", range(WORLDS // BATCH))
def test_the_kernel_and_the_evaluator_agree_about_random_policies(lab: PolicyLab, backend: str, batch: int) -> None:
    reconciler, planner = Reconciler(lab.tables(backend)), Planner()
    for seed in range(batch * BATCH, (batch + 1) * BATCH):
        assert disagreements(lab, reconciler, planner, seed) == []
