"""Kubernetes' own Node and Pod as the Calico resources they stand for, and what of a Node is written back. Pure.

On Kubernetes there is no object of Calico for a node or a workload: Node is core/v1 Node with annotations, and a
WorkloadEndpoint is what a Pod says (reference 2.5, 2.6).  The Kubernetes store gives these documents out and takes
Nodes back as annotations; validation comes afterwards, as for any document.
"""

import json
from collections.abc import Iterator, Mapping
from hashlib import sha1
from typing import Any

from felixlite.model.kind import CALICO_VERSION

Document = dict[str, Any]
Given = Mapping[str, Any]

PREFIX = "projectcalico.org/"
LABELS, INTERFACES = f"{PREFIX}labels", f"{PREFIX}Interfaces"
MOST_MTU = "felixlite.io/most-mtu"
POD_IP, POD_IPS = "cni.projectcalico.org/podIP", "cni.projectcalico.org/podIPs"
CONTAINER_ID = "cni.projectcalico.org/containerID"
SPOOFING = "cni.projectcalico.org/allowedSourcePrefixes"
NOTE = "felixlite.io/Addresses"  # a condition of a Pod

# annotation (after the prefix) -> where in the Node
NODE_FIELDS: Mapping[str, tuple[str, ...]] = {
    "IPv4Address": ("spec", "bgp", "ipv4Address"),
    "IPv6Address": ("spec", "bgp", "ipv6Address"),
    "ASNumber": ("spec", "bgp", "asNumber"),
    "RouteReflectorClusterID": ("spec", "bgp", "routeReflectorClusterID"),
    "IPv4IPIPTunnelAddr": ("spec", "bgp", "ipv4IPIPTunnelAddr"),
    "IPv4VXLANTunnelAddr": ("spec", "ipv4VXLANTunnelAddr"),
    "VXLANTunnelMACAddr": ("spec", "vxlanTunnelMACAddr"),
    "IPv6VXLANTunnelAddr": ("spec", "ipv6VXLANTunnelAddr"),
    "VXLANTunnelMACAddrV6": ("spec", "vxlanTunnelMACAddrV6"),
    "IPv4WireguardInterfaceAddr": ("spec", "wireguard", "interfaceIPv4Address"),
    "IPv6WireguardInterfaceAddr": ("spec", "wireguard", "interfaceIPv6Address"),
    "WireguardPublicKey": ("status", "wireguardPublicKey"),
    "WireguardPublicKeyV6": ("status", "wireguardPublicKeyV6"),
}
KEPT = ("name", "uid", "resourceVersion", "creationTimestamp", "deletionTimestamp")
# ours: lists of words, joined by commas
OURS: Mapping[str, tuple[str, ...]] = {
    "felixlite.io/accepts": ("status", "accepts"),
    "felixlite.io/sends": ("status", "sends"),
    "felixlite.io/examine": ("status", "examine"),
    "felixlite.io/ways": ("status", "ways"),
}


def node(kubernetes: Given) -> Document:
    """The Node (v3) that a core/v1 Node stands for."""
    metadata = kubernetes.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    name = metadata.get("name", "")
    found: Document = {
        "apiVersion": CALICO_VERSION,
        "kind": "Node",
        "metadata": {key: metadata[key] for key in KEPT if key in metadata}
        | {"labels": {**(metadata.get("labels") or {}), **_mapping(annotations.get(LABELS))}},
        "spec": {
            "orchRefs": [{"orchestrator": "k8s", "nodeName": name}],
            "addresses": [*_own_addresses(annotations), *_addresses(kubernetes)],
        },
    }
    for annotation, where in NODE_FIELDS.items():
        if value := annotations.get(PREFIX + annotation):
            _put(found, where, value)
    for annotation, where in OURS.items():
        if (words := annotations.get(annotation)) is not None:
            _put(found, where, sorted(word for word in words.split(",") if word))
    if interfaces := _listed(annotations.get(INTERFACES)):
        found["spec"]["interfaces"] = interfaces
    if cidrs := (kubernetes.get("spec") or {}).get("podCIDRs"):
        found.setdefault("status", {})["podCIDRs"] = cidrs
    return found


