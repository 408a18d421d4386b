"""Real packets do what the documents say, on every backend."""

from collections.abc import Iterator

import pytest

from felixlite.policy.choice import Backend
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.netns import Namespace, connect, namespace
from tests.support.policylab import PolicyLab, one_cpu, policy_lab
from tests.support.truth import OUTSIDE, PODS, Scenario
from tests.support.truth_cases import CASES


@pytest.fixture(scope="module", params=["nftables", "legacy", "nft"])
def backend(request: pytest.FixtureRequest) -> Backend:
    found: Backend = request.param
    return found


@pytest.fixture(scope="module")
def lab(backend: Backend) -> Iterator[PolicyLab]:
    assert backend
    one_cpu()
    with policy_lab("fp", PODS) as lab, namespace("fp") as outside:
        _connect(lab, outside)
        yield lab


def _connect(lab: PolicyLab, outside: Namespace) -> None:
    """The host x, by a cable to the node; every neighbour is known beforehand, as those of the pods are."""
    connect(lab.node, "eth0", outside, "eth0")
    for host, node in zip(OUTSIDE, ("203.0.113.1", "2001:db8::1"), strict=True):
        nodad = " nodad" if host.family == 6 else ""
        for space, own, other in ((lab.node, node, str(host.first)), (outside, str(host.first), node)):
            peer = outside if space is lab.node else lab.node
            [link] = peer.show("link show eth0")
            space.ip(f"address add {own}/{24 if host.family == 4 else 64} dev eth0{nodad}")
            space.ip(f"neigh replace {other} lladdr {link['address']} dev eth0 nud permanent")
        outside.ip(f"route add default via {node} dev eth0", family=host.family)
    outside.command("sysctl", "-qw", "net.ipv4.icmp_echo_ignore_all=1", "net.ipv6.icmp.echo_ignore_all=1")
    lab.add("x", outside, *(str(host.first) for host in OUTSIDE))


@pytest.fixture(scope="module")
def reconciler(lab: PolicyLab, backend: Backend) -> Reconciler:
    return Reconciler(lab.tables(backend))


@pytest.mark.parametrize("scenario", CASES, ids=lambda scenario: scenario.title.replace(" ", "-"))
def test_packets_do_what_the_documents_say(lab: PolicyLab, reconciler: Reconciler, scenario: Scenario) -> None:
    lab.apply(reconciler, Planner()(scenario.inputs).tables)
    expected = {packet for packet, passes in scenario.expected.items() if passes}
    assert lab.arrived(list(scenario.expected), expected) == expected
