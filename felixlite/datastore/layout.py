"""Calico's v3 layout of etcd: which path an object has, and what its value looks like there. Both ways; pure.

    IPPool p          /calico/resources/v3/projectcalico.org/ippools/p                       the whole document
    NetworkPolicy     /calico/resources/v3/projectcalico.org/networkpolicies/<namespace>/<name>
    IPAMBlock         /calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26                      the fields of its spec
    BlockAffinity     /calico/ipam/v2/host/<node>/ipv4/block/10.0.0.0-26                     {"state", "deleted"}
    IPAMHandle        /calico/ipam/v2/handle/<id>                                            {"block", "deleted"}
    IPAMConfiguration /calico/ipam/v2/config                                                 snake case
    ConfigMap ...     /calico/felixlite/ConfigMap/<namespace>/<name>           what Calico has no place for; whole documents

Facts: reference 2.13 to 2.16 and 3.1.  A value here is what JSON can say; etcd.py makes the bytes.  What Calico keeps next
to these (the record /calico/ipam/v2/host/<node>, its v1 keys, Felix's status) is nobody's path: never listed, never touched.
"""

from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, NamedTuple

from felixlite.addresses import Prefix
from felixlite.datastore.documents import frame, framed
from felixlite.datastore.names import affinity_name, affinity_parts, block_cidr, block_name, cidr_text
from felixlite.datastore.store import Document, Key
from felixlite.errors import StoreError
from felixlite.model.kinds import KINDS
from felixlite.model.kuberneteskinds import BROUGHT_ALONG

RESOURCES = "/calico/resources/v3/projectcalico.org/"
ALONG = "/calico/felixlite/"
IPAM = "/calico/ipam/v2/"
VIRTUAL_OWNERS = frozenset({"load-balancer"})  # the only owner of blocks in Calico that is not a node

_PLURALS = {kind.stored_plural: kind for kind in KINDS.values()}
_DEFAULT = "default"


class NoPlace(StoreError):
    """This store has no place for such a key."""


# -- paths


def path_of(key: Key) -> str:
    place = _PLACES.get(key.kind)
    try:
        return place.path(key) if place else _resource_path(key)
    except ValueError as error:
        raise NoPlace(f"{key}: {error}") from None


def prefixes(kind: str, *, namespace: str = "", node: str = "") -> list[str]:
    """Every object of the kind has a path that begins with one of these; key_of tells what else does."""
    place = _PLACES.get(kind)
    if place:
        return place.prefixes(node)
    return [_folder(kind) + (f"{namespace}/" if namespace else "")]


def key_of(path: str) -> Key | None:
    """None: nothing of ours."""
    if path.startswith(RESOURCES):
        return _resource_key(path.removeprefix(RESOURCES).split("/"))
    if path.startswith(ALONG):
        return _along_key(path.removeprefix(ALONG).split("/"))
    if path.startswith(IPAM):
        try:
            return _ipam_key(path.removeprefix(IPAM).split("/"))
        except ValueError:
            return None
    return None


def _folder(kind: str) -> str:
    if kind in BROUGHT_ALONG:
        return f"{ALONG}{kind}/"
    known = KINDS.get(kind)
    if not known:
        raise NoPlace(f"{kind} is no kind that etcd has a place for")
    return f"{RESOURCES}{known.stored_plural}/"


def _resource_path(key: Key) -> str:
    folder = _folder(key.kind)
    if not key.name or "/" in key.name or "/" in key.namespace:
        raise ValueError("a name must not be empty and have no slash")
    if not (BROUGHT_ALONG[key.kind] if key.kind in BROUGHT_ALONG else KINDS[key.kind].namespaced):
        return folder + key.name
    if not key.namespace:
        raise ValueError("needs a namespace")
    return f"{folder}{key.namespace}/{key.name}"


def _resource_key(parts: list[str]) -> Key | None:
    kind = _PLURALS.get(parts[0])
    if not kind or kind.name in _PLACES or not all(parts):
        return None
    match kind.namespaced, parts:
        case False, [_, name]:
            return Key(kind.name, name)
        case True, [_, namespace, name]:
            return Key(kind.name, name, namespace)
        case _:
            return None


def _along_key(parts: list[str]) -> Key | None:
    match BROUGHT_ALONG.get(parts[0]), parts:
        case False, [kind, name] if name:
            return Key(kind, name)
        case True, [kind, namespace, name] if namespace and name:
            return Key(kind, name, namespace)
        case _:
            return None


def _ipam_key(parts: list[str]) -> Key | None:
    match parts:
        case ["assignment", family, "block", cidr]:
            return Key("IPAMBlock", block_name(_read_cidr(cidr, family)))
        case ["host", node, family, "block", cidr] if node not in VIRTUAL_OWNERS:
            return Key("BlockAffinity", affinity_name(node, _read_cidr(cidr, family)))
        case ["virtual", owner, family, "block", cidr] if owner in VIRTUAL_OWNERS:
            return Key("BlockAffinity", affinity_name(owner, _read_cidr(cidr, family)))
        case ["handle", *handle] if any(handle):
            return Key("IPAMHandle", "/".join(handle))
        case ["config"]:
            return Key("IPAMConfiguration", _DEFAULT)
        case _:
            return None


@lru_cache(4096)
def _cidr_path(cidr: Prefix) -> str:
    return f"ipv{cidr.family}/block/{cidr_text(cidr).replace('/', '-')}"


def _read_cidr(text: str, family: str) -> Prefix:
    address, _, length = text.rpartition("-")
    cidr = Prefix.parse(f"{address}/{length}")
    if _cidr_path(cidr) != f"{family}/block/{text}":
        raise ValueError(f"{text!r} is not how {cidr} is written")
    return cidr


