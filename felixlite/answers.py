"""What an agent answers on its control socket: status, settings, what it knows and wants, why, and what if.

Asks the core, writes nothing.  show.py turns what the core says into values that print well; control.py carries them.
"""

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Protocol

from felixlite import show
from felixlite.addresses import Prefix
from felixlite.bgp import tell
from felixlite.bgp.exabgp import Speaker
from felixlite.datastore import source
from felixlite.datastore.source import Source
from felixlite.datastore.store import Store
from felixlite.duties import Duties
from felixlite.errors import FelixliteError
from felixlite.figures import of_costs, of_policy, of_rules
from felixlite.health import Sample
from felixlite.intake import READERS, Intake, policies_read_by
from felixlite.ipip.carrier import Choice
from felixlite.kernel import events
from felixlite.loop import Loop
from felixlite.model.resource import identified
from felixlite.plan import NodePlanner
from felixlite.policy import kubernetes
from felixlite.policy.apart import Refused
from felixlite.policy.backend import PolicyTable, tally
from felixlite.policy.choice import Backend
from felixlite.policy.costs import ACCOUNT
from felixlite.policy.counting import Tally
from felixlite.policy.explain import Known, explained
from felixlite.policy.foreign import rewriting_rules
from felixlite.policy.members import FAMILIES
from felixlite.policy.plan import table_name
from felixlite.policy.question import from_values
from felixlite.policy.rows import Key, Row
from felixlite.snapshot import Put, fold
from felixlite.tables import difference, merged

DOCUMENTS = {**READERS, kubernetes.KIND: policies_read_by(kubernetes.policy)}  # what it watches, and who reads it

Answer = Callable[[dict[str, Any]], Any]


class HasError(Protocol):
    error: str  # empty: it works


