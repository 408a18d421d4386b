"""One node with three pods and a host outside, for each backend; an agent that is a planner and the tables."""

from collections.abc import Iterator

import pytest

from felixlite.policy.choice import Backend
from felixlite.reconcile import Reconciler
from tests.support.netns import Namespace, connect, namespace
from tests.support.policylab import PolicyLab, one_cpu, policy_lab
from tests.support.policyworld import NODE, OUTSIDE, A, Agent, B, C


@pytest.fixture(scope="module", params=["nftables", "legacy", "nft"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture(scope="module")
def outside(backend: Backend) -> Iterator[Namespace]:
    assert backend  # each backend has a world of its own
    with namespace("fp") as space:
        yield space


@pytest.fixture(scope="module")
def lab(outside: Namespace) -> Iterator[PolicyLab]:
    one_cpu()
    with policy_lab("fp", [A, B, C]) as lab:
        connect(lab.node, "eth0", outside, "eth0")
        lab.node.ip(f"address add {NODE}/24 dev eth0")
        outside.ip(f"address add {OUTSIDE}/24 dev eth0")
        outside.ip(f"route add 10.65.0.0/16 via {NODE}")
        lab.add("node", lab.node, NODE)
        lab.add("outside", outside, OUTSIDE)
        yield lab


@pytest.fixture
def agent(lab: PolicyLab, backend: Backend) -> Iterator[Agent]:
    agent = Agent(lab, backend)
    yield agent
    cleaner = Reconciler(lab.tables(backend))
    lab.apply(cleaner, {"policy/4": ({},), "policy/6": ({},)})
