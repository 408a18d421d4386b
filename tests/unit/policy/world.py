"""Short ways to write pods, policies and what the planner reads."""

from collections.abc import Iterable
from typing import Any

from felixlite.addresses import Prefix
from felixlite.model.inside import NamedPort, Workload
from felixlite.model.policy import Action, Direction, EntityRule, Policy, PolicyRule, port
from felixlite.model.selector import parse
from felixlite.policy.inputs import Inputs

BOTH = frozenset(Direction)


def pod(name: str, address: str, *, namespace: str = "default", node: str = "here", **labels: str) -> Workload:
    """A pod `name` whose host side is cali<name>, with the one named port http=80/TCP."""
    return Workload(
        name=name,
        namespace=namespace,
        node=node,
        interface=f"cali{name}",
        addresses=tuple(Prefix.parse(text) for text in address.split()),
        pod=name,
        labels=labels,
        profiles=(f"kns.{namespace}",),
        ports=(NamedPort("http", "TCP", 80),),
    )


def entity(**fields: Any) -> EntityRule:
    """EntityRule from text: entity(selector="app == 'a'", nets="10.0.0.0/8 11.0.0.0/8", ports="80 90:99 http")."""
    for name in ("selector", "not_selector", "namespace_selector"):
        if name in fields:
            fields[name] = parse(fields[name])
    for name in ("nets", "not_nets"):
        if name in fields:
            fields[name] = tuple(Prefix.parse(text) for text in fields[name].split())
    for name in ("ports", "not_ports"):
        if name in fields:
            fields[name] = tuple(port(text) for text in fields[name].split())
    return EntityRule(**fields)


def rule(action: str = "Allow", **fields: Any) -> PolicyRule:
    return PolicyRule(Action(action), **fields)


def policy(name: str, *, namespace: str = "default", selector: str = "all()", **fields: Any) -> Policy:
    kind = "NetworkPolicy" if namespace else "GlobalNetworkPolicy"
    if "namespace_selector" in fields:
        fields["namespace_selector"] = parse(fields["namespace_selector"])
    return Policy(kind, name, namespace, selector=parse(selector), **fields)


def inputs(local: Iterable[Workload] = (), policies: Iterable[Policy] = (), **fields: Any) -> Inputs:
    remote = fields.pop("remote", ())
    sets = fields.pop("network_sets", ())
    return Inputs(
        local_workloads={(w.namespace, w.name): w for w in local},
        remote_workloads={(w.namespace, w.name): w for w in remote},
        policies={(p.kind, p.namespace, p.name): p for p in policies},
        network_sets={(s.namespace, s.name): s for s in sets},
        **fields,
    )