@dataclass(frozen=True, slots=True)
class Answers:
    loop: Loop
    planner: NodePlanner
    speaker: Speaker
    store: Store
    source: Source
    duties: Duties
    others: Sequence[HasError]  # what else may not work here
    ipip: Choice

    def by_word(self) -> dict[str, Answer]:
        ask = self.loop.ask
        return {
            "status": lambda _: self.status(),
            "config": lambda _: show.config(self.planner.settings(self.loop.snapshot)),
            "snapshot": lambda _: show.snapshot(self.loop.snapshot),
            "plan": lambda _: list(show.plan_lines(self.loop.planned.tables)),
            "diff": lambda _: ask(lambda loop: list(show.diff_lines(loop.reconciler.differences(loop.planned.tables)))),
            "why": lambda question: self.why(str(question.get("key", ""))),
            "what-if": lambda question: self.what_if(question.get("documents", [])),
            "hits": lambda question: self.hits(int(question.get("family", 4))),
            "explain": lambda question: self.explain(question.get("packet", {})),
            "bgp": lambda question: self.bgp(str(question.get("what", "")), str(question.get("argument", ""))),
        }

    def status(self) -> dict[str, Any]:
        found = show.status(self.loop)
        found["store"] = self.store.address
        found["pid"] = os.getpid()
        found["ipip"] = self.ipip.carrier
        found["notes"] += [self.ipip.warning] if self.ipip.warning else []
        found["notes"] += self.foreign_nat()
        for table in self.policy_tables():
            found["tables"][table.name] |= {"backend": table.backend, "because": table.why}
        found["sources"] = {
            name: {"in_sync": name in self.loop.snapshot.in_sync} for name in (source.NAME, events.SOURCE)
        }
        health = self.source.health
        found["sources"][source.NAME]["detail"] = f"{health.state}, {health.lists} lists, {health.events} events"
        if not health.is_well and health.last_error:
            found["degraded"].append(f"{source.NAME}: {health.last_error}")
        found["degraded"] += [each.error for each in self.others if each.error]
        found["degraded"] += [f"{duty.name}: {duty.error}" for duty in self.duties.duties if duty.error]
        return found

    def foreign_nat(self) -> list[str]:
        """What would take pods' addresses from them, unless it is kept away."""
        known = self.loop.snapshot
        if self.planner.settings(known)["keepPodAddresses"]:
            return []
        found = rewriting_rules([pool.cidr for pool in known.pools.values()])
        return [f"{rule}: rewrites what pods send to pods; keepPodAddresses keeps it away" for rule in found]

    def hits(self, family: int) -> dict[str, Any]:
        """How often each rule of each policy that is in force here has matched, and what nothing allowed."""
        _, _, found = self._tally(family)
        return {"rules": [hit._asdict() for hit in found.hits], "unmatched": found.unmatched}

    def explain(self, packet: Mapping[str, Any]) -> dict[str, Any]:
        """What becomes of a packet by what this agent enforces: its settings, the last good version of what is invalid."""
        known = self.loop.ask(self._enforced)
        if known is None:
            raise FelixliteError("it has not read the store yet")
        return explained(known, from_values(packet))

    def _enforced(self, loop: Loop) -> Known | None:
        planned = self.planner.policy
        return (
            Known.of(loop.snapshot, planned.last) if planned.started and source.NAME in loop.snapshot.in_sync else None
        )

    def samples(self) -> Iterator[Sample]:
        """What policy denies. A backend that cannot be read now is a failing table, and told as that."""
        for family in FAMILIES:
            with suppress(Refused):
                backend, wanted, found = self._tally(family)
                yield from of_policy(found, family)
                yield from of_rules(found, wanted, family, nft=backend == "nftables")
        yield from of_costs(ACCOUNT.by_program())

    def policy_tables(self) -> list[PolicyTable]:
        return [table for table in self.loop.reconciler.tables if isinstance(table, PolicyTable)]

    def _tally(self, family: int) -> tuple[Backend, Mapping[Key, Row], Tally]:
        name = table_name(family)
        (table,) = (table for table in self.policy_tables() if table.name == name)
        wanted = merged(self.loop.planned.tables.get(name, ({},)))
        return table.backend, wanted, tally(family, table.backend, wanted)

    def bgp(self, what: str, argument: str) -> Any:
        speech, own = self.loop.ask(lambda loop: self.planner.speech(loop.snapshot))
        tables = self.loop.planned.tables
        with self.speaker.lock:
            told = merged(tables.get(self.speaker.announcements.name, ({},)))
            return tell.answer(tell.Known(self.speaker.sessions, told, speech, own), what, argument)

    def why(self, text: str) -> list[str]:
        """Why traffic for a prefix goes where it goes."""
        try:
            prefix = Prefix.parse(text)
        except ValueError as error:
            raise FelixliteError(f"{error}: give a prefix such as 192.168.92.128/26, or an address") from None
        return self.planner.why(self.loop.snapshot, prefix)

    def what_if(self, documents: list[dict[str, Any]]) -> list[str]:
        """What documents would change on this node: fold them into what is known, plan, and compare. Touches nothing."""
        intake = Intake(self.loop.snapshot.here, DOCUMENTS)
        changes = [change for document in documents for change in intake.changes(_identity(document), document)]
        if problems := [
            str(change.value) for change in changes if isinstance(change, Put) and change.kind == "rejected"
        ]:
            raise FelixliteError("\n".join(problems))

        def compared(loop: Loop) -> list[str]:
            # as things will be when every node has moved: nobody is waited for
            planner, now = NodePlanner(replace(self.planner.given, patient=False)), time.monotonic()
            before = planner(loop.snapshot, now).tables
            after = planner(fold(loop.snapshot, changes), now).tables
            tables = {name: difference(merged(after[name]), merged(before[name])) for name in after}
            return list(show.diff_lines(tables))

        return self.loop.ask(compared)


def _identity(document: dict[str, Any]) -> tuple[str, str, str]:
    kind = identified(document)
    metadata = document.get("metadata") or {}
    return kind.name, str(metadata.get("name", "")), str(metadata.get("namespace", ""))
