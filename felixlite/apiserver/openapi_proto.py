"""The v2 document as protocol buffers, the only form in which kubectl up to 1.26 reads it. Pure.

Field numbers are those of gnostic's OpenAPIv2.proto (message openapi.v2.Document); written are the parts that openapi.py
fills.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import orjson

Document = Mapping[str, Any]
CONTENT_TYPE = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf"
ASKED_AS = (
    CONTENT_TYPE,
    CONTENT_TYPE.replace("v2.v1", "v2@v1"),
)  # what clients say is no media type; they refuse it back


def document(found: Document) -> bytes:
    info = _text(1, found["info"]["title"]) + _text(2, found["info"]["version"])
    paths = b"".join(
        _part(2, _named(path, _part(8, _operation(item["patch"])))) for path, item in found["paths"].items()
    )
    return _text(1, found["swagger"]) + _part(2, info) + _part(8, paths) + _part(9, _schemas(found["definitions"]))


def _operation(found: Document) -> bytes:
    return (
        _text(5, found["operationId"])
        + b"".join(_text(7, kind) for kind in found["consumes"])
        + b"".join(_part(8, _parameter(one)) for one in found["parameters"])
        + _part(9, _responses(found["responses"]))
        + _extensions(13, found)
    )


def _parameter(found: Document) -> bytes:
    """ParametersItem.parameter.non_body_parameter.query_parameter_sub_schema"""
    query = _text(2, found["in"]) + _text(4, found["name"]) + _text(6, found["type"])
    return _part(1, _part(2, _part(3, query)))


def _responses(found: Document) -> bytes:
    return b"".join(_part(1, _named(code, _part(1, _text(1, said["description"])))) for code, said in found.items())


def _schemas(found: Document) -> bytes:
    """Definitions and Properties alike: names with schemas."""
    return b"".join(_part(1, _named(name, _schema(below))) for name, below in found.items())


def _schema(found: Document) -> bytes:
    told = _text(1, found.get("$ref", "")) + _text(2, found.get("format", "")) + _text(4, found.get("description", ""))
    told += b"".join(_text(19, name) for name in found.get("required", ()))
    if isinstance(found.get("additionalProperties"), Mapping):
        told += _part(21, _part(1, _schema(found["additionalProperties"])))
    if "type" in found:
        told += _part(22, _text(1, found["type"]))
    if "items" in found:
        told += _part(23, _part(1, _schema(found["items"])))
    if "properties" in found:
        told += _part(25, _schemas(found["properties"]))
    return told + _extensions(31, found)


def _extensions(field: int, found: Document) -> bytes:
    """What begins with x-, as YAML, of which JSON is a part."""
    return b"".join(_part(field, _named(name, _text(2, _json(value)))) for name, value in _of_vendors(found))


def _of_vendors(found: Document) -> Iterable[tuple[str, Any]]:
    return ((name, value) for name, value in found.items() if name.startswith("x-"))


def _json(value: Any) -> str:
    return orjson.dumps(value).decode()


def _named(name: str, value: bytes) -> bytes:
    return _text(1, name) + _part(2, value)


# -- the wire format: all that is needed are length-delimited fields


def _text(field: int, value: str) -> bytes:
    return _part(field, value.encode()) if value else b""


def _part(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(number: int) -> bytes:
    octets = bytearray()
    while number > 0x7F:
        octets.append(number & 0x7F | 0x80)
        number >>= 7
    octets.append(number)
    return bytes(octets)
