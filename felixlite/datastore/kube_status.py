"""What an API server's refusal means, in our errors. Pure.

A refusal is a Status object: code, reason, message, details with causes per field.  409 is two things (AlreadyExists and
Conflict), 404 is two things as well: there is no such object, or no such kind.  Facts: Kubernetes' API conventions.
"""

from collections.abc import Callable, Mapping
from typing import Any

import orjson

from felixlite.errors import AlreadyExists, Compacted, Conflict, Denied, NotFound, StoreError, Unreachable

BUSY = frozenset({429, 503})  # nothing was done: may be asked again, even a write
SHAKEN = frozenset({500, 502, 504})  # a read may be asked again


def status_of(code: int, body: bytes) -> Mapping[str, Any]:
    """The Status; of what is none (a proxy's page) as much as there is."""
    try:
        found = orjson.loads(body)
    except orjson.JSONDecodeError:
        found = None
    if isinstance(found, dict) and found.get("kind") == "Status":
        return {"code": code, **found}
    return {"code": code, "message": body[:200].decode(errors="replace").strip().partition("\n")[0]}


def retry_after(status: Mapping[str, Any], header: str | None = None) -> float | None:
    """Seconds, if the server said so."""
    told = (status.get("details") or {}).get("retryAfterSeconds") or header
    try:
        return float(told) if told else None
    except (TypeError, ValueError):
        return None


class NotServed(StoreError):
    """No such kind, or no such subresource: not the same as no such object."""


def error_of(status: Mapping[str, Any], what: str, where: str) -> StoreError:
    """what: `update IPPool a`; where: the server."""
    code, reason = int(status.get("code") or 0), str(status.get("reason") or "")
    message = str(status.get("message") or reason or f"code {code}")
    name = what.partition(" ")[2] or what
    server = f"the API server at {where}"
    if code == 404 and not (status.get("details") or {}).get("name"):
        return NotServed(f"{server} does not serve {name}: {message}; apply manifests/crds/crds.yaml")
    if code in BUSY or code >= 500:
        return Unreachable(f"{server} cannot {what} now ({code}): {message}")
    return _REFUSALS.get((code, reason), _REFUSALS.get((code, ""), _refused))(server, what, name, message, status)


def _refused(server: str, what: str, name: str, message: str, status: Mapping[str, Any]) -> StoreError:
    del name
    return StoreError(f"{server} refuses to {what} ({status.get('code')} {status.get('reason', '')}): {message}")


_REFUSALS: Mapping[tuple[int, str], Callable[[str, str, str, str, Mapping[str, Any]], StoreError]] = {
    (401, ""): lambda server, what, _, said, __: Denied(
        f"{server} does not accept our token or certificate ({what}): {said}"
    ),
    (403, ""): lambda server, what, _, said, __: Denied(
        f"{server} does not let us {what}: {said}; see the ClusterRoles of manifests/"
    ),
    (404, ""): lambda _, what, name, said, __: NotFound(
        f"{name}: {said}" if what.startswith("create") else f"there is no {name}"  # its namespace
    ),
    (409, "AlreadyExists"): lambda _, __, name, ___, ____: AlreadyExists(f"{name} exists already"),
    (409, ""): lambda _, __, name, ___, ____: Conflict(f"{name} changed meanwhile: read it again and retry"),
    (410, ""): lambda server, _, name, said, __: Compacted(
        f"{name}: {server} has forgotten that revision ({said}): list again"
    ),
    (413, ""): lambda server, _, name, said, __: StoreError(f"{name} is too large for {server}: {said}"),
    (422, ""): lambda _, __, name, said, status: StoreError(f"{name} is refused: {_causes(status) or said}"),
}


def _causes(status: Mapping[str, Any]) -> str:
    causes = (status.get("details") or {}).get("causes") or ()
    return "; ".join(f"{cause.get('field', '')}: {cause.get('message', '')}" for cause in causes)
