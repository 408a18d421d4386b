"""What holds for all tests: on CI nothing is skipped silently.

A test that needs a thing which is absent says what is absent and counts as skipped; where CI=true, every skip fails the
run, because everything that a test may need is installed there by `./run`.
"""

import gc
import os

import pytest
from hypothesis import HealthCheck, settings

pytest.register_assert_rewrite("tests.support.kernel_contract", "tests.support.walks")

# a busy machine is no failure: how long an example takes is the benches' business
settings.register_profile("felixlite", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("felixlite")


@pytest.fixture(scope="module", autouse=True)
def past_is_past() -> None:
    """What earlier files left in memory is not walked by every later collection: it made the last files ten times slower."""
    gc.collect()
    gc.freeze()


def pytest_sessionfinish(session: pytest.Session) -> None:
    reporter = session.config.pluginmanager.get_plugin("terminalreporter")
    if os.environ.get("CI") == "true" and reporter and reporter.stats.get("skipped"):
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    for report in terminalreporter.stats.get("skipped", []):
        terminalreporter.write_line(f"skipped: {report.nodeid}: {report.longrepr[2] if report.longrepr else ''}")
