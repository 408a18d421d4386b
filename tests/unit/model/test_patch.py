from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.model.patch import PatchError, apply, merge

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers(0, 9) | st.sampled_from(["", "a", "~/"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["a", "b", "~", "/"]), inner, max_size=3)
    ),
    max_leaves=8,
)


# the examples of RFC 7396, appendix A
@pytest.mark.parametrize(
    ("document", "change", "result"),
    [
        ({"a": "b"}, {"a": "c"}, {"a": "c"}),
        ({"a": "b"}, {"b": "c"}, {"a": "b", "b": "c"}),
        ({"a": "b"}, {"a": None}, {}),
        ({"a": "b", "b": "c"}, {"a": None}, {"b": "c"}),
        ({"a": ["b"]}, {"a": "c"}, {"a": "c"}),
        ({"a": "c"}, {"a": ["b"]}, {"a": ["b"]}),
        ({"a": {"b": "c"}}, {"a": {"b": "d", "c": None}}, {"a": {"b": "d"}}),
        ({"a": [{"b": "c"}]}, {"a": [1]}, {"a": [1]}),
        (["a", "b"], ["c", "d"], ["c", "d"]),
        ({"a": "b"}, ["c"], ["c"]),
        ({"a": "foo"}, None, None),
        ({"e": None}, {"a": 1}, {"e": None, "a": 1}),
        ([1, 2], {"a": "b", "c": None}, {"a": "b"}),
        ({}, {"a": {"bb": {"ccc": None}}}, {"a": {"bb": {}}}),
    ],
)
def test_merging_is_as_in_the_rfc(document: Any, change: Any, result: Any) -> None:
    assert merge(document, change) == result


@pytest.mark.parametrize(
    ("document", "operation", "result"),
    [
        ({"a": 1}, {"op": "add", "path": "/b", "value": 2}, {"a": 1, "b": 2}),
        ({"a": [1, 3]}, {"op": "add", "path": "/a/1", "value": 2}, {"a": [1, 2, 3]}),
        ({"a": [1]}, {"op": "add", "path": "/a/-", "value": 2}, {"a": [1, 2]}),
        ({"a": 1}, {"op": "add", "path": "", "value": 2}, 2),
        ({"a": 1, "b": 2}, {"op": "remove", "path": "/b"}, {"a": 1}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"a": 1}, {"op": "replace", "path": "/a", "value": 2}, {"a": 2}),
        ({"a": {"b": 1}}, {"op": "move", "from": "/a/b", "path": "/c"}, {"a": {}, "c": 1}),
        ({"a": {"b": 1}}, {"op": "copy", "from": "/a", "path": "/c"}, {"a": {"b": 1}, "c": {"b": 1}}),
        ({"a/b~c": 1}, {"op": "remove", "path": "/a~1b~0c"}, {}),
        ({"a": 1}, {"op": "test", "path": "/a", "value": 1}, {"a": 1}),
    ],
)
def test_operations_are_as_in_the_rfc(document: Any, operation: dict[str, Any], result: Any) -> None:
    assert apply(document, [operation]) == result


@pytest.mark.parametrize(
    "operations",
    [
        {},
        [7],
        [{"op": "add", "path": "/a"}],
        [{"op": "jump", "path": "/a"}],
        [{"op": "remove", "path": "/nope"}],
        [{"op": "remove", "path": ""}],
        [{"op": "replace", "path": "/nope", "value": 1}],
        [{"op": "add", "path": "a", "value": 1}],
        [{"op": "add", "path": "/list/7", "value": 1}],
        [{"op": "add", "path": "/list/01", "value": 1}],
        [{"op": "remove", "path": "/list/-"}],
        [{"op": "add", "path": "/text/x", "value": 1}],
        [{"op": "test", "path": "/text", "value": "no"}],
        [{"op": "move", "from": "/map", "path": "/map/x"}],
    ],
)
def test_an_operation_that_does_not_fit_changes_nothing(operations: Any) -> None:
    document = {"list": [1], "text": "a", "map": {"b": 1}}
    with pytest.raises(PatchError):
        apply(document, operations)
    assert document == {"list": [1], "text": "a", "map": {"b": 1}}


@given(VALUES, VALUES)
@settings(max_examples=50, deadline=None)
def test_merging_twice_is_merging_once(document: Any, change: Any) -> None:
    once = merge(document, change)
    assert merge(once, change) == once


@given(VALUES, VALUES)
@settings(max_examples=50, deadline=None)
def test_replacing_the_whole_gives_the_other(document: Any, other: Any) -> None:
    assert apply(document, [{"op": "replace", "path": "", "value": other}]) == other
