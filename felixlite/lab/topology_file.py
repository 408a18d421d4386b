"""A topology from a file: what `lab up --file` reads. Pure.

    name: lab
    nodes: 5
    routers: 2
    router: frr
    settings: {FELIXLITE_IPIPCARRIER: UserSpace}

Every mistake of the file is named at once: fields that do not exist, values of the wrong kind, values out of range.
"""

import difflib
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from felixlite.config import from_environment
from felixlite.errors import Problem, Rejected
from felixlite.lab.topology import Topology

NUMBERS = ("nodes", "pods", "routers", "subnets", "members", "hold")
TEXTS = ("name", "router", "store")
KNOWN = (*TEXTS, *NUMBERS, "settings")


def topology(given: Any, above: Mapping[str, Any]) -> Topology:
    """`above`: what the command line says and the file does not get to say."""
    if not isinstance(given, dict):
        raise Rejected([Problem("Lab", "", "", given, f"the file must be a map of {', '.join(KNOWN)}")])
    wanted = {**given, **above}
    name = str(wanted.get("name", "lab"))
    problems = list(_problems(name, wanted))
    wrong = {problem.field for problem in problems}
    usable = {field.name: wanted[field.name] for field in fields(Topology) if field.name in wanted} if wanted else {}
    made = Topology(**{field: value for field, value in usable.items() if field in KNOWN and field not in wrong})
    problems += list(made.problems())
    if problems:
        raise Rejected(problems)
    return made


def _problems(name: str, wanted: Mapping[str, Any]) -> Iterator[Problem]:
    for field, value in wanted.items():
        if field not in KNOWN:
            near = difflib.get_close_matches(str(field), KNOWN, 1)
            yield Problem("Lab", name, str(field), value, f"there is no such field; {_meant(near)}")
        elif field in NUMBERS and (not isinstance(value, int) or isinstance(value, bool)):
            yield Problem("Lab", name, field, value, "must be a number")
        elif field in TEXTS and not isinstance(value, str):
            yield Problem("Lab", name, field, value, "must be a text")
    yield from _settings(name, wanted.get("settings", {}))


def _meant(near: list[str]) -> str:
    return f"did you mean {near[0]}?" if near else f"there are {', '.join(KNOWN)}"


def _settings(name: str, settings: Any) -> Iterator[Problem]:
    if not isinstance(settings, dict):
        yield Problem("Lab", name, "settings", settings, "must be a map of FELIXLITE_* to texts")
        return
    for variable, value in settings.items():
        if not from_environment({str(variable): ""}):
            yield Problem("Lab", name, f"settings.{variable}", value, "is no setting; see `felixlite show config`")
        elif not isinstance(value, str):
            yield Problem("Lab", name, f"settings.{variable}", value, 'must be a text: put it in "quotes"')
