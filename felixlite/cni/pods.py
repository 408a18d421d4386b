"""What a pod wants of its interface, and how the store is told: names, labels, annotations, the WorkloadEndpoint. Pure.

A pod is whom CNI_ARGS names; without Kubernetes it is the container itself.  Annotations are those of the reference
(4.8): pod before namespace before configuration.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any, Final

from felixlite.addresses import Address, Prefix
from felixlite.cni.errors import CniError, Code
from felixlite.cni.names import GATEWAY, GATEWAY_6, interface_name, plain, pod_mac
from felixlite.cni.request import Request
from felixlite.datastore.store import Document, Key, metadata
from felixlite.model import scalars
from felixlite.model.fromkubernetes import MOST_MTU, endpoint_name

ANNOTATION: Final = "cni.projectcalico.org/"
LABEL: Final = "projectcalico.org/"
NO_NAMESPACE: Final = "default"
OPEN_PROFILE: Final = "projectcalico-default-allow"


@dataclass(frozen=True, slots=True)
class Whose:
    """Whose interface it is. Follows from the request alone, so DEL needs nothing else."""

    namespace: str
    pod: str
    node: str
    interface: str
    is_kubernetes: bool

    @property
    def endpoint(self) -> Key:
        orchestrator = "k8s" if self.is_kubernetes else "cni"
        name = endpoint_name(self.node, orchestrator, self.pod, self.interface)
        if not _can_be_stored(name):  # podman calls a container intelligent_villani
            name = endpoint_name(self.node, orchestrator, plain(self.pod), plain(self.interface))
        return Key("WorkloadEndpoint", name, self.namespace)

    @property
    def host_interface(self) -> str:
        return interface_name(self.namespace, self.pod, self.interface)


def _can_be_stored(name: str) -> bool:
    try:
        scalars.name(name)
    except ValueError:
        return False
    return True


def whose(request: Request, node: str) -> Whose:
    pod = request.args.get("K8S_POD_NAME", "")
    if pod:
        namespace = request.args.get("K8S_POD_NAMESPACE") or NO_NAMESPACE
        return Whose(namespace, pod, node, request.interface, is_kubernetes=True)
    return Whose(NO_NAMESPACE, request.container, node, request.interface, is_kubernetes=False)


@dataclass(frozen=True, slots=True)
class Wants:
    mac: str
    v4: int = 1
    v6: int = 0
    addresses: tuple[Address, ...] = ()
    pools: Mapping[int, tuple[str, ...]] = field(default_factory=dict)  # 4, 6: names or CIDRs
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace_labels: Mapping[str, str] = field(default_factory=dict)
    service_account: str = ""
    profiles: tuple[str, ...] = ()
    ports: Sequence[Mapping[str, Any]] = ()
    spoofed: tuple[str, ...] = ()
    most_mtu: int | None = None


def wants(request: Request, who: Whose, pod: Document | None, namespace: Document | None) -> Wants:
    """From the pod's and the namespace's documents, where the store has them, and the request."""
    notes = {**_annotations(namespace), **_annotations(pod)}
    account = _service_account(who, pod)
    addresses = _addresses(request, notes)
    v4, v6 = (0, 0) if addresses else _families(request, notes)
    return Wants(
        mac=_mac(request, notes),
        v4=v4,
        v6=v6,
        addresses=addresses,
        pools=_pools(request, notes),
        labels=_labels(request, who, pod, account),
        namespace_labels=_named_labels(namespace),
        service_account=account,
        profiles=_profiles(who, account),
        ports=_ports(pod),
        spoofed=_listed(notes, "allowedSourcePrefixes"),
    )


def endpoint_document(who: Whose, request: Request, asked: Wants, addresses: Sequence[Prefix]) -> Document:
    """The WorkloadEndpoint (reference 2.6)."""
    spec: dict[str, Any] = {
        "orchestrator": "k8s" if who.is_kubernetes else "cni",
        "workload": "" if who.is_kubernetes else request.container,
        "node": who.node,
        "containerID": request.container,
        "pod": who.pod if who.is_kubernetes else "",
        "endpoint": request.interface,
        "serviceAccountName": asked.service_account,
        "ipNetworks": [str(address) for address in addresses],
        "ipv4Gateway": str(GATEWAY) if any(a.family == 4 for a in addresses) else "",
        "ipv6Gateway": str(GATEWAY_6) if any(a.family == 6 for a in addresses) else "",
        "profiles": list(asked.profiles),
        "interfaceName": who.host_interface,
        "mac": asked.mac,
        "ports": list(asked.ports),
        "allowSpoofedSourcePrefixes": list(asked.spoofed),
    }
    key = who.endpoint
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": key.kind,
        "metadata": {"name": key.name, "namespace": key.namespace, "labels": dict(asked.labels)}
        | ({"annotations": {MOST_MTU: str(asked.most_mtu)}} if asked.most_mtu else {}),
        "spec": {name: value for name, value in spec.items() if value not in ("", [])},
    }


# -- where each want comes from


def _annotations(document: Document | None) -> dict[str, str]:
    found = metadata(document or {}).get("annotations") or {}
    return {k.removeprefix(ANNOTATION): v for k, v in found.items() if k.startswith(ANNOTATION)}


def _named_labels(document: Document | None) -> dict[str, str]:
    return dict(metadata(document or {}).get("labels") or {})


def _listed(notes: Mapping[str, str], name: str) -> tuple[str, ...]:
    """An annotation that is a JSON list of strings."""
    if not notes.get(name):
        return ()
    try:
        found = json.loads(notes[name])
    except (ValueError, RecursionError):  # the latter: too many brackets
        found = None
    if not isinstance(found, list) or not all(isinstance(item, str) for item in found):
        raise CniError(Code.INVALID_CONFIG, f"annotation {ANNOTATION}{name}: must be a JSON list", repr(notes[name]))
    return tuple(found)


def _addresses(request: Request, notes: Mapping[str, str]) -> tuple[Address, ...]:
    asked = _listed(notes, "ipAddrs") or request.given("ips") or request.args.get("IP") or ()
    texts = [asked] if isinstance(asked, str) else asked
    if not _are_texts(texts):
        raise CniError(Code.INVALID_CONFIG, "ips: must be a list of addresses", repr(asked))
    try:
        found = tuple(ip_interface(text).ip for text in texts)
    except ValueError as error:
        raise CniError(Code.INVALID_CONFIG, "the address that was asked for is none", str(error)) from None
    if len({address.version for address in found}) < len(found):
        raise CniError(
            Code.INVALID_CONFIG, "at most one address of a family can be asked for", ", ".join(map(str, found))
        )
    return found


def _families(request: Request, notes: Mapping[str, str]) -> tuple[int, int]:
    if asked := _listed(notes, "ipFamilies"):
        if unknown := [family for family in asked if family not in ("IPv4", "IPv6")]:
            message = f'annotation {ANNOTATION}ipFamilies: {unknown[0]!r} must be "IPv4" or "IPv6"'
            raise CniError(Code.INVALID_CONFIG, message, repr(notes["ipFamilies"]))
        return int("IPv4" in asked), int("IPv6" in asked)
    ipam = request.config.get("ipam") or {}
    v4 = str(ipam.get("assign_ipv4", "true")).lower() == "true"
    v6 = str(ipam.get("assign_ipv6", "false")).lower() == "true"
    if not v4 and not v6:
        raise CniError(
            Code.INVALID_CONFIG, "ipam: assign_ipv4 and assign_ipv6 are both off: there is nothing to assign"
        )
    return int(v4), int(v6)


def _pools(request: Request, notes: Mapping[str, str]) -> dict[int, tuple[str, ...]]:
    ipam = request.config.get("ipam") or {}
    found = {}
    for family in (4, 6):
        given = _listed(notes, f"ipv{family}pools") or ipam.get(f"ipv{family}_pools") or ()
        if not _are_texts(given):
            raise CniError(Code.INVALID_CONFIG, f"ipam.ipv{family}_pools: must be a list of pools", repr(given))
        if given:
            found[family] = tuple(given)
    return found


def _are_texts(given: object) -> bool:
    return isinstance(given, list | tuple) and all(isinstance(item, str) for item in given)


def _mac(request: Request, notes: Mapping[str, str]) -> str:
    asked = notes.get("hwAddr") or request.given("mac") or request.args.get("MAC")
    if not asked:
        return pod_mac(request.container, request.interface)
    parts = str(asked).lower().split(":")
    if (
        len(parts) != 6
        or any(len(p) != 2 or set(p) - set("0123456789abcdef") for p in parts)
        or int(parts[0], 16) & 1
        or not any(int(p, 16) for p in parts)
    ):
        raise CniError(
            Code.INVALID_CONFIG, f"the hardware address {asked!r} is none", "six bytes such as 02:00:00:00:00:01"
        )
    return ":".join(parts)


def _given_labels(request: Request) -> dict[str, str]:
    """args.cni.labels: a list of {key, value} (CONVENTIONS.md of CNI), or a plain object."""
    given = request.given("labels") or {}
    if isinstance(given, dict):
        return {str(k): str(v) for k, v in given.items()}
    try:
        return {str(item["key"]): str(item["value"]) for item in given}
    except (TypeError, KeyError):
        raise CniError(Code.INVALID_CONFIG, "args.cni.labels: must be a list of {key, value}", repr(given)) from None


def _labels(request: Request, who: Whose, pod: Document | None, account: str) -> dict[str, str]:
    labels = _given_labels(request) | _named_labels(pod)
    labels[f"{LABEL}namespace"] = who.namespace
    labels[f"{LABEL}orchestrator"] = "k8s" if who.is_kubernetes else "cni"
    if account and len(account) < 63:
        labels[f"{LABEL}serviceaccount"] = account
    return labels


def _service_account(who: Whose, pod: Document | None) -> str:
    if not who.is_kubernetes:
        return ""
    return str(((pod or {}).get("spec") or {}).get("serviceAccountName") or "default")


def _profiles(who: Whose, account: str) -> tuple[str, ...]:
    if not who.is_kubernetes:
        return (OPEN_PROFILE,)
    return f"kns.{who.namespace}", f"ksa.{who.namespace}.{account}"


def _ports(pod: Document | None) -> list[dict[str, Any]]:
    found = []
    for container in ((pod or {}).get("spec") or {}).get("containers") or []:
        for port in container.get("ports") or []:
            if port.get("name"):
                protocol = port.get("protocol") or "TCP"
                found.append({"name": port["name"], "protocol": protocol, "port": port["containerPort"]})
    return found
