"""The kinds of Kubernetes that a node reads, or that are kept for who looks for them. Pure; kinds.py finds them."""

from collections.abc import Mapping
from typing import Final

from felixlite.model.kind import Column, Kind, Printer

_PHASE = Printer("Status", ".status.phase")

KUBERNETES_KINDS: Final = (
    Kind(
        "KubernetesNetworkPolicy",
        "networkpolicies",
        "kubernetes:KubernetesNetworkPolicy",
        ("knp", "netpol"),
        namespaced=True,
        api_version="networking.k8s.io/v1",
        api_kind="NetworkPolicy",
        etcd_plural="kubernetesnetworkpolicies",
        printer=(Printer("Pod-Selector", ".spec.podSelector", "selector"),),
    ),
    Kind("Namespace", "namespaces", "kubernetes:Namespace", ("ns",), api_version="v1", printer=(_PHASE,)),
    Kind("ServiceAccount", "serviceaccounts", "kubernetes:ServiceAccount", ("sa",), namespaced=True, api_version="v1"),
    Kind(
        "Pod",
        "pods",
        "kubernetes:Pod",
        ("po",),
        namespaced=True,
        api_version="v1",
        columns=(Column("NODE", "spec.nodeName"), Column("IP", "status.podIP")),
        printer=(
            _PHASE,
            Printer("IP", ".status.podIP", priority=1),
            Printer("Node", ".spec.nodeName", priority=1),
        ),
    ),
    Kind(
        "Service",
        "services",
        "kubernetes:Service",
        ("svc",),
        namespaced=True,
        api_version="v1",
        etcd_plural="kubernetesservices",
        columns=(Column("TYPE", "spec.type", empty="ClusterIP"), Column("CLUSTERIP", "spec.clusterIP")),
        printer=(
            Printer("Type", ".spec.type"),
            Printer("Cluster-IP", ".spec.clusterIP"),
            Printer("External-IP", ".spec.externalIPs"),
            Printer("Port(s)", ".spec.ports", "ports"),
        ),
    ),
    Kind(
        "EndpointSlice",
        "endpointslices",
        "kubernetes:EndpointSlice",
        namespaced=True,
        api_version="discovery.k8s.io/v1",
        etcd_plural="kubernetesendpointslices",
        printer=(Printer("AddressType", ".addressType"),),
    ),
    Kind(
        "Secret",
        "secrets",
        "kubernetes:Secret",
        namespaced=True,
        api_version="v1",
        printer=(Printer("Type", ".type"), Printer("Data", ".data", "count")),
    ),
    Kind(
        "Lease",
        "leases",
        "kubernetes:Lease",
        namespaced=True,
        api_version="coordination.k8s.io/v1",
        columns=(Column("HOLDER", "spec.holderIdentity"),),
        printer=(Printer("Holder", ".spec.holderIdentity"),),
    ),
)

# Nobody here reads them; manifests bring them along, and who looks for them again (apiserver/) shall find them. Namespaced?
BROUGHT_ALONG: Mapping[str, bool] = {
    "ClusterRole": False,
    "ClusterRoleBinding": False,
    "ConfigMap": True,
    "CustomResourceDefinition": False,
    "DaemonSet": True,
    "Deployment": True,
    "PodDisruptionBudget": True,
    "PriorityClass": False,
    "Role": True,
    "RoleBinding": True,
}
