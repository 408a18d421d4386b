"""Nothing depends on the order and the batching of the peers' messages: neither the RIB nor the kernel.

The way to the kernel is the agent's own: Rib -> Change -> Snapshot -> NodePlanner -> Reconciler -> table of routes.
"""

from ipaddress import IPv4Interface
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.addresses import Prefix
from felixlite.bgp.rib import Rib
from felixlite.bgp.sessions import SOURCE
from felixlite.model.inside import Mode, Node, Pool
from felixlite.plan import NodePlanner, Surroundings
from felixlite.reconcile import Reconciler
from felixlite.rows import RouteKey
from felixlite.snapshot import Learned, LinkState, Many, Snapshot, fold
from felixlite.turn import Outcome
from tests.support.fake_kernel import FakeKernel
from tests.support.talks import PEERS, PREFIXES, play, rib, talks

TAKEN = RouteKey(PREFIXES[1])  # by another program's route: the kernel refuses ours
IPIP = frozenset({"native", "ipip"})
# two of the prefixes are of a pool, one of the next hops is a node: what it tells of goes through the tunnel
SNAPSHOT = Snapshot(
    "n1",
    pools={"p": Pool("p", Prefix.parse("172.20.0.0/23"), ipip=Mode.ALWAYS)},
    nodes={
        "n1": Node("n1", IPv4Interface("10.0.0.1/24"), accepts=IPIP),
        "n2": Node("n2", IPv4Interface("10.0.0.7/24"), accepts=IPIP),
    },
    links={
        "eth0": LinkState("eth0", 2, "", True, 1500, "02:00:00:00:00:01"),
        "tunl0": LinkState("tunl0", 3, "ipip", True, 1480, ""),
    },
    link_addresses={("eth0", "10.0.0.1/24"): Prefix.parse("10.0.0.0/24")},
    in_sync=frozenset({SOURCE}),
)


def a_kernel() -> FakeKernel:
    kernel = FakeKernel()
    kernel.add_link("eth0")
    kernel.add_address("eth0", "10.0.0.1/24")
    kernel.add_link("tunl0", "ipip")
    kernel.add_route(str(TAKEN.prefix), "eth0")
    return kernel


class Core:
    """An agent's way from what the RIB says to the kernel. A new one knows nothing."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel, self.snapshot, self.now = kernel, SNAPSHOT, 0.0
        self.planner = NodePlanner(Surroundings())
        self.reconciler = Reconciler(table for table in kernel.tables() if table.name == "routes")

    def hear(self, made: Rib) -> Outcome:
        news, gone = made.changes()
        return self.fold(news, gone)

    def fold(self, news: dict[Prefix, Learned], gone: list[Prefix]) -> Outcome:
        self.now += 1.0
        self.snapshot = fold(self.snapshot, [Many("learned", news, tuple(gone))])
        planned = self.planner(self.snapshot, self.now)
        plan = {"routes": planned.tables["routes"]}
        done = self.reconciler.converge(plan, self.now, may_delete=planned.may_remove, spare=planned.spare)["routes"]
        assert done.failures.keys() <= {TAKEN}
        return done


def mixed(talk: Any, random: Any, core: Core) -> Rib:
    """Every peer's messages in its order, those of all in any, and the core hears of them in batches of any size."""
    made = rib(**PEERS)
    rest = {peer: list(said) for peer, said in talk.items() if said}
    while rest:
        peer = random.choice(sorted(rest))
        play(made, peer, [rest[peer].pop(0)])
        rest = {name: said for name, said in rest.items() if said}
        if random.random() < 0.5:
            core.hear(made)
    core.hear(made)
    return made


@settings(max_examples=100, deadline=None)
@given(st.fixed_dictionaries(dict.fromkeys(PEERS, talks)), st.randoms(use_true_random=False))
def test_any_order_and_batching_of_the_same_messages_gives_the_same_result(talk: Any, random: Any) -> None:
    straight, fresh, core = rib(**PEERS), Core(a_kernel()), Core(a_kernel())
    for peer, said in talk.items():
        play(straight, peer, said)
    fresh.hear(straight)

    made = mixed(talk, random, core)

    assert made.best == straight.best
    assert core.snapshot.learned == straight.best, "the sum of the changes is the result"
    assert core.kernel.routes == fresh.kernel.routes, "whoever sees only the end writes the same"
    ours = {key.prefix for key, row in core.kernel.routes.items() if row.protocol == 80}
    assert ours | {TAKEN.prefix} == made.best.keys() | {TAKEN.prefix}
    restarted = Core(core.kernel).fold(dict(straight.best), [])
    assert (restarted.written, restarted.removed) == (0, 0)
