"""The kinds as schemas, made from the models: for CRDs, for OpenAPI, for `explain` and for docs/resources.md.

Structural in Kubernetes' sense: no references, no nulls, every place has a type, or says that anything may be there.
Of the rules between fields (model/shape.py) an API server is told those that CEL can say in a line, and those about
change: `x-kubernetes-validations`.  The agent checks all of them again when it reads.
"""

from collections.abc import Iterator, Mapping
from copy import deepcopy
from functools import cache
from typing import Any, NamedTuple

from felixlite.model import kinds
from felixlite.model.crossrules import EXCLUSIVE, IMMUTABLE
from felixlite.model.kind import CRD_GROUP, Kind, Printer
from felixlite.model.parse import FREE_FORM, model_of

Schema = dict[str, Any]
KEPT = (
    "description", "type", "format", "enum", "default", "minimum", "maximum", "minLength", "maxLength", "minItems",
    "maxItems", "pattern", "required", "x-kubernetes-int-or-string", "x-kubernetes-preserve-unknown-fields",
)  # fmt: skip
NOT_STORED = frozenset({"Node", "WorkloadEndpoint", "Profile"})  # on Kubernetes these are its own Node, Pod, Namespace
# what an absent field means is decided elsewhere: another object (`default` for `node.n1`), or the program that wrote it
WITHOUT_DEFAULTS = frozenset({"BGPConfiguration", "FelixConfiguration", "IPAMBlock", "BlockAffinity", "IPAMHandle"})
ANYTHING: Schema = {"x-kubernetes-preserve-unknown-fields": True}


@cache
def structural(kind: Kind) -> Schema:
    """The schema of a kind's documents. Not to be changed by who gets it."""
    model = model_of(kind)
    whole = model.model_json_schema(by_alias=True)
    schema = _flat(whole, whole.get("$defs", {}))
    schema["description"] = model.__doc__ or ""
    schema["properties"]["metadata"] = {"type": "object"}
    spec = schema["properties"].get("spec", {})
    if kind.name == FREE_FORM:
        spec |= ANYTHING
    for field in IMMUTABLE.get(kind.name, ()):
        spec["properties"][field]["x-kubernetes-validations"] = [
            {"rule": "self == oldSelf", "message": f"{field} cannot be changed"}
        ]
    return schema


def custom_resources() -> Iterator[Schema]:
    """Of every kind that has a place of its own in Kubernetes: manifests/crds/crds.yaml."""
    return (custom_resource(kind) for kind in kinds.calico_kinds() if kind.name not in NOT_STORED)


def custom_resource(kind: Kind) -> Schema:
    """The CustomResourceDefinition of a kind, in the group crd.projectcalico.org."""
    name, plural = kind.crd
    columns = [_column(printer) for printer in kind.printer]
    age = {"name": "Age", "type": "date", "jsonPath": ".metadata.creationTimestamp"}
    schema = _as_stored(kind)
    version = {
        "name": "v1",
        "served": True,
        "storage": True,
        "schema": {"openAPIV3Schema": schema},
        **({"subresources": {"status": {}}} if "status" in schema["properties"] else {}),
        "additionalPrinterColumns": [*columns, age],
    }
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"{plural}.{CRD_GROUP}"},
        "spec": {
            "group": CRD_GROUP,
            "names": {
                "kind": name,
                "listKind": f"{name}List",
                "plural": plural,
                "singular": name.lower(),
                "shortNames": [short for short in kind.short if short != plural],
            },
            "scope": "Namespaced" if kind.namespaced else "Cluster",
            "preserveUnknownFields": False,
            "versions": [version],
        },
    }


def _as_stored(kind: Kind) -> Schema:
    """The schema as the API server enforces it: with rules between fields, and defaults only where they mean something."""
    schema = deepcopy(structural(kind))
    del schema["required"]  # apiVersion and kind are the API server's affair; a spec without fields may be left out
    if schema["properties"].get("spec", {}).get("required"):
        schema["required"] = ["spec"]
    if rules := EXCLUSIVE.get(kind.name):
        schema["properties"]["spec"]["x-kubernetes-validations"] = [
            {"rule": rule, "message": message} for rule, message in rules
        ]
    for part, below in schema["properties"].items():
        _without_defaults(below, all_of_them=part == "status" or kind.name in WITHOUT_DEFAULTS)
    return schema


