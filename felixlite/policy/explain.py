"""Who is at both ends, what becomes of a connection between them, and why: for people. Pure.

`explained` answers plain values (felixlite explain -o json prints them as they are, every key always there, null for
what is not known); `lines` makes text of them.  The verdict is passage.py's.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.config import effective
from felixlite.model.inside import ServiceAddresses
from felixlite.model.policy import PROTOCOL_NAMES, WITH_PORTS, Action
from felixlite.policy import settings
from felixlite.policy.behind import ServiceKey, behind, service_at
from felixlite.policy.evaluate import CLOSED, CLOSED_PROFILE, Packet, Step, World, called
from felixlite.policy.inputs import Inputs
from felixlite.policy.passage import SettingsAt, Verdict, leaves_pools, node_at, verdict_in
from felixlite.snapshot import Snapshot, pool_covering


@dataclass(frozen=True, slots=True)
class Known:
    """What is asked about: what the planner reads, and what only people want to hear of."""

    inputs: Inputs
    service_addresses: Mapping[ServiceKey, ServiceAddresses] = field(default_factory=dict)
    rejected: Mapping[tuple[str, str], str] = field(default_factory=dict)
    settings_at: SettingsAt | None = None

    @classmethod
    def of(cls, snapshot: Snapshot, planned: Inputs | None = None) -> "Known":
        """`planned`: as the agent of this node has planned it, with settings from its environment; else the store's."""
        at = _settings_of(snapshot)
        inputs = planned or Inputs.of(snapshot, at(snapshot.here))

        def settings_at(node: str) -> settings.PolicySettings:
            return inputs.settings if node == snapshot.here else at(node)

        return cls(inputs, snapshot.service_addresses, snapshot.rejected, settings_at)

    def at(self, node: str | None) -> Inputs:
        """As that node is set."""
        return replace(self.inputs, settings=self.settings_at(node)) if node and self.settings_at else self.inputs


def _settings_of(snapshot: Snapshot) -> Callable[[str], settings.PolicySettings]:
    @cache
    def at(node: str) -> settings.PolicySettings:
        values = effective({}, {}, snapshot.felix_configurations, node).values
        return settings.of({name: value.value for name, value in values.items()})

    return at


# -- values ------------------------------------------------------------------------------------------------------------


def explained(known: Known, packet: Packet) -> dict[str, Any]:
    """Every key is there; what an agent adds (route, packets) and how it travels (tunnel) is null until it is known."""
    world = World(known.inputs)
    key = service_at(known.service_addresses, packet.destination)
    ends = behind(key, known.inputs.services.get(key), packet) if key else []
    judged = [(end, verdict_in(world, end, known.settings_at)) for end in ends or [packet]]
    packet_there, found = min(
        judged, key=lambda pair: pair[1].action is not Action.DENY
    )  # of several, one that is denied
    if key and not ends and packet.protocol in WITH_PORTS:
        found = _nothing_behind(key)
    source, destination = _end(world, packet_there.sender or packet_there.source), _end(world, packet_there.destination)
    return {
        "packet": _packet(packet_there),
        "source": source,
        "destination": destination,
        "service": _service(key, packet, judged if ends else []) if key else None,
        "nat": _nat(known.at(source["node"]), packet_there, source, destination),
        "tunnel": None,
        "route": None,
        "action": str(found.action),
        "decided_by": str(found.decided) if found.decided else "no workload of the cluster is at either end",
        "way": [_step(known, step, decides=step is found.decided) for step in found.way],
    }


def _nothing_behind(key: ServiceKey) -> Verdict:
    step = Step(
        f"service {'/'.join(key)}", None, "", "nothing stands behind it, and kube-proxy refuses", None, Action.DENY
    )
    return Verdict(Action.DENY, step, (step,))


def counted(found: dict[str, Any], hits: Mapping[str, Any]) -> dict[str, Any]:
    """The same with what the rules that matched have counted on this node, and the ends where nothing did."""
    packets = {(hit["owner"], hit["direction"], hit["rule"]): hit["packets"] for hit in hits["rules"]}
    ends = {(interface, direction): count for interface, direction, count in hits["unmatched"]}
    interfaces = {"Egress": found["source"]["interface"], "Ingress": found["destination"]["interface"]}

    def count(step: Mapping[str, Any]) -> int | None:
        if step["direction"] is None:
            return None
        way, rule = step["direction"].lower(), 0 if step["note"] in (CLOSED, CLOSED_PROFILE) else step["rule"]
        if rule is None:
            return ends.get((interfaces[step["direction"]], way)) if step["decides"] else None
        return packets.get((step["owner"], way, rule))

    return {**found, "way": [{**step, "packets": count(step)} for step in found["way"]]}


def _packet(packet: Packet) -> dict[str, Any]:
    ported = packet.protocol in WITH_PORTS
    return {
        "source": str(packet.source),
        "destination": str(packet.destination),
        "protocol": PROTOCOL_NAMES.get(packet.protocol, str(packet.protocol)),
        "port": packet.port if ported else None,
        "sender": str(packet.sender) if packet.sender else None,
    }


def _step(known: Known, step: Step, *, decides: bool) -> dict[str, Any]:
    return {
        "endpoint": step.endpoint,
        "direction": str(step.direction) if step.direction else None,
        "tier": step.tier or None,
        "owner": step.owner,
        "rule": step.rule,
        "action": str(step.action) if step.action else None,
        "note": _note(known, step),
        "decides": decides,
        "packets": None,
    }


