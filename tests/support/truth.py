"""What the documents of Kubernetes and Calico say about policy, as cases: policies, packets, and what becomes of them.

Five pods: a, b, c in namespace red (team x), d and e in blue (team y); `web` is port 80/TCP of a and d, `dns` port 53 of
d.  x is a host outside.  A probe reads `b>a tcp/80`: from, to, protocol, port (udp, sctp; icmp alone is an echo request,
`icmp/17/0` another type and code; `/6` at the end: over IPv6).  The cases are in truth_*.py; CASES in truth_cases.py is
all of them.
tests/unit/policy/test_truth.py asks the evaluator, tests/kernel/policy/test_truth.py real packets on every backend.
"""

from dataclasses import dataclass, field, replace
from typing import Any

from felixlite.addresses import Prefix
from felixlite.model.inside import NamedPort, Workload
from felixlite.model.policy import (
    ICMP,
    ICMPV6,
    SCTP,
    TCP,
    UDP,
    Policy,
    namespace_profile,
    service_account_profile,
)
from felixlite.policy.evaluate import Packet
from felixlite.policy.inputs import Inputs
from tests.unit.policy.world import inputs, pod

WEB = (NamedPort("web", "TCP", 80),)
DNS = (NamedPort("dns", "UDP", 53), NamedPort("dns", "TCP", 53))  # one name, two protocols


def _pods() -> list[Workload]:
    found = [
        pod("a", "10.65.0.1 fd00::1", namespace="red", app="a"),
        pod("b", "10.65.0.2 fd00::2", namespace="red", app="b"),
        pod("c", "10.65.0.3 fd00::3", namespace="red", app="c", tier="front"),
        pod("d", "10.65.0.4 fd00::4", namespace="blue", app="a"),
        pod("e", "10.65.0.5 fd00::5", namespace="blue", app="b"),
    ]
    accounts = {"b": "robot"}
    return [
        replace(
            workload,
            ports=(*(WEB if workload.name in "ad" else ()), *(DNS if workload.name == "d" else ())),
            service_account=accounts.get(workload.name, ""),
            profiles=(f"kns.{workload.namespace}", *(["ksa.red.robot"] if workload.name in accounts else [])),
        )
        for workload in found
    ]


PODS = _pods()
OUTSIDE = (Prefix.parse("203.0.113.9"), Prefix.parse("2001:db8::9"))
_BY_NAME = {"x": OUTSIDE, **{workload.name: workload.addresses for workload in PODS}}
PROFILES = {
    profile.name: profile
    for profile in (
        namespace_profile("red", {"team": "x", "kubernetes.io/metadata.name": "red"}),
        namespace_profile("blue", {"team": "y", "kubernetes.io/metadata.name": "blue"}),
        service_account_profile("red", "robot", {"role": "worker"}),
    )
}


@dataclass(frozen=True)
class Scenario:
    title: str
    policies: tuple[Policy, ...]
    passes: str = ""
    denied: str = ""
    more: dict[str, Any] = field(default_factory=dict)  # of the inputs
    otherwise: dict[str, dict[str, Any]] = field(default_factory=dict)  # pod -> what is otherwise about it

    @property
    def inputs(self) -> Inputs:
        pods = [replace(pod, **self.otherwise.get(pod.name, {})) for pod in PODS]
        return inputs(pods, self.policies, **{"profiles": PROFILES, **self.more})

    @property
    def expected(self) -> dict[Packet, bool]:
        found = {packet(text): True for text in _split(self.passes)}
        return found | {packet(text): False for text in _split(self.denied)}


def _split(text: str) -> list[str]:
    return [one.strip() for one in text.split(",") if one.strip()]


def packet(text: str) -> Packet:
    ends, what = text.split(" ", 1)
    source, destination = ends.split(">")
    protocol, *rest = what.split("/")
    six = len(rest) == (1 if protocol == "icmp" else 2) and rest[-1] == "6"
    start, end = (_BY_NAME[name][int(six)].first for name in (source, destination))
    if protocol == "icmp":
        kind, code = (128 if six else 8, 0) if len(rest) < 2 else map(int, rest)
        return Packet(start, end, ICMPV6 if six else ICMP, icmp_type=kind, icmp_code=code)
    number = {"tcp": TCP, "udp": UDP, "sctp": SCTP}[protocol]
    return Packet(start, end, number, 1000, int(rest[0]))
