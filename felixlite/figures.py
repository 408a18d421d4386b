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
from felixlite.policy.counting import Tally
from felixlite.policy.rows import IpSet
from felixlite.snapshot import Snapshot

IN_SYNC, RESYNCING = 3, 2  # the reference's numbers for the state of the store's source


@dataclass(slots=True)
class Totals:
    """Counted since the start, round by round, in the core thread."""

    seconds: float = 0.0
    changes: int = 0
    failures: int = 0
    written: int = 0
    removed: int = 0

    def count(self, told: Round) -> None:
        self.seconds += told.seconds
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
    time = "felix_int_dataplane_apply_time_seconds"
    yield Sample(f"{time}_sum", totals.seconds, "Seconds that rounds took: fold, plan and converge.")
    yield Sample(f"{time}_count", loop.rounds, "Rounds that were measured.")
    for name, value, meaning in (
        ("felix_int_dataplane_messages", totals.changes, "Changes that the core took in."),
        ("felix_int_dataplane_failures", totals.failures, "Rows that could not be written, each time."),
        ("felixlite_rows_written", totals.written, "Rows written to the kernel, to the policy backend and to BGP."),
        ("felixlite_rows_removed", totals.removed, "Rows removed from there."),
    ):
        yield Sample(name, value, meaning, kind="counter")


def of_policy(tally: Tally, family: int) -> Iterator[Sample]:
    """What policy has denied here, by the policy whose rule said so, and by the endpoint that nothing allowed it for."""
    denied: dict[tuple[str, str], int] = {}
    for hit in tally.hits:
        if hit.action is Action.DENY:
            who = (hit.owner, hit.direction)
            denied[who] = denied.get(who, 0) + hit.packets
    for (policy, direction), packets in denied.items():
        labels = (("policy", policy), ("direction", direction), ("family", str(family)))
        yield Sample("felixlite_policy_denied_packets", packets, "Packets that Deny rules met.", labels, "counter")
    for interface, direction, packets in tally.unmatched:
        labels = (("interface", interface), ("direction", direction), ("family", str(family)))
        yield Sample("felixlite_endpoint_denied_packets", packets, "Packets that nothing allowed.", labels, "counter")


def _of_tables(loop: Loop) -> Iterator[Sample]:
    for name, mirror in loop.reconciler.mirrors.items():
        table, rows = (("table", name),), mirror.rows or {}
        yield Sample("felixlite_table_rows", len(rows), "Rows of ours in the table.", table)
        yield Sample("felixlite_table_failures", len(mirror.failures), "Rows that cannot be written now.", table)
        kind, _, version = name.partition("/")
        if kind == "policy":
            sets = sum(isinstance(row, IpSet) for row in rows.values())
            yield Sample("felix_ipsets_calico", sets, "Sets of addresses that policy uses.", (("ip_version", version),))
    routes = len(loop.reconciler.mirrors["routes"].rows or ()) if "routes" in loop.reconciler.mirrors else 0
    yield Sample("felix_route_table_num_routes", routes, "Routes of ours in the kernel.")


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
