"""From a document to a resource that is known to be right, or all that is wrong with it.

`parse` judges one document by itself; what depends on other objects, or on what the object was before, is judged by
model/crossrules.py.  What comes out has `inside()`, the frozen value that planners read.
"""

from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from typing import Any

from felixlite.errors import Problem, Rejected
from felixlite.model import kinds
from felixlite.model.kind import Kind
from felixlite.model.resource import Resource, canonical, identified, title_of
from felixlite.model.shape import Model, Stranger, join, read, strangers

FREE_FORM = "FelixConfiguration"  # a field that means nothing here is kept, for the agents that know it


def parse(document: Mapping[str, Any], *, strict: bool = False) -> Resource:
    """The resource that a document describes. Rejected names everything that is wrong.

    strict: a field that is not known is an error too (somebody is writing it now); else it is passed over (a newer
    version of somebody has written it).
    """
    kind = identified(document)
    try:
        fresh = canonical(document)
    except RecursionError:
        raise Rejected([Problem(kind.name, title_of(document), "", None, "is nested too deeply")]) from None
    resource, faults = read(model_of(kind), fresh)
    title = title_of(document)
    problems = [Problem(kind.name, title, fault.at, fault.value, fault.remedy) for fault in faults]
    problems += _place(kind, fresh, title)
    if strict:
        problems += [
            Problem(kind.name, title, join(at, name), "", _meant(name, known))
            for at, name, known in unknown_fields(kind, fresh)
            if not (kind.name == FREE_FORM and at == "spec")
        ]
    if problems:
        raise Rejected(problems)
    return resource


def completed(document: Mapping[str, Any]) -> dict[str, Any]:
    """A document that parses, in its v3 form and with the defaults written out that a store shall show."""
    fresh = canonical(document)
    model_of(identified(fresh)).filled(fresh)
    return fresh


def warnings(document: Mapping[str, Any]) -> list[str]:
    """What is not wrong but worth a word: fields that mean nothing here."""
    kind = identified(document)
    return [
        f"{kind.name} {title_of(document)}: {join(at, name)}: kept, but it means nothing here"
        for at, name, _ in unknown_fields(kind, canonical(document))
        if kind.name == FREE_FORM and at == "spec"
    ]


def unknown_fields(kind: Kind, document: Mapping[str, Any]) -> list[Stranger]:
    return strangers(model_of(kind), document)


@cache
def model_of(kind: Kind) -> type[Resource]:
    module, _, name = kind.model.partition(":")
    found: type[Resource] = getattr(import_module(f"felixlite.model.{module}"), name)
    return found


def models() -> Iterator[tuple[Kind, type[Model]]]:
    return ((kind, model_of(kind)) for kind in kinds.KINDS.values())


def _place(kind: Kind, document: Mapping[str, Any], title: str) -> Iterator[Problem]:
    metadata = document.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, Mapping) else None
    if namespace and not kind.namespaced:
        yield Problem(
            kind.name, title, "metadata.namespace", namespace, f"{kind.plural} have no namespace; leave it out"
        )
    if kind.namespaced and not namespace:
        yield Problem(kind.name, title, "metadata.namespace", namespace, "is required")


def _meant(name: str, known: tuple[str, ...]) -> str:
    import difflib

    near = difflib.get_close_matches(name, known, 1, 0.7)
    return f"there is no such field; did you mean {near[0]}?" if near else "there is no such field"
