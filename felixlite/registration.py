"""Telling the cluster that this node is here: its Node record, the first pool.

Runs before the agent's loop at start, and again when the node's address changes.  Each write is a compare-and-swap
that is read again and retried, so that any number of nodes may start at once.  What somebody else set on the Node
(labels, AS number, tunnel addresses) stays.
"""

from collections.abc import Callable, Collection, Sequence
from copy import deepcopy
from dataclasses import dataclass
from ipaddress import ip_interface
from typing import Any

from felixlite.addresses import Interface, Prefix
from felixlite.datastore.store import Document, Entry, Key, Store
from felixlite.errors import AlreadyExists, Conflict, Misconfigured, NotFound

API = "projectcalico.org/v3"
ATTEMPTS = 20


@dataclass(frozen=True, slots=True)
class FirstPool:
    """`default-ipv4-ippool`, made only while there is no pool at all; afterwards it is the user's."""

    cidr: Prefix | None = None  # None: 192.168.0.0/16, or 172.16.0.0/16 where that clashes with the node's network
    ipip: str = "Always"
    vxlan: str = "Never"
    block_size: int = 26
    nat_outgoing: bool = True


def register(store: Store, here: str, ipv4: Interface | None, ipv6: Interface | None) -> bool:
    """The Node record says these addresses. Answers whether it had to be written."""
    nodes = store.list("Node").entries
    for address in (ipv4, ipv6):
        if address:
            refuse_taken(nodes, here, address)
    return update(store, Key("Node", here), lambda node: addressed(node, here, ipv4, ipv6), make_missing=True)


def refuse_taken(nodes: Sequence[Entry], here: str, address: Interface) -> None:
    for entry in nodes:
        if entry.key.name != here and address.ip in _addresses(entry.document):
            raise Misconfigured(
                f"Node {here}: address {address.ip} is already that of Node {entry.key.name}; give this node its own "
                f"(--ip, --ip-autodetection-method) or, if {entry.key.name} is gone, `felixlite delete node {entry.key.name}`"
            )


def refuse_namesake(node: Entry | None, written: Collection[Interface | None], local: Collection[str]) -> None:
    """The own Node names an address that is neither of this machine nor what we wrote: somebody else goes by this name.

    Writing over it would only make both write for ever; the one that was there first says so.
    """
    ours = {*local, *(str(address.ip) for address in written if address)}
    for address in _addresses(node.document) if node else ():
        if str(address) not in ours:
            assert node  # noqa: S101  it has addresses
            here = node.key.name
            raise Misconfigured(
                f"Node {here}: its address became {address}, which is not of this machine: another one runs under the name "
                f"{here}, too; give one of them another --node-name, then restart the agent of the other"
            )


def _addresses(node: Document) -> list[Any]:
    bgp = node.get("spec", {}).get("bgp") or {}
    found = []
    for name in ("ipv4Address", "ipv6Address"):
        try:
            found.append(ip_interface(bgp.get(name) or "").ip)
        except ValueError:
            continue  # absent, or somebody else's malformed record: not a claim on our address
    return found


def addressed(node: Document | None, here: str, ipv4: Interface | None, ipv6: Interface | None) -> Document:
    """The Node document with these addresses and all else as it was."""
    document: Document = deepcopy(node) if node else {"apiVersion": API, "kind": "Node", "metadata": {"name": here}}
    spec = document.setdefault("spec", {})
    bgp = dict(spec.get("bgp") or {})
    for name, address in (("ipv4Address", ipv4), ("ipv6Address", ipv6)):
        bgp.pop(name, None)
        if address:
            bgp[name] = str(address)
    others = [a for a in spec.get("addresses") or [] if a.get("type") != "CalicoNodeIP"]
    spec["bgp"] = bgp
    spec["addresses"] = [
        *({"address": str(address.ip), "type": "CalicoNodeIP"} for address in (ipv4, ipv6) if address),
        *others,
    ]
    return document


def publish(store: Store, here: str, accepts: frozenset[str], sends: frozenset[str]) -> bool:
    """The Node says which tunnels it accepts and sends through (ipip/switch.py)."""

    def told(node: Document | None) -> Document:
        document: Document = deepcopy(node or {})
        document["status"] = {**(document.get("status") or {}), "accepts": sorted(accepts), "sends": sorted(sends)}
        return document

    return update(store, Key("Node", here), told)


def update(
    store: Store, key: Key, change: Callable[[Document | None], Document], *, make_missing: bool = False
) -> bool:
    """Read, change, write back; again if somebody was faster. Answers whether a write was needed."""
    for _ in range(ATTEMPTS):
        entry = store.get(key)
        if entry is None and not make_missing:
            raise NotFound(f"there is no {key}")
        wanted = change(entry.document if entry else None)
        if entry and wanted == entry.document:
            return False
        try:
            if entry:
                store.update(key, wanted, entry.revision)
            else:
                store.create(key, wanted)
        except (Conflict, AlreadyExists, NotFound):
            continue
        return True
    raise Conflict(f"{key} changed {ATTEMPTS} times while it was to be written; somebody else keeps writing it")


def ensure_pool(store: Store, pool: FirstPool, own: Interface | None) -> bool:
    """Make the first pool if there is none. Answers whether it was made."""
    if store.list("IPPool").entries:
        return False
    cidr = pool.cidr or _free_of(own)
    spec = {
        "cidr": str(cidr),
        "ipipMode": pool.ipip,
        "vxlanMode": pool.vxlan,
        "blockSize": pool.block_size,
        "natOutgoing": pool.nat_outgoing,
        "nodeSelector": "all()",
        "allowedUses": ["Workload", "Tunnel"],
    }
    return _create(store, Key("IPPool", "default-ipv4-ippool"), spec)


def _free_of(own: Interface | None) -> Prefix:
    first, second = Prefix.parse("192.168.0.0/16"), Prefix.parse("172.16.0.0/16")
    clash = own is not None and own.version == 4 and first.holds(own.ip)
    return second if clash else first


def _create(store: Store, key: Key, spec: dict[str, Any]) -> bool:
    try:
        store.create(key, {"apiVersion": API, "kind": key.kind, "metadata": {"name": key.name}, "spec": spec})
    except AlreadyExists:
        return False  # another node was faster, which is as good
    return True
