"""`kubectl auth can-i` and `kubectl auth whoami`: questions that are posted and answered at once; nothing is kept. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from felixlite.apiserver import catalogue
from felixlite.apiserver.requests import Target, User

Document = dict[str, Any]
May = Callable[[User, Target, str], str]  # "": may
ACCESS, WHO = ("authorization.k8s.io", "SelfSubjectAccessReview"), ("authentication.k8s.io", "SelfSubjectReview")
REVIEWS = {f"/apis/{group}/v1/{kind.lower()}s": (group, kind) for group, kind in (ACCESS, WHO)}


def reviewed(path: str, asked: Mapping[str, Any], user: User, may: May) -> Document:
    group, kind = REVIEWS[path]
    head = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"creationTimestamp": None}}
    if (group, kind) == WHO:
        return {**head, "status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}
    spec = asked.get("spec") or {}
    return {**head, "spec": spec, "status": _access(spec.get("resourceAttributes") or {}, user, may)}


def _access(wanted: Mapping[str, str], user: User, may: May) -> Document:
    group, plural, verb = wanted.get("group", ""), wanted.get("resource", ""), wanted.get("verb", "")
    served = [one for one in catalogue.everything() if one.plural == plural and group in (one.group, "*")]
    if not served:
        return {
            "allowed": plural in ("", "*"),
            "reason": "" if plural in ("", "*") else "no such resource is served here",
        }
    target = Target(served[0], wanted.get("namespace", ""), wanted.get("name", ""))
    why = may(user, replace(target, subresource=wanted.get("subresource", "")), verb)
    return {"allowed": not why, **({"reason": why} if why else {})}
