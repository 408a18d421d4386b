"""From any state to any other, in any order, with agents that die on the way: the end is always the same.

A test class inherits from Walks and gives a fixture `kernel` (FakeKernel or RealKernel) with eth0, eth1 and cali1 as
states.py says, and the foreign route 203.0.113.0/24.
"""

import random

import pytest

from felixlite.reconcile import Reconciler
from felixlite.show import plan_lines
from felixlite.tables import look
from tests.support.states import STATES, lines, to


def prepare(kernel):
    for link, address in (("eth0", "192.0.2.1/24"), ("eth1", "198.51.100.1/24")):
        kernel.add_link(link)
        kernel.add_address(link, address)
    kernel.add_link("cali1")
    kernel.add_link("other0")
    kernel.add_route("203.0.113.0/24", "other0")
    return kernel


class Agent:
    """The core's half: it converges until nothing is left to do. A new one knows nothing."""

    def __init__(self, kernel):
        self.kernel = kernel
        self.reconciler = Reconciler(kernel.tables())
        self.now = 0.0

    def converge(self, state):
        plan = {table: (rows,) for table, rows in state.plan.items()}
        outcomes = self.reconciler.converge(plan, self.now, may_delete=True)
        for _ in range(5):
            if self.reconciler.settled:
                return outcomes
            self.now = self.reconciler.retry_at() or self.now
            self.reconciler.converge(plan, self.now, may_delete=True)
        raise AssertionError({name: mirror.failures for name, mirror in self.reconciler.mirrors.items()})


def assert_is(kernel, state):
    for table in kernel.tables():
        wanted = state.plan.get(table.name, {})
        assert look(table, wanted) == wanted, f"{state}: {table.name}"
    assert kernel.foreign_routes() == {"203.0.113.0/24"}


class Walks:
    @pytest.mark.parametrize("state", STATES, ids=str)
    def test_from_nothing(self, kernel, state):
        Agent(kernel).converge(state)

        assert_is(kernel, state)

    @pytest.mark.parametrize("seed", range(3))
    def test_any_order_of_states_leads_to_each_of_them(self, kernel, seed):
        dice, agent = random.Random(seed), Agent(kernel)
        for state in dice.sample(STATES * 2, 2 * len(STATES)):
            agent.converge(state)

            assert_is(kernel, state)

    @pytest.mark.parametrize("seed", range(3))
    def test_an_agent_that_remembers_nothing_goes_on_from_where_another_died(self, kernel, seed):
        dice = random.Random(seed)
        for state in dice.sample(STATES, len(STATES)):
            Agent(kernel).converge(state)

            assert_is(kernel, state)

    @pytest.mark.parametrize("state", STATES, ids=str)
    def test_a_second_agent_finds_nothing_to_do(self, kernel, state):
        Agent(kernel).converge(state)

        outcomes = Agent(kernel).converge(state)

        assert {(o.written, o.removed) for o in outcomes.values()} == {(0, 0)}

    @pytest.mark.parametrize("state", STATES, ids=str)
    def test_the_same_state_again_costs_nothing(self, kernel, state):
        agent = Agent(kernel)
        agent.converge(state)

        outcomes = agent.converge(state)

        assert {(o.written, o.removed, o.read) for o in outcomes.values()} == {(0, 0, False)}

    @pytest.mark.parametrize("state", STATES, ids=str)
    def test_strays_of_an_earlier_agent_are_swept(self, kernel, state):
        kernel.add_route("10.99.0.0/26", "eth1", protocol=80)

        Agent(kernel).converge(state)

        assert_is(kernel, state)

    @pytest.mark.parametrize("state", [s for s in STATES if to("10.65.0.0/26") in s.plan.get("routes", {})], ids=str)
    def test_what_was_removed_by_hand_is_healed_after_a_touch(self, kernel, state):
        agent = Agent(kernel)
        agent.converge(state)
        kernel.remove_route("10.65.0.0/26")

        agent.reconciler.distrust("routes")
        agent.converge(state)

        assert_is(kernel, state)

    @pytest.mark.parametrize("state", STATES, ids=str)
    def test_links_that_went_down_and_up_again_carry_what_they_did(self, kernel, state):
        agent = Agent(kernel)
        agent.converge(state)
        for link in ("eth0", "eth1", "cali1"):
            kernel.set_down(link)
            kernel.set_up(link)

        agent.reconciler.came_up(["eth0", "eth1", "cali1"])
        agent.converge(state)

        assert_is(kernel, state)

    def test_a_tunnel_that_somebody_removed_is_made_again_with_all_that_was_on_it(self, kernel):
        (state,) = [state for state in STATES if state.name == "another node, vxlan"]
        agent = Agent(kernel)
        agent.converge(state)
        kernel.remove_link("vxlan.calico")

        agent.reconciler.distrust("links")
        agent.converge(state)

        assert_is(kernel, state)


def typed(state):
    """The plan in the order in which it converges."""
    order = ("links", "addresses", "sysctls", "neighbours", "fdb", "routes", "rules")
    plan = {table: (state.plan[table],) for table in order if table in state.plan}
    return [line.split(None, 1)[1] for line in plan_lines(plan)]


def assert_typed(state):
    assert typed(state) == lines(state.typed)
