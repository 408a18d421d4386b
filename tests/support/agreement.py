"""Whether the kernel and the evaluator agree about a world of policies, packet by packet.

tests/kernel/policy/test_differential.py asks about five hundred worlds in every run, bench/_differential.py about ten
thousand.  What is planned and what is expected does not depend on the backend, so one look at a world serves all.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from felixlite.model.policy import Action
from felixlite.policy.evaluate import Packet, World
from felixlite.policy.inputs import Inputs
from felixlite.policy.passage import Verdict, verdict_in
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.policylab import PolicyLab
from tests.support.randompolicy import packets, pods

PODS = pods()
PACKETS = packets(PODS)


class Foretold(NamedTuple):
    tables: Mapping[str, Any]
    verdicts: Mapping[Packet, Verdict]


def foretold(planner: Planner, inputs: Inputs, probes: Iterable[Packet] = PACKETS) -> Foretold:
    seen = World(inputs)
    return Foretold(planner(inputs).tables, {packet: verdict_in(seen, packet) for packet in probes})


def disagreements(lab: PolicyLab, reconciler: Reconciler, world: Foretold) -> list[str]:
    """The packets that passed and should not have, or the other way round, and why they should not."""
    lab.apply(reconciler, world.tables)
    expected = {packet for packet, found in world.verdicts.items() if found.action is Action.ALLOW}
    arrived = lab.arrived(list(world.verdicts), expected)
    return [f"{packet}: {'; '.join(map(str, world.verdicts[packet].way))}" for packet in arrived ^ expected]