def node_annotations(ours: Given) -> dict[str, str | None]:
    """What a Node (v3) is in the annotations of its core/v1 Node, for a merge patch: None takes one away."""
    found: dict[str, str | None] = {}
    for annotation, where in NODE_FIELDS.items():
        value = _at(ours, where)
        found[PREFIX + annotation] = None if value in (None, "") else str(value)
    interfaces = _at(ours, ("spec", "interfaces"))
    found[INTERFACES] = json.dumps(interfaces, separators=(",", ":")) if interfaces else None
    for annotation, where in OURS.items():
        words = _at(ours, where)
        found[annotation] = None if words is None else ",".join(words)
    return found


def endpoint(pod: Given) -> Document | None:
    """The WorkloadEndpoint that a Pod stands for; None: it has none (not scheduled, on the host's network, no address)."""
    metadata, spec = pod.get("metadata") or {}, pod.get("spec") or {}
    addresses = pod_addresses(pod)
    if not spec.get("nodeName") or spec.get("hostNetwork") or not addresses:
        return None
    annotations = metadata.get("annotations") or {}
    name, namespace, account = (
        metadata.get("name", ""),
        metadata.get("namespace", ""),
        spec.get("serviceAccountName", ""),
    )
    profiles = [f"kns.{namespace}", *([f"ksa.{namespace}.{account}"] if account else [])]
    noted, mac = _noted(pod.get("status") or {})
    return {
        "apiVersion": CALICO_VERSION,
        "kind": "WorkloadEndpoint",
        "metadata": {key: metadata[key] for key in KEPT if key in metadata}
        | {
            "name": endpoint_name(spec["nodeName"], "k8s", name, "eth0"),
            "namespace": namespace,
            "labels": {**(metadata.get("labels") or {}), **_own_labels(namespace, account)},
        }
        | ({"annotations": {MOST_MTU: annotations[MOST_MTU]}} if annotations.get(MOST_MTU) else {}),
        "spec": {
            "orchestrator": "k8s",
            "node": spec["nodeName"],
            "pod": name,
            "endpoint": "eth0",
            "containerID": annotations.get(CONTAINER_ID, ""),
            "serviceAccountName": account,
            "ipNetworks": addresses,
            "profiles": profiles,
            "interfaceName": interface_name(namespace, name),
            "ports": list(_ports(spec)),
            "allowSpoofedSourcePrefixes": _listed(annotations.get(SPOOFING)),
        }
        | ({"mac": mac} if mac and noted == addresses else {}),
    }


def pod_addresses(pod: Given) -> list[str]:
    """The CNI plugin's, where annotation and note say the same; else what the status says, else the note.

    The reference (2.6) believes the status, and the annotation before there is one.  But a pod whose sandbox was made
    anew (its node was started again) has a new address, that the plugin writes at once, while the kubelet goes on telling
    the old one for a while.  And an annotation alone is the word of everybody who may label the pod: with it they would
    take over whatever address they like.  So the plugin writes a note into the status, where only the kubelet and the
    agents may write; the annotation tells whether the note still holds where another plugin has taken over since.
    """
    status, metadata = pod.get("status") or {}, pod.get("metadata") or {}
    annotations = metadata.get("annotations") or {}
    noted, claimed = _noted(status)[0], _hosts(annotations.get(POD_IPS) or annotations.get(POD_IP) or "")
    given_back = annotations.get(POD_IP) == "" and (noted == [] or metadata.get("deletionTimestamp"))
    if given_back or status.get("phase") in ("Succeeded", "Failed"):
        return []
    if noted and noted == claimed:
        return noted
    told = [str(entry.get("ip") or "") for entry in status.get("podIPs") or ()]
    return _hosts(",".join(told)) or _hosts(status.get("podIP") or "") or noted or []


def _noted(status: Given) -> tuple[list[str] | None, str]:
    """The addresses and the MAC in the note; None: there is none. An address that was given back leaves an empty one."""
    for condition in status.get("conditions") or ():
        if condition.get("type") == NOTE:
            addresses, _, mac = str(condition.get("message") or "").partition(" ")
            return _hosts(addresses), mac
    return None, ""


def pod_note(endpoint: Given | None) -> Document:
    """The condition that a Pod with this WorkloadEndpoint has; None: it is given back."""
    spec = (endpoint or {}).get("spec") or {}
    addresses = ",".join(str(address) for address in spec.get("ipNetworks") or ())
    message = f"{addresses} {spec.get('mac') or ''}".strip()
    return {"type": NOTE, "status": "True" if addresses else "False", "reason": "Assigned", "message": message}


