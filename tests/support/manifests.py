"""manifests/ as data: the objects of an overlay, and the rights that its roles give."""

import json
import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from felixlite.apiserver.strategic import merge
from felixlite.model.patch import apply
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
    """The objects of an overlay, by the few words of kustomize that manifests/ use: kubectl's own is not always able."""
    folder = (ROOT / overlay).resolve()
    (how,) = values((folder / "kustomization.yaml").read_text(), str(folder))
    assert how.keys() <= {"apiVersion", "kind", "resources", "patches", "images"}, "another word: teach it here"
    objects = [found for name in how["resources"] for found in _resource(folder / name)]
    for patch in how.get("patches", ()):
        objects = [changed for found in objects if (changed := _patched(found, patch)) is not None]
    return [_tagged(found, how.get("images", ())) for found in objects]


def by_kustomize(overlay: str) -> list[Object]:
    ran = subprocess.run(["kubectl", "kustomize", str(ROOT / overlay)], capture_output=True, text=True, check=True)
    return values(ran.stdout, overlay)


def knows_kustomize() -> bool:
    """Before 1.21 kubectl has one of 2019, which knows no folder among the resources and no patch in line."""
    said = subprocess.run(["kubectl", "version", "--client", "-o", "json"], capture_output=True, text=True, check=True)
    version = json.loads(said.stdout)["clientVersion"]
    return (int(version["major"]), int(version["minor"].rstrip("+"))) >= (1, 21)


def _resource(path: Path) -> list[Object]:
    return built(str(path)) if path.is_dir() else values(path.read_text(), str(path))


def _tagged(found: Object, images: Iterable[Object]) -> Object:
    text = json.dumps(found)
    for image in images:
        text = re.sub(rf'"image": "{image["name"]}(:[^"]*)?"', f'"image": "{image["name"]}:{image["newTag"]}"', text)
    return dict(json.loads(text))


def _patched(found: Object, how: Object) -> Object | None:
    """None: the patch takes it away."""
    (patch,) = values(how["patch"], "patch")
    target = how.get("target") or {"kind": patch["kind"], **patch["metadata"]}
    named = {"kind": found["kind"], **found["metadata"]}
    if any(named.get(name) != wanted for name, wanted in target.items()):
        return found
    if isinstance(patch, list):
        return dict(apply(found, patch))
    return None if patch.get("$patch") == "delete" else merge(found, patch)


def identity(found: Object) -> tuple[str, str, str]:
    return found["kind"], found["metadata"].get("namespace", ""), found["metadata"]["name"]


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
