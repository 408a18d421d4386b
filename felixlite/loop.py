"""The core thread: inbox -> fold -> plan -> converge -> report, over and over.

One thread owns the Snapshot and the tables.  Sources put Changes into the inbox from their own threads; the inbox is
drained whole before each round, so a burst is one round, and there is no pause before a round.  Between rounds the
thread sleeps until something arrives, a failed key wants another try, a planner asked to be called again at some time,
or the resync tick is due.

What happened is returned, not logged: `report` gets every Round (agent.py turns it into a line of the log).
"""

import queue
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final, Protocol, TypeVar

from felixlite import collector
from felixlite.errors import FelixliteError
from felixlite.mirrors import Failure
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Change, Put, Snapshot, fold, links_that_came_up
from felixlite.tables import Plan
from felixlite.turn import READING, Outcome, Spare

T = TypeVar("T")

PLANNING: Final = "planning"  # stands among the tables of a Round for the plan as a whole
AGAIN: Final = 10.0  # seconds until a plan that failed is tried again, if nothing changes before
BREATH: Final = 0.0003  # seconds in which whoever waited for a round may answer, before it is told to others


@dataclass(frozen=True, slots=True)
class Planned:
    """What a planner answers: all that is wanted, and when it wants to be asked again though nothing changed."""

    tables: Plan
    notes: Callable[[float], Sequence[str]] = (
        lambda _now: ()  # what a person should know, when one asks: why something is not in the plan
    )
    ask_again_at: float | None = None
    may_remove: bool = True  # False: the planner does not know enough to say that something is unwanted
    spare: Spare | None = None  # ... or not about these rows


class PlanningError(FelixliteError):
    """A planner stumbled over something that the border should not have let in."""

    def __init__(self, error: Exception) -> None:
        where = traceback.extract_tb(error.__traceback__)[-1]
        super().__init__(
            f"nothing new is planned, what was planned before stays: {error!r} in {Path(where.filename).name}, "
            f"line {where.lineno}; take back what was changed last, and report this"
        )
        self.__cause__ = error


class Planner(Protocol):
    def __call__(self, snapshot: Snapshot, now: float) -> Planned: ...


@dataclass(frozen=True, slots=True)
class Round:
    """One round of the loop, told afterwards."""

    number: int
    cause: str
    seconds: float
    changes: int
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)
    planning: float = 0.0  # of the seconds, until it was known what to write

    @property
    def failures(self) -> Mapping[str, Mapping[Any, Failure]]:
        return {name: outcome.failures for name, outcome in self.outcomes.items() if outcome.failures}

    @property
    def quiet(self) -> bool:
        return not any(o.written or o.removed or o.failures or o.recovered for o in self.outcomes.values())


@dataclass(frozen=True, slots=True)
class _Fold:
    changes: Sequence[Change]
    done: "Future[Round] | None"


@dataclass(frozen=True, slots=True)
class _Touched:
    table: str | None


@dataclass(frozen=True, slots=True)
class _Ask:
    question: Callable[["Loop"], Any]
    answer: "Future[Any]"


