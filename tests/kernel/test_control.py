import stat
import threading

import pytest

from felixlite.control import Control, ask
from felixlite.errors import FelixliteError, Misconfigured, Unreachable


def refuses(_question):
    raise FelixliteError("not today")


@pytest.fixture
def control(tmp_path):
    made = Control(tmp_path / "agent.sock", {"echo": lambda question: question["word"], "refuse": refuses})
    threading.Thread(target=made.run, daemon=True).start()
    yield made
    made.close()


def test_a_question_is_answered(control):
    assert ask(control.path, "echo", word="hello") == "hello"


def test_only_root_may_open_the_socket(control):
    assert stat.S_IMODE(control.path.stat().st_mode) == 0o600


def test_an_error_of_the_agent_reaches_the_one_who_asked(control):
    with pytest.raises(FelixliteError, match="not today"):
        ask(control.path, "refuse")


def test_an_unknown_question_is_told_which_are_known(control):
    with pytest.raises(FelixliteError, match=r"'what' is no question; known are echo, refuse"):
        ask(control.path, "what")


def test_asking_where_no_agent_is_says_what_to_look_at(tmp_path):
    with pytest.raises(Unreachable, match="is `felixlite agent` running"):
        ask(tmp_path / "agent.sock", "echo")


def test_a_second_agent_in_the_same_directory_is_refused(control):
    with pytest.raises(Misconfigured, match="another agent answers there"):
        Control(control.path, {})


def test_the_socket_of_a_dead_agent_is_taken_over(tmp_path):
    dead = Control(tmp_path / "agent.sock", {})
    dead._server.server_close()

    alive = Control(tmp_path / "agent.sock", {"echo": lambda question: question["word"]})
    threading.Thread(target=alive.run, daemon=True).start()

    assert ask(alive.path, "echo", word="again") == "again"
    alive.close()


def test_closing_ends_the_thread_that_listens(tmp_path):
    control = Control(tmp_path / "agent.sock", {"echo": lambda question: question["word"]})
    thread = threading.Thread(target=control.run, daemon=True)
    thread.start()
    assert ask(control.path, "echo", word="hello") == "hello"

    control.close()
    thread.join(60)

    assert not thread.is_alive()