def pod_annotations(endpoint: Given | None) -> dict[str, str]:
    """What a WorkloadEndpoint is in the annotations of its Pod (reference 6.3); None: it is given back (6.6)."""
    if endpoint is None:
        return {POD_IP: "", POD_IPS: ""}
    spec = endpoint.get("spec") or {}
    addresses = [str(address) for address in spec.get("ipNetworks") or ()]
    said = (endpoint.get("metadata") or {}).get("annotations") or {}
    return {
        **({MOST_MTU: said[MOST_MTU]} if MOST_MTU in said else {}),
        POD_IP: addresses[0] if addresses else "",
        POD_IPS: ",".join(addresses),
        CONTAINER_ID: str(spec.get("containerID") or ""),
    }


def endpoint_name(node_name: str, orchestrator: str, workload: str, interface: str) -> str:
    """`node-k8s-pod-eth0`; a dash inside a part is doubled, so that the name has one reading."""
    return "-".join(part.replace("-", "--") for part in (node_name, orchestrator, workload, interface))


def endpoint_parts(name: str) -> tuple[str, str, str, str]:
    """The inverse of endpoint_name: node, orchestrator, workload, interface. ValueError for a name that is of none."""
    parts = [part.replace("\0", "-") for part in name.replace("--", "\0").split("-")]
    if len(parts) != 4 or not all(parts):
        raise ValueError(f"{name!r} is not the name of a WorkloadEndpoint, such as node1-k8s-pod1-eth0")
    return parts[0], parts[1], parts[2], parts[3]


def interface_name(namespace: str, pod: str) -> str:
    """The host's side of a pod's veth (reference 6.4)."""
    return f"cali{sha1(f'{namespace}.{pod}'.encode(), usedforsecurity=False).hexdigest()[:11]}"


def _own_labels(namespace: str, account: str) -> dict[str, str]:
    found = {f"{PREFIX}namespace": namespace, f"{PREFIX}orchestrator": "k8s"}
    return found | ({f"{PREFIX}serviceaccount": account} if account and len(account) < 63 else {})


def _ports(spec: Given) -> Iterator[Document]:
    for container in spec.get("containers") or ():
        for port in container.get("ports") or ():
            if port.get("containerPort"):
                yield {
                    "name": port.get("name", ""),
                    "protocol": port.get("protocol", "TCP"),
                    "port": port["containerPort"],
                    "hostPort": port.get("hostPort", 0),
                    "hostIP": port.get("hostIP", ""),
                }


def _own_addresses(annotations: Given) -> Iterator[Document]:
    """What the agent found out, as it writes it where a Node is Calico's own (registration.py)."""
    for name in ("IPv4Address", "IPv6Address"):
        if address := annotations.get(PREFIX + name):
            yield {"address": str(address).partition("/")[0], "type": "CalicoNodeIP"}


def _addresses(kubernetes: Given) -> Iterator[Document]:
    for one in (kubernetes.get("status") or {}).get("addresses") or ():
        if one.get("type") in ("InternalIP", "ExternalIP") and one.get("address"):
            yield {"address": one["address"], "type": one["type"]}


def _hosts(texts: str) -> list[str]:
    found = [text.strip() for text in texts.split(",") if text.strip()]
    return [text if "/" in text else f"{text}/{128 if ':' in text else 32}" for text in found]


def _put(document: Document, where: tuple[str, ...], value: object) -> None:
    for step in where[:-1]:
        document = document.setdefault(step, {})
    document[where[-1]] = value


def _at(document: Any, where: tuple[str, ...]) -> Any:
    for step in where:
        document = document.get(step) if isinstance(document, Mapping) else None
    return document


def _mapping(text: Any) -> dict[str, Any]:
    found = _json(text)
    return found if isinstance(found, dict) else {}


def _listed(text: Any) -> list[Any]:
    found = _json(text)
    return found if isinstance(found, list) else []


def _json(text: Any) -> Any:
    """None for what is no JSON: an annotation that somebody spoiled is as good as none."""
    try:
        return json.loads(text) if text else None
    except (TypeError, ValueError):
        return None
