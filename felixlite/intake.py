"""From stored documents to Changes of the Snapshot: the only door through which a document comes in.

An invalid object never reaches the Snapshot: it is listed in `rejected` with the reason, and its last good version
stays in force.  A policy that was never good denies what it selects.  Before this is the store's list and watch
(datastore/source.py); after it is the inbox.  Nothing here talks to a store or knows the time.
"""

from collections.abc import Callable, Hashable, Iterable, Mapping
from dataclasses import replace
from typing import Any, NamedTuple, cast

from felixlite.errors import Rejected
from felixlite.model import blocks, scalars
from felixlite.model.kubernetes import EndpointSlice
from felixlite.model.node import Node
from felixlite.model.parse import parse
from felixlite.model.policy import (
    DEFAULT_TIER,
    Action,
    Backend,
    Direction,
    Policy,
    PolicyRule,
    Service,
    closed_profile,
    namespace_profile,
    service_account_profile,
)
from felixlite.model.resource import canonical
from felixlite.model.selector import ALL, Selector
from felixlite.model.unenforced import about_hosts, unenforced
from felixlite.snapshot import Change, Gone, Put

Document = Mapping[str, Any]


class Id(NamedTuple):
    """Which object; a datastore Key is one as well."""

    kind: str
    name: str
    namespace: str = ""


class Entry(NamedTuple):
    """Where in the Snapshot a value belongs."""

    kind: str  # a field of Snapshot
    key: Hashable


Entries = Mapping[Entry, Any]
Reader = Callable[[Document, Id, str], Entries]  # document, whose, the name of this node; raises Rejected


def _affinity(document: Document, *_: object) -> Entries:
    found = blocks.affinity(document)
    return {Entry("affinities", (found.node, found.cidr)): found}


def _block(document: Document, *_: object) -> Entries:
    found = blocks.block(document)
    return {Entry("blocks", found.cidr): found}


def _node(document: Document, which: Id, here: str) -> Entries:
    found = cast(Node, parse(document))
    asked = found.status.examine if found.status and which.name == here else None
    return {Entry("nodes", which.name): found.inside(), **({Entry("asked", here): asked[0]} if asked else {})}


def _workload(document: Document, which: Id, here: str) -> Entries:
    found = parse(document).inside()
    field = "local_workloads" if found.node == here else "remote_workloads"
    return {Entry(field, (which.namespace, which.name)): found}


def _policy(document: Document, which: Id, _: str) -> Entries:
    found = parse(document).inside()
    enforced = {} if found is None else {Entry("policies", (which.kind, which.namespace, which.name)): found}
    return {**enforced, **_unenforced(document, which)}


def _profile(document: Document, which: Id, _: str) -> Entries:
    return {Entry("profiles", which.name): parse(document).inside(), **_unenforced(document, which)}


def _host_endpoint(document: Document, which: Id, _: str) -> Entries:
    parse(document)
    return _unenforced(document, which)


def _unenforced(document: Document, which: Id) -> Entries:
    words = "; ".join(unenforced(which.kind, document.get("spec")))
    return {Entry("unenforced", _listed(which)): words} if words else {}


def policies_read_by(convert: Callable[[Document], Policy]) -> Reader:
    """A reader of another kind of policy, by somebody from higher up: Kubernetes' own (policy/kubernetes.py)."""

    def reader(document: Document, which: Id, _: str) -> Entries:
        parse(document)
        return {Entry("policies", (which.kind, which.namespace, which.name)): convert(canonical(document))}

    return reader


def _bgp_peer(document: Document, which: Id, _: str) -> Entries:
    found = parse(document).inside()
    return {} if found is None else {Entry("bgp_peers", which.name): found}


def _configuration(field: str) -> Reader:
    def reader(document: Document, which: Id, _: str) -> Entries:
        parse(document)
        return {Entry(field, which.name): canonical(document).get("spec", {})}

    return reader


def _namespace(document: Document, which: Id, _: str) -> Entries:
    found = namespace_profile(which.name, parse(document).metadata.labels)
    return {Entry("profiles", found.name): found}


def _service_account(document: Document, which: Id, _: str) -> Entries:
    found = service_account_profile(which.namespace, which.name, parse(document).metadata.labels)
    return {Entry("profiles", found.name): found}


def _endpoint_slice(document: Document, which: Id, node: str) -> Entries:
    found = cast(EndpointSlice, parse(document))
    service = found.metadata.labels.get("kubernetes.io/service-name")
    if not service:
        return {}
    key = (which.namespace, service, which.name)
    here = {Entry("served_here", key): True} if found.is_served_by(node) else {}
    return {Entry(SLICES, key): found.inside(), **here}


