"""The walk through the lab: every command does what it shows, and the lab is afterwards as it was."""

import re
from pathlib import Path

from felixlite.lab.tour import STEPS, prepared, walked

DOCUMENT = Path(__file__).parents[2] / "docs/tour.md"
DENIED = ("ctl explain n3-a n2-a", "exec n3-a -- ping")  # what policy forbids, in the step about it


def test_every_step_of_the_tour_runs_and_leaves_the_lab_as_it_was(lab):
    names = prepared(lab)
    for step in STEPS:
        for shown in walked(lab, step, names):
            denied = any(words in shown.command.replace(f" --name {lab.topology.name}", "") for words in DENIED)
            assert shown.code == int(denied), f"{shown.command}\n{shown.output}"
            if "capture" in shown.command:
                assert " > " in shown.output

    lab.wait_until_green(60)
    assert '"ipipMode": "CrossSubnet"' in lab.felixlite("get", "ippool", "default-ipv4-ippool", "-o", "json")


def test_the_written_walk_has_the_same_steps():
    headings = re.findall(r"^## \d+\. (.*)$", DOCUMENT.read_text(), re.MULTILINE)
    commands = re.findall(r"^\$ felixlite lab ", DOCUMENT.read_text(), re.MULTILINE)

    assert headings == [step.title for step in STEPS]
    assert len(commands) == sum(len(step.commands) for step in STEPS)
