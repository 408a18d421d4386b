"""OpenAPI of what is served: v3 a group at a time, v2 all at once; for `kubectl explain`, `apply` and `edit`. Pure.

The schemas are those of the models (model/schema.py).  PATCH says that it takes merge and JSON patches and is silent about
strategic ones on purpose: told of them, kubectl would compute its patches by these schemas, which know no merge keys,
instead of by the Go types it has.  v2 has no schemas of Kubernetes' own kinds for the same reason.
"""

import hashlib
from collections.abc import Iterator
from functools import cache
from typing import Any

import orjson

from felixlite.apiserver import catalogue, openapi_proto
from felixlite.apiserver.catalogue import Served
from felixlite.model import schema

Document = dict[str, Any]
META = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta"
PATCHES = ("application/json-patch+json", "application/merge-patch+json")
INFO = {"title": "felixlite", "version": "v1"}
_TEXT, _NUMBER, _ANY = {"type": "string"}, {"type": "integer", "format": "int64"}, {"type": "object"}
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_TIME = {"type": "string", "format": "date-time"}
OBJECT_META: Document = {
    "description": "Name, namespace, labels, annotations, and what the server keeps about the object.",
    "type": "object",
    "properties": {
        "annotations": {**_TEXTS, "description": "Free texts for tools."},
        "creationTimestamp": {**_TIME, "description": "When the object was created."},
        "deletionGracePeriodSeconds": {**_NUMBER, "description": "How long it has to end once it is deleted."},
        "deletionTimestamp": {**_TIME, "description": "Since when it is being deleted."},
        "finalizers": {"type": "array", "items": _TEXT, "description": "Who has to agree before it is gone."},
        "generateName": {**_TEXT, "description": "The beginning of a name that the server completes."},
        "generation": {**_NUMBER, "description": "Counts the changes of what is wanted."},
        "labels": {**_TEXTS, "description": "What selectors select by."},
        "managedFields": {"type": "array", "items": _ANY, "description": "Not kept here."},
        "name": {**_TEXT, "description": "Its name, unique among its kind in its namespace."},
        "namespace": {**_TEXT, "description": "Where it lives, if its kind lives in namespaces."},
        "ownerReferences": {"type": "array", "items": _ANY, "description": "The objects that it belongs to."},
        "resourceVersion": {**_TEXT, "description": "Changes at every write."},
        "selfLink": {**_TEXT, "description": "Not kept here."},
        "uid": {**_TEXT, "description": "Tells it from others that had its name before."},
    },
}
_WORDS = {
    "dryRun": "All: check everything, write nothing.",
    "fieldManager": "Taken and not kept.",
    "fieldValidation": "Ignore, Warn or Strict: what becomes of fields that nobody knows.",
}


def index() -> Document:
    """Of v3: where the document of each group is; the hash lets clients keep what they have."""
    return {
        "paths": {
            path: {"serverRelativeURL": f"/openapi/v3/{path}?hash={_hash(group, version)}"}
            for group, version in catalogue.versions()
            for path in [_path(group, version)]
        }
    }


@cache
def group_document(path: str) -> bytes | None:
    """`apis/projectcalico.org/v3`, `api/v1`: the document in JSON."""
    for group, version in catalogue.versions():
        if _path(group, version) == path:
            return orjson.dumps(_v3(group, version))
    return None


@cache
def v2_json() -> bytes:
    return orjson.dumps(_v2())


@cache
def v2_protobuf() -> bytes:
    return openapi_proto.document(_v2())


def _path(group: str, version: str) -> str:
    return f"apis/{group}/{version}" if group else f"api/{version}"


@cache
def _hash(group: str, version: str) -> str:
    found = group_document(_path(group, version)) or b""
    return hashlib.sha256(found).hexdigest()[:32].upper()


def _name(served: Served) -> str:
    return ".".join((*reversed((served.group or "core").split(".")), served.version, served.kind))


def _gvk(served: Served) -> Document:
    return {"group": served.group, "version": served.version, "kind": served.kind}


# -- v3


def _v3(group: str, version: str) -> Document:
    members = catalogue.members(group, version)
    return {
        "openapi": "3.0.0",
        "info": INFO,
        "paths": {path: _path_item(served, named=named) for served in members for path, named in _paths(served)},
        "components": {
            "schemas": {
                META: OBJECT_META,
                **{_name(served): _schema(served, "#/components/schemas/") for served in members},
            }
        },
    }


