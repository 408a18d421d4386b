from collections.abc import Iterator
from typing import Any

import pytest

from felixlite.model import kinds
from felixlite.model.kind import Kind
from felixlite.model.parse import completed
from felixlite.model.schema import custom_resource, place, places, structural
from tests.unit.model.examples import documents

CALICO = list(kinds.calico_kinds())


def every(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from every(below, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from every(schema[word], f"{path}[]")


@pytest.mark.parametrize("kind", kinds.KINDS.values(), ids=lambda kind: kind.name)
def test_a_schema_is_structural(kind: Kind) -> None:
    for path, schema in every(structural(kind)):
        assert not {"$ref", "$defs", "title", "allOf", "oneOf", "not"} & schema.keys(), path
        free = "x-kubernetes-preserve-unknown-fields" in schema or "x-kubernetes-int-or-string" in schema
        assert schema.get("type") or free, path
        assert "anyOf" not in schema or "x-kubernetes-int-or-string" in schema, path


JSON_TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict, "array": list, "string": str, "integer": int, "number": (int, float), "boolean": bool,
}  # fmt: skip


def misfits(schema: dict[str, Any], value: Any, path: str = "") -> Iterator[str]:
    """What of a document its schema does not admit."""
    if "type" in schema and not isinstance(value, JSON_TYPES[schema["type"]]):
        yield f"{path}: {value!r} is no {schema['type']}"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: {value!r} is none of {schema['enum']}"
    if isinstance(value, dict) and "properties" in schema:
        missing = set(schema.get("required", ())) - value.keys()
        unknown = value.keys() - schema["properties"].keys()
        if missing or (unknown and "x-kubernetes-preserve-unknown-fields" not in schema):
            yield f"{path}: missing {missing}, unknown {unknown}"
        for name in value.keys() & schema["properties"].keys():
            yield from misfits(schema["properties"][name], value[name], f"{path}.{name}")
    if isinstance(value, list) and "items" in schema:
        for item in value:
            yield from misfits(schema["items"], item, f"{path}[]")


@pytest.mark.parametrize("kind", [kind for kind in CALICO if kind.name in documents()], ids=lambda kind: kind.name)
def test_what_is_written_fits_its_schema(kind: Kind) -> None:
    # a null in a list (IPAMBlock's allocations) has no place in a structural schema's `type: integer`
    document = completed(documents()[kind.name])
    found = [one for one in misfits(structural(kind), document) if "None is no integer" not in one]
    assert not found


@pytest.mark.parametrize("kind", kinds.KINDS.values(), ids=lambda kind: kind.name)
def test_a_default_is_of_its_type(kind: Kind) -> None:
    for path, schema in every(structural(kind)):
        if "default" in schema:
            assert not list(misfits(schema, schema["default"], path))


def test_a_custom_resource_definition_has_names_columns_and_a_scope() -> None:
    found = custom_resource(kinds.KINDS["IPAMConfiguration"])
    assert found["metadata"]["name"] == "ipamconfigs.crd.projectcalico.org"
    assert found["spec"]["names"]["kind"] == "IPAMConfig"
    assert found["spec"]["scope"] == "Cluster"
    columns = [column["name"] for column in found["spec"]["versions"][0]["additionalPrinterColumns"]]
    assert columns == ["Strict", "MaxBlocks", "Age"]


def test_what_cannot_be_changed_is_said_to_the_api_server() -> None:
    cidr = structural(kinds.KINDS["IPPool"])["properties"]["spec"]["properties"]["cidr"]
    assert cidr["x-kubernetes-validations"][0]["rule"] == "self == oldSelf"


def test_settings_that_are_not_known_are_preserved() -> None:
    spec = structural(kinds.KINDS["FelixConfiguration"])["properties"]["spec"]
    assert spec["x-kubernetes-preserve-unknown-fields"] is True
    assert spec["properties"]["vxlanPort"]["type"] == "integer"


def test_a_place_is_found_by_its_path_with_and_without_brackets() -> None:
    kind = kinds.KINDS["NetworkPolicy"]
    one, other = place(kind, "spec.ingress.action"), place(kind, "spec.ingress[].action")
    assert one is not None
    assert one == other
    assert one.is_required
    assert one.type == "Allow | Deny | Log | Pass"
    assert place(kind, "spec.nowhere") is None


@pytest.mark.parametrize("kind", CALICO, ids=lambda kind: kind.name)
def test_every_field_of_a_spec_is_described(kind: Kind) -> None:
    top = [one for one in places(structural(kind)) if one.path.startswith("spec.") and one.path.count(".") == 1]
    assert not [one.path for one in top if not one.description]
