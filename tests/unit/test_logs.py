"""One event is one line, in the form and from the level that the configuration says at the time."""

import io
import json
import logging

import pytest

from felixlite.logs import LOG, Output


@pytest.fixture
def output():
    made = Output("n1")
    made.setStream(io.StringIO())
    LOG.addHandler(made)
    yield made
    LOG.removeHandler(made)
    LOG.setLevel(logging.NOTSET)


def lines(output):
    return output.stream.getvalue().splitlines()


def test_form_and_level_change_while_it_runs(output):
    LOG.info("one")
    output.follow("JSON", "Warning")
    LOG.info("two")
    LOG.warning("three\nin two lines")
    output.follow("Text", "Debug")
    LOG.debug("four")

    first, second, third = lines(output)
    assert first.endswith("INFO    one")
    assert {"level": "warning", "event": "three\nin two lines", "node": "n1"}.items() <= json.loads(second).items()
    assert third.endswith("DEBUG   four")


def test_errors_are_counted_and_carry_their_traceback(output):
    output.follow("JSON", "Info")
    try:
        int("broken")
    except ValueError:
        LOG.exception("a thread died")

    assert output.errors == 1
    assert "ValueError: invalid literal" in json.loads(lines(output)[0])["traceback"]


def test_fatal_is_what_the_reference_calls_critical(output):
    output.follow("Text", "Fatal")
    LOG.error("quiet")
    LOG.critical("loud")

    assert [line.rpartition(" ")[2] for line in lines(output)] == ["loud"]