def _block_path(key: Key) -> str:
    return f"{IPAM}assignment/{_cidr_path(block_cidr(key.name))}"


def _affinity_path(key: Key) -> str:
    node, cidr = affinity_parts(key.name)
    if "/" in node:
        raise ValueError("a node's name has no slash")
    return f"{_owner_folder(node)}{_cidr_path(cidr)}"


def _owner_folder(node: str) -> str:
    return f"{IPAM}{'virtual' if node in VIRTUAL_OWNERS else 'host'}/{node}/"


def _handle_path(key: Key) -> str:
    if not key.name:
        raise ValueError("a handle must not be empty")
    return f"{IPAM}handle/{key.name}"


def _config_path(key: Key) -> str:
    if key.name != _DEFAULT:
        raise ValueError("the only IPAMConfiguration is `default`")
    return f"{IPAM}config"


# -- values


def stored(key: Key, document: Document) -> Mapping[str, Any]:
    """What etcd keeps of a document."""
    place = _PLACES.get(key.kind)
    if not place:
        return document
    spec = document.get("spec")
    return place.value(key, spec if isinstance(spec, dict) else {})


def document_of(key: Key, value: object) -> Document:
    """The document behind a value; for what is none, a document with the value as its spec (see store.py)."""
    place = _PLACES.get(key.kind)
    if place:
        spec = place.spec(key, value) if isinstance(value, dict) else value
        return {**frame(key), "spec": spec}
    return framed(key, value)


def keeps_metadata(kind: str) -> bool:
    return kind not in _PLACES


def _block_value(key: Key, spec: dict[str, Any]) -> dict[str, Any]:
    value = dict(spec)
    if "affinityClaimTime" in value:
        value["affinity_claim_time"] = value.pop("affinityClaimTime")
    return {"cidr": cidr_text(block_cidr(key.name)), "affinity": None, "deleted": False, **value}


def _block_spec(key: Key, value: dict[str, Any]) -> dict[str, Any]:
    spec = {"cidr": cidr_text(block_cidr(key.name)), **value}
    if "affinity_claim_time" in spec:
        spec["affinityClaimTime"] = spec.pop("affinity_claim_time")
    legacy = spec.pop("hostAffinity", None)
    if legacy and not spec.get("affinity"):
        spec["affinity"] = f"host:{legacy}"
    return spec


def _affinity_value(key: Key, spec: dict[str, Any]) -> dict[str, Any]:
    node, cidr = affinity_parts(key.name)
    kind = "virtual" if node in VIRTUAL_OWNERS else "host"
    said = spec.get("node", node), spec.get("type") or "host"
    if said != (node, kind):
        raise NoPlace(f"{key}: is of {kind} {node} ({cidr}) by its name, but of {said[1]} {said[0]} by its spec")
    rest = {name: found for name, found in spec.items() if name not in ("node", "cidr", "type")}
    return {"state": "confirmed", **rest, "deleted": _is_true(spec.get("deleted"))}


def _affinity_spec(key: Key, value: dict[str, Any]) -> dict[str, Any]:
    node, cidr = affinity_parts(key.name)
    return {
        **value,
        "state": value.get("state") or "confirmed",  # Calico's oldest affinities have no state (reference 4.2)
        "node": node,
        "cidr": cidr_text(cidr),
        "type": "virtual" if node in VIRTUAL_OWNERS else "host",
        "deleted": "true" if _is_true(value.get("deleted")) else "false",
    }


def _handle_value(_: Key, spec: dict[str, Any]) -> dict[str, Any]:
    rest = {name: found for name, found in spec.items() if name != "handleID"}
    return {"block": {}, **rest, "deleted": _is_true(spec.get("deleted"))}


def _handle_spec(key: Key, value: dict[str, Any]) -> dict[str, Any]:
    return {**value, "handleID": key.name, "block": value.get("block") or {}, "deleted": _is_true(value.get("deleted"))}


_CONFIG = {"strictAffinity": "strict_affinity", "autoAllocateBlocks": "auto_allocate_blocks"}
_CONFIG_BACK = {snake: camel for camel, snake in _CONFIG.items()}


def _config_value(_: Key, spec: dict[str, Any]) -> dict[str, Any]:
    """Written out in full: to Calico an absent auto_allocate_blocks is false."""
    spec = {"strictAffinity": False, "autoAllocateBlocks": True, **spec}
    return {_CONFIG.get(name, name): found for name, found in spec.items()}


def _config_spec(_: Key, value: dict[str, Any]) -> dict[str, Any]:
    value = {"strict_affinity": False, "auto_allocate_blocks": False, **value}
    return {_CONFIG_BACK.get(name, name): found for name, found in value.items()}


def _is_true(value: object) -> bool:
    return value in (True, "true")


class _Place(NamedTuple):
    """Of the kinds that are not kept as whole documents."""

    path: Callable[[Key], str]
    prefixes: Callable[[str], list[str]]  # of a node, or of all
    value: Callable[[Key, dict[str, Any]], Mapping[str, Any]]
    spec: Callable[[Key, dict[str, Any]], dict[str, Any]]


_PLACES = {
    "IPAMBlock": _Place(_block_path, lambda _: [f"{IPAM}assignment/"], _block_value, _block_spec),
    "BlockAffinity": _Place(
        _affinity_path,
        lambda node: [_owner_folder(node)] if node else [f"{IPAM}host/", f"{IPAM}virtual/"],
        _affinity_value,
        _affinity_spec,
    ),
    "IPAMHandle": _Place(_handle_path, lambda _: [f"{IPAM}handle/"], _handle_value, _handle_spec),
    "IPAMConfiguration": _Place(_config_path, lambda _: [f"{IPAM}config"], _config_value, _config_spec),
}
