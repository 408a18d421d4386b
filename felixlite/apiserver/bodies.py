"""What comes in the body of a request: an object, options, a patch. Pure."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import orjson

from felixlite.apiserver import protobuf, strategic
from felixlite.apiserver.answers import JSON
from felixlite.apiserver.requests import Request, Target, dry
from felixlite.apiserver.status import Refused
from felixlite.datastore.store import Document
from felixlite.errors import FelixliteError
from felixlite.model import patch
from felixlite.yamltext import values

DEEPEST, MOST_VALUES = 100, 500_000


def body(request: Request) -> Any:
    """Refused if it is nested so deeply, or (YAML's references) so large, that whoever reads it would suffer."""
    found = _read(request)
    waiting, count = [(found, 0)], 0
    while waiting:
        value, depth = waiting.pop()
        count += 1
        if depth > DEEPEST or count > MOST_VALUES:
            raise Refused(400, f"the body is nested more than {DEEPEST} times, or has more than {MOST_VALUES} values")
        waiting.extend((below, depth + 1) for below in _inside(value))
    return found


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _read(request: Request) -> Any:
    if not request.body:
        raise Refused(400, "the body is empty; it must be an object")
    kind = request.headers.get("content-type", JSON).partition(";")[0].strip() or JSON
    if kind in ("application/yaml", "application/apply-patch+yaml"):
        return _yaml(request.body)
    if kind == protobuf.CONTENT_TYPE:
        return _protobuf(request.body)
    if kind.endswith("json") or kind == "*/*":
        return _json(request.body)
    raise Refused(415, f"the body of the request is {kind}; this server reads {JSON} and application/yaml")


def _json(text: bytes) -> Any:
    try:
        return orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise Refused(400, f"the body is no JSON: {error}") from None


def _protobuf(octets: bytes) -> Any:
    try:
        return protobuf.document(octets)
    except (protobuf.Broken, UnicodeDecodeError) as error:
        raise Refused(415, f"the body {error}") from None


def _yaml(text: bytes) -> Any:
    try:
        found = values(text.decode(errors="replace"), "the body")
    except FelixliteError as error:
        raise Refused(400, str(error)) from None
    if len(found) != 1:
        raise Refused(400, f"the body has {len(found)} documents; it must have one")
    return found[0]


def delete_options(request: Request) -> Mapping[str, Any]:
    found = body(request) if request.body else {}
    if not isinstance(found, dict):
        raise Refused(400, "the body must be DeleteOptions")
    if "gracePeriodSeconds" in request.query:
        found["gracePeriodSeconds"] = request.number("gracePeriodSeconds")
    return found


def is_dry_deletion(request: Request, options: Mapping[str, Any]) -> bool:
    """For deletions kubectl says it in the body."""
    said = options.get("dryRun") or []
    if not isinstance(said, list):
        raise Refused(400, f"dryRun: {said!r}: must be a list")
    return True in [request.is_dry, *(dry(one) for one in said)]


def patching(request: Request, wanted: Target) -> Callable[[Document], object]:
    kind = request.headers.get("content-type", "").partition(";")[0].strip()
    change = body(request)
    match kind:
        case "application/merge-patch+json":
            return lambda before: patch.merge(before, change)
        case "application/json-patch+json":
            return lambda before: _json_patched(before, change)
        case "application/strategic-merge-patch+json" if not wanted.served.is_calico:
            return lambda before: strategic.merge(before, change)
    served = "application/merge-patch+json, application/json-patch+json"
    served += "" if wanted.served.is_calico else ", application/strategic-merge-patch+json"
    more = "; server-side apply is not done here: use `kubectl apply` without --server-side" if "apply" in kind else ""
    raise Refused(415, f"the body of the request was in an unknown format {kind!r}; accepted: {served}{more}")


def _json_patched(before: Document, change: Any) -> Any:
    try:
        return patch.apply(before, change)
    except patch.PatchError as error:
        raise Refused(422, f"the patch cannot be applied: {error}") from None
