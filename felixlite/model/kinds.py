"""The kinds of resources: what each is called, where it lives, and what a list of it shows. Pure and cheap to import.

The one registry for the command, the stores' layouts, the CRD generator and the API server.  `kind.model` names the
pydantic class, which is imported only by who validates (model/parse.py).  Names are those of the reference 1.3, columns
those of calicoctl (`columns`, reference 15) and of kubectl (`printer`, reference 2.1).
"""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

CALICO = "projectcalico.org"
CALICO_VERSION = f"{CALICO}/v3"
CRD_GROUP = "crd.projectcalico.org"
CRD_VERSION = f"{CRD_GROUP}/v1"


class Column(NamedTuple):
    title: str
    path: str  # `spec.cidr`; alternatives are joined with "|", the first that is there wins
    wide: bool = False  # only with -o wide
    empty: str = ""


class Printer(NamedTuple):
    """A column of `kubectl get`; every kind has Age besides."""

    title: str
    path: str  # JSONPath, `.spec.cidr`
    type: str = "string"
    priority: int = 0  # 1: only with -o wide


class Kind(NamedTuple):
    name: str
    plural: str
    model: str  # module of felixlite.model and class in it
    short: tuple[str, ...] = ()
    namespaced: bool = False
    api_version: str = CALICO_VERSION
    api_kind: str = ""  # what its documents say as `kind`, where that is not `name`
    crd_kind: str = ""  # the same in crd.projectcalico.org/v1
    crd_plural: str = ""
    etcd_plural: str = ""
    columns: tuple[Column, ...] = ()
    printer: tuple[Printer, ...] = ()

    @property
    def is_calico(self) -> bool:
        return self.api_version == CALICO_VERSION

    @property
    def document_kind(self) -> str:
        return self.api_kind or self.name

    @property
    def stored_plural(self) -> str:
        """In the keys of etcd (reference 3.1)."""
        return self.etcd_plural or self.plural

    @property
    def crd(self) -> tuple[str, str]:
        """Kind and plural in crd.projectcalico.org/v1."""
        return self.crd_kind or self.name, self.crd_plural or self.plural


_POLICY_COLUMNS = (
    Column("TIER", "spec.tier", empty="default"),
    Column("ORDER", "spec.order", wide=True),
    Column("SELECTOR", "spec.selector", wide=True, empty="all()"),
)
_POLICY_PRINTER = (Printer("Tier", ".spec.tier"), Printer("Order", ".spec.order", "number"))
_SPEC_NODE = Column("NODE", "spec.node")
_PHASE = Printer("Status", ".status.phase")