def _paths(served: Served) -> Iterator[tuple[str, bool]]:
    base = f"/{_path(served.group, served.version)}{'/namespaces/{namespace}' if served.namespaced else ''}/{served.plural}"
    yield base, False
    yield f"{base}/{{name}}", True


def _path_item(served: Served, *, named: bool) -> Document:
    actions = (
        {"get": "get", "put": "put", "patch": "patch", "delete": "delete"} if named else {"get": "list", "post": "post"}
    )
    return {method: _operation(served, method, action) for method, action in actions.items()}


def _operation(served: Served, method: str, action: str) -> Document:
    what = {"$ref": f"#/components/schemas/{_name(served)}"}
    whole = {"application/json": {"schema": what}}
    operation: Document = {
        "operationId": f"{action}_{_name(served)}",
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": _gvk(served),
        "responses": {"200": {"description": "OK", "content": whole}},
    }
    if method in ("put", "post", "patch"):
        body = {kind: {"schema": {"type": "object"}} for kind in PATCHES} if method == "patch" else whole
        operation["requestBody"] = {"content": body}
    if method != "get":
        operation["parameters"] = [_parameter(name) for name in _WORDS]
    return operation


def _parameter(name: str) -> Document:
    return {"name": name, "in": "query", "description": _WORDS[name], "schema": {"type": "string"}}


def _schema(served: Served, references: str) -> Document:
    if served.model is None or not (served.is_calico or served.model.api_version == served.api_version):
        found: Document = {"type": "object", "description": served.kind, "x-kubernetes-preserve-unknown-fields": True}
        found["properties"] = {"spec": {"type": "object"}, "status": {"type": "object"}}
    else:
        found = dict(schema.structural(served.model))
    properties = {
        **found.get("properties", {}),
        "apiVersion": {"type": "string", "description": f"The version of this form: {served.api_version}."},
        "kind": {"type": "string", "description": f"What this is: {served.kind}."},
        "metadata": {"description": OBJECT_META["description"], "allOf": [{"$ref": references + META}], "default": {}},
    }
    required = [name for name in found.get("required", ()) if name not in ("apiVersion", "kind", "metadata")]
    found |= {"properties": properties, "x-kubernetes-group-version-kind": [_gvk(served)]}
    return {
        **{name: value for name, value in found.items() if name != "required"},
        **({"required": required} if required else {}),
    }


# -- v2


def _v2() -> Document:
    everything = catalogue.everything()
    return {
        "swagger": "2.0",
        "info": INFO,
        "paths": {path: _v2_path(served) for served in everything for path, named in _paths(served) if named},
        "definitions": {META: OBJECT_META, **{_name(served): _v2_schema(_schema(served, "")) for served in everything if served.is_calico}},
    }  # fmt: skip


def _v2_path(served: Served) -> Document:
    return {
        "patch": {
            "operationId": f"patch_{_name(served)}",
            "consumes": list(PATCHES),
            "parameters": [{"name": name, "in": "query", "type": "string"} for name in _WORDS],
            "responses": {"200": {"description": "OK"}},
            "x-kubernetes-action": "patch",
            "x-kubernetes-group-version-kind": _gvk(served),
        }
    }


_V2_KEPT = ("description", "type", "format", "required", "x-kubernetes-group-version-kind")


def _v2_schema(node: Document) -> Document:
    if "allOf" in node:
        return {"description": node["description"], "$ref": f"#/definitions/{node['allOf'][0]['$ref']}"}
    found: Document = {name: node[name] for name in _V2_KEPT if name in node}
    if node.get("x-kubernetes-preserve-unknown-fields") or node.get("x-kubernetes-int-or-string"):
        found.pop("type", None)
        found.pop("format", None)
        if "x-kubernetes-group-version-kind" not in node:
            return found
        found["type"] = "object"
    if "properties" in node:
        found["properties"] = {name: _v2_schema(below) for name, below in node["properties"].items()}
    if isinstance(below := node.get("additionalProperties"), dict):
        found["additionalProperties"] = _v2_schema(below)
    if "items" in node:
        found["items"] = _v2_schema(node["items"])
    return found