def _note(known: Known, step: Step) -> str | None:
    if step.is_stand_in:
        return step.closing
    kind, _, name = step.owner.partition(" ")
    return "its last good version: the one in the store is invalid" if (kind, name) in known.rejected else None


def _end(world: World, address: Address) -> dict[str, Any]:
    inputs, host = world.inputs, Prefix.host(address)
    workload = world.workload_at(address)
    pool = pool_covering(inputs.pools.values(), host)
    node = node_at(inputs, address)
    sets = sorted(s.name for s in inputs.network_sets.values() if any(net.holds(address) for net in s.nets))
    return {
        "address": str(address),
        "pod": called(workload) if workload else None,
        "node": workload.node if workload else node.name if node else None,
        "interface": workload.interface if workload else None,
        "labels": dict(workload.labels) if workload else None,
        "network_sets": sets,
        "pool": pool.name if pool else None,
        "encapsulation": {"ipip": str(pool.ipip), "vxlan": str(pool.vxlan)} if pool else None,
    }


def _service(key: ServiceKey, packet: Packet, judged: list[tuple[Packet, Verdict]]) -> dict[str, Any]:
    return {
        "name": "/".join(key),
        "address": str(packet.destination),
        "port": packet.port if packet.protocol in WITH_PORTS else None,
        "behind": [
            {"address": str(end.destination), "port": end.port, "action": str(found.action)} for end, found in judged
        ],
    }


def _nat(inputs: Inputs, packet: Packet, source: Mapping[str, Any], destination: Mapping[str, Any]) -> str:
    if source["pod"] and not destination["pod"] and source["node"] == destination["node"]:
        return "the source address is kept: it does not leave the node"
    if not leaves_pools(inputs, packet):
        covered = any(pool.nat_outgoing and pool.cidr.holds(packet.source) for pool in inputs.pools.values())
        why = "the destination is inside of a pool" if covered else "no natOutgoing pool covers it"
        return f"the source address is kept: {why}"
    if inputs.settings.nat_address:
        return f"the source address becomes {inputs.settings.nat_address}"
    return "the source is masqueraded with the node's address"


# -- text --------------------------------------------------------------------------------------------------------------


def lines(found: dict[str, Any]) -> Iterator[str]:
    packet = found["packet"]
    port = f" port {packet['port']}" if packet["port"] else ""
    protocol = f"protocol {packet['protocol']}" if packet["protocol"].isdecimal() else packet["protocol"]
    verb = "is allowed" if found["action"] == Action.ALLOW else "is DENIED"
    sender = f", sent by {packet['sender']}," if packet["sender"] else ""
    yield f"{packet['source']} -> {packet['destination']} {protocol}{port}{sender} {verb}"
    yield f"  by {found['decided_by']}"
    for side in ("source", "destination"):
        yield f"{side:<12} {_end_text(found[side])}"
    if found["service"]:
        yield f"service      {_service_text(found['service'])}"
        if found["service"]["behind"] and not found["source"]["pod"]:
            yield "             who is no pod may arrive there with a node's address instead of its own"
    yield f"nat          {found['nat']}"
    if found["tunnel"]:
        yield f"tunnel       {found['tunnel']}"
    if found["route"]:
        yield f"route        {found['route'][-1]}"
    if found["way"]:
        yield "looked at"
    for step in found["way"]:
        yield f"  {'*' if step['decides'] else ' '} {_step_text(step)}"


def _step_text(step: Mapping[str, Any]) -> str:
    outcome = step["action"] or "no rule matches, next"
    if step["packets"] is not None:
        outcome += f" ({step['packets']} packets here so far)"
    if step["direction"] is None:
        return f"{step['endpoint']}: {step['owner']}: {outcome}"
    tier = f"tier {step['tier']}, " if step["tier"] else ""
    rule = f" rule {step['rule']}" if step["rule"] is not None else ""
    note = f" ({step['note']})" if step["note"] else ""
    return f"{step['endpoint']} {step['direction'].lower()}: {tier}{step['owner']}{note}{rule}: {outcome}"


def _service_text(service: Mapping[str, Any]) -> str:
    at = f"{service['address']} port {service['port']}" if service["port"] else service["address"]
    ends = service["behind"]
    if not ends:
        return f"{service['name']} at {at}: nothing that kube-proxy would send this to"
    named = ", ".join(f"{end['address']} port {end['port']}" for end in ends[:_SHOWN])
    more = f" and {len(ends) - _SHOWN} more" if len(ends) > _SHOWN else ""
    allowed = sum(end["action"] == Action.ALLOW for end in ends)
    mixed = f"; {allowed} of {len(ends)} are allowed, this is one that is not" if 0 < allowed < len(ends) else ""
    return f"{service['name']} at {at}: kube-proxy sends it to {'one of ' if len(ends) > 1 else ''}{named}{more}{mixed}"


_SHOWN = 4


def _end_text(end: dict[str, Any]) -> str:
    words = [end["pod"] or end["address"]]
    words += [f"on {end['node']}"] if end["pod"] and end["node"] else [f"node {end['node']}"] if end["node"] else []
    words += [f"by {end['interface']}"] if end["interface"] else []
    words += [f"pool {end['pool']}"] if end["pool"] else ["outside of all pools"]
    words += [f"in {', '.join(end['network_sets'])}"] if end["network_sets"] else []
    return ", ".join(words)
