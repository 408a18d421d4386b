"""What one workload's policies say about one new connection, and why: the documents' meaning, from themselves. Pure.

`World(inputs).steps(workload, direction, packet)` asks them in order.  It uses none of the sets, chains or indexes of
the planner, only the few functions of selection.py, so that the two can be held against each other.  passage.py puts
both ends together with the gates between them; whether the packet belongs to a flow that is already let through is
never known here.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from felixlite.addresses import Address, Prefix
from felixlite.model.inside import Workload
from felixlite.model.policy import (
    Action,
    Direction,
    EntityRule,
    Icmp,
    Policy,
    PolicyRule,
    Port,
    PortRange,
    Profile,
    Tier,
    protocol_number,
)
from felixlite.model.selector import Selector
from felixlite.policy.inputs import Inputs
from felixlite.policy.selection import (
    applies_to,
    by_tier,
    endpoint_labels,
    peers,
    profile_named,
    set_labels,
)


@dataclass(frozen=True, slots=True)
class Packet:
    """The first packet of a connection."""

    source: Address
    destination: Address
    protocol: int
    source_port: int = 0
    port: int = 0
    icmp_type: int = 0
    icmp_code: int = 0
    sender: Address | None = None  # an address of the pod that sends, when the source is not its own
    by_service: bool = False  # kube-proxy has put the destination in: so it has left the pod, though it may come back

    @property
    def family(self) -> int:
        return self.source.version

    def end(self, *, source: bool) -> tuple[Address, int]:
        return (self.source, self.source_port) if source else (self.destination, self.port)


@dataclass(frozen=True, slots=True)
class Step:
    """One thing that was looked at on the way."""

    endpoint: str  # whose policy it is, or whose gate
    direction: Direction | None  # None: a gate
    tier: str  # "" for profiles and gates
    owner: str  # the policy, profile, what stands at the end of a tier, or what the gate looks at
    rule: int | None  # counted from 0; None: no rule of it decided
    action: Action | None  # None: on to the next
    is_stand_in: bool = False  # the policy is invalid, or the profile not there: nobody wrote its rules

    def __str__(self) -> str:
        if self.direction is None:
            return f"{self.endpoint}: {self.owner}: {self.action}"
        where = f"rule {self.rule}" if self.rule is not None else self.closing or "no rule matches"
        tier = f"tier {self.tier}, " if self.tier else ""
        return f"{self.endpoint} {self.direction.value.lower()}: {tier}{self.owner}: {where}: {self.action or 'next'}"

    @property
    def closing(self) -> str | None:
        """Why it denies, when no rule that somebody wrote does."""
        return (CLOSED if self.tier else CLOSED_PROFILE) if self.is_stand_in else None


CLOSED = "invalid: closes what it selects"
CLOSED_PROFILE = "not there, or invalid: closes who has it"


class World:
    """The inputs, with what was found out about them. Make one for many packets."""

    def __init__(self, inputs: Inputs) -> None:
        self.inputs = inputs
        self.workloads = [*inputs.local_workloads.values(), *inputs.remote_workloads.values()]
        self.carriers: list[tuple[dict[str, str], tuple[Prefix, ...]]] = [
            *((endpoint_labels(w, inputs.profiles), w.addresses) for w in self.workloads),
            *((set_labels(s, inputs.profiles), s.nets) for s in inputs.network_sets.values()),
        ]
        self.labels_at = lru_cache(maxsize=None)(self._labels_at)
        self.tiers_of = lru_cache(maxsize=None)(self._tiers_of)

    def workload_at(self, address: Address) -> Workload | None:
        host = Prefix.host(address)
        return next((w for w in self.workloads if host in w.addresses), None)

    def steps(self, workload: Workload, direction: Direction, packet: Packet) -> Iterator[Step]:
        """What is looked at, in order; the last step has decided."""
        name = called(workload)
        for tier, policies in self.tiers_of(workload.namespace, workload.name):
            taken = [policy for policy in policies if direction in policy.types]
            passed = False
            for policy in taken:
                step = self._ask(name, direction, tier.name, policy, packet)
                yield step
                if step.action in (Action.ALLOW, Action.DENY):
                    return
                if passed := step.action is Action.PASS:
                    break
            if taken and not passed and tier.default_action is Action.DENY:
                yield Step(name, direction, tier.name, f"end of tier {tier.name}", None, Action.DENY)
                return
        for profile in workload.profiles:
            step = self._ask(name, direction, "", profile_named(profile, self.inputs.profiles), packet)
            yield step
            if step.action in (Action.ALLOW, Action.DENY):
                return
        yield Step(name, direction, "", "no profile allows it", None, Action.DENY)

    def _ask(self, endpoint: str, direction: Direction, tier: str, policy: Policy | Profile, packet: Packet) -> Step:
        namespace = "" if isinstance(policy, Profile) else policy.namespace
        owner = f"Profile {policy.name}" if isinstance(policy, Profile) else str(policy)
        if policy.is_stand_in:
            return Step(endpoint, direction, tier, owner, None, Action.DENY, is_stand_in=True)
        for number, rule in enumerate(policy.rules(direction)):
            if rule.action is not Action.LOG and self.rule_matches(rule, namespace, packet):
                return Step(endpoint, direction, tier, owner, number, rule.action)
        return Step(endpoint, direction, tier, owner, None, None)

    def _tiers_of(self, namespace: str, name: str) -> list[tuple[Tier, list[Policy]]]:
        key = (namespace, name)
        workload = self.inputs.local_workloads.get(key) or self.inputs.remote_workloads[key]
        labels = endpoint_labels(workload, self.inputs.profiles)
        selecting = [p for p in self.inputs.policies.values() if applies_to(p).matches(labels)]
        return by_tier(selecting, self.inputs.tiers)

    # -- one rule

    def rule_matches(self, rule: PolicyRule, namespace: str, packet: Packet) -> bool:
        return (
            rule.family in (None, packet.family)
            and rule.protocol in (None, packet.protocol)
            and (rule.not_protocol is None or rule.not_protocol != packet.protocol)
            and (rule.icmp is None or _icmp_is(rule.icmp, packet))
            and (rule.not_icmp is None or rule.not_icmp.type is None or not _icmp_is(rule.not_icmp, packet))
            and self.side_matches(rule.source, namespace, packet, source=True)
            and self.side_matches(rule.destination, namespace, packet, source=False)
        )

    def side_matches(self, side: EntityRule, namespace: str, packet: Packet, *, source: bool) -> bool:
        address, number = packet.end(source=source)
        selector = peers(side, namespace)
        return (
            (not side.nets or _within(address, side.nets))
            and not _within(address, side.not_nets)
            and (selector is None or self.is_selected(address, selector))
            and not (side.not_selector and self.is_selected(address, side.not_selector))
            and (not side.ports or self._port_is(side.ports, address, number, packet.protocol, selector))
            and not self._port_is(side.not_ports, address, number, packet.protocol, selector)
            and (side.service is None or self._serves(side, address, number, packet.protocol, source=source))
        )

    def is_selected(self, address: Address, selector: Selector) -> bool:
        return any(selector.matches(labels) for labels in self.labels_at(address))

    def _labels_at(self, address: Address) -> list[dict[str, str]]:
        return [labels for labels, nets in self.carriers if _within(address, nets)]

    def _port_is(
        self, ports: tuple[Port, ...], address: Address, number: int, protocol: int, selector: Selector | None
    ) -> bool:
        names = {port for port in ports if isinstance(port, str)}
        if any(port.first <= number <= port.last for port in ports if isinstance(port, PortRange)):
            return True
        return any(
            (port.name in names and port.port == number and protocol_number(port.protocol) == protocol)
            for workload in self.workloads
            if names and Prefix.host(address) in workload.addresses
            if selector is None or selector.matches(endpoint_labels(workload, self.inputs.profiles))
            for port in workload.ports
        )

    def _serves(self, side: EntityRule, address: Address, number: int, protocol: int, *, source: bool) -> bool:
        assert side.service  # noqa: S101  the caller asked
        service = self.inputs.services.get((side.service.namespace, side.service.name))
        return any(
            backend.address == address and (source or (backend.port == number and backend.protocol == protocol))
            for backend in (service.backends if service else ())
        )


def called(workload: Workload) -> str:
    return f"{workload.namespace}/{workload.pod or workload.name}"


def _icmp_is(icmp: Icmp, packet: Packet) -> bool:
    return icmp.type in (None, packet.icmp_type) and icmp.code in (None, packet.icmp_code)


def _within(address: Address, nets: tuple[Prefix, ...]) -> bool:
    return any(net.holds(address) for net in nets)