def _without_defaults(schema: Schema, *, all_of_them: bool) -> None:
    """An empty text as a default says nothing and would be written into every object."""
    if "default" in schema and (all_of_them or schema["default"] == ""):
        del schema["default"]
    inner = [schema[word] for word in ("items", "additionalProperties") if isinstance(schema.get(word), dict)]
    for below in [*schema.get("properties", {}).values(), *inner]:
        _without_defaults(below, all_of_them=all_of_them)


def _column(printer: Printer) -> Schema:
    found = {"name": printer.title, "type": printer.type, "jsonPath": printer.path}
    return {**found, "priority": printer.priority} if printer.priority else found


# -- from pydantic's JSON schema to a structural one


def _flat(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Schema:
    node = _resolved(node, definitions)
    found: Schema = {name: node[name] for name in KEPT if name in node and node[name] is not None}
    if "const" in node:
        found["enum"] = [node["const"]]
    if "properties" in node:
        found["properties"] = {name: _flat(below, definitions) for name, below in node["properties"].items()}
    elif node.get("type") == "object":
        found |= _of_mapping(node.get("additionalProperties"), definitions)
    if node.get("type") == "array":
        found["items"] = _flat(node.get("items", {}), definitions)
        if any(one.get("type") == "null" for one in node.get("items", {}).get("anyOf", ())):
            found["items"]["nullable"] = True  # a free address of an IPAMBlock; in a mapping, null is absent
    if "x-kubernetes-int-or-string" in found:
        found["anyOf"] = [{"type": "integer"}, {"type": "string"}]
    elif "type" not in found:
        found |= ANYTHING
    return _with_default(found)


def _resolved(node: Mapping[str, Any], definitions: Mapping[str, Any]) -> Mapping[str, Any]:
    """Without $ref, and without `or null`, which in a document is the same as absent."""
    if "$ref" in node:
        rest = {name: value for name, value in node.items() if name != "$ref"}
        return _resolved({**definitions[node["$ref"].rpartition("/")[2]], **rest}, definitions)
    choices = [one for one in node.get("anyOf", ()) if one.get("type") != "null"]
    if len(choices) == 1:
        rest = {name: value for name, value in node.items() if name != "anyOf"}
        return _resolved({**choices[0], **rest}, definitions)
    return node


def _of_mapping(values: Any, definitions: Mapping[str, Any]) -> Schema:
    if isinstance(values, Mapping) and values:
        return {"additionalProperties": _flat(values, definitions)}
    return dict(ANYTHING)


def _with_default(schema: Schema) -> Schema:
    default = schema.get("default")
    if schema.get("format") == "duration" and isinstance(default, float):
        schema["default"] = f"{default:g}s"
    elif isinstance(default, dict | list):
        schema.pop("default")
    return schema


# -- for people


class Place(NamedTuple):
    """A field, as `spec.ingress[].action`."""

    path: str
    schema: Schema
    is_required: bool

    @property
    def type(self) -> str:
        return type_of(self.schema)

    @property
    def description(self) -> str:
        return str(self.schema.get("description", ""))


def type_of(schema: Schema) -> str:
    if "enum" in schema:
        return " | ".join(map(str, schema["enum"]))
    if "x-kubernetes-int-or-string" in schema:
        return "integer or string"
    if schema.get("type") == "array":
        return f"list of {type_of(schema['items'])}"
    if "additionalProperties" in schema:
        return f"map of {type_of(schema['additionalProperties'])}"
    return str(schema.get("format") or schema.get("type") or "anything")


def places(schema: Schema, path: str = "") -> Iterator[Place]:
    """Every field below, in the order of the model."""
    required = schema.get("required", ())
    for name, below in schema.get("properties", {}).items():
        here = f"{path}.{name}" if path else name
        yield Place(here, below, name in required)
        inner, deeper = (below["items"], f"{here}[]") if below.get("type") == "array" else (below, here)
        yield from places(inner, deeper)


def place(kind: Kind, path: str) -> Place | None:
    """`spec.ipipMode`, `spec.ingress.action`; the empty path is the whole."""
    if not path:
        return Place("", structural(kind), is_required=True)
    plain = path.replace("[]", "")
    return next((one for one in places(structural(kind)) if one.path.replace("[]", "") == plain), None)
