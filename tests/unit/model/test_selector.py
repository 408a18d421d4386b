import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.model.labels import LabelIndex
from felixlite.model.selector import LONGEST_LABEL, MAX_DEPTH, SelectorError, parse

NAMES = st.sampled_from(["app", "tier", "a/b", "has", "all", "in", "not", "x-y_z.1"])
VALUES = st.text(alphabet="ab'\" \n{}é", max_size=3).filter(lambda value: not ("'" in value and '"' in value))
LABELS = st.dictionaries(NAMES, VALUES, max_size=4)


def quoted(value: str) -> str:
    return f'"{value}"' if "'" in value else f"'{value}'"


ATOMS = st.one_of(
    st.sampled_from(["all()", "global()"]),
    st.builds(lambda label: f"has({label})", NAMES),
    st.builds(
        lambda label, operator, value: f"{label} {operator} {quoted(value)}",
        NAMES,
        st.sampled_from(["==", "!=", "contains", "starts with", "ends with"]),
        VALUES,
    ),
    st.builds(
        lambda label, operator, values: f"{label} {operator} {{{','.join(map(quoted, values))}}}",
        NAMES,
        st.sampled_from(["in", "not in"]),
        st.lists(VALUES, min_size=1, max_size=3),
    ),
)
SELECTORS = st.recursive(
    ATOMS,
    lambda inner: st.one_of(
        st.builds(lambda one: f"!({one})", inner),
        st.builds(lambda one: f"({one})", inner),
        st.builds(lambda one, op, two: f"({one}) {op} {two}", inner, st.sampled_from(["&&", "||"]), inner),
    ),
    max_leaves=6,
)


@given(SELECTORS)
@settings(max_examples=60, deadline=None)
def test_what_is_printed_is_parsed_to_the_same(text: str) -> None:
    selector = parse(text)
    assert parse(str(selector)) == selector


@given(SELECTORS, LABELS)
@settings(max_examples=60, deadline=None)
def test_what_is_printed_matches_the_same(text: str, labels: dict[str, str]) -> None:
    assert parse(text).matches(labels) == parse(str(parse(text))).matches(labels)


@given(SELECTORS, st.lists(st.tuples(st.integers(0, 5), st.none() | LABELS), max_size=12))
@settings(max_examples=60, deadline=None)
def test_an_index_finds_what_matches_after_any_changes(
    text: str, changes: list[tuple[int, dict[str, str] | None]]
) -> None:
    index, rows = LabelIndex[int](), dict[int, dict[str, str]]()
    for key, labels in changes:
        if labels is not None:
            index.put(key, labels)
            rows[key] = labels
        elif key in rows:
            index.drop(key)
            del rows[key]
    selector = parse(text)
    expected = {key for key, labels in rows.items() if selector.matches(labels)}
    assert index.select(selector) == expected
    assert LabelIndex(rows).select(selector) == expected
    assert index.count(selector) == len(expected)


def trouble(text: str) -> int:
    """The column that the parser complains about; anything but a SelectorError gets out of here."""
    try:
        parse(text)
    except SelectorError as error:
        return error.column
    return 0


@given(st.text(alphabet="ab'\"(){}!&|=,. \tinothsc\0é\u2028", max_size=30))
@settings(max_examples=100, deadline=None)
def test_nothing_but_a_selector_error_leaves_the_parser(text: str) -> None:
    assert 0 <= trouble(text) <= len(text)


@pytest.mark.parametrize(
    ("text", "labels", "matches"),
    [
        ("", {}, True),
        ("a == 'x'", {"a": "x"}, True),
        ("a != 'x'", {}, True),
        ("a not in {'x'}", {}, True),
        ("a in {'x', 'y'}", {"a": "y"}, True),
        ("a contains 'x'", {}, False),
        ("a contains 'b'", {"a": "abc"}, True),
        ("a starts with 'ab'", {"a": "abc"}, True),
        ("a ends with 'bc'", {"a": "abc"}, True),
        ("has(a)", {"a": ""}, True),
        ("!has(a)", {"a": ""}, False),
        ("a == 'x' || b == 'y' && c == 'z'", {"a": "x"}, True),
        ("(a == 'x' || b == 'y') && c == 'z'", {"a": "x"}, False),
        ("a=='x'&&!has(b)", {"a": "x"}, True),
        ("global()", {"projectcalico.org/namespace": "n"}, False),
        ("global()", {}, True),
    ],
)
def test_the_language_means_what_the_reference_says(text: str, labels: dict[str, str], *, matches: bool) -> None:
    assert parse(text).matches(labels) is matches
    assert LabelIndex({"one": labels}).select(parse(text)) == ({"one"} if matches else set())


@pytest.mark.parametrize(
    ("text", "column"),
    [
        ("a = 'x'", 3),
        ("a == x", 6),
        ("a == 'x", 6),
        ("a == 'x' &&", 12),
        ("has(", 5),
        ("foo(a)", 1),
        ("(a == 'x'", 10),
        ("a in {}", 7),
        ("a == 'x' b", 10),
        ("!" * (MAX_DEPTH + 1) + "all()", MAX_DEPTH + 2),
        ("has(" + "a" * (LONGEST_LABEL + 1) + ")", 5),
    ],
)
def test_an_error_points_at_the_column(text: str, column: int) -> None:
    with pytest.raises(SelectorError, match=f"at column {column}: expected"):
        parse(text)


def test_spelling_does_not_matter_for_identity() -> None:
    assert parse("(a=='x')  &&  (b in {'2','1'})") == parse("a == \"x\" && b in {'1', '2'}")
    assert hash(parse("a=='x'")) == hash(parse("a == 'x'"))
