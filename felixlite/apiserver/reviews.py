"""`kubectl auth can-i` (also --list) and `kubectl auth whoami`: asked by POST, answered at once; nothing is kept. Pure."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

from felixlite.apiserver import catalogue
from felixlite.apiserver.requests import Target, User

Document = dict[str, Any]
May = Callable[[User, Target, str], str]  # "": may
ACCESS, WHO = ("authorization.k8s.io", "SelfSubjectAccessReview"), ("authentication.k8s.io", "SelfSubjectReview")
RULES = ("authorization.k8s.io", "SelfSubjectRulesReview")
REVIEWS = {f"/apis/{group}/v1/{kind.lower()}s": (group, kind) for group, kind in (ACCESS, RULES, WHO)}


def reviewed(path: str, asked: Mapping[str, Any], user: User, may: May) -> Document:
    group, kind = REVIEWS[path]
    head = {"apiVersion": f"{group}/v1", "kind": kind, "metadata": {"creationTimestamp": None}}
    if (group, kind) == WHO:
        return {**head, "status": {"userInfo": {"username": user.name, "groups": list(user.groups)}}}
    spec = asked.get("spec") or {}
    if (group, kind) == RULES:
        return {**head, "spec": spec, "status": _rules(str(spec.get("namespace") or ""), user, may)}
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


def _rules(namespace: str, user: User, may: May) -> Document:
    """All that the user may do, a rule for the resources of a group with the same verbs."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for served in catalogue.everything():
        target = Target(served, namespace if served.namespaced else "")
        verbs = tuple(verb for verb in catalogue.VERBS if not may(user, target, verb))
        found.setdefault((served.group, verbs), []).append(served.plural)
    rules = [
        {"verbs": list(verbs), "apiGroups": [group], "resources": plurals}
        for (group, verbs), plurals in found.items()
        if verbs
    ]
    pages = [{"verbs": ["get"], "nonResourceURLs": ["*"]}]
    return {"resourceRules": rules, "nonResourceRules": pages, "incomplete": False}
