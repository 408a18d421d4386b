"""Selectors as kubectl writes them."""

from typing import Any

import pytest

from felixlite.apiserver.selection import selection

FOUND = {
    "metadata": {"name": "x", "labels": {"app": "web", "tier": "front"}},
    "spec": {"nodeName": "n1", "disabled": True},
}


@pytest.mark.parametrize(
    ("labels", "chosen"),
    [
        ("app=web", True),
        ("app==web,tier=front", True),
        ("app=web,tier=back", False),
        ("app!=db", True),
        ("nothing!=db", True),
        ("app in (db, web)", True),
        ("app notin (db,web)", False),
        ("nothing notin (db)", True),
        ("app", True),
        ("!app", False),
        ("!nothing", True),
        ("app in (web),tier", True),
    ],
)
def test_labels(labels: str, chosen: bool) -> None:
    matches = selection(labels, "")
    assert matches
    assert matches(FOUND) is chosen


@pytest.mark.parametrize(
    ("fields", "chosen"),
    [
        ("metadata.name=x", True),
        ("metadata.name!=x", False),
        ("spec.nodeName=n1,metadata.name==x", True),
        ("spec.disabled=true", True),
        ("spec.nothing.there=", True),
    ],
)
def test_fields(fields: str, chosen: bool) -> None:
    matches = selection("", fields)
    assert matches
    assert matches(FOUND) is chosen


def test_nothing_said_selects_everything() -> None:
    nothing: Any = selection("", "")
    assert nothing is None
