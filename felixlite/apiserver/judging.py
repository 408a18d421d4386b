"""Whether an object may be written: what it must say to be read at all, fields nobody knows, Calico's rules. Pure.

Documents of Calico's kinds are judged as `felixlite apply` judges them (admission.py); Kubernetes' own kinds as far as
they are read here.  With `permissive`, custom resources are taken as they come, as clusters with old CRDs take them: the
agents have to live with those as well.
"""

from collections.abc import Callable, Iterator, Sequence
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from felixlite.admission import judged
from felixlite.apiserver import core, status
from felixlite.apiserver.catalogue import Form, Served
from felixlite.apiserver.status import Refused
from felixlite.datastore.store import Document
from felixlite.errors import Problem, Rejected
from felixlite.model import crossrules, scalars
from felixlite.model.parse import FREE_FORM, parse, unknown_fields, warnings
from felixlite.model.resource import canonical
from felixlite.model.shape import join

Others = Callable[[str], list[Document]]
FIELD_VALIDATION = ("", "Ignore", "Warn", "Strict")


@dataclass(frozen=True, slots=True)
class Judgement:
    document: Document  # with the defaults that are shown
    notes: tuple[str, ...] = ()


def of_this_resource(served: Served, wire: object) -> Document:
    """The body of a request as an object of the resource it was sent to."""
    if not isinstance(wire, dict) or not isinstance(wire.get("metadata") or {}, dict):
        raise Refused(400, "the body must be an object with apiVersion, kind and metadata")
    for path, is_right, words in _shapes(served, wire):
        if not is_right:
            raise Refused(400, f"{served.kind} in version {served.version!r} cannot be handled: {path} must be {words}")
    for name, wanted in (("apiVersion", served.api_version), ("kind", served.kind)):
        if wire.get(name, wanted) != wanted:
            raise Refused(400, f"{name} in the body is {wire[name]!r}; this resource's is {wanted!r}")
    return {"apiVersion": served.api_version, "kind": served.kind, **wire, "metadata": dict(wire.get("metadata") or {})}


def _shapes(served: Served, wire: Document) -> Iterator[tuple[str, bool, str]]:
    """What everything here reads of any object without asking again."""
    metadata = wire.get("metadata") or {}
    for name in ("name", "generateName", "namespace", "uid", "resourceVersion"):
        yield f"metadata.{name}", isinstance(metadata.get(name) or "", str), "a text"
    for name in ("labels", "annotations"):
        found = metadata.get(name) or {}
        texts = isinstance(found, dict) and all(isinstance(text, str) for text in found.values())
        yield f"metadata.{name}", texts, "a mapping of texts"
    finalizers = metadata.get("finalizers") or []
    yield (
        "metadata.finalizers",
        isinstance(finalizers, list) and all(isinstance(f, str) for f in finalizers),
        "a list of texts",
    )
    if served.model is None:
        for name in ("spec", "status"):
            yield name, isinstance(wire.get(name) or {}, dict), "a mapping"
    if served.form is Form.NODE:
        yield "status.addresses", _mappings((wire.get("status") or {}).get("addresses")), "a list of mappings"


def _mappings(found: object) -> bool:
    return found is None or (isinstance(found, list) and all(isinstance(one, dict) for one in found))


def pruned(served: Served, document: Document, field_validation: str) -> tuple[Document, list[str]]:
    """Without unknown fields; Refused if the writer wants to hear of them."""
    if field_validation not in FIELD_VALIDATION:
        raise Refused(400, f"fieldValidation={field_validation}: must be Ignore, Warn or Strict")
    if served.model is None or not served.is_calico:
        return document, []
    try:
        strangers = unknown_fields(served.model, canonical(document))
    except Rejected:
        return document, []  # what is so wrong is told by the judgement
    strangers = [one for one in strangers if not (served.stored == FREE_FORM and one.at == "spec")]
    if not strangers:
        return document, []
    told = [f'unknown field "{join(one.at, one.name)}"' for one in strangers]
    if field_validation == "Strict":
        raise Refused(400, f"{served.kind} in version {served.version!r} cannot be handled as a {served.kind}: "
                           f"strict decoding error: {', '.join(told)}")  # fmt: skip
    found = deepcopy(document)
    for one in strangers:
        _take_away(found, one.at, one.name)
    return found, told if field_validation != "Ignore" else []


def judge(
    served: Served, document: Document, before: Document | None, others: Others, *, permissive: bool
) -> Judgement:
    """Rejected carries everything that is wrong."""
    name = str(document["metadata"].get("name") or "")
    if served.form is Form.NODE or served.model is None:
        _well_named(served, name)
        return Judgement(*core.kept(served.stored, document))
    if not served.is_calico:
        document = core.filled(served.stored, document)
        parse(document)
        return Judgement(document)
    if permissive:
        return Judgement(document)
    (one,) = judged([document])
    problems = [
        *(crossrules.check_update(before, one.document) if before else []),
        *crossrules.check_against(one.document, others, is_new=before is None),
    ]
    if problems:
        raise Rejected(problems)
    return Judgement(one.document, (*warnings(one.document), *crossrules.notes(one.document, others)))


def may_go(served: Served, document: Document, others: Others, *, permissive: bool) -> None:
    """Refused: something else still needs it. A finalizer is somebody who will decide that later."""
    if not served.is_calico or (document.get("metadata") or {}).get("finalizers"):
        return
    if permissive:
        return
    problems: Sequence[Problem] = crossrules.check_delete(document, others)
    if problems:
        name = str((document.get("metadata") or {}).get("name"))
        raise status.conflict(served, name, "; ".join(map(str, problems)))


def _well_named(served: Served, name: str) -> None:
    try:
        scalars.name(name)
    except ValueError as error:
        raise Rejected([Problem(served.kind, name, "metadata.name", name, str(error))]) from None


def _take_away(document: Any, at: str, name: str) -> None:
    for step in at.replace("]", "").replace("[", ".").split("."):
        if step:
            document = document[int(step)] if isinstance(document, list) else document[step]
    del document[name]
