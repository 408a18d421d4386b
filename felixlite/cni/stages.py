"""Where the time of an ADD goes: seconds for each of its stages, summed up for the metrics and the bench.

A stage begins where the one before it ended, so that together they are the whole time between the plugin's connecting
and its answer.  Only ADDs that worked are counted: what a failed one waited for is said in its error.
"""

import threading
import time

from felixlite.health import Sample

NAME = "felixlite_cni_add_seconds"
MEANING = {
    f"{NAME}_sum": "Seconds that ADDs of the CNI plugin spent in this stage.",
    f"{NAME}_count": "ADDs of the CNI plugin that worked.",
}


class Stopwatch:
    """Of one request. Belongs to the thread that works on it."""

    def __init__(self, began: float | None = None) -> None:
        self._last = time.perf_counter() if began is None else began
        self.laps: dict[str, float] = {}

    def lap(self, stage: str) -> None:
        """The stage of that name ends now."""
        now = time.perf_counter()
        self.laps[stage] = self.laps.get(stage, 0.0) + now - self._last
        self._last = now


class Stages:
    """From any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._sums: dict[str, float] = {}
        self._count = 0

    def add(self, stopwatch: Stopwatch) -> None:
        with self._lock:
            self._count += 1
            for stage, seconds in stopwatch.laps.items():
                self._sums[stage] = self._sums.get(stage, 0.0) + seconds

    def samples(self) -> list[Sample]:
        with self._lock:
            sums = [_sample(f"{NAME}_sum", seconds, ("stage", stage)) for stage, seconds in self._sums.items()]
            return [*sums, _sample(f"{NAME}_count", self._count)]


def _sample(name: str, value: float, *labels: tuple[str, str]) -> Sample:
    return Sample(name, value, MEANING[name], labels)
