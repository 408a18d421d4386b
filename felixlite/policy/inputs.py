"""What the policy planner and the evaluator read, as one value, and how two of them differ. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, cast

from felixlite.addresses import Prefix
from felixlite.model.inside import Node, Pool, Workload
from felixlite.model.policy import NetworkSet, Policy, Profile, Service, Tier
from felixlite.policy.rows import Tunnel
from felixlite.policy.settings import PolicySettings
from felixlite.snapshot import Snapshot
from felixlite.versions import differing

WorkloadKey = tuple[str, str]
PolicyKey = tuple[str, str, str]  # (kind, namespace, name); a profile is ("Profile", "", name)


@dataclass(frozen=True, slots=True)
class Inputs:
    """Everything that the planner reads."""

    local_workloads: Mapping[WorkloadKey, Workload] = field(default_factory=dict)
    remote_workloads: Mapping[WorkloadKey, Workload] = field(default_factory=dict)
    policies: Mapping[PolicyKey, Policy] = field(default_factory=dict)
    tiers: Mapping[str, Tier] = field(default_factory=dict)
    network_sets: Mapping[tuple[str, str], NetworkSet] = field(default_factory=dict)
    profiles: Mapping[str, Profile] = field(default_factory=dict)
    services: Mapping[tuple[str, str], Service] = field(default_factory=dict)
    pools: Mapping[str, Pool] = field(default_factory=dict)
    nodes: Mapping[str, Node] = field(default_factory=dict)
    settings: PolicySettings = field(default_factory=PolicySettings)
    tunnels: tuple[Tunnel, ...] = ()  # (link, this node's address on it)
    service_nets: tuple[Prefix, ...] = ()  # of BGPConfiguration, for the service loop prevention
    ipvs: frozenset[Prefix] | None = None  # the addresses of services that IPVS stands for; None: kube-proxy uses none

    @classmethod
    def of(
        cls,
        snapshot: Snapshot,
        settings: PolicySettings,
        tunnels: tuple[Tunnel, ...] = (),
        service_nets: tuple[Prefix, ...] = (),
        ipvs: frozenset[Prefix] | None = None,
    ) -> "Inputs":
        return cls(
            snapshot.local_workloads,
            snapshot.remote_workloads,
            cast("Mapping[PolicyKey, Policy]", snapshot.policies),
            snapshot.tiers,
            snapshot.network_sets,
            snapshot.profiles,
            snapshot.services,
            snapshot.pools,
            snapshot.nodes,
            settings,
            tunnels,
            service_nets or _service_nets(snapshot),
            ipvs,
        )


NOWHERE = Inputs()
KUBE_IPVS = "kube-ipvs0"  # the link on which kube-proxy puts the addresses of services in ipvs mode


def behind_ipvs(there: bool, link_addresses: Iterable[tuple[str, str]]) -> frozenset[Prefix] | None:
    """The addresses on KUBE_IPVS, where there is such a link. What is an address of the node besides stays one:
    whoever sends there is talking to the node."""
    if not there:
        return None
    services: set[str] = set()
    nodes: set[str] = set()
    for link, text in link_addresses:
        (services if link == KUBE_IPVS else nodes).add(text.partition("/")[0])
    return frozenset(map(Prefix.parse, services - nodes))


def _service_nets(snapshot: Snapshot) -> tuple[Prefix, ...]:
    """The ranges that BGPConfiguration announces for services."""
    spec = snapshot.bgp_configurations.get("default", {})
    fields = ("serviceClusterIPs", "serviceExternalIPs", "serviceLoadBalancerIPs")
    return tuple(Prefix.parse(item["cidr"]) for field_name in fields for item in spec.get(field_name) or ())


# -- what changed ----------------------------------------------------------------------------------------------------


Changed = tuple[Any, Any, Any]  # key, old, new; None: it was not there, or is gone


def changes(old: Mapping[Any, Any], new: Mapping[Any, Any]) -> list[Changed]:
    """What is a different object in `new`."""
    if old is new:
        return []
    before, after = differing(old, new)
    there = before.get
    found: list[Changed] = [(key, there(key), row) for key, row in after.items() if there(key) is not row]
    found += [(key, row, None) for key, row in before.items() if key not in after]
    return found
