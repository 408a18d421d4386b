"""What must hold between an object and the others, and between what it was and what it becomes. Pure.

`others(kind)` gives the documents of a kind as they will be, this object included; they may be of anybody's making, so
what cannot be read of them is passed over.  Answers Problems; none: go ahead.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from felixlite.addresses import Prefix
from felixlite.errors import Problem
from felixlite.model.policy import BUILT_IN_TIERS, DEFAULT_TIER
from felixlite.model.unenforced import unenforced

Document = Mapping[str, Any]
Others = Callable[[str], Iterable[Document]]

IMMUTABLE: Mapping[str, tuple[str, ...]] = {
    "IPPool": ("cidr", "blockSize"),
    "IPAMBlock": ("cidr",),
    "BlockAffinity": ("cidr", "node"),
    "IPAMHandle": ("handleID",),
    "WorkloadEndpoint": ("node",),
    "CalicoNodeStatus": ("node",),
}
_BALANCES = "has({0}.allowedUses) && {0}.allowedUses.exists(u, u == 'LoadBalancer')"
# the same in CEL, for the API server: rules of model/*.py that exclude one field by another. has() because no default is sure
EXCLUSIVE: Mapping[str, tuple[tuple[str, str], ...]] = {
    "IPPool": (
        (
            "!has(self.ipipMode) || !has(self.vxlanMode) || self.ipipMode == 'Never' || self.vxlanMode == 'Never'",
            "ipipMode must be Never while vxlanMode is not",
        ),
        (
            "!self.cidr.contains(':') || !has(self.ipipMode) || self.ipipMode == 'Never'",
            "ipipMode must be Never for an IPv6 pool; vxlanMode can carry it",
        ),
        (
            "!has(self.allowedUses) || !self.allowedUses.exists(u, u == 'LoadBalancer') || self.allowedUses.size() == 1",
            "allowedUses: LoadBalancer excludes every other use",
        ),
        (
            f"({_BALANCES.format('oldSelf')}) == ({_BALANCES.format('self')})",
            "allowedUses: LoadBalancer cannot be added or taken away",
        ),
    ),
    "BGPPeer": (
        (
            "!has(self.node) || self.node == '' || !has(self.nodeSelector) || self.nodeSelector == ''",
            "node excludes nodeSelector",
        ),
        (
            "!has(self.peerIP) || self.peerIP == '' || !has(self.peerSelector) || self.peerSelector == ''",
            "peerIP excludes peerSelector",
        ),
    ),
    "FelixConfiguration": (
        (
            "!has(self.ipipTTL) || self.ipipTTL == 0 || (has(self.ipipPMTUDiscovery) && self.ipipPMTUDiscovery)",
            "ipipTTL needs ipipPMTUDiscovery: true; without it only ipipTTL 0 goes",
        ),
    ),
    "GlobalNetworkPolicy": (
        (
            "!has(self.doNotTrack) || !has(self.preDNAT) || !self.doNotTrack || !self.preDNAT",
            "doNotTrack excludes preDNAT",
        ),
    ),
}
POLICIES = ("NetworkPolicy", "GlobalNetworkPolicy", "StagedNetworkPolicy", "StagedGlobalNetworkPolicy")


def check_update(old: Document, new: Document) -> list[Problem]:
    """Both are documents in their completed v3 form."""
    return [Problem(str(new.get("kind")), _title(new), *fault) for fault in _changed(old, new)]


def check_against(document: Document, others: Others, *, is_new: bool) -> list[Problem]:
    found: Iterable[tuple[str, object, str]] = ()
    match document.get("kind"):
        case "IPPool":
            found = _pool(document, others, is_new=is_new)
        case kind if kind in POLICIES:
            found = _in_a_tier(document, others)
    return [Problem(str(document.get("kind")), _title(document), *fault) for fault in found]


def check_delete(document: Document, others: Others) -> list[Problem]:
    """`others` without this object."""
    found: Iterable[tuple[str, object, str]] = ()
    match document.get("kind"):
        case "Tier":
            found = _tier_goes(_name(document), others)
        case "IPPool":
            found = _pool_goes(document, others)
    return [Problem(str(document.get("kind")), _title(document), *fault) for fault in found]


def notes(document: Document, others: Others) -> list[str]:
    """What is not wrong but will not do what it seems to: names of things that are not there, wishes that are not met."""
    spec = _spec(document)
    title = f"{document.get('kind')} {_title(document)}"
    match document.get("kind"):
        case "BGPPeer":
            known = {_name(other) for other in others("BGPFilter")}
            missing = [name for name in spec.get("filters", ()) if name not in known]
            return [f"{title}: spec.filters: there is no BGPFilter {name} (yet)" for name in missing]
        case ("BGPConfiguration" | "FelixConfiguration") as kind:
            name = _name(document)
            if name != "default" and not name.startswith("node."):
                return [f"{title}: nobody reads a {kind} of this name; `default` and `node.NAME` are read"]
    return [f"{title}: {words}" for words in unenforced(str(document.get("kind")), spec)]


# -- one kind each


def _changed(old: Document, new: Document) -> Iterator[tuple[str, object, str]]:
    kind = str(new.get("kind"))
    before, after = _spec(old), _spec(new)
    for field in IMMUTABLE.get(kind, ()):
        if field in before and not _same(before[field], after.get(field)):
            yield (
                f"spec.{field}",
                after.get(field),
                f"cannot be changed; it is {before[field]!r} (delete and create anew)",
            )
    if kind == "IPPool":
        uses = [("LoadBalancer" in spec.get("allowedUses", ())) for spec in (before, after)]
        if uses[0] != uses[1]:
            yield "spec.allowedUses", after.get("allowedUses"), "LoadBalancer cannot be added or taken away"


def _same(one: object, other: object) -> bool:
    """Two spellings of one CIDR are the same."""
    if one == other:
        return True
    try:
        return Prefix.parse(str(one)) == Prefix.parse(str(other))
    except ValueError:
        return False


def _pool(document: Document, others: Others, *, is_new: bool) -> Iterator[tuple[str, object, str]]:
    cidr = _cidr(document)
    if cidr is None or not is_new:
        return
    for other in others("IPPool"):
        theirs = _cidr(other)
        if _name(other) != _name(document) and theirs and theirs.overlaps(cidr):
            yield "spec.cidr", str(cidr), f"overlaps IPPool {_name(other)}, {theirs}; pools must not share addresses"
    size = _spec(document).get("blockSize")
    odd = [block for block in map(_cidr, others("IPAMBlock")) if block and cidr.covers(block) and block.length != size]
    if odd:
        yield (
            "spec.blockSize",
            size,
            f"{len(odd)} blocks of another size are in {cidr}, such as {odd[0]}; release them first",
        )


def _in_a_tier(document: Document, others: Others) -> Iterator[tuple[str, object, str]]:
    tier = _spec(document).get("tier", DEFAULT_TIER)
    known = BUILT_IN_TIERS.keys() | {_name(other) for other in others("Tier")} if tier not in BUILT_IN_TIERS else {tier}
    if tier not in known:
        yield "spec.tier", tier, f"there is no such tier; there are {', '.join(sorted(known))}"


def _tier_goes(name: str, others: Others) -> Iterator[tuple[str, object, str]]:
    if name in BUILT_IN_TIERS:
        yield "", None, "is built in and cannot be deleted"
        return
    inside = [p for kind in POLICIES for p in others(kind) if _spec(p).get("tier", DEFAULT_TIER) == name]
    if inside:
        named = ", ".join(f"{policy.get('kind')} {_title(policy)}" for policy in inside[:3])
        yield "", None, f"has {len(inside)} policies ({named}{', ...' if len(inside) > 3 else ''}); delete them first"


def _pool_goes(document: Document, others: Others) -> Iterator[tuple[str, object, str]]:
    cidr = _cidr(document)
    blocks = [block for block in others("IPAMBlock") if cidr and (found := _cidr(block)) and cidr.covers(found)]
    used = sum(1 for block in blocks for index in _spec(block).get("allocations") or () if index is not None)
    if used:
        yield (
            "spec.cidr",
            str(cidr),
            f"{used} addresses of it are in use and would be cut off; release them, or --force",
        )


# -- reading documents of anybody's making


def _spec(document: Document) -> Mapping[str, Any]:
    spec = document.get("spec")
    return spec if isinstance(spec, Mapping) else {}


def _name(document: Document) -> str:
    metadata = document.get("metadata")
    return str(metadata.get("name") or "") if isinstance(metadata, Mapping) else ""


def _title(document: Document) -> str:
    metadata = document.get("metadata")
    namespace = metadata.get("namespace") if isinstance(metadata, Mapping) else ""
    return f"{namespace}/{_name(document)}" if namespace else _name(document)


def _cidr(document: Document) -> Prefix | None:
    try:
        return Prefix.parse(str(_spec(document).get("cidr")))
    except ValueError:
        return None
