from collections.abc import Iterator
from copy import deepcopy
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.errors import Rejected
from felixlite.model import kinds
from felixlite.model.kind import Kind
from felixlite.model.parse import completed, model_of, parse, warnings
from felixlite.model.resource import METADATA_ANNOTATION, Resource, as_crd, canonical
from tests.unit.model.examples import documents

DOCUMENTS = documents()
JUNK = st.sampled_from(
    [
        None,
        True,
        -1,
        0,
        10**30,
        1.5,
        float("nan"),
        "",
        "x",
        "\0",
        "10.0.0.1/8",
        "fd00::/8",
        "a == ",
        [],
        [None],
        [[]],
        {},
        {"a": 1},
    ]
)


def places(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    if path:
        yield path
    inside = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for step, below in inside:
        yield from places(below, (*path, step))


PLACES = [(name, place) for name, document in DOCUMENTS.items() for place in places(document)]


def changed(document: Any, place: tuple[Any, ...], value: Any) -> Any:
    fresh = deepcopy(document)
    inner = fresh
    for step in place[:-1]:
        inner = inner[step]
    inner[place[-1]] = value
    return fresh


def problems(document: Any, *, strict: bool = True) -> list[str]:
    with pytest.raises(Rejected) as rejected:
        parse(document, strict=strict)
    return [f"{problem.field}: {problem.remedy}" for problem in rejected.value.problems]


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_right_document_is_accepted_in_both_forms(kind: str) -> None:
    document = DOCUMENTS[kind]
    found = parse(document, strict=True)
    if kinds.KINDS[kind].is_calico:
        assert parse(as_crd(document), strict=True) == found
        assert canonical(as_crd(document)) == canonical(document)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_completing_twice_is_completing_once(kind: str) -> None:
    once = completed(DOCUMENTS[kind])
    assert completed(once) == once
    parse(once, strict=True)


@pytest.mark.parametrize("kind", DOCUMENTS)
def test_a_right_document_has_a_meaning_inside(kind: str) -> None:
    parse(DOCUMENTS[kind]).inside()


@given(st.sampled_from(PLACES), JUNK)
@settings(max_examples=150, deadline=None)
def test_whatever_is_wrong_is_said_and_nothing_else_happens(place: tuple[str, tuple[Any, ...]], junk: Any) -> None:
    document = changed(DOCUMENTS[place[0]], place[1], junk)
    try:
        parse(document, strict=True).inside()
    except Rejected as rejected:
        assert rejected.problems  # noqa: PT017  the other outcome, no error, is as right


@given(st.sampled_from(PLACES), JUNK, st.data())
@settings(max_examples=50, deadline=None)
def test_two_mistakes_far_apart_are_both_said(
    place: tuple[str, tuple[Any, ...]], junk: Any, data: st.DataObject
) -> None:
    """A mistake in the spec does not hide one in the metadata."""
    document = changed(DOCUMENTS[place[0]], place[1], junk)
    if place[1][0] != "spec":
        return
    document["metadata"] = {**document["metadata"], "labels": {"a b": "c"}}
    assert any(problem.startswith("metadata.labels[a b]") for problem in problems(document))


def test_a_field_that_is_not_known_is_an_error_for_a_writer_and_passed_over_for_a_reader() -> None:
    document = changed(DOCUMENTS["IPPool"], ("spec", "ipipmode"), "Always")
    assert problems(document) == ["spec.ipipmode: there is no such field; did you mean ipipMode?"]
    parse(document)


def test_a_setting_that_is_not_known_is_kept_with_a_warning() -> None:
    document = DOCUMENTS["FelixConfiguration"]
    assert warnings(document) == ["FelixConfiguration x: spec.bpfEnabled: kept, but it means nothing here"]
    assert completed(document)["spec"]["bpfEnabled"] is False


def test_a_document_that_is_nested_too_deeply_is_refused() -> None:
    deep: list[Any] = []
    for _ in range(3000):
        deep = [deep]
    assert problems(changed(DOCUMENTS["IPPool"], ("spec", "cidr"), deep)) == [": is nested too deeply"]


def test_a_null_is_a_field_that_is_not_there() -> None:
    document = changed(DOCUMENTS["IPPool"], ("spec", "natOutgoing"), None)
    assert parse(document).inside().nat_outgoing is False
    assert "natOutgoing" not in completed(document)["spec"]


def test_labels_of_a_custom_resource_are_those_in_its_annotation() -> None:
    document = as_crd(DOCUMENTS["IPPool"])
    assert document["metadata"]["annotations"].keys() == {METADATA_ANNOTATION}
    document["metadata"]["labels"] = {"kubernetes": "own"}
    assert canonical(document)["metadata"]["labels"] == {"a": "b"}


def test_an_annotation_that_is_no_json_is_named() -> None:
    document = as_crd(DOCUMENTS["IPPool"])
    document["metadata"]["annotations"][METADATA_ANNOTATION] = "{"
    assert problems(document) == [f"metadata.annotations[{METADATA_ANNOTATION}]: must be a JSON object"]


@pytest.mark.parametrize(
    ("metadata", "problem"),
    [
        ({}, "metadata.name: is required"),
        ({"name": ""}, "metadata.name: is required"),
        ({"name": "Upper"}, "metadata.name: must be a DNS name"),
        ({"name": 254 * "a"}, "metadata.name: must be a DNS name"),
        ({"name": 7}, "metadata.name: must be a text"),
        ({"name": "x", "namespace": "n"}, "metadata.namespace: ippools have no namespace"),
        ({"name": "x", "labels": {"a": "b c"}}, "metadata.labels[a]: is not a label's value"),
        ({"name": "x", "labels": {"a": 64 * "b"}}, "metadata.labels[a]: is not a label's value"),
        ({"name": "x", "labels": {"a": 1}}, "metadata.labels.a: must be a text"),
        ({"name": "x", "annotations": {"a": (256 * 1024) * "b"}}, "metadata.annotations: must have at most"),
        ({"name": "x", "lables": {}}, "metadata.lables: there is no such field; did you mean labels?"),
    ],
)
def test_metadata_is_checked(metadata: dict[str, Any], problem: str) -> None:
    found = problems({**DOCUMENTS["IPPool"], "metadata": metadata})
    assert len(found) == 1
    assert found[0].startswith(problem)


def test_a_namespaced_kind_needs_a_namespace() -> None:
    document = changed(DOCUMENTS["NetworkPolicy"], ("metadata", "namespace"), None)
    assert problems(document) == ["metadata.namespace: is required"]


@pytest.mark.parametrize("kind", kinds.KINDS.values(), ids=lambda kind: kind.name)
def test_every_kind_has_a_schema_with_words_about_it(kind: Kind) -> None:
    schema = model_of(kind).model_json_schema()
    assert schema["description"] != Resource.__doc__
    assert "metadata" in schema["properties"]
