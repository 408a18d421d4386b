"""Which addresses of services a node announces besides the ranges that every node announces (reference 13). Pure.

An address counts only inside of a range that BGPConfiguration names.  A service with `externalTrafficPolicy: Local` is
announced by the nodes that have a ready endpoint of it, each address for itself; a range of one address by every node
as soon as a service uses it; load balancer addresses one by one where aggregation is off.
Before this: Services and EndpointSlices in the Snapshot.  After: bgp/announcing.py.
"""

from collections.abc import Collection, Iterable, Iterator, Mapping

from felixlite.addresses import Prefix
from felixlite.model.inside import BgpConfiguration, Node, ServiceAddresses

EXCLUDED = "node.kubernetes.io/exclude-from-external-load-balancers"


def excluded(here: Node) -> bool:
    """Kubernetes looks at the label's presence, its value says nothing."""
    return EXCLUDED in here.labels


def ranges(here: Node, config: BgpConfiguration) -> tuple[Prefix, ...]:
    """What this node announces whatever services there are."""
    if excluded(here):
        return ()
    aggregated = config.service_load_balancer_cidrs if config.service_load_balancer_aggregation else ()
    wide = (cidr for cidr in (*config.service_external_cidrs, *aggregated) if cidr.length < cidr.width)
    return (*config.service_cluster_cidrs, *wide)


def named(config: BgpConfiguration) -> tuple[Prefix, ...]:
    """Every range of services: no node routes into one, whoever tells it; kube-proxy takes what arrives."""
    return (*config.service_cluster_cidrs, *config.service_external_cidrs, *config.service_load_balancer_cidrs)


def addresses(
    here: Node,
    services: Mapping[tuple[str, str], ServiceAddresses],
    served_here: Collection[tuple[str, str, str]],
    config: BgpConfiguration,
) -> tuple[Prefix, ...]:
    if excluded(here):
        return ()
    local = {(namespace, service) for namespace, service, _ in served_here}
    found = {
        address for key, service in services.items() for address in of_one(service, key in local, config)
    }  # several services may share an address
    return tuple(sorted(found))


def of_one(service: ServiceAddresses, is_local: bool, config: BgpConfiguration) -> Iterator[Prefix]:
    if service.local and not is_local:
        return
    if service.local:
        yield from _inside(service.cluster, config.service_cluster_cidrs)
    for some, cidrs, each in (
        (service.external, config.service_external_cidrs, service.local),
        (
            service.load_balancer,
            config.service_load_balancer_cidrs,
            service.local or not config.service_load_balancer_aggregation,
        ),
    ):
        yield from _inside(some, cidrs if each else [cidr for cidr in cidrs if cidr.length == cidr.width])


def _inside(some: Iterable[Prefix], cidrs: Collection[Prefix]) -> Iterator[Prefix]:
    return (address for address in some if any(cidr.covers(address) for cidr in cidrs))
