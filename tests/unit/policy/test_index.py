"""The index of selectors says what asking every selector about every item would say."""

from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.model.selector import parse
from felixlite.policy.index import SelectorIndex

SELECTORS = [
    parse(text)
    for text in (
        "all()",
        "a == 'x'",
        "a != 'x'",
        "a in {'x', 'y'} && has(b)",
        "has(b)",
        "!has(b)",
        "a == 'x' || a == 'y'",
        "a == 'x' || b == 'y'",
        "b starts with 'x'",
        "a not in {'y'}",
    )
]
LABELS = st.dictionaries(st.sampled_from("ab"), st.sampled_from("xyz"))
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("put"), st.integers(0, 5), LABELS),
        st.tuples(st.just("put new"), st.frozensets(st.integers(0, 5), min_size=1), LABELS),
        st.tuples(st.just("drop"), st.integers(0, 5), st.none()),
        st.tuples(st.just("add"), st.sampled_from(SELECTORS), st.none()),
        st.tuples(st.just("remove"), st.sampled_from(SELECTORS), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_index_agrees_with_the_naive_answer_after_every_step(steps: list[tuple[str, object, object]]) -> None:
    index: SelectorIndex[int] = SelectorIndex()
    items: dict[int, dict[str, str]] = {}
    told: dict[object, set[int]] = {}
    for what, subject, labels in steps:
        turns = []
        match what:
            case "put":
                items[subject] = labels
                turns = index.put(subject, labels)
            case "put new":
                new = {item for item in subject if item not in items}
                items |= dict.fromkeys(new, labels)
                for selector in index.put_new(new, labels) if new else ():
                    told[selector] |= new
            case "drop":
                items.pop(subject, None)
                turns = index.drop(subject)
            case "add":
                told.setdefault(subject, set())
                turns = index.add(subject)
            case "remove" if subject in told:
                del told[subject]
                index.remove(subject)
        for turn in turns:
            (told[turn.selector].add if turn.selected else told[turn.selector].discard)(turn.item)
        for selector, members in told.items():
            naive = {item for item, labels_of in items.items() if selector.matches(labels_of)}
            assert set(index.selected(selector)) == members == naive