class Loop:
    """`needs` names the sources that must be in sync before anything is removed."""

    def __init__(
        self,
        snapshot: Snapshot,
        planner: Planner,
        reconciler: Reconciler,
        *,
        needs: Iterable[str] = (),
        resync_every: float = 90.0,
        report: Callable[[Round, Snapshot], None] = lambda _round, _snapshot: None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.snapshot = snapshot
        self.planner = planner
        self.reconciler = reconciler
        self.needs = frozenset(needs)
        self.resync_every = resync_every
        self.planned = Planned({})
        self.fault: Failure | None = None  # why `planned` is not of this snapshot
        self.last_round: Round | None = None
        self.rounds = 0
        self._report = report
        self._clock = clock
        self._inbox: queue.SimpleQueue[_Fold | _Touched | _Ask | None] = queue.SimpleQueue()
        self._next_resync = clock() + resync_every

    # -- from any thread

    def put(self, changes: Sequence[Change]) -> None:
        self._inbox.put(_Fold(changes, None))

    def submit(self, changes: Sequence[Change]) -> "Future[Round]":
        """The future is done when the round that folded these changes has converged."""
        done: Future[Round] = Future()
        self._inbox.put(_Fold(changes, done))
        return done

    def touched(self, table: str | None = None) -> None:
        """Somebody else changed an object of this table (None: of any): look again."""
        self._inbox.put(_Touched(table))

    def ask(self, question: Callable[["Loop"], T], timeout: float = 10.0) -> T:
        """Run a question in the core thread, where the tables may be read."""
        answer: Future[T] = Future()
        self._inbox.put(_Ask(question, answer))
        return answer.result(timeout)

    def stop(self) -> None:
        self._inbox.put(None)

    def notes(self) -> Sequence[str]:
        return self.planned.notes(self._clock())

    @property
    def in_sync(self) -> bool:
        return self.needs <= self.snapshot.in_sync

    @property
    def settled(self) -> bool:
        """Every table has converged at least once since the sources were in sync, and nothing is failing."""
        return self.in_sync and self.fault is None and self.reconciler.settled

    # -- the core thread

    def run(self) -> None:
        while self.step(self._patience()):
            pass

    def step(self, patience: float | None) -> bool:
        """Wait for something to do and do it. False when told to stop."""
        messages = self._drain(patience)
        if None in messages:
            self._fail_the_waiting(messages)
            return False
        questions = [m for m in messages if isinstance(m, _Ask)]
        if work := [m for m in messages if not isinstance(m, _Ask)]:
            self._round(work, _cause(work))
        elif not questions or self._is_due():
            self._round([], "resync" if self._clock() >= self._next_resync else "retry")
        for question in questions:
            _answer(question, self)
        return True

    def _drain(self, patience: float | None) -> "list[_Fold | _Touched | _Ask | None]":
        messages = []
        try:
            messages.append(self._inbox.get(timeout=patience))
            while True:
                messages.append(self._inbox.get_nowait())
        except queue.Empty:
            return messages

    def _wake_at(self) -> float:
        times = [self._next_resync, self.planned.ask_again_at, self.reconciler.retry_at()]
        return min(t for t in times if t is not None)

    def _patience(self) -> float:
        return min(3600.0, max(0.0, self._wake_at() - self._clock()))  # the resync may be switched off

    def _is_due(self) -> bool:
        return self._wake_at() <= self._clock()

    def _round(self, work: "Sequence[_Fold | _Touched | None]", cause: str) -> None:
        began = self._clock()
        changes, waiting = _gathered(work)
        before, self.snapshot = self.snapshot, fold(self.snapshot, changes)
        if self.last_round and self._is_old_news(work, before) and began < self._next_resync:
            for done in waiting:
                done.set_result(self.last_round)
            return
        if began >= self._next_resync:
            self._next_resync = began + self.resync_every
            self.reconciler.distrust()
        for message in work:
            if isinstance(message, _Touched):
                self.reconciler.distrust(message.table)
        if came_up := links_that_came_up(before.links, changes):
            self.reconciler.came_up(came_up)
        elif any(isinstance(change, Put) and change.kind in ("links", "link_addresses") for change in changes):
            self.reconciler.retry()  # a gateway may be in reach now
        with collector.paused():
            stumbled = self._plan(began)
            planned = self._clock()
        outcomes = self.reconciler.converge(
            self.planned.tables,
            began,
            may_delete=self.in_sync and self.planned.may_remove,
            spare=self.planned.spare,
        )
        outcomes |= stumbled
        self.rounds += 1
        told = Round(self.rounds, cause, self._clock() - began, len(changes), outcomes, planned - began)
        self.last_round = told
        for done in waiting:
            done.set_result(told)
        if waiting:
            time.sleep(BREATH)
        self._report(told, self.snapshot)

    def _plan(self, now: float) -> dict[str, Outcome]:
        """No object, however odd, ends the agent: what was planned before it came stays in force, and nothing is removed."""
        try:
            self.planned, self.fault = self.planner(self.snapshot, now), None
        except Exception as error:  # noqa: BLE001  which object it was a planner cannot know; it is said, and tried again
            attempts, since = (self.fault.attempts + 1, self.fault.since) if self.fault else (1, now)
            self.fault = Failure(PlanningError(error), attempts, now + AGAIN, since)
            self.planned = replace(self.planned, ask_again_at=now + AGAIN, may_remove=False)
            return {PLANNING: Outcome(failures={READING: self.fault})}
        return {}

    def _is_old_news(self, work: "Sequence[_Fold | _Touched | None]", before: Snapshot) -> bool:
        """It changes nothing: mostly an echo of what this node has done itself, and then the last round's word holds.
        Not for who waits while something is still to be tried again, and not for who asks for a round (no changes)."""
        if not work or self.snapshot is not before:
            return False
        settled = self.reconciler.settled
        return all(isinstance(m, _Fold) and (not m.done or (settled and m.changes)) for m in work)

    def _fail_the_waiting(self, messages: "Sequence[_Fold | _Touched | _Ask | None]") -> None:
        for message in messages:
            match message:
                case _Fold(_, done) if done:
                    done.cancel()
                case _Ask(_, answer):
                    answer.cancel()


def _gathered(work: "Sequence[_Fold | _Touched | None]") -> "tuple[list[Change], list[Future[Round]]]":
    """All changes in their order, and who waits for the round."""
    folds = [message for message in work if isinstance(message, _Fold)]
    return [change for one in folds for change in one.changes], [one.done for one in folds if one.done]


def _cause(work: "Sequence[_Fold | _Touched | None]") -> str:
    kinds: dict[str, int] = {}
    for message in work:
        match message:
            case _Fold(changes, _):
                for change in changes:
                    name = getattr(change, "kind", None) or f"{getattr(change, 'source', '')} in sync"
                    kinds[name] = kinds.get(name, 0) + 1
            case _Touched(table):
                kinds[f"{table or 'everything'} touched"] = 1
    return ", ".join(name if count == 1 else f"{name} x{count}" for name, count in kinds.items())


def _answer(question: _Ask, loop: Loop) -> None:
    try:
        question.answer.set_result(question.question(loop))
    except Exception as error:  # noqa: BLE001  whoever asked gets the error; the loop goes on
        question.answer.set_exception(error)
