"""What is known of a kind of resource: what it is called, where it lives, what a list of it shows. Pure.

Column titles and paths are those of calicoctl (`columns`, reference 15) and of kubectl (`printer`, reference 2.1).
"""

from collections.abc import Mapping
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
