"""The agent's log: one event is one line, for people or as JSON; level and form change while it runs.

2026-01-02 03:04:05,678 INFO    round 7 (pools): routes+2-0 in 1.2 ms
{"time": "2026-01-02T03:04:05.678Z", "level": "info", "event": "round 7 (pools): routes+2-0 in 1.2 ms", "node": "n1"}
"""

import json
import logging
import time

LOG = logging.getLogger("felixlite")
TEXT = "%(asctime)s %(levelname)-7s %(message)s"


class JsonLines(logging.Formatter):
    def __init__(self, node: str) -> None:
        super().__init__()
        self.node = node

    def format(self, record: logging.LogRecord) -> str:
        at = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        line = {
            "time": f"{at}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "node": self.node,
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return json.dumps(line)


class Output(logging.StreamHandler):  # type: ignore[type-arg]  # a stream of text
    """Where the lines go; counts what was bad."""

    def __init__(self, node: str) -> None:
        super().__init__()
        self.forms = {"Text": logging.Formatter(TEXT), "JSON": JsonLines(node)}
        self.errors = 0
        self.follow("Text", "Info")

    def emit(self, record: logging.LogRecord) -> None:
        self.errors += record.levelno >= logging.ERROR
        super().emit(record)

    def follow(self, form: str, level: str) -> None:
        self.setFormatter(self.forms[form])
        LOG.setLevel("CRITICAL" if level == "Fatal" else level.upper())


def begin(node: str) -> Output:
    """Everything that this process logs goes through one output from now on."""
    output = Output(node)
    logging.basicConfig(handlers=[output])
    return output
