"""Label and field selectors as kubectl writes them. Pure.

app=web,tier!=db,env in (a,b),!canary          metadata.name=x,spec.nodeName!=n1
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from felixlite.apiserver.status import Refused

Matches = Callable[[Mapping[str, Any]], bool]  # of an object as it is on the wire
_SET = re.compile(r"(?P<key>\S+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)\Z")
_EQUAL = re.compile(r"(?P<key>[^\s!=]+)\s*(?P<operator>==|!=|=)\s*(?P<value>[^\s!=,()]*)\Z")
_EXISTS = re.compile(r"(?P<not>!?)\s*(?P<key>[^\s!=,()]+)\Z")
_COMMA = re.compile(r",(?![^(]*\))")


def selection(labels: str, fields: str) -> Matches | None:
    """None: everything."""
    tests = [_label(part.strip()) for part in _parts(labels)] + [_field(part.strip()) for part in _parts(fields)]
    return (lambda found: all(test(found) for test in tests)) if tests else None


def _parts(text: str) -> list[str]:
    return [part for part in _COMMA.split(text) if part.strip()]


def _label(part: str) -> Matches:
    if match := _SET.match(part):
        values = {value.strip() for value in match["values"].split(",")}
        key, wanted = match["key"], match["operator"] == "in"
        if wanted:
            return lambda found: _labels(found).get(key) in values
        return lambda found: _labels(found).get(key) not in values
    if match := _EQUAL.match(part):
        key, value = match["key"], match["value"]
        if match["operator"] == "!=":
            return lambda found: _labels(found).get(key) != value
        return lambda found: _labels(found).get(key) == value
    if match := _EXISTS.match(part):
        key = match["key"]
        if match["not"]:
            return lambda found: key not in _labels(found)
        return lambda found: key in _labels(found)
    raise Refused(
        400, f"labelSelector: {part!r} is no requirement, such as app=web, app!=web, app in (a,b), app or !app"
    )


def _labels(found: Mapping[str, Any]) -> Mapping[str, str]:
    return (found.get("metadata") or {}).get("labels") or {}


def _field(part: str) -> Matches:
    match = _EQUAL.match(part)
    if not match:
        raise Refused(400, f"fieldSelector: {part!r} is no requirement, such as metadata.name=x or spec.nodeName!=n1")
    path, value, equal = match["key"].split("."), match["value"], match["operator"] != "!="
    return lambda found: (_at(found, path) == value) is equal


def _at(found: Any, path: list[str]) -> str:
    for step in path:
        found = found.get(step) if isinstance(found, Mapping) else None
    if found is None:
        return ""
    return str(found).lower() if isinstance(found, bool) else str(found)
