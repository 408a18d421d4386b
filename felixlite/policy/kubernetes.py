"""Kubernetes' own NetworkPolicy in our terms. Pure, from the document as the API server gives it.

It becomes a Policy of kind KubernetesNetworkPolicy in the default tier with order 1000, whose rules only allow; the
end of the tier denies.  It speaks of pods only: network sets and other workloads are none of its peers, whatever their
labels.  Every port of a rule meets every peer of it; ports of one protocol stay together.  A document
that does not say what it means raises Rejected with every fault (an API server would not have taken it).
Reference 14.4.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from felixlite.addresses import Prefix
from felixlite.errors import Problem, Rejected
from felixlite.model import scalars
from felixlite.model.policy import (
    ANYONE,
    TCP,
    Action,
    Direction,
    EntityRule,
    Policy,
    PolicyRule,
    Port,
    PortRange,
    port,
    protocol_number,
)
from felixlite.model.selector import ALL, Selector, SelectorError, conjunction, parse
from felixlite.policy.selection import PODS

KIND = "KubernetesNetworkPolicy"
ORDER = 1000.0
Document = Mapping[str, Any]


def policy(document: Document) -> Policy:
    """The Policy that a networking.k8s.io/v1 NetworkPolicy means."""
    metadata, spec = document.get("metadata") or {}, document.get("spec") or {}
    reader = _Reader(str(metadata.get("name", "")), str(metadata.get("namespace", "default")))
    selector = reader.pods(spec.get("podSelector") or {}, "spec.podSelector")
    ingress = tuple(reader.rules(spec.get("ingress") or [], "ingress", "from"))
    egress = tuple(reader.rules(spec.get("egress") or [], "egress", "to"))
    found = Policy(
        kind=KIND,
        name=reader.name,
        namespace=reader.namespace,
        order=ORDER,
        selector=selector,
        types=reader.types(spec),
        ingress=ingress,
        egress=egress,
    )
    if reader.problems:
        raise Rejected(reader.problems)
    return found


class _Reader:
    """Reads one document; what is wrong with it gathers in `problems`."""

    def __init__(self, name: str, namespace: str) -> None:
        self.name, self.namespace = name, namespace
        self.problems: list[Problem] = []

    def wrong(self, field: str, value: object, remedy: str) -> None:
        self.problems.append(Problem("NetworkPolicy", f"{self.namespace}/{self.name}", field, value, remedy))

    def types(self, spec: Document) -> frozenset[Direction]:
        given = spec.get("policyTypes")
        if not given:
            return frozenset(Direction) if spec.get("egress") else frozenset({Direction.INGRESS})
        for value in given:
            if value not in tuple(Direction):
                self.wrong("spec.policyTypes", value, "must be Ingress or Egress")
        return frozenset(direction for direction in Direction if direction in given)

    def rules(self, rules: list[Document], direction: str, peers_field: str) -> Iterator[PolicyRule]:
        for number, rule in enumerate(rules):
            field = f"spec.{direction}[{number}]"
            far = [self.peer(peer, f"{field}.{peers_field}[{i}]") for i, peer in enumerate(rule.get(peers_field) or [])]
            for protocol, ports in self.ports(rule.get("ports") or [], f"{field}.ports"):
                here = EntityRule(ports=ports)
                for peer in far or [ANYONE]:
                    if direction == "ingress":
                        yield PolicyRule(Action.ALLOW, protocol=protocol, source=peer, destination=here)
                    else:
                        with_ports = _with_ports(peer, ports)
                        yield PolicyRule(Action.ALLOW, protocol=protocol, destination=with_ports)

    def ports(self, given: list[Document], field: str) -> list[tuple[int | None, tuple[Port, ...]]]:
        """Ports by protocol; a protocol with an entry that names no port is open on all of them."""
        if not given:
            return [(None, ())]
        groups: dict[int, list[Port]] = {}
        whole: set[int] = set()
        for number, item in enumerate(given):
            at = f"{field}[{number}]"
            protocol = self.protocol(item.get("protocol"), at)
            group = groups.setdefault(protocol, [])
            if item.get("port") is None:
                whole.add(protocol)
            elif found := self.port(item, at):
                group.append(found)
        return [(protocol, () if protocol in whole else tuple(ports)) for protocol, ports in groups.items()]

    def protocol(self, given: object, field: str) -> int:
        try:
            return protocol_number(str(given or "TCP"))
        except ValueError:
            self.wrong(f"{field}.protocol", given, "must be TCP, UDP or SCTP")
            return TCP

    def port(self, item: Document, field: str) -> Port | None:
        first, last = item["port"], item.get("endPort")
        if last is None:
            try:
                return port(first)
            except ValueError:
                self.wrong(f"{field}.port", first, "must be a number between 1 and 65535 or a port's name")
                return None
        if not isinstance(first, int) or not isinstance(last, int) or not 0 < first <= last <= 65535:
            self.wrong(f"{field}.endPort", last, "must be a number not below port, which must be a number too")
            return None
        return PortRange(first, last)

    def peer(self, peer: Document, field: str) -> EntityRule:
        block = peer.get("ipBlock")
        if block is not None:
            return EntityRule(
                nets=tuple(self.prefixes([block.get("cidr")], f"{field}.ipBlock.cidr")),
                not_nets=tuple(self.prefixes(block.get("except") or [], f"{field}.ipBlock.except")),
            )
        pods, namespaces = peer.get("podSelector"), peer.get("namespaceSelector")
        if pods is None and namespaces is None:
            self.wrong(field, dict(peer), "must have a podSelector, a namespaceSelector or an ipBlock")
        return EntityRule(
            selector=self.pods(pods or {}, f"{field}.podSelector"),
            namespace_selector=(
                self.labels(namespaces, f"{field}.namespaceSelector") if namespaces is not None else None
            ),
        )

    def prefixes(self, given: list[object], field: str) -> Iterator[Prefix]:
        for value in given:
            try:
                yield scalars.sloppy_cidr(value)
            except ValueError as error:
                self.wrong(field, value, str(error))

    def pods(self, selector: Document, field: str) -> Selector:
        """A podSelector: nothing but pods, not even when it is empty."""
        found = self.labels(selector, field)
        return PODS if found == ALL else conjunction((found, PODS))

    def labels(self, selector: Document, field: str) -> Selector:
        """A label selector in our language: matchLabels and matchExpressions, all of them."""
        terms = [f"{key} == {_quoted(value)}" for key, value in (selector.get("matchLabels") or {}).items()]
        for number, expression in enumerate(selector.get("matchExpressions") or []):
            terms += self.expression(expression, f"{field}.matchExpressions[{number}]")
        try:
            return parse(" && ".join(terms))
        except SelectorError as error:
            self.wrong(field, dict(selector), str(error))
            return parse("!all()")

    def expression(self, expression: Document, field: str) -> list[str]:
        key, values = expression.get("key"), expression.get("values") or []
        braced = "{" + ", ".join(map(_quoted, values)) + "}"
        match expression.get("operator"):
            case "In" if values:
                return [f"{key} in {braced}"]
            case "NotIn" if values:
                return [f"{key} not in {braced}"]
            case "Exists" if not values:
                return [f"has({key})"]
            case "DoesNotExist" if not values:
                return [f"!has({key})"]
        self.wrong(field, dict(expression), "must be In or NotIn with values, Exists or DoesNotExist without")
        return []


def _with_ports(peer: EntityRule, ports: tuple[Port, ...]) -> EntityRule:
    return EntityRule(peer.nets, peer.not_nets, peer.selector, None, peer.namespace_selector, None, ports)


def _quoted(value: object) -> str:
    return f"'{value}'"
