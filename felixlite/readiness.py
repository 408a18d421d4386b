"""Whether this node's agent is alive, whether all of it is so, and whether pods can be attached now: asked of the loop."""

from concurrent.futures import CancelledError

from felixlite.cni.core import READY
from felixlite.cni.errors import Code
from felixlite.loop import Loop


class Readiness:
    def __init__(self, loop: Loop) -> None:
        self._loop = loop

    def of_cni(self) -> tuple[int, str]:
        """Whether pods can be attached now (CNI STATUS)."""
        if missing := sorted(self._loop.needs - self._loop.snapshot.in_sync):
            return Code.NOT_AVAILABLE, f"the felixlite agent of this node still waits for {', '.join(missing)}"
        if (told := self._loop.last_round) and (failures := told.failures):
            table, rows = next(iter(failures.items()))
            return Code.LIMITED, f"{table}: {next(iter(rows.values())).error}; see `felixlite status`"
        return READY

    def liveness(self) -> tuple[int, str]:
        try:
            self._loop.ask(lambda _: None, timeout=5.0)
        except (TimeoutError, CancelledError):  # cancelled: told to stop
            return 503, "the core did not answer within 5 s\n"
        return 200, "the core takes part in life\n"

    def readiness(self) -> tuple[int, str]:
        code, why = self.of_cni()
        return (503, why + "\n") if code else (200, "every table has converged\n")
