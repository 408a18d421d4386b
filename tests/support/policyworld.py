"""The world that tests of one node share: pods A, B and C, a host outside, and an agent to converge on it."""

from ipaddress import ip_address
from typing import Any

from felixlite.addresses import Prefix
from felixlite.model.inside import Pool
from felixlite.model.policy import UDP
from felixlite.policy.choice import Backend
from felixlite.policy.evaluate import Packet
from felixlite.policy.inputs import Inputs
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.policylab import PolicyLab
from tests.unit.policy.world import entity, inputs, pod, policy, rule

A = pod("a", "10.65.0.1 fd00::1", app="a")
B = pod("b", "10.65.0.2 fd00::2", app="b")
C = pod("c", "10.65.0.3 fd00::3", app="c")
NODE, OUTSIDE = "192.0.2.1", "192.0.2.2"
POOL = Pool("pool", Prefix.parse("10.65.0.0/16"), nat_outgoing=True)
FROM_B = policy("p", selector="app == 'a'", ingress=(rule(source=entity(selector="app == 'b'")),))
WORLD = inputs([A, B, C], [FROM_B], pools={"pool": POOL})


class Agent:
    """A planner, and the tables that follow it."""

    def __init__(self, lab: PolicyLab, backend: Backend) -> None:
        self.lab, self.planner = lab, Planner()
        self.tables = lab.tables(backend)
        self.reconciler = Reconciler(self.tables)

    def converge(self, world: Inputs) -> None:
        self.lab.apply(self.reconciler, self.planner(world).tables)

    def differences(self, world: Inputs) -> dict[str, Any]:
        found = self.lab.node.run(self.reconciler.differences, self.planner(world).tables)
        return {name: diff for name, diff in found.items() if diff}


def udp(source: str, destination: str, port: int = 80) -> Packet:
    return Packet(ip_address(source), ip_address(destination), UDP, 1000, port)


B_TO_A, C_TO_A = udp("10.65.0.2", "10.65.0.1"), udp("10.65.0.3", "10.65.0.1")


def enforces(lab: PolicyLab) -> bool:
    """B may talk to A, C may not."""
    return lab.arrived([B_TO_A, C_TO_A], [B_TO_A]) == {B_TO_A}
