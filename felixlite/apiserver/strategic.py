"""Strategic merge patch, in which kubectl writes its changes to Kubernetes' own kinds. Pure.

Like a JSON merge patch, but some lists are merged: by a key of their members, or as sets.  Which ones is said in the Go
types of Kubernetes; here by the name of the field, for the kinds that are served.  In the patch, `$patch` replaces or
deletes, `$deleteFromPrimitiveList/x` takes members of a set away, `$setElementOrder/x` orders, `$retainKeys` drops the
other members of a union.
"""

from collections.abc import Mapping, Sequence
from copy import deepcopy
from typing import Any

from felixlite.apiserver.status import Refused

# field -> by which member its entries are known; the first that an entry has
KEYS: Mapping[str, tuple[str, ...]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "containerStatuses": ("name",),
    "env": ("name",),
    "ephemeralContainers": ("name",),
    "hostAliases": ("ip",),
    "imagePullSecrets": ("name",),
    "initContainers": ("name",),
    "ownerReferences": ("uid",),
    "podIPs": ("ip",),
    "hostIPs": ("ip",),
    "ports": ("containerPort", "port"),
    "secrets": ("name",),
    "topologySpreadConstraints": ("topologyKey",),
    "volumeDevices": ("devicePath",),
    "volumeMounts": ("mountPath",),
    "volumes": ("name",),
}
ADDRESSES_OF_A_NODE = ("status", "addresses")
SETS = frozenset({"finalizers", "podCIDRs"})
ATOMIC_PORTS = ("ingress", "egress", "endpoints")  # a NetworkPolicy's and an EndpointSlice's lists are replaced whole

_DIRECTIVE, _DELETE, _ORDER, _RETAIN = "$patch", "$deleteFromPrimitiveList/", "$setElementOrder/", "$retainKeys"


def merge(document: Mapping[str, Any], patch: Any) -> dict[str, Any]:
    if not isinstance(patch, dict):
        raise Refused(400, "a strategic merge patch is an object")
    return _merged(document, patch, ())


def _merged(document: Any, patch: Mapping[str, Any], path: tuple[str, ...]) -> dict[str, Any]:
    directive = patch.get(_DIRECTIVE)
    if directive == "replace":
        return {name: deepcopy(value) for name, value in patch.items() if name != _DIRECTIVE}
    if directive not in (None, "merge"):
        raise Refused(400, f"{'.'.join(path) or 'the patch'}: $patch: {directive!r} must be replace, merge or delete")
    found = dict(document) if isinstance(document, Mapping) else {}
    if isinstance(retained := patch.get(_RETAIN), list):
        found = {name: value for name, value in found.items() if name in retained}
    for name, value in patch.items():
        if name in (_DIRECTIVE, _RETAIN) or name.startswith(_ORDER):
            continue
        if name.startswith(_DELETE):
            field = name.removeprefix(_DELETE)
            found[field] = [one for one in found.get(field) or () if one not in value]
        elif value is None or (isinstance(value, Mapping) and value.get(_DIRECTIVE) == "delete"):
            found.pop(name, None)
        else:
            found[name] = _value(found.get(name), value, (*path, name))
    for name, order in patch.items():
        if name.startswith(_ORDER) and isinstance(found.get(field := name.removeprefix(_ORDER)), list):
            found[field] = _ordered(found[field], order, (*path, field))
    return found


def _value(before: Any, value: Any, path: tuple[str, ...]) -> Any:
    if isinstance(value, Mapping):
        return _merged(before, value, path)
    if isinstance(value, list) and isinstance(before, list):
        if path[-1] in SETS:
            return [*before, *(one for one in value if one not in before)]
        if key := _key(path, [*before, *value]):
            return _entries(before, value, key, path)
    if isinstance(value, list):
        return [_fresh(one) for one in value if not (isinstance(one, Mapping) and one.get(_DIRECTIVE))]
    return deepcopy(value)


def _fresh(value: Any) -> Any:
    return _merged({}, value, ()) if isinstance(value, Mapping) else deepcopy(value)


def _key(path: tuple[str, ...], entries: Sequence[Any]) -> str:
    """ "": the list is replaced as a whole."""
    if path == ADDRESSES_OF_A_NODE:
        return "type"
    if path[-1] == "ports" and any(step in ATOMIC_PORTS for step in path):
        return ""
    real = [one for one in entries if not (isinstance(one, Mapping) and one.get(_DIRECTIVE) == "replace")]
    known = (key for key in KEYS.get(path[-1], ()) if all(isinstance(one, Mapping) and key in one for one in real))
    return next(known, "")


def _entries(before: list[Any], patch: list[Any], key: str, path: tuple[str, ...]) -> list[Any]:
    if any(one.get(_DIRECTIVE) == "replace" for one in patch):
        return [_fresh(one) for one in patch if one.get(_DIRECTIVE) != "replace"]
    changes = {one[key]: one for one in patch}
    found = []
    for one in before:
        change = changes.pop(one[key], None)
        if change is None:
            found.append(one)
        elif change.get(_DIRECTIVE) != "delete":
            found.append(_merged(one, change, path))
    return found + [_fresh(one) for one in changes.values() if one.get(_DIRECTIVE) != "delete"]


def _ordered(entries: list[Any], order: Sequence[Any], path: tuple[str, ...]) -> list[Any]:
    """Those that the order names, in that order; the others stay behind those that they were behind."""
    key = _key(path, [*entries, *order])
    names = [one[key] for one in order] if key else list(order)
    place = {name: number for number, name in enumerate(names)}
    last, ranked = -1, []
    for number, one in enumerate(entries):
        last = place.get(one[key] if key else one, last)
        ranked.append((last, number, one))
    return [one for _, _, one in sorted(ranked, key=lambda ranked: ranked[:2])]
