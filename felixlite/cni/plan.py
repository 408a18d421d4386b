"""What the host wants for the workloads on it: their routes, the host ends' settings and neighbours, their MTU. Pure.

The ends themselves are made by the plugin's ADD (wiring.py); here is what stays true of them as long as the workload is
in the store, so that anything lost or changed by hand comes back.  A workload whose host end is not there (the machine
was restarted, the pod is going) wants nothing: there is nothing to put it on.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, Final, NamedTuple

from felixlite.addresses import Prefix
from felixlite.cni.names import GATEWAY, HOST_MAC
from felixlite.model.inside import Workload
from felixlite.rows import Link, Neighbour, NeighbourKey, Route, RouteKey, on
from felixlite.snapshot import LinkState

GATEWAY_METRIC: Final = 32767  # whoever has a route of his own for that address keeps it
NO_UPLINK_MTU: Final = 1460


class Wanted(NamedTuple):
    """Slices for the tables of these names."""

    links: Mapping[str, Link]
    sysctls: Mapping[str, str]
    neighbours: Mapping[NeighbourKey, Neighbour]
    routes: Mapping[RouteKey, Route]
    pod_mtus: Mapping[str, int]  # host end -> the MTU of the pod's end


def plan(
    workloads: Iterable[Workload],
    links: Mapping[str, LinkState],
    *,
    mtu: int | None = None,
    uplink: str | None = None,
    ipv6: bool = True,
) -> Wanted:
    """`mtu` is what fits through every tunnel in use (None: not known), `uplink` the link with the node's own address."""
    present = [w for w in workloads if w.interface in links]
    wanted = Wanted({}, {}, {}, gateway_route(uplink) if present and uplink in links else {}, {})
    for workload in present:
        _add(
            wanted,
            workload,
            _fitting(links[workload.interface].mtu, mtu, workload.most_mtu),
            ipv6=ipv6,
        )
    return wanted


def _add(wanted: Any, workload: Workload, mtu: int, *, ipv6: bool) -> None:
    link = workload.interface
    wanted.links[link] = Link("adopt", mtu=mtu, mac=HOST_MAC)
    wanted.pod_mtus[link] = mtu
    families = {address.family for address in workload.addresses}
    wanted.sysctls.update(sysctls(link, families, may_spoof=bool(workload.may_send_as), ipv6=ipv6))
    for address in workload.addresses:
        wanted.routes[RouteKey(address)] = on(link)
        if workload.mac:
            wanted.neighbours[NeighbourKey(link, address.first)] = Neighbour(workload.mac)


def _fitting(now: int, right: int | None, most: int | None) -> int:
    """Down at once: what is too large is lost. Up again when the last tunnel is closed, but never above what the uplink
    carried when the pod was made: whether the paths to all others have become wider nobody here can know."""
    if not right:
        return now
    return min(right, max(now, most or 0))


def sysctls(link: str, families: Collection[int], *, may_spoof: bool = False, ipv6: bool = True) -> dict[str, str]:
    """Of a host end. It routes, answers ARP for everything at once, and believes no source that is not the pod's.

    route_localnet is not ours: off in the kernel, and portmap behind us sets it for a port of 127.0.0.1.
    """
    found = {
        f"net/ipv4/conf/{link}/proxy_arp": "1",
        f"net/ipv4/neigh/{link}/proxy_delay": "0",
        f"net/ipv4/conf/{link}/forwarding": "1",
        f"net/ipv4/conf/{link}/rp_filter": "0" if may_spoof else "1",
    }
    if ipv6:
        found[f"net/ipv6/conf/{link}/accept_ra"] = "0"  # a pod must not make itself the host's router
    if 6 in families:
        found[f"net/ipv6/conf/{link}/forwarding"] = "1"
        found[f"net/ipv6/conf/{link}/proxy_ndp"] = "1"
        found[f"net/ipv6/neigh/{link}/proxy_delay"] = "0"
    return found


def gateway_route(uplink: str | None) -> dict[RouteKey, Route]:
    """Makes the kernel answer ARP for the gateway where there is no default route.

    It answers only for what it would route out of another link (net/ipv4/arp.c, arp_fwd_proxy).  Through lo it would
    answer too, but a packet for that address would circle there until its TTL ends (63 times, tried).
    """
    return {RouteKey(Prefix.host(GATEWAY), metric=GATEWAY_METRIC): on(uplink)} if uplink else {}