_ALL = (
    Kind(
        "IPPool",
        "ippools",
        "pool:IPPool",
        ("ipp", "ipps", "pool", "pools"),
        columns=(
            Column("CIDR", "spec.cidr"),
            Column("NAT", "spec.natOutgoing", True, "false"),
            Column("IPIPMODE", "spec.ipipMode", True, "Never"),
            Column("VXLANMODE", "spec.vxlanMode", True, "Never"),
            Column("DISABLED", "spec.disabled", True, "false"),
            Column("DISABLEBGPEXPORT", "spec.disableBGPExport", True, "false"),
            Column("SELECTOR", "spec.nodeSelector", empty="all()"),
            Column("ASSIGNMENTMODE", "spec.assignmentMode", True, "Automatic"),
        ),
        printer=(
            Printer("CIDR", ".spec.cidr"),
            Printer("VXLAN", ".spec.vxlanMode"),
            Printer("IPIP", ".spec.ipipMode"),
            Printer("NAT", ".spec.natOutgoing", "boolean"),
            Printer("Allocatable", ".status.conditions[?(@.type=='Allocatable')].status"),
        ),
    ),
    Kind(
        "IPReservation",
        "ipreservations",
        "pool:IPReservation",
        columns=(Column("CIDRS", "spec.reservedCIDRs"),),
        printer=(Printer("CIDRs", ".spec.reservedCIDRs"),),
    ),
    Kind(
        "IPAMConfiguration",
        "ipamconfigurations",
        "ipam:IPAMConfiguration",
        ("ipamconfig", "ipamconfigs"),
        crd_kind="IPAMConfig",
        crd_plural="ipamconfigs",
        columns=(
            Column("STRICTAFFINITY", "spec.strictAffinity", empty="false"),
            Column("AUTOALLOCATEBLOCKS", "spec.autoAllocateBlocks", empty="true"),
            Column("MAXBLOCKSPERHOST", "spec.maxBlocksPerHost", empty="0"),
        ),
        printer=(
            Printer("Strict", ".spec.strictAffinity", "boolean"),
            Printer("MaxBlocks", ".spec.maxBlocksPerHost", "integer"),
        ),
    ),
    Kind(
        "BGPConfiguration",
        "bgpconfigurations",
        "bgp:BGPConfiguration",
        ("bgpconfig", "bgpconfigs"),
        columns=(
            Column("LOGSEVERITY", "spec.logSeverityScreen"),
            Column("MESHENABLED", "spec.nodeToNodeMeshEnabled"),
            Column("ASNUMBER", "spec.asNumber", empty="-"),
        ),
        printer=(
            Printer("Mesh", ".spec.nodeToNodeMeshEnabled", "boolean"),
            Printer("AS", ".spec.asNumber", "string"),
        ),
    ),
    Kind(
        "BGPPeer",
        "bgppeers",
        "bgp:BGPPeer",
        columns=(
            Column("PEERIP", "spec.peerIP|spec.peerSelector"),
            Column("NODE", "spec.node|spec.nodeSelector", empty="(global)"),
            Column("ASN", "spec.asNumber"),
        ),
        printer=(
            Printer("Peer", ".spec.peerIP"),
            Printer("AS", ".spec.asNumber", "string"),
            Printer("Node", ".spec.node"),
            Printer("NodeSelector", ".spec.nodeSelector", priority=1),
            Printer("PeerSelector", ".spec.peerSelector", priority=1),
        ),
    ),
    Kind("BGPFilter", "bgpfilters", "bgpfilter:BGPFilter"),
    Kind(
        "Node",
        "nodes",
        "node:Node",
        ("no",),
        columns=(
            Column("ASN", "spec.bgp.asNumber", True, "(64512)"),
            Column("IPV4", "spec.bgp.ipv4Address", True),
            Column("IPV6", "spec.bgp.ipv6Address", True),
        ),
        printer=(Printer("IPv4", ".spec.bgp.ipv4Address"), Printer("AS", ".spec.bgp.asNumber", "string")),
    ),
    Kind(
        "FelixConfiguration",
        "felixconfigurations",
        "configuration:FelixConfiguration",
        ("felixconfig", "felixconfigs"),
        columns=(Column("LOGSEVERITY", "spec.logSeverityScreen"),),
        printer=(Printer("LogSeverity", ".spec.logSeverityScreen"),),
    ),
    Kind(
        "NetworkPolicy",
        "networkpolicies",
        "policies:NetworkPolicy",
        ("np", "cnp"),
        namespaced=True,
        columns=_POLICY_COLUMNS,
        printer=_POLICY_PRINTER,
    ),
    Kind(
        "GlobalNetworkPolicy",
        "globalnetworkpolicies",
        "policies:GlobalNetworkPolicy",
        ("gnp", "cgnp"),
        columns=_POLICY_COLUMNS,
        printer=_POLICY_PRINTER,
    ),
    Kind(
        "StagedNetworkPolicy",
        "stagednetworkpolicies",
        "policies:StagedNetworkPolicy",
        ("snp",),
        namespaced=True,
        columns=_POLICY_COLUMNS,
        printer=_POLICY_PRINTER,
    ),
    Kind(
        "StagedGlobalNetworkPolicy",
        "stagedglobalnetworkpolicies",
        "policies:StagedGlobalNetworkPolicy",
        ("sgnp",),
        columns=_POLICY_COLUMNS,
        printer=_POLICY_PRINTER,
    ),
    Kind(
        "StagedKubernetesNetworkPolicy",
        "stagedkubernetesnetworkpolicies",
        "kubernetes:StagedKubernetesNetworkPolicy",
        ("sknp",),
        namespaced=True,
    ),
    Kind(
        "Tier",
        "tiers",
        "sets:Tier",
        columns=(Column("ORDER", "spec.order", empty="<nil>"),),
        printer=(Printer("Order", ".spec.order", "number"), Printer("DefaultAction", ".spec.defaultAction")),
    ),
    Kind(
        "NetworkSet",
        "networksets",
        "sets:NetworkSet",
        ("netset", "netsets"),
        namespaced=True,
        columns=(Column("NETS", "spec.nets", True),),
    ),
    Kind(
        "GlobalNetworkSet",
        "globalnetworksets",
        "sets:GlobalNetworkSet",
        ("gns",),
        columns=(Column("NETS", "spec.nets", True),),
    ),
    Kind(
        "HostEndpoint",
        "hostendpoints",
        "endpoint:HostEndpoint",
        ("hep", "heps"),
        columns=(
            _SPEC_NODE,
            Column("INTERFACE", "spec.interfaceName", True),
            Column("IPS", "spec.expectedIPs", True),
            Column("PROFILES", "spec.profiles", True),
        ),
        printer=(Printer("Node", ".spec.node"), Printer("Interface", ".spec.interfaceName")),
    ),
    Kind("Profile", "profiles", "sets:Profile"),
    Kind(
        "WorkloadEndpoint",
        "workloadendpoints",
        "endpoint:WorkloadEndpoint",
        ("wep", "weps"),
        namespaced=True,
        columns=(
            Column("WORKLOAD", "spec.pod|spec.workload|metadata.name"),
            _SPEC_NODE,
            Column("NETWORKS", "spec.ipNetworks"),
            Column("INTERFACE", "spec.interfaceName"),
            Column("PROFILES", "spec.profiles", True),
            Column("NATS", "spec.ipNATs", True),
        ),
        printer=(
            Printer("Workload", ".spec.pod"),
            Printer("Node", ".spec.node"),
            Printer("Networks", ".spec.ipNetworks"),
            Printer("Interface", ".spec.interfaceName"),
        ),
    ),
    Kind(
        "BlockAffinity",
        "blockaffinities",
        "ipam:BlockAffinity",
        ("affinity", "affinities"),
        columns=(Column("CIDR", "spec.cidr"), _SPEC_NODE, Column("STATE", "spec.state")),
        printer=(Printer("Node", ".spec.node"), Printer("CIDR", ".spec.cidr"), Printer("State", ".spec.state")),
    ),
    Kind(
        "IPAMBlock",
        "ipamblocks",
        "ipam:IPAMBlock",
        columns=(Column("CIDR", "spec.cidr"), Column("AFFINITY", "spec.affinity")),
        printer=(Printer("CIDR", ".spec.cidr"), Printer("Affinity", ".spec.affinity")),
    ),
    Kind("IPAMHandle", "ipamhandles", "ipam:IPAMHandle", columns=(Column("BLOCKS", "spec.block"),)),
    Kind(
        "ClusterInformation",
        "clusterinformations",
        "configuration:ClusterInformation",
        ("clusterinfo", "clusterinfos"),
        columns=(Column("GUID", "spec.clusterGUID"), Column("READY", "spec.datastoreReady")),
        printer=(Printer("GUID", ".spec.clusterGUID"), Printer("Ready", ".spec.datastoreReady", "boolean")),
    ),
    Kind(
        "KubeControllersConfiguration",
        "kubecontrollersconfigurations",
        "configuration:KubeControllersConfiguration",
        ("kcc", "kccs"),
    ),
    Kind(
        "CalicoNodeStatus",
        "caliconodestatuses",
        "nodestatus:CalicoNodeStatus",
        columns=(_SPEC_NODE, Column("CLASSES", "spec.classes"), Column("UPDATED", "status.lastUpdated")),
        printer=(Printer("Node", ".spec.node"), Printer("Updated", ".status.lastUpdated", "date")),
    ),
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
        columns=(_SPEC_NODE._replace(path="spec.nodeName"), Column("IP", "status.podIP")),
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

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}

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
_ALIASES = {alias.lower(): kind for kind in reversed(_ALL) for alias in (kind.plural, *kind.short, kind.name)}
_CRD_KINDS = {kind.crd[0]: kind for kind in _ALL if kind.is_calico}
_CRD_PLURALS = {kind.crd[1]: kind for kind in _ALL if kind.is_calico}
_API = {(kind.api_version, kind.document_kind): kind for kind in _ALL}


