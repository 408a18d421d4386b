"""What every resource has: apiVersion, kind, metadata; and the two spellings of a Calico document.

`canonical` makes the `projectcalico.org/v3` form of a document that came as `crd.projectcalico.org/v1`, `as_crd` is its
inverse (reference 1.2): in a custom resource the labels and annotations that Calico means are JSON in an annotation.
"""

import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import Field

from felixlite.errors import Problem, Rejected
from felixlite.model import kinds, scalars
from felixlite.model.kind import CALICO_VERSION, CRD_VERSION, Kind
from felixlite.model.shape import Fault, Model, rule

METADATA_ANNOTATION = "projectcalico.org/metadata"
LARGEST_ANNOTATIONS = 256 * 1024


class Metadata(Model):
    name: str = ""
    namespace: str = ""
    labels: dict[str, str] = Field(default_factory=dict)
    annotations: dict[str, str] = Field(default_factory=dict)
    uid: str | None = None
    resourceVersion: str | None = None
    generation: int | None = None
    generateName: str | None = None
    creationTimestamp: Any = None
    deletionTimestamp: Any = None
    deletionGracePeriodSeconds: int | None = None
    finalizers: list[str] | None = None
    ownerReferences: list[Any] | None = None
    managedFields: list[Any] | None = None
    selfLink: str | None = None

    @rule
    def labels_are_as_in_kubernetes(self) -> Iterator[Fault]:
        for key, value in self.labels.items():
            if not scalars.is_label_key(key):
                yield Fault(
                    f"labels[{key}]", key, "is not a label's name: [dns-name/] and at most 63 of a-z A-Z 0-9 _ . -"
                )
            if not scalars.is_label_value(value):
                yield Fault(f"labels[{key}]", value, "is not a label's value: at most 63 of a-z A-Z 0-9 _ . -")

    @rule
    def annotations_have_names_and_a_limit(self) -> Iterator[Fault]:
        for key in self.annotations:
            if not scalars.is_label_key(key.lower()):
                yield Fault(f"annotations[{key}]", key, "is not an annotation's name")
        if (size := sum(len(k) + len(v) for k, v in self.annotations.items())) > LARGEST_ANNOTATIONS:
            yield Fault("annotations", f"{size} bytes", f"must have at most {LARGEST_ANNOTATIONS} bytes together")


class Resource(Model):
    """A document that has been read: values instead of texts, defaults filled in."""

    dns_name: ClassVar[bool] = True  # IPAM's own objects are named after addresses and handles of others' making

    apiVersion: Annotated[str, Field(description="The version of this form: projectcalico.org/v3.")]
    kind: Annotated[str, Field(description="What kind of resource this is.")]
    metadata: Annotated[Metadata, Field(description="Name, labels and what the store keeps about the object.")]

    @property
    def name(self) -> str:
        return self.metadata.name

    @property
    def namespace(self) -> str:
        return self.metadata.namespace

    @classmethod
    def filled(cls, document: dict[str, Any]) -> None:
        """Write into a document, in place, the defaults that the store shall show."""

    def inside(self) -> Any:
        """The frozen value that planners read; a kind that no planner reads is its own."""
        return self

    @rule
    def it_has_a_name(self) -> Iterator[Fault]:
        name = self.metadata.name
        if not name:
            yield Fault("metadata.name", None, "is required")
        elif self.dns_name:
            try:
                scalars.name(name)
            except ValueError as error:
                yield Fault("metadata.name", name, str(error))


class Spec(Model):
    """The part that the user decides."""


def default(spec: dict[str, Any], **values: Any) -> None:
    for name, value in values.items():
        spec.setdefault(name, value)


# -- the two spellings


def identified(document: object) -> Kind:
    """The kind of a document, or Rejected."""
    if not isinstance(document, Mapping):
        raise Rejected([Problem("document", "", "", document, "must be a mapping with apiVersion, kind and metadata")])
    version, name = document.get("apiVersion"), document.get("kind")
    found = kinds.described(version, name)
    if found:
        return found
    title = title_of(document)
    if not name:
        raise Rejected([Problem("document", title, "kind", name, "is required, such as IPPool")])
    known = kinds.KINDS.get(str(name))
    if known:
        raise Rejected([Problem(known.name, title, "apiVersion", version, f"must be {known.api_version}")])
    raise Rejected([Problem(str(name), title, "kind", name, _nearest(str(name)))])


def _nearest(name: str) -> str:
    import difflib

    near = difflib.get_close_matches(name, kinds.KINDS, 1, 0.6)
    return f"is no kind that is known; did you mean {near[0]}?" if near else "is no kind that is known"


def title_of(document: Mapping[str, Any]) -> str:
    metadata = document.get("metadata")
    if not isinstance(metadata, Mapping):
        return ""
    name, namespace = metadata.get("name") or "", metadata.get("namespace")
    return f"{namespace}/{name}" if namespace else str(name)


def canonical(document: Mapping[str, Any]) -> dict[str, Any]:
    """The v3 form, without nulls, which mean 'absent'; the document itself stays as it is."""
    fresh: dict[str, Any] = _without_nulls(dict(document))
    if document.get("apiVersion") != CRD_VERSION:
        return fresh
    kind = identified(document)
    fresh |= {"apiVersion": CALICO_VERSION, "kind": kind.name}
    metadata = fresh.get("metadata")
    if not isinstance(metadata, dict) or not isinstance(annotations := metadata.get("annotations"), dict):
        return fresh
    if (kept := annotations.pop(METADATA_ANNOTATION, None)) is not None:
        try:
            ours = json.loads(kept)
            metadata |= {name: ours.get(name) or {} for name in ("labels", "annotations")}
        except (ValueError, TypeError, AttributeError):
            where = f"metadata.annotations[{METADATA_ANNOTATION}]"
            raise Rejected([Problem(kind.name, title_of(document), where, kept, "must be a JSON object")]) from None
    return fresh


def as_crd(document: Mapping[str, Any]) -> dict[str, Any]:
    """A v3 document in the form of its custom resource; `canonical` makes it the same again."""
    kind = identified(document)
    metadata = dict(document.get("metadata") or {})
    ours = {name: metadata.pop(name) for name in ("labels", "annotations") if metadata.get(name)}
    if ours:
        metadata["annotations"] = {METADATA_ANNOTATION: json.dumps(ours, sort_keys=True)}
    return {**document, "apiVersion": CRD_VERSION, "kind": kind.crd[0], "metadata": metadata}


def _without_nulls(value: Any) -> Any:
    if isinstance(value, dict):
        return {k: _without_nulls(v) if isinstance(v, dict | list) else v for k, v in value.items() if v is not None}
    if isinstance(value, list):
        return [_without_nulls(item) if isinstance(item, dict | list) else item for item in value]
    return value
