"""What the agent counts and measures, as samples for Prometheus. Pure.

Names are those of the reference (11.5) where they mean the same; the others begin with felixlite_, bgp_ or rib_.
The dashboard and the alert rules in manifests/ are made of these names; a test compares.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from felixlite.health import Sample
from felixlite.loop import Loop, Round
from felixlite.model.policy import Action
from felixlite.policy.costs import LIBRARY, Cost
from felixlite.policy.counting import Tally
from felixlite.policy.rows import Chained, Dispatch, IpSet, Key, PolicyChain, Row
from felixlite.snapshot import Snapshot

IN_SYNC, RESYNCING = 3, 2  # the reference's numbers for the state of the store's source


@dataclass(slots=True)
class Totals:
    """Counted since the start, round by round, in the core thread."""

    seconds: float = 0.0
    planning: float = 0.0  # of them, until it was known what to write
    first_settled: float | None = None  # seconds from the start
    changes: int = 0
    failures: int = 0
    written: int = 0
    removed: int = 0

    def count(self, told: Round) -> None:
        self.seconds += told.seconds
        self.planning += told.planning
        self.changes += told.changes
        self.failures += sum(map(len, told.failures.values()))
        self.written += sum(outcome.written for outcome in told.outcomes.values())
        self.removed += sum(outcome.removed for outcome in told.outcomes.values())


def samples(loop: Loop, totals: Totals, lists: int, log_errors: int) -> Iterator[Sample]:
    """`lists`: how often the store was listed from the beginning."""
    known = loop.snapshot
    yield Sample("felix_host", 1, "This node.", (("host", known.here),))
    yield from _of_cluster(known)
    yield Sample("felix_resync_state", IN_SYNC if loop.in_sync else RESYNCING, "3: in sync with the store, 2: not yet.")
    yield Sample("felix_resyncs_started", lists, "Lists of the whole store.", kind="counter")
    yield Sample("felix_log_errors", log_errors, "Lines of the log that tell of an error.", kind="counter")
    yield from _of_rounds(loop, totals)
    yield from _of_tables(loop)


def _of_cluster(known: Snapshot) -> Iterator[Sample]:
    workloads = len(known.local_workloads) + len(known.remote_workloads)
    for name, value, meaning in (
        ("felix_cluster_num_hosts", len(known.nodes), "Nodes in the cluster."),
        ("felix_cluster_num_workload_endpoints", workloads, "Workload endpoints in the cluster."),
        ("felix_cluster_num_policies", len(known.policies), "Policies in the cluster."),
        ("felix_cluster_num_tiers", len(known.tiers), "Tiers in the cluster."),
        ("felix_cluster_num_profiles", len(known.profiles), "Profiles in the cluster."),
        ("felix_active_local_endpoints", len(known.local_workloads), "Workload endpoints of this node."),
        ("felixlite_rejected_objects", len(known.rejected), "Objects of the store that do not validate."),
    ):
        yield Sample(name, value, meaning)


def _of_rounds(loop: Loop, totals: Totals) -> Iterator[Sample]:
    yield Sample("felixlite_rounds", loop.rounds, "Rounds of the core since the start.", kind="counter")
    for name, total, count, meaning in (
        (
            "felix_int_dataplane_apply_time_seconds",
            totals.seconds,
            loop.rounds,
            "Seconds that a round took, all of it.",
        ),
        ("felix_calc_graph_update_time_seconds", totals.planning, loop.rounds, "Seconds to fold and plan in a round."),
        ("felix_int_dataplane_msg_batch_size", totals.changes, loop.rounds, "Changes that a round took in."),
    ):
        yield from _summary(name, total, count, meaning)
    if totals.first_settled is not None:
        first = "Seconds from the start until every table had converged with all sources in sync."
        yield Sample("felix_int_dataplane_initial_resync_time_seconds", totals.first_settled, first)
    for name, value, meaning in (
        ("felix_int_dataplane_messages", totals.changes, "Changes that the core took in."),
        (
            "felix_calc_graph_updates_processed",
            totals.changes,
            "Changes that were folded and planned for: the same ones here.",
        ),
        (
            "felix_calc_graph_output_events",
            totals.written + totals.removed,
            "Rows that the plan made differ, each time.",
        ),
        ("felix_int_dataplane_failures", totals.failures, "Rows that could not be written, each time."),
        ("felixlite_rows_written", totals.written, "Rows written to the kernel, to the policy backend and to BGP."),
        (
            "felixlite_rows_removed",
            totals.removed,
            "Rows removed from the kernel, from the policy backend and from BGP.",
        ),
    ):
        yield Sample(name, value, meaning, kind="counter")


def of_policy(tally: Tally, family: int) -> Iterator[Sample]:
    """What Deny and Log rules met here, by policy, and what nothing allowed, by endpoint."""
    for action, name in ((Action.DENY, "denied"), (Action.LOG, "logged")):
        met: dict[tuple[str, str], int] = {}
        for hit in tally.hits:
            if hit.action is action:
                who = (hit.owner, hit.direction)
                met[who] = met.get(who, 0) + hit.packets
        for (policy, direction), packets in met.items():
            labels = (("policy", policy), ("direction", direction), ("family", str(family)))
            yield Sample(
                f"felixlite_policy_{name}_packets", packets, f"Packets that {action} rules met.", labels, "counter"
            )
    for interface, direction, packets in tally.unmatched:
        labels = (("interface", interface), ("direction", direction), ("family", str(family)))
        yield Sample("felixlite_endpoint_denied_packets", packets, "Packets that nothing allowed.", labels, "counter")


def _summary(name: str, total: float, count: int, meaning: str) -> Iterator[Sample]:
    yield Sample(f"{name}_sum", total, meaning, kind="summary")
    yield Sample(f"{name}_count", count, meaning, kind="summary")


def of_reads(count: int, seconds: float) -> Iterator[Sample]:
    yield from _summary("felix_route_table_resync_seconds", seconds, count, "Seconds to read all routes of ours.")


def of_rules(tally: Tally, wanted: Mapping[Key, Row], family: int, *, nft: bool) -> Iterator[Sample]:
    """How large our part of the packet filter is; the rules as it counts them, not as we planned them."""
    version = (("ip_version", str(family)),)
    owners = {
        row.body.owner for row in wanted.values() if isinstance(row, Chained) and isinstance(row.body, PolicyChain)
    }
    policies = {owner.rpartition(" ")[0] for owner in owners if not owner.startswith("Profile ")}
    yield Sample(
        "felix_active_local_policies", len(policies), "Policies that select an endpoint of this node.", version
    )
    backend = "nft" if nft else "iptables"
    yield Sample(f"felix_{backend}_chains", len(tally.rules), "Chains of ours in the packet filter.", version)
    yield Sample(f"felix_{backend}_rules", sum(tally.rules.values()), "Rules of ours in the packet filter.", version)
    if nft:
        sets = sum(isinstance(row, IpSet) for row in wanted.values())
        yield Sample("felix_nft_sets", sets, "Sets of addresses in our table.", version)
        maps = sum(isinstance(row, Dispatch) for row in wanted.values())
        yield Sample("felix_nft_maps", maps, "Maps in our table.", version)


def of_costs(costs: Mapping[str, Cost]) -> Iterator[Sample]:
    """What was asked of the packet filter, by whom it was asked."""
    run = [cost for name, cost in costs.items() if name != LIBRARY]
    micros = sum(cost.seconds for cost in run) * 1e6
    yield from _summary(
        "felix_exec_time_micros", micros, sum(cost.calls for cost in run), "Microseconds of a program run."
    )
    for metric, suffix in (
        ("ipset", "ipset"),
        ("nft", LIBRARY),
        ("iptables_restore", "-restore"),
        ("iptables_save", "-save"),
    ):
        name = LIBRARY if suffix == LIBRARY else metric.replace("_", "-")
        for version, cost in _by_version(costs, suffix):
            yield Sample(f"felix_{metric}_calls", cost.calls, f"Calls of {name}.", version, "counter")
            yield Sample(f"felix_{metric}_errors", cost.errors, f"Calls of {name} that failed.", version, "counter")
            if suffix in ("ipset", "-restore"):
                family = metric.removesuffix("_restore")
                yield Sample(
                    f"felix_{family}_lines_executed", cost.lines, f"Lines given to {name}.", version, "counter"
                )


def _by_version(costs: Mapping[str, Cost], suffix: str) -> Iterator[tuple[tuple[tuple[str, str], ...], Cost]]:
    """Both flavours of iptables as one, its two versions apart; the others serve both versions."""
    if not suffix.startswith("-"):
        yield (), costs.get(suffix, Cost())
        return
    for version, start in (("4", "iptables-"), ("6", "ip6tables-")):
        some = [cost for name, cost in costs.items() if name.startswith(start) and name.endswith(suffix)]
        total = Cost(sum(c.calls for c in some), sum(c.errors for c in some), sum(c.lines for c in some))
        yield (("ip_version", version),), total


def _of_tables(loop: Loop) -> Iterator[Sample]:
    for name, mirror in loop.reconciler.mirrors.items():
        table, rows = (("table", name),), mirror.rows or {}
        yield Sample("felixlite_table_rows", len(rows), "Rows of ours in the table.", table)
        yield Sample("felixlite_table_failures", len(mirror.failures), "Rows that cannot be written now.", table)
        kind, _, version = name.partition("/")
        if kind == "policy":
            sets = sum(isinstance(row, IpSet) for row in rows.values())
            yield Sample("felix_ipsets_calico", sets, "Sets of addresses that policy uses.", (("ip_version", version),))
    routes = loop.reconciler.mirrors["routes"].rows or {} if "routes" in loop.reconciler.mirrors else {}
    yield Sample("felix_route_table_num_routes", len(routes), "Routes of ours in the kernel.")
    links = {hop.link for row in {id(row): row for row in routes.values()}.values() for hop in row.hops if hop.link}
    yield Sample("felix_route_table_num_ifaces", len(links), "Interfaces that they lead to.")


def of_bgp(peers: Iterable[Mapping[str, Any]], prefixes: int, lag: float) -> Iterator[Sample]:
    """`peers` as bgp/tell.py answers them. `lag`: from the last thing a peer said to the end of the round that wrote it."""
    for peer in peers:
        which = (("peer", str(peer["peer"])),)
        up = float(peer["state"] == "Established")
        yield Sample("bgp_session_up", up, "1 while the BGP session is established.", which)
        yield Sample("bgp_session_flaps", float(peer["flaps"]), "Times the session was lost.", which, "counter")
        yield Sample("bgp_updates", float(peer["updates"]), "UPDATEs that the peer sent.", which, "counter")
        for direction, count in (("in", peer["received"]), ("out", peer["announced"])):
            labels = (*which, ("direction", direction))
            yield Sample("bgp_prefixes", float(count), "Prefixes told by the peer, and to it.", labels)
        if peer["error"]:
            reason = (*which, ("reason", str(peer["error"])))
            yield Sample("bgp_last_error", 1, "Why the session is down or what was wrong, as a label.", reason)
    yield Sample("rib_prefixes", prefixes, "Prefixes with a best path.")
    yield Sample("route_sync_lag_seconds", lag, "From what a peer said last until it was in the kernel.")
