"""What a spec asks for that is stored and not done here, in words for its author and for `felixlite status`. Pure.

A spec may be of anybody's making: what cannot be read of it is passed over (that it is invalid is said
elsewhere).  Who reads this: crossrules.py, for whoever writes; intake.py, for the status of every node.
"""

from collections.abc import Iterator, Mapping
from typing import Any


def unenforced(kind: str, given: object) -> Iterator[str]:
    spec: Mapping[str, Any] = given if isinstance(given, Mapping) else {}
    match kind:
        case "HostEndpoint":
            yield "host endpoints are stored and not enforced: policy is about pods only"
        case "GlobalNetworkPolicy" if field := about_hosts(spec):
            yield f"spec.{field}: is about host endpoints, which are not enforced: the policy does nothing"
        case "NetworkPolicy" | "GlobalNetworkPolicy" | "Profile":
            for direction in ("ingress", "egress"):
                for number in _with_http(spec.get(direction)):
                    yield f"spec.{direction}[{number}].http: requests are not looked into: the rule allows nothing"


def about_hosts(spec: Mapping[str, Any]) -> str:
    """The field that makes a global policy one for host endpoints alone; "" for one about pods."""
    return next((field for field in ("doNotTrack", "preDNAT") if spec.get(field) is True), "")


def _with_http(rules: object) -> list[int]:
    if not isinstance(rules, list):
        return []
    return [number for number, one in enumerate(rules) if isinstance(one, Mapping) and one.get("http") is not None]