def named(alias: str) -> Kind | None:
    """`ippool`, `IPPools`, `pool` -> the kind: name, plural or short name, in any case."""
    return _ALIASES.get(alias.lower()) or _ALIASES.get(alias.lower().removesuffix("s"))


def described(api_version: object, kind: object) -> Kind | None:
    """The kind that a document with this apiVersion and kind is of; crd.projectcalico.org/v1 is the same as v3."""
    if api_version == CRD_VERSION:
        return _CRD_KINDS.get(str(kind)) or KINDS.get(str(kind))
    return _API.get((str(api_version), str(kind)))


def in_plural(plural: str, group: str = CALICO) -> Kind | None:
    """The kind behind a path of an API or a CRD: `ippools`, `ipamconfigs`."""
    if group == CRD_GROUP:
        return _CRD_PLURALS.get(plural)
    return next((k for k in _ALL if k.plural == plural and k.api_version.rpartition("/")[0] == group), None)


def at(document: Mapping[str, Any], path: str) -> object | None:
    """What a column's path finds in a document; None: nothing, or an empty thing."""
    return next((found for choice in path.split("|") if (found := _walk(document, choice)) not in (None, "")), None)


def _walk(document: Any, path: str) -> object | None:
    for step in path.split("."):
        if not isinstance(document, Mapping):
            return None
        document = document.get(step)
    found: object | None = document
    return found


def calico_kinds() -> Iterator[Kind]:
    return (kind for kind in _ALL if kind.is_calico)
