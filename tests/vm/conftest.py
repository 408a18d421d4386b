"""Tests of this folder run in the guest: one boot for all of them, and their reports are told here as if they had run
on the host.

The host's pytest collects them; at the first one the guest is booted and runs pytest on all that were chosen.  There,
this same file writes every report down; here it is read back.  So -k, -x, --junitxml and the counts work as ever.
"""

import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from sysconfig import get_path
from typing import Any

import pytest

from tests.vm import guest

IN_GUEST = "FELIXLITE_GUEST"
LONGEST = 1200.0  # seconds for all of them, on a machine that is busy: emulated, what is slow is slower still
HERE = Path(__file__).parent
# else importing it asks gcc, ldconfig and setuptools where things are: in the guest, up to forty seconds
PYTHON_IPTABLES = {
    "IPTABLES_LIBDIR": get_path("purelib"),
    "XTABLES_LIBDIR": ":".join(map(str, Path("/usr/lib").glob("*/xtables"))),
    "SETUPTOOLS_USE_DISTUTILS": "stdlib",
}

_reports: dict[str, list[dict[str, Any]]] | None = None
_output = ""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Whoever is first waits for all of them: pytest-timeout's patience is for one, and the guest's is asked here."""
    if not os.environ.get(IN_GUEST):
        for item in items:
            if HERE in item.path.parents:
                item.add_marker(pytest.mark.timeout(LONGEST + 60))


def pytest_runtest_protocol(item: pytest.Item, nextitem: pytest.Item | None) -> bool | None:
    if os.environ.get(IN_GUEST) or HERE not in item.path.parents:
        return None  # the ordinary way; pytest asks every conftest about every test
    global _reports, _output  # one boot a session, whoever asks first
    if _reports is None:
        chosen = [other.nodeid for other in item.session.items if HERE in other.path.parents]
        _reports, _output = in_guest(item.config, chosen)
    item.ihook.pytest_runtest_logstart(nodeid=item.nodeid, location=item.location)
    for data in _reports.get(item.nodeid) or [missing(item)]:
        report = item.config.hook.pytest_report_from_serializable(config=item.config, data=data)
        item.ihook.pytest_runtest_logreport(report=report)
    item.ihook.pytest_runtest_logfinish(nodeid=item.nodeid, location=item.location)
    return True


def in_guest(config: pytest.Config, chosen: list[str]) -> tuple[dict[str, list[dict[str, Any]]], str]:
    """The reports by test, and what the guest's pytest printed."""
    found: dict[str, list[dict[str, Any]]] = defaultdict(list)
    with tempfile.TemporaryDirectory(prefix="guest-") as name:
        job = Path(name)
        argv = [sys.executable, "-m", "pytest", "-q", "-p", "no:randomly", *chosen]
        environment = {IN_GUEST: "1", "PYTHONDONTWRITEBYTECODE": "1", **PYTHON_IPTABLES}
        try:
            output = guest.run(argv, job, environment, LONGEST).output
        except guest.GuestFailed as error:
            output = str(error)
        reports = job / "reports"
        for line in reports.read_text().splitlines() if reports.exists() else []:
            data = json.loads(line)
            found[data["nodeid"]].append(data)
    return found, output


def missing(item: pytest.Item) -> dict[str, Any]:
    """The report of a test that the guest never came to: it failed."""
    return {
        "$report_type": "TestReport",
        "nodeid": item.nodeid,
        "location": list(item.location),
        "keywords": {},
        "outcome": "failed",
        "longrepr": f"the guest brought no result of this test\n{_output}",
        "when": "call",
        "sections": [],
        "duration": 0.0,
        "start": 0.0,
        "stop": 0.0,
        "user_properties": [],
    }


class Scribe:
    """In the guest: writes every report down."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        data = self.config.hook.pytest_report_to_serializable(config=self.config, report=report)
        with (guest.JOB / "reports").open("a") as reports:
            reports.write(json.dumps(data) + "\n")


def pytest_configure(config: pytest.Config) -> None:
    if os.environ.get(IN_GUEST):
        config.pluginmanager.register(Scribe(config))
