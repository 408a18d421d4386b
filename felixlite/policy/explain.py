"""Who is at both ends, what becomes of a connection between them, and why: for people. Pure.

`explained` answers plain values (felixlite explain -o json prints them as they are); `lines` makes text of them.
"""

from collections.abc import Iterator, Mapping
from ipaddress import ip_address
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.errors import FelixliteError
from felixlite.model.inside import Workload
from felixlite.model.policy import PROTOCOL_NAMES, Action
from felixlite.policy.evaluate import Packet, Verdict, verdict
from felixlite.policy.gates import nat_nets
from felixlite.policy.inputs import Inputs
from felixlite.snapshot import pool_covering


def resolved(inputs: Inputs, name: str, family: int = 0) -> Address:
    """The address that a person means: an address, [NAMESPACE/]POD, a node, a network set (its first address)."""
    try:
        return ip_address(name)
    except ValueError:
        pass
    found = [net.first for net in _nets(inputs, name) if family in (0, net.family)]
    if not found:
        raise FelixliteError(
            f"{name!r}: no pod, node or network set has this name; give an address or [NAMESPACE/]NAME"
        )
    return found[0]


def _nets(inputs: Inputs, name: str) -> Iterator[Prefix]:
    namespace, _, short = name.rpartition("/")
    for mapping in (inputs.local_workloads, inputs.remote_workloads):
        for workload in mapping.values():
            if workload.namespace == (namespace or "default") and short in (workload.pod, workload.name):
                yield from workload.addresses
    if not namespace and (node := inputs.nodes.get(name)):
        yield from (Prefix.host(own) for own in (node.address(4), node.address(6)) if own)
    if network_set := inputs.network_sets.get((namespace, short)):
        yield from network_set.nets


def explained(inputs: Inputs, packet: Packet) -> dict[str, Any]:
    found = verdict(inputs, packet)
    protocol = PROTOCOL_NAMES.get(packet.protocol, str(packet.protocol))
    return {
        "packet": {
            "source": str(packet.source),
            "destination": str(packet.destination),
            "protocol": protocol,
            "port": packet.port or None,
        },
        "source": _end(inputs, packet.source),
        "destination": _end(inputs, packet.destination),
        "nat": _nat(inputs, packet),
        "action": str(found.action),
        "decided_by": str(found.decided) if found.decided else "no workload of the cluster is at either end",
        "way": [_step(found, number) for number in range(len(found.way))],
    }


def counted(found: dict[str, Any], hits: Mapping[str, Any]) -> dict[str, Any]:
    """The same with what the rules that matched have counted on this node, and the ends where nothing did."""
    packets = {(hit["owner"], hit["direction"], hit["rule"]): hit["packets"] for hit in hits["rules"]}
    ends = {(interface, direction): count for interface, direction, count in hits["unmatched"]}
    interfaces = {"Egress": found["source"]["interface"], "Ingress": found["destination"]["interface"]}

    def count(step: Mapping[str, Any]) -> int | None:
        way = step["direction"].lower()
        if step["rule"] is None:
            return ends.get((interfaces[step["direction"]], way)) if step["decides"] else None
        return packets.get((step["owner"], way, step["rule"]))

    return {**found, "way": [{**step, "packets": count(step)} for step in found["way"]]}


def _step(found: Verdict, number: int) -> dict[str, Any]:
    step = found.way[number]
    return {
        "endpoint": step.endpoint,
        "direction": str(step.direction),
        "tier": step.tier or None,
        "owner": step.owner,
        "rule": step.rule,
        "action": str(step.action) if step.action else None,
        "decides": step is found.decided,
    }


def _end(inputs: Inputs, address: Address) -> dict[str, Any]:
    host = Prefix.host(address)
    workload = _workload_at(inputs, host)
    pool = pool_covering(inputs.pools.values(), host)
    node = next((node.name for node in inputs.nodes.values() if address in (node.address(4), node.address(6))), None)
    sets = sorted(s.name for s in inputs.network_sets.values() if any(net.holds(address) for net in s.nets))
    return {
        "address": str(address),
        "pod": f"{workload.namespace}/{workload.pod or workload.name}" if workload else None,
        "node": workload.node if workload else node,
        "interface": workload.interface if workload else None,
        "labels": dict(workload.labels) if workload else None,
        "network_sets": sets,
        "pool": pool.name if pool else None,
        "encapsulation": {"ipip": str(pool.ipip), "vxlan": str(pool.vxlan)} if pool else None,
    }


def _workload_at(inputs: Inputs, host: Prefix) -> Workload | None:
    for mapping in (inputs.local_workloads, inputs.remote_workloads):
        for workload in mapping.values():
            if host in workload.addresses:
                return workload
    return None


def _nat(inputs: Inputs, packet: Packet) -> str:
    masqueraded, inside = nat_nets(inputs, packet.family)
    if not any(net.holds(packet.source) for net in masqueraded):
        return "the source address is kept: no natOutgoing pool covers it"
    if any(net.holds(packet.destination) for net in inside):
        return "the source address is kept: the destination is inside of a pool"
    if inputs.settings.nat_address:
        return f"the source address becomes {inputs.settings.nat_address}"
    return "the source is masqueraded with the node's address"


# -- text --------------------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> Iterator[str]:
    packet = found["packet"]
    port = f" port {packet['port']}" if packet["port"] else ""
    verb = "is allowed" if found["action"] == Action.ALLOW else "is DENIED"
    yield f"{packet['source']} -> {packet['destination']} {packet['protocol']}{port} {verb}"
    yield f"  by {found['decided_by']}"
    for side in ("source", "destination"):
        yield f"{side:<12} {_end_text(found[side])}"
    yield f"nat          {found['nat']}"
    if found.get("tunnel"):
        yield f"tunnel       {found['tunnel']}"
    if found.get("route"):
        yield f"route        {found['route'][-1]}"
    if found["way"]:
        yield "looked at"
    for step in found["way"]:
        tier = f"tier {step['tier']}, " if step["tier"] else ""
        outcome = step["action"] or "no rule matches, next"
        rule = f" rule {step['rule']}" if step["rule"] is not None else ""
        if step.get("packets") is not None:
            outcome += f" ({step['packets']} packets here so far)"
        yield f"  {'*' if step['decides'] else ' '} {step['endpoint']} {step['direction'].lower()}: {tier}{step['owner']}{rule}: {outcome}"


def _end_text(end: dict[str, Any]) -> str:
    words = [end["pod"] or end["address"]]
    words += [f"on {end['node']}"] if end["pod"] and end["node"] else [f"node {end['node']}"] if end["node"] else []
    words += [f"by {end['interface']}"] if end["interface"] else []
    words += [f"pool {end['pool']}"] if end["pool"] else ["outside of all pools"]
    words += [f"in {', '.join(end['network_sets'])}"] if end["network_sets"] else []
    return ", ".join(words)
