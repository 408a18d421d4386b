"""Objects in Kubernetes' protocol buffers, in which `kubectl create` and typed clients send some kinds. Reading only. Pure.

Field numbers are those of the generated.proto files of k8s.io/api.  Known are the kinds that kubectl makes by a command of
their own and that mean something here; for others JSON or YAML is asked for.  Answers are JSON: every client accepts that.
"""

from base64 import b64encode
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

CONTENT_TYPE = "application/vnd.kubernetes.protobuf"
MAGIC = b"k8s\0"


class Broken(ValueError):
    """The bytes are not what they should be."""


class Field(NamedTuple):
    name: str
    read: Callable[[Any], Any]
    many: bool = False
    is_map: bool = False
    of: type = bytes  # how it comes: octets, or (int) a number


Message = Mapping[int, Field]


def _text(value: Any) -> str:
    return bytes(value).decode()


def _octets(value: Any) -> str:
    return b64encode(value).decode()


def _inside(message: Message) -> Callable[[Any], Any]:
    return lambda value: _read(value, message)


def _map(name: str, read: Callable[[Any], Any] = _text) -> Field:
    return Field(name, _inside({1: Field("key", _text), 2: Field("value", read)}), is_map=True)


_META: Message = {
    1: Field("name", _text),
    2: Field("generateName", _text),
    3: Field("namespace", _text),
    5: Field("uid", _text),
    6: Field("resourceVersion", _text),
    11: _map("labels"),
    12: _map("annotations"),
    14: Field("finalizers", _text, many=True),
}
_METADATA = Field("metadata", _inside(_META))
_REFERENCE = _inside({1: Field("name", _text)})
_OBJECT_REFERENCE = _inside({1: Field("kind", _text), 2: Field("namespace", _text), 3: Field("name", _text)})
_ATTRIBUTES = _inside(
    dict(enumerate((Field(name, _text) for name in ("namespace", "verb", "group", "version", "resource", "subresource", "name")), 1))
)  # fmt: skip
_PATH = _inside({1: Field("path", _text), 2: Field("verb", _text)})
_NUMBER_OR_NAME: Message = {1: Field("is_text", bool, of=int), 2: Field("number", int, of=int), 3: Field("text", _text)}


def _number_or_name(value: Any) -> int | str:
    found = _read(value, _NUMBER_OR_NAME)
    return str(found.get("text", "")) if found.get("is_text") else _said(found.get("number", 0))


def _said(value: Any) -> int | str:
    """A number that Go always sends: 0 says that there is none."""
    return int(value) or ""


_PORT = _inside(
    {
        1: Field("name", _text),
        2: Field("protocol", _text),
        3: Field("port", _said, of=int),
        4: Field("targetPort", _number_or_name),
        5: Field("nodePort", _said, of=int),
        6: Field("appProtocol", _text),
    }
)
_SERVICE: Message = {
    1: Field("ports", _PORT, many=True),
    2: _map("selector"),
    3: Field("clusterIP", _text),
    4: Field("type", _text),
    5: Field("externalIPs", _text, many=True),
    7: Field("sessionAffinity", _text),
    8: Field("loadBalancerIP", _text),
    9: Field("loadBalancerSourceRanges", _text, many=True),
    10: Field("externalName", _text),
    11: Field("externalTrafficPolicy", _text),
    13: Field("publishNotReadyAddresses", lambda value: bool(value) or "", of=int),
    18: Field("clusterIPs", _text, many=True),
    22: Field("internalTrafficPolicy", _text),
}
_KINDS: Mapping[str, Message] = {
    "Namespace": {1: _METADATA},
    "ServiceAccount": {
        1: _METADATA,
        2: Field("secrets", _OBJECT_REFERENCE, many=True),
        3: Field("imagePullSecrets", _REFERENCE, many=True),
        4: Field("automountServiceAccountToken", bool, of=int),
    },
    "Secret": {
        1: _METADATA,
        2: _map("data", _octets),
        3: Field("type", _text),
        4: _map("stringData"),
        5: Field("immutable", bool, of=int),
    },
    "Service": {1: _METADATA, 2: Field("spec", _inside(_SERVICE))},
    "ConfigMap": {1: _METADATA, 2: _map("data"), 3: _map("binaryData", _octets), 4: Field("immutable", bool, of=int)},
    "SelfSubjectAccessReview": {
        1: _METADATA,
        2: Field(
            "spec", _inside({1: Field("resourceAttributes", _ATTRIBUTES), 2: Field("nonResourceAttributes", _PATH)})
        ),
    },
    "SelfSubjectRulesReview": {1: _METADATA, 2: Field("spec", _inside({1: Field("namespace", _text)}))},
    "SelfSubjectReview": {1: _METADATA},
    "DeleteOptions": {
        1: Field("gracePeriodSeconds", int, of=int),
        2: Field("preconditions", _inside({1: Field("uid", _text), 2: Field("resourceVersion", _text)})),
        4: Field("propagationPolicy", _text),
        5: Field("dryRun", _text, many=True),
    },
}
_ENVELOPE: Message = {
    1: Field("type", _inside({1: Field("apiVersion", _text), 2: Field("kind", _text)})),
    2: Field("raw", bytes),
}


def document(body: bytes) -> dict[str, Any]:
    """Broken says why it is none."""
    if not body.startswith(MAGIC):
        raise Broken("begins with other bytes than Kubernetes' protocol buffers")
    envelope = _read(body[len(MAGIC) :], _ENVELOPE)
    said = envelope.get("type", {})
    known = _KINDS.get(said.get("kind", ""))
    if known is None:
        raise Broken(f"is a {said.get('kind')} in protocol buffers; send it as JSON or YAML (kubectl apply does)")
    return {**said, **_read(envelope.get("raw", b""), known)}


def _read(data: bytes, message: Message) -> dict[str, Any]:
    """What is absent stays absent; so does an empty text, which is how Go says absent."""
    found: dict[str, Any] = {}
    for number, value in _fields(data):
        field = message.get(number)
        if field is None:
            continue
        if not isinstance(value, field.of):
            raise Broken(f"has {field.name} as another type than it is of")
        what = field.read(value)
        if field.is_map:
            found.setdefault(field.name, {})[what.get("key", "")] = what.get("value", "")
        elif field.many:
            found.setdefault(field.name, []).append(what)
        elif what not in ("", {}):
            found[field.name] = what
    return found


def _fields(data: bytes) -> Iterator[tuple[int, bytes | int]]:
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        match tag & 7:
            case 0:
                value, at = _varint(data, at)
                yield tag >> 3, value
            case 2:
                length, at = _varint(data, at)
                if at + length > len(data):
                    raise Broken("ends too early")
                yield tag >> 3, data[at : at + length]
                at += length
            case other:
                raise Broken(f"has a field of wire type {other}, which these kinds do not have")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while at < len(data) and shift < 64:
        octet = data[at]
        number |= (octet & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if octet < 0x80:
            return number, at
    raise Broken("ends too early")
