"""The BGPConfiguration that is in force on a node: `default` with what `node.<name>` may override. Pure.

Works on specs that passed validation (the Snapshot has no other); reference 2.2.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from felixlite.addresses import Prefix
from felixlite.model import scalars
from felixlite.model.inside import BgpConfiguration, PrefixAdvertisement, SecretRef

OF_ONE_NODE = ("prefixAdvertisements", "listenPort", "logSeverityScreen")
DEFAULTS = BgpConfiguration()


def bgp_configuration(configurations: Mapping[str, Mapping[str, Any]], here: str) -> BgpConfiguration:
    """`configurations` is name -> spec, as the Snapshot has them; other names than these two mean nothing."""
    own = configurations.get(f"node.{here}", {})
    spec = {**configurations.get("default", {}), **{name: own[name] for name in OF_ONE_NODE if name in own}}
    return BgpConfiguration(
        mesh=spec.get("nodeToNodeMeshEnabled", DEFAULTS.mesh),
        asn=scalars.as_number(spec.get("asNumber", DEFAULTS.asn)),
        listen_port=spec.get("listenPort", DEFAULTS.listen_port),
        bind_to_node_address=spec.get("bindMode") == "NodeIP",
        mesh_password=_secret(spec.get("nodeMeshPassword")),
        mesh_restart_time=_seconds(spec.get("nodeMeshMaxRestartTime")),
        advertisements=_advertisements(spec),
        service_cluster_cidrs=_cidrs(spec.get("serviceClusterIPs", ())),
        service_external_cidrs=_cidrs(spec.get("serviceExternalIPs", ())),
        service_load_balancer_cidrs=_cidrs(spec.get("serviceLoadBalancerIPs", ())),
        service_load_balancer_aggregation=spec.get("serviceLoadBalancerAggregation") != "Disabled",
        ignored_interfaces=tuple(spec.get("ignoredInterfaces", ())),
        route_priority=spec.get("ipv4NormalRoutePriority", DEFAULTS.route_priority),
    )


def _advertisements(spec: Mapping[str, Any]) -> tuple[PrefixAdvertisement, ...]:
    named = {one["name"]: one["value"] for one in spec.get("communities", ())}
    return tuple(
        PrefixAdvertisement(
            Prefix.parse(one["cidr"]), tuple(named.get(name, name) for name in one.get("communities", ()))
        )
        for one in spec.get("prefixAdvertisements", ())
    )


def _cidrs(entries: Iterable[Mapping[str, Any]]) -> tuple[Prefix, ...]:
    return tuple(Prefix.parse(entry["cidr"]) for entry in entries)


def _secret(password: Mapping[str, Any] | None) -> SecretRef | None:
    reference = (password or {}).get("secretKeyRef")
    return SecretRef(reference["name"], reference["key"]) if reference else None


def _seconds(given: Any) -> int | None:
    return None if given is None else round(scalars.duration(given))
