"""What this node says, in its Node, that it accepts and sends through: only what its tables have, after their turn.

What it would like to say comes from plan.py; who is to believe it is ipip/switch.py's affair on every node.
"""

from collections.abc import Callable

from felixlite.datastore.store import Store
from felixlite.loop import Round
from felixlite.plan import Published
from felixlite.registration import publish
from felixlite.snapshot import Snapshot

# the tables that admit a tunnel's packets: while one of them fails, nothing new is said to be accepted
RECEIVING = frozenset({"policy/4", "policy/6", "links", "addresses", "ipip ends", "classifiers"})


class Publication:
    def __init__(
        self, store: Store, here: str, planned: Callable[[], Published], are_routes_settled: Callable[[], bool]
    ) -> None:
        self._store, self._here = store, here
        self._planned, self._are_routes_settled = planned, are_routes_settled
        self.now: Published = (frozenset(), frozenset())  # another object when it is something else

    def hear(self, told: Round, known: Snapshot) -> None:
        accepts, sends = self._planned()
        here = known.nodes.get(self._here)
        if here and not self._are_routes_settled():
            sends |= here.sends or frozenset()  # a route that could not be replaced yet may be among them
        if told.failures.keys() & RECEIVING:
            accepts = self.now[0]
        if (accepts, sends) != self.now:
            self.now = (accepts, sends)

    def write(self, _: Snapshot) -> None:
        publish(self._store, self._here, *self.now)