def _secret(document: Document, which: Id, _: str) -> Entries:
    return {Entry("secrets", (which.name, key)): value for key, value in parse(document).inside().items()}


def _status_request(document: Document, which: Id, here: str) -> Entries:
    found = parse(document).inside()
    return {Entry("status_requests", which.name): found} if found.node == here else {}


def _simple(field: str, *, namespaced: bool = False) -> Reader:
    def reader(document: Document, which: Id, _: str) -> Entries:
        key = (which.namespace, which.name) if namespaced else which.name
        return {Entry(field, key): parse(document).inside()}

    return reader


SLICES = "slices"  # not of the Snapshot: a service is what all of its slices say

READERS: Mapping[str, Reader] = {
    # in the order in which they are listed: what says how things are meant comes before the things
    "FelixConfiguration": _configuration("felix_configurations"),
    "BGPConfiguration": _configuration("bgp_configurations"),
    "BGPFilter": _simple("bgp_filters"),
    "IPAMConfiguration": _configuration("ipam_configurations"),
    "IPPool": _simple("pools"),
    "IPReservation": _simple("reservations"),
    "Node": _node,
    "BlockAffinity": _affinity,
    "IPAMBlock": _block,
    "WorkloadEndpoint": _workload,
    "NetworkPolicy": _policy,
    "GlobalNetworkPolicy": _policy,
    "Tier": _simple("tiers"),
    "NetworkSet": _simple("network_sets", namespaced=True),
    "GlobalNetworkSet": _simple("network_sets", namespaced=True),
    "Profile": _profile,
    "HostEndpoint": _host_endpoint,
    "BGPPeer": _bgp_peer,
    "CalicoNodeStatus": _status_request,
    "Namespace": _namespace,
    "ServiceAccount": _service_account,
    "EndpointSlice": _endpoint_slice,
    "Service": _simple("service_addresses", namespaced=True),
    "Secret": _secret,
}

_POLICIES = frozenset({"NetworkPolicy", "GlobalNetworkPolicy", "KubernetesNetworkPolicy"})

snapshot_kinds: tuple[str, ...] = tuple(READERS)  # what an agent watches


