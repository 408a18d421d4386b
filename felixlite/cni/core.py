"""What the plugin's server needs of the agent: to be told that a workload's rows are in the kernel, and how things are.

`agent.py` fills this in from the loop; the tests fill it in from a Reconciler of their own.
"""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import CancelledError, Future
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

from felixlite.cni.errors import CniError, Code
from felixlite.datastore.store import Key
from felixlite.model.inside import Workload
from felixlite.precedence import Precedence
from felixlite.rows import RouteKey
from felixlite.snapshot import Change, LinkState
from felixlite.tables import Diff
from felixlite.turn import READING, Outcome

Ahead = Callable[[Key, str | None, Callable[[], "Future[Any]"]], "Future[Any]"]
READY: tuple[int, str] = (0, "")


class Told(Protocol):
    """What one round of the core did (loop.Round)."""

    @property
    def outcomes(self) -> Mapping[str, Outcome]: ...


@dataclass(frozen=True, slots=True)
class Core:
    """`submit`: the future is done when the round that folded the changes has converged.

    `state` answers (0, "") or the code that STATUS answers (50, 51) and why; `mtu` the right MTU for a new pod, if it
    is known, `most_mtu` what it would be without tunnels; `differences` what a converge would change now, table by
    table; `has_namespace` whether the store can know more about the pods of a Kubernetes namespace (a round trip that is
    spared where there is no Kubernetes); `ahead` calls what submits a change that was just written to the store, and
    keeps back what the store's watch says of the time before (datastore/source.py); within `making` the kernel's word of a
    link of that name is kept back, and what `made` was told of it is believed (kernel/expected.py).
    """

    submit: Callable[[Sequence[Change]], "Future[Any]"]
    state: Callable[[], tuple[int, str]] = lambda: READY
    mtu: Callable[[], int | None] = lambda: None
    differences: Callable[[], Mapping[str, Diff]] = field(default=dict)
    has_namespace: Callable[[str], bool] = lambda _name: True
    ahead: Ahead = lambda _key, _revision, tell: tell()
    most_mtu: Callable[[], int | None] = lambda: None
    making: Callable[[str], AbstractContextManager[None]] = lambda _link: nullcontext()
    made: Callable[[LinkState], None] = lambda _link: None
    precedence: Precedence = field(default_factory=Precedence)


def wait_for(coming: "Future[Any]", seconds: float) -> Told:
    """The round that folded the changes."""
    try:
        told: Told = coming.result(timeout=max(0.0, seconds))
    except CancelledError:
        raise CniError(Code.TRY_AGAIN_LATER, "the felixlite agent is stopping") from None
    except TimeoutError:
        raise CniError(
            Code.TRY_AGAIN_LATER, "the agent's rows were not in the kernel in time", "see `felixlite status`"
        ) from None
    return told


def unsettled(told: Told, workload: Workload) -> str:
    """Why the workload is not behind its policy and reachable yet; "" when it is.

    A round that held rows back may have held back this workload's: fail closed.
    """
    for table, outcome in told.outcomes.items():
        for key, failure in outcome.failures.items():
            if concerns(key, workload):
                return f"{table}: {key}: {failure.error}"
    for table, outcome in told.outcomes.items():
        if outcome.held_back:
            broken = next(
                (f"{name}: {key}: {f.error}" for name, o in told.outcomes.items() for key, f in o.failures.items()), ""
            )
            return f"{table}: {outcome.held_back} rows are held back because policy could not be written: {broken}"
    return ""


def concerns(key: object, workload: Workload) -> bool:
    """Is this key of some table about the workload? A table that cannot be read is about everybody."""
    if key == READING:
        return True
    if isinstance(key, RouteKey):
        return key.prefix in workload.addresses
    return workload.interface in str(key)
