"""manifests/ as data: the objects of an overlay, and the rights that its roles give."""

import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from felixlite.yamltext import values

ROOT = Path(__file__).parents[2] / "manifests"
OVERLAYS = (".", "overlays/bgp-only", "overlays/vxlan-only", "overlays/etcd")
Object = dict[str, Any]


class Right(NamedTuple):
    group: str
    resource: str  # with its subresource: nodes/status
    verb: str
    namespace: str = ""  # the only one in which it is given or used; empty: anywhere


def built(overlay: str) -> list[Object]:
    ran = subprocess.run(["kubectl", "kustomize", str(ROOT / overlay)], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, f"kubectl 1.21 or newer is needed: {ran.stderr}"
    return values(ran.stdout, overlay)


def base() -> list[Object]:
    path = ROOT / "base" / "felixlite.yaml"
    return values(path.read_text(), str(path))


def one(objects: Iterable[Object], kind: str, name: str) -> Object:
    return next(o for o in objects if (o["kind"], o["metadata"]["name"]) == (kind, name))


def rights(objects: Iterable[Object], name: str) -> set[Right]:
    """What the ClusterRole and the Roles of a name allow."""
    return {
        right
        for role in objects
        if role["kind"] in ("ClusterRole", "Role") and role["metadata"]["name"] == name
        for right in _of_role(role)
    }


def _of_role(role: Object) -> Iterator[Right]:
    namespace = role["metadata"].get("namespace", "")
    for rule in role["rules"]:
        for group in rule["apiGroups"]:
            for resource in rule["resources"]:
                for verb in rule["verbs"]:
                    yield Right(group, resource, verb, namespace)


def used(audited: Iterable[Object], namespaced: Iterable[str]) -> set[Right]:
    """What requests used; of the resources in `namespaced` also where."""
    only = set(namespaced)
    return {
        Right(
            asked["group"],
            "/".join(filter(None, [asked["resource"], asked["subresource"]])),
            asked["verb"],
            asked["namespace"] if asked["resource"] in only else "",
        )
        for asked in audited
        if "verb" in asked
    }