class Intake:
    """One per source of documents. Remembers what each object put into the Snapshot, to take exactly that out again."""

    def __init__(self, here: str, readers: Mapping[str, Reader] = READERS) -> None:
        self.here = here
        self.readers = readers
        self._standing: dict[tuple[str, str, str], tuple[Entry, ...]] = {}
        self._rejected: set[tuple[str, str, str]] = set()
        self._slices: dict[tuple[str, str], dict[str, tuple[Backend, ...]]] = {}

    def changes(self, which: tuple[str, str, str], document: Document | None) -> list[Change]:
        """What follows from an object's being this document now; None: it is deleted. `which` is (kind, name, namespace)."""
        who = Id(*which)
        return [self._joined(change) for change in self._changes(who, document)]

    def _changes(self, who: Id, document: Document | None) -> list[Change]:
        if document is None:
            return self._forget(who)
        try:
            fresh = self.readers[who.kind](document, who, self.here)
        except Rejected as error:
            return self._refuse(who, document, str(error))
        except Exception as error:  # noqa: BLE001  whatever nobody thought of: it is about this object, not the agent
            return self._refuse(
                who, document, f"{who.kind} {who.name}: cannot be read: {type(error).__name__}: {error}"
            )
        return [*self._stand(who, fresh), *self._pardon(who)]

    def relisted(self, kind: str, documents: Iterable[tuple[tuple[str, str, str], Document]]) -> list[Change]:
        """What follows from these being all there are of a kind: the rest of what stood is gone."""
        found: list[Change] = []
        seen = set()
        for which, document in documents:
            seen.add(tuple(which))
            found += self.changes(which, document)
        for which in [w for w in (*self._standing, *self._rejected) if w[0] == kind and w not in seen]:
            found += self.changes(which, None)
        return found

    def _stand(self, who: Id, fresh: Entries) -> list[Change]:
        before = self._standing.get(who, ())
        self._standing[who] = tuple(fresh)
        gone = [Gone(*entry) for entry in before if entry not in fresh]
        return [*gone, *(Put(*entry, value) for entry, value in fresh.items())]

    def _refuse(self, who: Id, document: Document, reason: str) -> list[Change]:
        self._rejected.add(who)
        said = Put("rejected", _listed(who), reason)
        if who in self._standing:
            return [said]
        return [said, *self._stand(who, self._instead(document, who))]

    def _instead(self, document: Document, who: Id) -> Entries:
        """What stands for an object that was never good: nothing, but for a policy or profile, which must not fail open.

        A policy for host endpoints alone does nothing when it is good; it closes no pod when it is not.
        Of settings those that can be read count; felixlite/config.py passes over the others with a warning.
        """
        given = document.get("spec")
        spec: Document = given if isinstance(given, Mapping) else {}
        if who.kind == "FelixConfiguration" and spec:
            return {Entry("felix_configurations", who.name): spec}
        if who.kind == "Profile":
            return {Entry("profiles", who.name): closed_profile(who.name, _inherited(spec))}
        if who.kind not in _POLICIES or (who.kind == "GlobalNetworkPolicy" and about_hosts(spec)):
            return {}
        return self._closed(document, spec, who)

    def _closed(self, document: Document, spec: Document, who: Id) -> Entries:
        """Denies whatever the policy selects. Mostly its rules are what is wrong, and the rest reads as ever."""
        bare = {**document, "spec": {name: value for name, value in spec.items() if name not in ("ingress", "egress")}}
        try:
            found = self.readers[who.kind](bare, who, self.here)
        except Exception:  # noqa: BLE001  why, the refusal says
            found = {Entry("policies", (who.kind, who.namespace, who.name)): _guessed(spec, who)}
        deny = (PolicyRule(Action.DENY),)
        return {
            entry: replace(policy, types=_directions(spec), ingress=deny, egress=deny, is_stand_in=True)
            for entry, policy in found.items()
            if entry.kind == "policies"
        }

    def _pardon(self, who: Id) -> list[Change]:
        if who not in self._rejected:
            return []
        self._rejected.discard(who)
        return [Gone("rejected", _listed(who))]

    def _forget(self, who: Id) -> list[Change]:
        return [*(Gone(*entry) for entry in self._standing.pop(who, ())), *self._pardon(who)]

    def _joined(self, change: Change) -> Change:
        """A change of a slice as the change of its service."""
        if not isinstance(change, Put | Gone) or change.kind != SLICES:
            return change
        namespace, service, name = cast("tuple[str, str, str]", change.key)
        slices = self._slices.setdefault((namespace, service), {})
        slices.pop(name, None)
        if isinstance(change, Put):
            slices[name] = change.value
        if not slices:
            del self._slices[namespace, service]
            return Gone("services", (namespace, service))
        backends = dict.fromkeys(backend for name in sorted(slices) for backend in slices[name])
        return Put("services", (namespace, service), Service(service, namespace, tuple(backends)))


def _listed(who: Id) -> tuple[str, str]:
    return who.kind, f"{who.namespace}/{who.name}" if who.namespace else who.name


def _inherited(spec: Document) -> dict[str, str]:
    """What can be read of the labels that an invalid profile hands down: policies of others select by them."""
    labels = spec.get("labelsToApply")
    if not isinstance(labels, Mapping):
        return {}
    return {key: value for key, value in labels.items() if isinstance(key, str) and isinstance(value, str)}


def _guessed(spec: Document, who: Id) -> Policy:
    """Whom and where the policy decides; what of that cannot be read counts as everybody, and first."""
    tier = spec.get("tier")
    return Policy(
        kind=who.kind,
        name=who.name,
        namespace=who.namespace,
        tier=tier if isinstance(tier, str) and tier else DEFAULT_TIER,
        order=_order(spec),
        selector=_readable(spec, "selector") or ALL,
        namespace_selector=_readable(spec, "namespaceSelector"),
        service_account_selector=_readable(spec, "serviceAccountSelector"),
    )


def _order(spec: Document) -> float | None:
    """What cannot be read comes first: nothing may slip past it."""
    order = spec.get("order")
    if order is None:
        return None
    return float(order) if isinstance(order, int | float) and not isinstance(order, bool) and order == order else 0.0


def _readable(spec: Document, field: str) -> Selector | None:
    try:
        return scalars.selector(spec[field])
    except (KeyError, ValueError):
        return None


def _directions(spec: Document) -> frozenset[Direction]:
    """What is not said, or cannot be read, means both."""
    types = spec.get("types") or spec.get("policyTypes")
    if isinstance(types, list) and all(one in ("Ingress", "Egress") for one in types):
        return frozenset(map(Direction, types))
    return frozenset(Direction)
