import pytest

from tests.support.fake_kernel import FakeKernel
from tests.support.states import STATES
from tests.support.walks import Agent, Walks, assert_is, assert_typed, prepare


@pytest.fixture
def kernel():
    return prepare(FakeKernel())


class TestWalksOnTheFakeKernel(Walks):
    pass


@pytest.mark.parametrize("state", STATES, ids=str)
def test_a_state_prints_as_a_person_would_type_it(state):
    assert_typed(state)


def test_every_pair_of_states_in_a_row(kernel):
    agent = Agent(kernel)
    for before in STATES:
        for after in STATES:
            agent.converge(before)
            agent.converge(after)
            assert_is(kernel, after)


def test_nothing_is_written_when_nothing_changes(kernel):
    agent = Agent(kernel)
    agent.converge(STATES[2])
    kernel.writes = 0

    agent.reconciler.distrust()
    agent.converge(STATES[2])

    assert kernel.writes == 0
