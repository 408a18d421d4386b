"""A request: what its path and query mean. Pure.

/apis/projectcalico.org/v3/namespaces/shop/networkpolicies/web?fieldManager=x     ->  Target, Options
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qsl, unquote

from felixlite.apiserver import catalogue
from felixlite.apiserver.catalogue import Served
from felixlite.apiserver.status import Refused


@dataclass(frozen=True, slots=True)
class User:
    name: str
    groups: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Request:
    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]  # names in lower case
    body: bytes = b""
    user: User = field(default_factory=lambda: User("system:anonymous", ("system:unauthenticated",)))

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str], body: bytes, user: User) -> "Request":
        path, _, query = target.partition("?")
        return cls(method, path, dict(parse_qsl(query, keep_blank_values=True)), headers, body, user)

    def says(self, name: str) -> bool:
        return self.query.get(name, "") in ("1", "true", "True")

    def number(self, name: str) -> int:
        text = self.query.get(name, "") or "0"
        if not text.removeprefix("-").isdecimal():
            raise Refused(400, f"{name}={text}: must be a whole number")
        return int(text)

    @property
    def is_dry(self) -> bool:
        return dry(self.query.get("dryRun", ""))

    @property
    def accept(self) -> str:
        return self.headers.get("accept", "")


@dataclass(frozen=True, slots=True)
class Target:
    served: Served
    namespace: str = ""
    name: str = ""
    subresource: str = ""

    def verb(self, method: str, *, watch: bool) -> str:
        match method, bool(self.name):
            case (("GET" | "HEAD"), True):
                return "watch" if watch else "get"
            case (("GET" | "HEAD"), False):
                return "watch" if watch else "list"
            case "POST", _ if not self.name or self.subresource:
                return "create"
            case "PUT", True:
                return "update"
            case "PATCH", True:
                return "patch"
            case "DELETE", True:
                return "delete"
            case "DELETE", False:
                return "deletecollection"
        raise Refused(405, "the server does not allow this method on the requested resource")


def dry(said: object) -> bool:
    if said not in ("", "All"):
        raise Refused(400, f"dryRun={said}: must be All")
    return said == "All"


def target(path: str) -> Target | None:
    """None: a path of no resource."""
    steps = [unquote(step) for step in path.strip("/").split("/")]
    match steps:
        case ["api", version, *rest] if rest:
            group = ""
        case ["apis", group, version, *rest] if rest:
            pass
        case _:
            return None
    namespace = ""
    if rest[0] == "namespaces" and len(rest) > 2 and rest[2] not in ("status", "finalize"):
        namespace, rest = rest[1], rest[2:]
    served = catalogue.find(group, version, rest[0])
    if served is None or len(rest) > 3 or (namespace and not served.namespaced):
        return None
    return Target(served, namespace, *(rest[1:]))


def described(target: Target) -> dict[str, Any]:
    return {"group": target.served.group, "resource": target.served.plural, "subresource": target.subresource}
