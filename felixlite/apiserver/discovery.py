"""What a client finds when it asks what there is: groups, versions, resources; piece by piece or all at once. Pure."""

from typing import Any

from felixlite.apiserver import catalogue
from felixlite.apiserver.catalogue import VERBS, Served

Document = dict[str, Any]
STATUS_VERBS = ("get", "patch", "update")


def legacy_versions(address: str) -> Document:
    where = [{"clientCIDR": "0.0.0.0/0", "serverAddress": address}]
    return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": where}


def group_list() -> Document:
    groups = [_group(group, version) for group, version in catalogue.versions() if group]
    return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}


def group(name: str) -> Document | None:
    return next(
        ({"kind": "APIGroup", "apiVersion": "v1", **_group(g, v)} for g, v in catalogue.versions() if g and g == name),
        None,
    )


def _group(group: str, version: str) -> Document:
    one = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [one], "preferredVersion": one}


def resource_list(group: str, version: str) -> Document | None:
    members = catalogue.members(group, version)
    if not members:
        return None
    resources = [one for served in members for one in _resources(served)]
    return {
        "kind": "APIResourceList",
        "apiVersion": "v1",
        "groupVersion": members[0].api_version,
        "resources": resources,
    }


def _resources(served: Served) -> list[Document]:
    names = {"shortNames": list(served.short)} if served.short else {}
    names |= {"categories": list(served.categories)} if served.categories else {}
    whole = {
        "name": served.plural,
        "singularName": served.singular,
        "namespaced": served.namespaced,
        "kind": served.kind,
        "verbs": list(VERBS),
        **names,
    }
    if not served.has_status:
        return [whole]
    part = {"name": f"{served.plural}/status", "singularName": "", "namespaced": served.namespaced, "kind": served.kind}
    return [whole, {**part, "verbs": list(STATUS_VERBS)}]


def aggregated(*, core: bool, version: str) -> Document:
    """All groups with all their resources: /api and /apis for who accepts that."""
    groups = [(g, v) for g, v in catalogue.versions() if (g == "") is core]
    return {
        "kind": "APIGroupDiscoveryList",
        "apiVersion": f"apidiscovery.k8s.io/{version}",
        "metadata": {},
        "items": [
            {
                "metadata": {"name": g, "creationTimestamp": None},
                "versions": [
                    {
                        "version": v,
                        "resources": [_aggregated(served) for served in catalogue.members(g, v)],
                        "freshness": "Current",
                    }
                ],
            }
            for g, v in groups
        ],
    }


def _aggregated(served: Served) -> Document:
    kind = {"group": served.group, "version": served.version, "kind": served.kind}
    found: Document = {
        "resource": served.plural,
        "responseKind": kind,
        "scope": "Namespaced" if served.namespaced else "Cluster",
        "singularResource": served.singular,
        "verbs": list(VERBS),
    }
    if served.short:
        found["shortNames"] = list(served.short)
    if served.categories:
        found["categories"] = list(served.categories)
    if served.has_status:
        found["subresources"] = [{"subresource": "status", "responseKind": kind, "verbs": list(STATUS_VERBS)}]
    return found
