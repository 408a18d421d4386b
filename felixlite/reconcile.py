"""Making what is so equal to what is wanted: a table, a difference, and the order in which tables converge.

`converge` is the whole security and convergence policy of the agent:
- Rows are written in the order of the tables (guards before what they guard, announcements last), removed in reverse.
- Before the sources are in sync, what is missing is added; nothing is replaced and nothing removed.
- A guard that fails holds back whatever the later tables would newly open, and nothing else.  A row that could not be
  removed keeps the guards as they are.
- A key that fails is retried with a growing pause and never holds up its neighbours; a new wish for it is tried at
  once.
- A table is read when nothing is known of it, after a failure, and when somebody else may have touched it.  Between
  readings it is trusted, and only slices of the plan that are other objects than last time are compared.

Pure but for the tables that it is given: time comes in as `now`.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any, Final

from felixlite.mirrors import LOST, Mirror, seats
from felixlite.tables import Diff, Plan, Slices, Table, difference, look, merged
from felixlite.turn import Outcome, Spare, Turn

NO_SLICES: Final[Slices] = ({},)
IDLE: Final = Outcome()


class Reconciler:
    """The tables in their order, and what is known of each. Lives in the core thread."""

    def __init__(self, tables: Iterable[Table[Any, Any]]) -> None:
        self.tables = tuple(tables)
        self.mirrors = {table.name: Mirror(seats(table)) for table in self.tables}

    def distrust(self, name: str | None = None) -> None:
        """Read this table (or all) again before the next write: somebody else may have touched it.

        A table that this agent does not have is none of our business.
        """
        for mirror in [m for n, m in self.mirrors.items() if name in (None, n)]:
            mirror.rows = None
            mirror.impatient = True

    def retry(self) -> None:
        """Something changed that failed rows may have waited for: try them in the next round."""
        for mirror in self.mirrors.values():
            mirror.impatient = True

    def came_up(self, links: Iterable[str]) -> None:
        """These links are there (again): what sat on them may be lost, what failed for want of them may succeed."""
        self.retry()
        names = frozenset(links)
        for table in self.tables:
            mirror = self.mirrors[table.name]
            if mirror.rows and mirror.seats and (on_them := mirror.seats.upon(names, mirror.rows)):
                which: Callable[[Collection[Any]], Collection[Any]] | None = getattr(table, "lost", None)
                lost = dict.fromkeys(which(on_them) if which else on_them, LOST)
                mirror.again.update(lost)
                mirror.rows.update(lost)

    def retry_at(self) -> float | None:
        """When the next failed key wants another try."""
        mirrors = self.mirrors.values()
        return min(
            (f.retry_at for m in mirrors for f in ([m.unreadable] if m.unreadable else m.failures.values())),
            default=None,
        )

    @property
    def settled(self) -> bool:
        return all(mirror.settled for mirror in self.mirrors.values())

    def differences(self, plan: Plan) -> dict[str, Diff]:
        """What a converge with this plan would change, touching nothing."""
        wanted = {t.name: merged(plan.get(t.name, ({},)), t.name) for t in self.tables}
        return {t.name: difference(wanted[t.name], look(t, wanted[t.name])) for t in self.tables}

    def converge(self, plan: Plan, now: float, *, may_delete: bool, spare: Spare | None = None) -> dict[str, Outcome]:
        """One round. Answers what happened, per table. `spare` names rows that are not removed yet, though unwanted."""
        turns: dict[str, Turn] = {}
        closed = False
        foreign: set[Any] = set()
        for table in self.tables:
            mirror, slices = self.mirrors[table.name], plan.get(table.name, NO_SLICES)
            if mirror.is_idle(slices):
                continue
            step = turns[table.name] = Turn(table, mirror, slices, now)
            step.look()
            step.keep_off(foreign)
            step.write(only_new=not may_delete, only_known=closed)
            if step.written and hasattr(step.table, "remade") and (remade := step.table.remade()):
                self.came_up(remade)
            closed = closed or (step.table.guard and step.leaves_a_gap)
            foreign |= step.foreign
        lingering = False
        for step in reversed(turns.values()):
            step.remove(allowed=may_delete and not (step.table.guard and lingering), spare=spare)
            lingering = lingering or (not step.table.guard and step.removal_failed)
            step.remember()
        return {t.name: turns[t.name].outcome() if t.name in turns else IDLE for t in self.tables}
