"""What the packet filter's programs were asked and what it cost, for the metrics. Counts; decides nothing.

One account for the whole process: the tables, the watchers and whoever scrapes the metrics all run the same programs.
"""

import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace


@dataclass(slots=True)
class Cost:
    calls: int = 0
    errors: int = 0
    lines: int = 0  # of text that were given
    seconds: float = 0.0


class Account:
    def __init__(self) -> None:
        self._costs: dict[str, Cost] = {}
        self._lock = threading.Lock()

    @contextmanager
    def charged(self, program: str, text: str = "") -> Iterator[None]:
        """The body is one call; an exception is its failure."""
        began, failed = time.perf_counter(), True
        try:
            yield
            failed = False
        finally:
            took = time.perf_counter() - began
            with self._lock:
                cost = self._costs.setdefault(program, Cost())
                cost.calls += 1
                cost.errors += failed
                cost.lines += text.count("\n")
                cost.seconds += took

    def by_program(self) -> Mapping[str, Cost]:
        with self._lock:
            return {name: replace(cost) for name, cost in self._costs.items()}


ACCOUNT = Account()
LIBRARY = "libnftables"  # no process of its own
