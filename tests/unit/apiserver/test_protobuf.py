"""Protocol buffers as Go's clients send them; the bytes are written here by hand, field by field."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from felixlite.apiserver.protobuf import MAGIC, Broken, document


def part(field: int, value: bytes) -> bytes:
    return bytes([field << 3 | 2, len(value)]) + value


def sent(kind: str, raw: bytes) -> bytes:
    return MAGIC + part(1, part(1, b"v1") + part(2, kind.encode())) + part(2, raw) + part(3, b"") + part(4, b"")


def test_a_namespace() -> None:
    meta = part(1, b"shop") + part(2, b"") + part(11, part(1, b"team") + part(2, b"net")) + part(8, b"")
    assert document(sent("Namespace", part(1, meta) + part(2, b"") + part(3, part(1, b"")))) == {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": "shop", "labels": {"team": "net"}},
    }


def test_a_secret_has_its_octets_in_base64() -> None:
    raw = (
        part(1, part(1, b"s")) + part(2, part(1, b"k") + part(2, b"\x00\xff")) + part(3, b"Opaque") + bytes([5 << 3, 1])
    )
    found = document(sent("Secret", raw))
    assert (found["data"], found["type"], found["immutable"]) == ({"k": "AP8="}, "Opaque", True)


def test_a_service_says_its_ports_by_number_or_by_name() -> None:
    number = part(4, bytes([1 << 3, 0, 2 << 3, 80]) + part(3, b""))
    name = part(4, bytes([1 << 3, 1, 2 << 3, 0]) + part(3, b"http"))
    ports = part(1, bytes([3 << 3, 80, 5 << 3, 0]) + number) + part(1, bytes([3 << 3, 81]) + name)
    found = document(sent("Service", part(1, part(1, b"s")) + part(2, ports + part(4, b"ClusterIP"))))
    assert found["spec"] == {
        "ports": [{"port": 80, "targetPort": 80}, {"port": 81, "targetPort": "http"}],
        "type": "ClusterIP",
    }


def test_a_dry_deletion_says_so() -> None:
    assert document(sent("DeleteOptions", bytes([1 << 3, 0]) + part(5, b"All"))) == {
        "apiVersion": "v1",
        "kind": "DeleteOptions",
        "gracePeriodSeconds": 0,
        "dryRun": ["All"],
    }


def test_an_entry_of_a_map_without_a_value_is_empty() -> None:
    assert document(sent("ConfigMap", part(2, part(1, b"k"))))["data"] == {"k": ""}


@pytest.mark.parametrize(
    "body",
    [b"", b"{}", MAGIC + b"\x0a\xff", sent("Deployment", b""), sent("Secret", b"\x0b"), sent("Secret", b"\x0a\x05a")],
)
def test_what_is_no_known_object_is_told(body: bytes) -> None:
    with pytest.raises(Broken):
        document(body)


@given(st.binary(max_size=60))
def test_any_octets_are_an_object_or_broken(octets: bytes) -> None:
    with suppress(Broken, UnicodeDecodeError):
        assert document(sent("Secret", octets))["kind"] == "Secret"
