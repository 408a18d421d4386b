"""`felixlite explain A B` beside an agent that answers one question and not another: what is known is shown."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from felixlite.cli.main import run
from felixlite.cli.session import Session
from felixlite.control import Answers, Control
from felixlite.errors import FelixliteError
from felixlite.policy.explain import Known, explained
from felixlite.policy.inputs import Inputs
from felixlite.policy.question import from_values
from tests.support.command import Lasting

HITS = {"rules": [], "unmatched": []}
VERDICT = "10.65.0.1 -> 10.65.0.2 TCP port 80 is allowed"


def judges(question: dict[str, Any]) -> dict[str, Any]:
    return explained(Known(Inputs()), from_values(question["packet"]))


def refuses(_: dict[str, Any]) -> None:
    raise FelixliteError("the policy table is being moved")


@contextmanager
def answering(directory: Path, answers: Answers) -> Iterator[None]:
    control = Control(directory / "agent.sock", answers)
    threading.Thread(target=control.run, daemon=True).start()
    try:
        yield
    finally:
        control.close()


@pytest.mark.parametrize(
    ("answers", "missing", "route"),
    [
        ({"explain": judges, "hits": lambda _: HITS, "why": lambda _: ["it is pod b's"]}, [], True),
        ({"explain": judges, "hits": refuses, "why": lambda _: ["it is pod b's"]}, ["the counters"], True),
        ({"explain": judges, "hits": lambda _: HITS, "why": refuses}, ["the route"], False),
        ({"explain": judges, "hits": refuses, "why": refuses}, ["the counters", "the route"], False),
        ({"explain": refuses, "hits": lambda _: HITS, "why": refuses}, ["what the agent enforces", "the route"], False),
    ],
)
def test_what_the_agent_does_not_answer_is_said_and_the_rest_is_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], answers: Answers, missing: list[str], route: bool
) -> None:
    with answering(tmp_path, answers):
        words = ["explain", "10.65.0.1", "10.65.0.2", "--port", "80", "--run-dir", str(tmp_path)]
        code = run(words, Session(connect=lambda _: Lasting(), url="memory://"))
    printed = capsys.readouterr()
    assert (code, printed.out.splitlines()[0]) == (0, VERDICT)
    assert printed.err.splitlines() == [f"warning: without {it}: the policy table is being moved" for it in missing]
    assert ("it is pod b's" in printed.out) is route
