"""The routes of the node's own blocks: a blackhole for each. Pure.

Without it a packet for an address of our block that no workload has would follow the default route to the rack's router,
which sends it back to us because we announce the block (reference 9.4).  A workload's /32, ours or a borrower's
elsewhere, is more specific and wins; who routes remote addresses, the borrowed ones too, is ipip/plan.py.
A block of one address gets none: its blackhole would be in the way of the workload's own /32.
"""

from collections.abc import Mapping

from felixlite.addresses import Prefix
from felixlite.model.inside import Affinity, AffinityState
from felixlite.rows import Route, RouteKey, blackhole


def blackholes(here: str, affinities: Mapping[tuple[str, Prefix], Affinity]) -> dict[RouteKey, Route]:
    """One row per confirmed block of this node."""
    return {
        RouteKey(affinity.cidr): blackhole()
        for affinity in affinities.values()
        if affinity.node == here
        and affinity.state is AffinityState.CONFIRMED
        and not affinity.virtual
        and not affinity.cidr.is_host
    }
