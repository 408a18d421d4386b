"""The rows that no policy decides: dispatch, what may leave a workload, the chains in the kernel's hooks, NAT. Pure.

NAT: what leaves a natOutgoing pool for an address outside of all pools is masqueraded; between pods never, a pod's
source address is kept everywhere inside.  What a node itself sends into a tunnel takes the tunnel's address.
"""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

from felixlite.addresses import Prefix
from felixlite.model.inside import Mode, Use, Workload
from felixlite.model.policy import Direction
from felixlite.policy import rows
from felixlite.policy.inputs import Inputs, WorkloadKey
from felixlite.policy.members import disjoint
from felixlite.policy.rows import Key, Row


def dispatch(workloads: Mapping[WorkloadKey, Workload], family: int) -> Iterator[tuple[Key, Row]]:
    interfaces = {
        workload.interface
        for workload in workloads.values()
        if workload.interface and any(net.family == family for net in workload.addresses)
    }
    for key, direction in ((rows.FROM_WORKLOADS, Direction.EGRESS), (rows.TO_WORKLOADS, Direction.INGRESS)):
        pairs = frozenset((name, rows.endpoint_key(direction, name).name) for name in interfaces)
        yield key, rows.Dispatch(direction, pairs)


def senders(inputs: Inputs, family: int) -> dict[Key, Row]:
    """Whose packets to services are judged behind IPVS, by whom."""
    if inputs.ipvs is None:
        return {}
    known = {
        net: workload
        for workload in inputs.local_workloads.values()
        for net in workload.addresses
        if workload.interface and net.family == family
    }
    chains = frozenset(
        (net.first_text, rows.endpoint_key(Direction.EGRESS, w.interface).name) for net, w in known.items()
    )
    macs = frozenset((workload.mac.lower(), net) for net, workload in known.items() if workload.mac)
    return {
        rows.FROM_SENDERS: rows.Dispatch(Direction.EGRESS, chains),
        Key("set", rows.SENDERS): rows.IpSet("ip", frozenset(known)),
        Key("set", rows.OWN_MACS): rows.IpSet("mac,ip", macs),
        Key("set", rows.SERVICES): rows.IpSet("ip", frozenset(net for net in inputs.ipvs if net.family == family)),
    }


def own(inputs: Inputs, family: int) -> dict[Key, Row]:
    """What may leave each workload: its addresses."""
    addresses = frozenset(
        (workload.interface, net)
        for workload in inputs.local_workloads.values()
        for net in workload.addresses
        if net.family == family
    )
    return {Key("set", rows.OWN_ADDRESSES): rows.IpSet("iface,ip", addresses)}


def may_send_as(workload: Workload, inputs: Inputs) -> tuple[Prefix, ...]:
    """Besides its own addresses."""
    return workload.may_send_as if inputs.settings.may_spoof else ()


def own_mac(workload: Workload, inputs: Inputs) -> str | None:
    """The only one that it may send with."""
    return None if may_send_as(workload, inputs) else workload.mac


def spoofers(inputs: Inputs, family: int) -> tuple[tuple[str, tuple[Prefix, ...]], ...]:
    """The interfaces from which more than their own addresses may come, and which."""
    found = {
        workload.interface: tuple(disjoint(net for net in may_send_as(workload, inputs) if net.family == family))
        for workload in inputs.local_workloads.values()
    }
    return tuple(sorted((name, nets) for name, nets in found.items() if nets))


def read_by_gates(inputs: Inputs) -> tuple[Any, ...]:
    asked = tuple((w.interface, w.may_send_as) for w in inputs.local_workloads.values() if w.may_send_as)
    behind_ipvs = () if inputs.ipvs is None else (inputs.ipvs, inputs.local_workloads)
    return (inputs.pools, inputs.nodes, inputs.settings, inputs.tunnels, inputs.service_nets, asked, *behind_ipvs)


def gates(inputs: Inputs, family: int) -> dict[Key, Row]:
    """The hooks' own chains and the sets that they look into."""
    settings = inputs.settings
    wants_ipip, wants_vxlan = guarded(inputs)
    without_mac = tuple(
        sorted(w.interface for w in inputs.local_workloads.values() if w.interface and not own_mac(w, inputs))
    )
    shape = rows.Gates if inputs.ipvs is None else partial(rows.ServiceGates, without_mac=without_mac)
    body = shape(
        interfaces=settings.interfaces,
        spoofers=spoofers(inputs, family),
        ipip=wants_ipip and family == 4,
        vxlan=wants_vxlan,
        vxlan_port=settings.vxlan_port,
        pods_may_ipip=settings.pods_may_ipip,
        pods_may_vxlan=settings.pods_may_vxlan,
        to_host=settings.to_host,
        deny=settings.deny,
        service_loop=settings.service_loop,
        service_nets=tuple(net for net in inputs.service_nets if net.family == family),
        check_invalid=settings.check_invalid,
        mark_mask=settings.mark_mask,
        insert=settings.insert,
        nftables=settings.nftables,
        iptables=settings.iptables,
    )
    masqueraded, inside = nat_nets(inputs, family)
    nat = rows.Nat(
        outgoing=bool(masqueraded),
        to_address=settings.nat_address if settings.nat_address and settings.nat_address.version == family else None,
        ports=settings.nat_ports,
        out_interfaces=settings.nat_interfaces,
        keep_inside=tuple(disjoint(inside)) if settings.keep_pod_addresses else (),
        tunnels=tuple(tunnel for tunnel in inputs.tunnels if tunnel.address.version == family),
    )
    return {
        rows.GATES: rows.chained(body, settings.mark_mask),
        rows.NAT: rows.chained(nat),
        Key("set", rows.ALL_HOSTS): rows.IpSet("net", frozenset(disjoint(hosts(inputs, family)))),
        Key("set", rows.MASQUERADED): rows.IpSet("net", frozenset(disjoint(masqueraded))),
        Key("set", rows.INSIDE): rows.IpSet("net", frozenset(disjoint(inside))),
        **senders(inputs, family),
    }


def guarded(inputs: Inputs) -> tuple[bool, bool]:
    """Whether protocol 4 and VXLAN are admitted from known nodes only. A tunnel may be open after the last pool that
    calls for it is gone (a switch is under way), and as long as it is open it is guarded."""
    settings, pools, open_now = inputs.settings, inputs.pools.values(), [tunnel.link for tunnel in inputs.tunnels]
    ipip = any(pool.ipip is not Mode.NEVER for pool in pools) or "tunl0" in open_now
    vxlan = any(pool.vxlan is not Mode.NEVER for pool in pools) or any(link.startswith("vxlan") for link in open_now)
    return ipip if settings.ipip is None else settings.ipip, vxlan if settings.vxlan is None else settings.vxlan


def nat_nets(inputs: Inputs, family: int) -> tuple[list[Prefix], list[Prefix]]:
    """The sources that are masqueraded, and the destinations for which nothing is. A disabled pool counts too."""
    pools = [p for p in inputs.pools.values() if p.cidr.family == family]
    inside = [p.cidr for p in pools if p.allowed_uses != frozenset({Use.LOAD_BALANCER})]
    if inputs.settings.nat_excludes_hosts:
        inside += hosts(inputs, family)
    return [p.cidr for p in pools if p.nat_outgoing], inside


def hosts(inputs: Inputs, family: int) -> list[Prefix]:
    """Who may send us tunnel packets: the nodes of the cluster and those that the operator names."""
    own = [address for node in inputs.nodes.values() if (address := node.address(family))]
    return [Prefix.host(a) for a in own] + [net for net in inputs.settings.external_nodes if net.family == family]
