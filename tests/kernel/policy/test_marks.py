"""iptablesMarkMask changes under a running agent: what is allowed passes all the time, what is not never does.

The masks overlap so that a mark of the one means something else in the other: who would read it there lets through what
nobody allowed.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import pytest

from felixlite.model.policy import Tier
from felixlite.policy.choice import Backend
from felixlite.policy.inputs import Inputs
from felixlite.policy.rows import ANYWHERE, Key, Match, PolicyChain, Rule, Side, chained
from felixlite.policy.settings import PolicySettings
from felixlite.tables import merged
from tests.support.policylab import PolicyLab
from tests.support.policyworld import B_TO_A, C_TO_A, FROM_B, A, Agent, B, C, udp
from tests.unit.policy.world import entity, inputs, policy, rule

MASKS = [0xFFFF8000, 0xFFFF4000, 0x0FFE0000, 0xFFFF0000]
B_NETS = "10.65.0.2/32 192.0.2.128/25"  # two networks are matched with the help of two more marks
PASSED = policy("first", tier="first", selector="app == 'a'", ingress=(rule("Pass", source=entity(nets=B_NETS)),))
ALLOWED = replace(FROM_B, ingress=(rule(source=entity(nets=B_NETS)),))


def world(mask: int, *others: Any) -> Inputs:
    found = inputs([A, B, C], [PASSED, ALLOWED, *others], tiers={"first": Tier("first", 1.0)})
    return replace(found, settings=PolicySettings(mark_mask=mask))


class Conversations:
    """B asks A on one socket all the time and on a new one each time; C tries as often and is not answered."""

    def __init__(self, lab: PolicyLab, closing: ExitStack) -> None:
        self.spaces, self.closing = lab.namespaces, closing
        self.server = self._opened("a")
        self.server.bind(("10.65.0.1", 80))
        self.old, self.stranger = self._opened("b"), self._opened("c")
        self.asked = self.unanswered = 0
        self.strangers: set[str] = set()

    def _opened(self, pod: str) -> socket.socket:
        found = self.spaces[pod].run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
        found.settimeout(5)
        return self.closing.enter_context(found)

    def turn(self) -> None:
        self.stranger.sendto(b"?", ("10.65.0.1", 80))
        with ExitStack() as once:
            new = self.spaces["b"].run(socket.socket, socket.AF_INET, socket.SOCK_DGRAM)
            new.settimeout(5)
            once.enter_context(new)
            for client in (self.old, new):
                self._ask(client)

    def _ask(self, client: socket.socket) -> None:
        self.asked += 1
        client.sendto(b"?", ("10.65.0.1", 80))
        try:
            for _ in range(3):
                _, sender = self.server.recvfrom(10)
                self.server.sendto(b"!", sender)
                if sender[0] == "10.65.0.2":
                    break
                self.strangers.add(sender[0])
            client.recv(10)
        except TimeoutError:
            self.unanswered += 1


@pytest.fixture
def talk(lab: PolicyLab) -> Iterator[Conversations]:
    with ExitStack() as closing:
        yield Conversations(lab, closing)
    lab.overlook()  # its raw sockets heard all of it, and may have no room for more


def test_other_marks_lose_nothing_and_let_nothing_through(
    lab: PolicyLab, agent: Agent, backend: Backend, talk: Conversations
) -> None:
    agent.converge(world(0xFFFF0000))
    talk.turn()
    for mask in MASKS:
        changing = threading.Thread(target=agent.converge, args=(world(mask),))
        changing.start()
        while changing.is_alive():
            talk.turn()
            changing.join(0.01)  # who talks without a pause takes the processor from who changes
        changing.join()
        talk.turn()
        assert (talk.unanswered, talk.strangers) == (0, set()), f"{mask:#x}"
        assert Agent(lab, backend).differences(world(mask)) == {}
    assert talk.asked > 4 * len(MASKS)


def test_what_the_kernel_refuses_while_the_marks_change_is_closed_and_nothing_else(
    lab: PolicyLab, agent: Agent, backend: Backend
) -> None:
    """The old chain would stand among new ones, and what it notes in its marks they would read otherwise."""
    to_c = policy("c", selector="app == 'c'", ingress=(rule(source=entity(nets=B_NETS)),))
    b_to_c = udp("10.65.0.2", "10.65.0.3")
    agent.converge(world(0xFFFF0000, to_c))
    assert lab.arrived([B_TO_A, b_to_c, C_TO_A], [B_TO_A, b_to_c]) == {B_TO_A, b_to_c}
    rows = {name: dict(merged(slices)) for name, slices in agent.planner(world(MASKS[0], to_c)).tables.items()}
    bad = next(key for key, row in rows["policy/4"].items() if "default/c" in str(row))
    missing_set = Match(source=Side(sets=("s-nobody",)), destination=ANYWHERE)
    rows["policy/4"][bad] = chained(PolicyChain("bad", (Rule(missing_set, rule().action),)), MASKS[0])
    plan = {name: (found,) for name, found in rows.items()}
    outcomes = lab.node.run(agent.reconciler.converge, plan, 1.0, may_delete=True)
    assert set(outcomes["policy/4"].failures) == {bad}
    assert lab.arrived([B_TO_A, b_to_c, C_TO_A], [B_TO_A]) == {B_TO_A}
    agent.converge(world(MASKS[0], to_c))
    assert lab.arrived([B_TO_A, b_to_c, C_TO_A], [B_TO_A, b_to_c]) == {B_TO_A, b_to_c}


def test_a_new_pod_waits_for_gates_that_speak_its_marks(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    """An agent that was restarted with another mask replaces nothing before it has heard all; what is new stays out."""
    agent.converge(replace(world(0xFFFF0000), local_workloads=inputs([A, B]).local_workloads))
    restarted = Agent(lab, backend)
    outcomes = lab.node.run(
        restarted.reconciler.converge, restarted.planner(world(MASKS[0])).tables, 1.0, may_delete=False
    )
    assert Key("endpoint", "fw-calic") in outcomes["policy/4"].failures
    to_c = udp("10.65.0.2", "10.65.0.3")
    assert lab.arrived([B_TO_A, C_TO_A, to_c], [B_TO_A]) == {B_TO_A}
    restarted.converge(world(MASKS[0]))
    assert lab.arrived([B_TO_A, C_TO_A, to_c], [B_TO_A, to_c]) == {B_TO_A, to_c}
