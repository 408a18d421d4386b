"""What is served: every resource with its group, its names, and the form its objects have on the wire. Pure.

One kind of the store may be served twice: an IPPool is `ippools` of projectcalico.org/v3 and of crd.projectcalico.org/v1.
The order of the groups is the order in which kubectl looks for a name that several of them have.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from enum import Enum
from functools import cache

from felixlite.model import kinds
from felixlite.model.kind import CALICO, CRD_GROUP, CRD_VERSION, Kind, Printer
from felixlite.model.schema import structural

VERBS = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")
NO_CUSTOM_RESOURCE = frozenset(
    {"Node", "Profile", "WorkloadEndpoint"}
)  # reference 1.3: on Kubernetes these are Node, Pod, ...
WITH_STATUS = frozenset({"Namespace", "Node", "Pod", "Service", "KubernetesNetworkPolicy", "DaemonSet", "Deployment"})
GROUP_ORDER = ("", "networking.k8s.io", "discovery.k8s.io", "coordination.k8s.io", "apps", "apiextensions.k8s.io")
LAST_GROUPS = (CALICO, CRD_GROUP)
IN_ALL = frozenset({"Pod", "Service", "DaemonSet", "Deployment"})  # what `kubectl get all` asks for


class Form(Enum):
    PLAIN = "plain"  # the document as it is stored
    CUSTOM = "custom"  # crd.projectcalico.org/v1
    NODE = "node"  # core/v1 Node, of which the store has Calico's


@dataclass(frozen=True, slots=True)
class Served:
    group: str
    version: str
    plural: str
    kind: str
    stored: str  # the kind in the store
    namespaced: bool
    form: Form = Form.PLAIN
    short: tuple[str, ...] = ()
    printer: tuple[Printer, ...] = ()
    has_status: bool = False
    model: Kind | None = None  # None: nobody here reads it; it is kept as it comes

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def singular(self) -> str:
        return self.kind.lower()

    @property
    def title(self) -> str:
        """As messages name it: ippools.projectcalico.org."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def categories(self) -> tuple[str, ...]:
        return ("all",) if self.stored in IN_ALL else ()

    @property
    def is_calico(self) -> bool:
        return self.group in LAST_GROUPS


def _of_kind(kind: Kind) -> Served:
    group, _, version = kind.api_version.rpartition("/")
    return Served(
        group, version, kind.plural, kind.document_kind, kind.name, kind.namespaced,
        short=kind.short, printer=kind.printer, has_status=_has_status(kind), model=kind,
    )  # fmt: skip


def _custom(kind: Kind) -> Served:
    group, _, version = CRD_VERSION.partition("/")
    name, plural = kind.crd
    return Served(
        group, version, plural, name, kind.name, kind.namespaced, Form.CUSTOM,
        short=kind.short, printer=kind.printer, has_status=_has_status(kind), model=kind,
    )  # fmt: skip


def _has_status(kind: Kind) -> bool:
    """As our CRDs have it: the status is a subresource where there is one."""
    return "status" in structural(kind)["properties"] if kind.is_calico else kind.name in WITH_STATUS


_NODE_PRINTER = (
    Printer("Status", ".status.conditions[?(@.type=='Ready')].status"),
    Printer("Address", ".metadata.annotations.projectcalico\\.org/IPv4Address"),
    Printer("AS", ".metadata.annotations.projectcalico\\.org/ASNumber"),
    Printer("Tunnel", ".metadata.annotations.projectcalico\\.org/IPv4IPIPTunnelAddr", priority=1),
)

_EVENT_PRINTER = (
    Printer("Last Seen", ".lastTimestamp", "date"),
    Printer("Type", ".type"),
    Printer("Reason", ".reason"),
    Printer("Object", ".involvedObject.kind"),
    Printer("Object Name", ".involvedObject.name"),
    Printer("Message", ".message"),
)

_CRD_PRINTER = (Printer("Established", ".status.conditions[?(@.type=='Established')].status"),)
_RBAC, _V1 = "rbac.authorization.k8s.io", "v1"

# kept as they come (model/kuberneteskinds.py BROUGHT_ALONG): nobody here reads them. They are what manifests bring along.
_OTHERS = (
    Served("", _V1, "nodes", "Node", "Node", False, Form.NODE, ("no",), _NODE_PRINTER, True),
    Served("", _V1, "events", "Event", "Event", True, short=("ev",), printer=_EVENT_PRINTER),
    Served("", _V1, "configmaps", "ConfigMap", "ConfigMap", True, short=("cm",),
           printer=(Printer("Data", ".data", "count"),)),
    Served("apps", _V1, "daemonsets", "DaemonSet", "DaemonSet", True, short=("ds",), has_status=True),
    Served("apps", _V1, "deployments", "Deployment", "Deployment", True, short=("deploy",), has_status=True),
    Served("policy", _V1, "poddisruptionbudgets", "PodDisruptionBudget", "PodDisruptionBudget", True, short=("pdb",)),
    Served("scheduling.k8s.io", _V1, "priorityclasses", "PriorityClass", "PriorityClass", False, short=("pc",)),
    Served(_RBAC, _V1, "clusterrolebindings", "ClusterRoleBinding", "ClusterRoleBinding", False),
    Served(_RBAC, _V1, "clusterroles", "ClusterRole", "ClusterRole", False),
    Served(_RBAC, _V1, "rolebindings", "RoleBinding", "RoleBinding", True),
    Served(_RBAC, _V1, "roles", "Role", "Role", True),
    Served("apiextensions.k8s.io", _V1, "customresourcedefinitions", "CustomResourceDefinition",
           "CustomResourceDefinition", False, short=("crd", "crds"), printer=_CRD_PRINTER, has_status=True),
)  # fmt: skip
RUN_BY_NOBODY = ("DaemonSet", "Deployment", "PodDisruptionBudget", "PriorityClass")


@cache
def everything() -> tuple[Served, ...]:
    plain = [_of_kind(kind) for kind in kinds.KINDS.values()]
    custom = [_custom(kind) for kind in kinds.calico_kinds() if kind.name not in NO_CUSTOM_RESOURCE]
    found = sorted((*plain, *custom, *_OTHERS), key=lambda served: (_rank(served.group), served.plural))
    return tuple(_once_each(found))


def _once_each(found: Iterable[Served]) -> Iterator[Served]:
    """A short name that two have is the first one's: kubectl would warn of it every time."""
    taken: set[str] = set()
    for one in found:
        yield replace(one, short=tuple(name for name in one.short if name not in taken))
        taken.update(one.short)


def _rank(group: str) -> tuple[int, str]:
    if group in GROUP_ORDER:
        return GROUP_ORDER.index(group), group
    return (100 + LAST_GROUPS.index(group) if group in LAST_GROUPS else 50), group


@cache
def find(group: str, version: str, plural: str) -> Served | None:
    return next((one for one in everything() if (one.group, one.version, one.plural) == (group, version, plural)), None)


def versions() -> Iterator[tuple[str, str]]:
    """Group and version, in order; each group has one version."""
    yield from dict.fromkeys((one.group, one.version) for one in everything())


def members(group: str, version: str) -> list[Served]:
    return [one for one in everything() if (one.group, one.version) == (group, version)]


def of_stored(kind: str) -> list[Served]:
    return [one for one in everything() if one.stored == kind]
