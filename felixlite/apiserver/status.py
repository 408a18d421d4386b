"""What a request is refused with: the Status object of Kubernetes, and which error of ours becomes which. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from felixlite.apiserver.catalogue import Served
from felixlite.errors import (
    AlreadyExists,
    Compacted,
    Conflict,
    Denied,
    NotFound,
    Problem,
    Rejected,
    StoreError,
    Unreachable,
)

REASONS: Mapping[int, str] = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    405: "MethodNotAllowed",
    406: "NotAcceptable",
    409: "Conflict",
    410: "Expired",
    413: "RequestEntityTooLarge",
    415: "UnsupportedMediaType",
    422: "Invalid",
    429: "TooManyRequests",
    500: "InternalError",
    503: "ServiceUnavailable",
    504: "Timeout",
}


class Refused(Exception):
    """An answer that is not the one wished for."""

    def __init__(
        self, code: int, message: str, reason: str = "", details: Mapping[str, Any] | None = None, retry_after: int = 0
    ) -> None:
        super().__init__(message)
        self.code, self.message = code, message
        self.reason = reason or REASONS.get(code, "")
        self.retry_after = retry_after
        self.details = {**(details or {}), **({"retryAfterSeconds": retry_after} if retry_after else {})}

    def document(self) -> dict[str, Any]:
        return {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.message,
            "reason": self.reason,
            **({"details": self.details} if self.details else {}),
            "code": self.code,
        }


def about(served: Served, name: str = "") -> dict[str, Any]:
    return {
        **({"name": name} if name else {}),
        **({"group": served.group} if served.group else {}),
        "kind": served.plural,
    }


def not_found(served: Served, name: str) -> Refused:
    return Refused(404, f'{served.title} "{name}" not found', details=about(served, name))


def exists(served: Served, name: str) -> Refused:
    return Refused(409, f'{served.title} "{name}" already exists', "AlreadyExists", about(served, name))


def conflict(served: Served, name: str, why: str = "") -> Refused:
    why = why or "the object has been modified; please apply your changes to the latest version and try again"
    return Refused(
        409, f'Operation cannot be fulfilled on {served.title} "{name}": {why}', "Conflict", about(served, name)
    )


def expired(message: str) -> Refused:
    return Refused(410, message, "Expired")


def invalid(served: Served, name: str, problems: Iterable[Problem]) -> Refused:
    causes = [
        {"reason": _cause(problem), "message": _worded(problem), "field": problem.field or "metadata.name"}
        for problem in problems
    ]
    listed = [f"{cause['field']}: {cause['message']}" for cause in causes]
    text = listed[0] if len(listed) == 1 else f"[{', '.join(listed)}]"
    kind = f"{served.kind}.{served.group}" if served.group else served.kind
    details = {**about(served, name), "kind": served.kind, "causes": causes}
    return Refused(422, f'{kind} "{name}" is invalid: {text}', "Invalid", details)


def of_error(error: StoreError | Rejected, served: Served, name: str) -> Refused:
    match error:
        case Rejected():
            return invalid(served, name, error.problems)
        case NotFound():
            return not_found(served, name)
        case AlreadyExists():
            return exists(served, name)
        case Conflict():
            return conflict(served, name)
        case Compacted():
            return expired(str(error))
        case Unreachable():
            return Refused(503, f"the store does not answer: {error}", retry_after=1)
        case Denied():
            return Refused(500, f"the store refuses this server: {error}")
        case _:
            return Refused(400, str(error))


def _cause(problem: Problem) -> str:
    if problem.remedy == "is required":
        return "FieldValueRequired"
    if "there is no such field" in problem.remedy:
        return "FieldValueForbidden"
    return "FieldValueInvalid"


def _worded(problem: Problem) -> str:
    match _cause(problem):
        case "FieldValueRequired":
            return "Required value"
        case "FieldValueForbidden":
            return f"Forbidden: {problem.remedy}"
        case _ if problem.value is None:
            return f"Invalid value: {problem.remedy}"
        case _:
            return f"Invalid value: {_shown(problem.value)}: {problem.remedy}"


def _shown(value: object) -> str:
    if isinstance(value, str):
        return f'"{value}"'
    return str(value).lower() if isinstance(value, bool) else str(value)
