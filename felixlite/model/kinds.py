"""The one registry of kinds, for the command, the stores' layouts, the CRD generator and the API server. Pure.

Cheap to import: `kind.model` names the pydantic class, which is imported only by who validates (model/parse.py).
"""

from collections.abc import Iterator, Mapping

from felixlite.model.calicokinds import CALICO_KINDS
from felixlite.model.kind import CALICO, CRD_GROUP, CRD_VERSION, Kind
from felixlite.model.kuberneteskinds import KUBERNETES_KINDS

_ALL = (*CALICO_KINDS, *KUBERNETES_KINDS)

KINDS: Mapping[str, Kind] = {kind.name: kind for kind in _ALL}

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


def calico_kinds() -> Iterator[Kind]:
    return (kind for kind in _ALL if kind.is_calico)
