"""What the agent counts and measures, as samples for Prometheus. Pure.

Names are those of the reference (11.5) where they mean the same; the others begin with felixlite_.
"""

from collections.abc import Iterator

from felixlite.health import Sample
from felixlite.loop import Loop


def samples(loop: Loop) -> Iterator[Sample]:
    known = loop.snapshot
    yield Sample("felix_cluster_num_hosts", len(known.nodes), "Nodes in the cluster.")
    workloads = len(known.local_workloads) + len(known.remote_workloads)
    yield Sample("felix_cluster_num_workload_endpoints", workloads, "Workload endpoints in the cluster.")
    yield Sample("felix_active_local_endpoints", len(known.local_workloads), "Workload endpoints of this node.")
    yield Sample("felix_cluster_num_policies", len(known.policies), "Policies in the cluster.")
    yield Sample("felixlite_rejected_objects", len(known.rejected), "Objects of the store that do not validate.")
    yield Sample("felixlite_rounds", loop.rounds, "Rounds of the core since the start.", kind="counter")
    yield from _of_tables(loop)
    for peer, session in known.sessions.items():
        up = float(session.state == "Established")
        yield Sample("bgp_session_up", up, "1 while the BGP session is established.", (("peer", peer),))
        flaps = float(session.flaps)
        yield Sample("bgp_session_flaps", flaps, "Times the session was lost.", (("peer", peer),), "counter")
    yield Sample("rib_prefixes", len(known.learned), "Prefixes with a best path.")


def _of_tables(loop: Loop) -> Iterator[Sample]:
    for name, mirror in loop.reconciler.mirrors.items():
        table = (("table", name),)
        yield Sample("felixlite_table_rows", len(mirror.rows or ()), "Rows of ours in the table.", table)
        yield Sample("felixlite_table_failures", len(mirror.failures), "Rows that cannot be written now.", table)
