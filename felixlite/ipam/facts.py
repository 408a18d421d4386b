"""All that the check and the collection judge by, as one value: blocks, affinities, handles, nodes, endpoints. Pure.

`gather` turns the documents into it and drops nothing silently: a block that cannot be read is kept by its name.
`standing` is the one answer to "does whoever holds this address still live?"; when in doubt the answer keeps the address.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from ipaddress import ip_address
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.datastore.store import Entry
from felixlite.errors import Problem
from felixlite.ipam import blocks, documents
from felixlite.ipam.blocks import WINDOWS_RESERVED, Attribute, Corrupt, Ledger
from felixlite.ipam.tunneladdresses import TUNNELS, Tunnel, current
from felixlite.model.inside import AffinityState, Pool


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A WorkloadEndpoint, as far as addresses go."""

    namespace: str
    name: str
    node: str
    pod: str
    container: str
    addresses: tuple[Address, ...]

    @property
    def attributes(self) -> dict[str, str]:
        """What a block says of the holder of its addresses."""
        return {"namespace": self.namespace, "pod": self.pod, "node": self.node}

    def __str__(self) -> str:
        return f"WorkloadEndpoint {self.namespace}/{self.name}"


@dataclass(frozen=True, slots=True)
class TunnelUse:
    """A Node says that it uses an address for a tunnel."""

    node: str
    tunnel: Tunnel

    @property
    def handle(self) -> str:
        return self.tunnel.handle + self.node

    @property
    def attributes(self) -> dict[str, str]:
        return {"node": self.node, "type": self.tunnel.type}

    def __str__(self) -> str:
        return f"the {self.tunnel.name} tunnel of node {self.node}"


@dataclass(frozen=True, slots=True)
class Facts:
    ledgers: Mapping[Prefix, Ledger] = field(default_factory=dict)  # those with faults, too
    faulty: Mapping[Prefix, Sequence[Problem]] = field(default_factory=dict)
    unreadable: Mapping[str, Corrupt] = field(default_factory=dict)  # block name -> why
    misnamed: Mapping[str, Prefix] = field(default_factory=dict)  # object name -> the cidr that it says
    affinities: Mapping[tuple[str, Prefix], AffinityState] = field(default_factory=dict)  # (owner, cidr)
    handles: Mapping[str, Mapping[Prefix, int]] = field(default_factory=dict)
    nodes: frozenset[str] = frozenset()
    endpoints: Mapping[Address, Sequence[Endpoint]] = field(default_factory=dict)
    tunnels: Mapping[Address, TunnelUse] = field(default_factory=dict)
    pools: Sequence[Pool] = ()
    reservations: Sequence[Prefix] = ()


class Standing(Enum):
    LIVE = "in use"
    SUSPECT = "its pod has no endpoint with this address"
    NODE_GONE = "its node and its pod are gone"
    UNKNOWN = "held by something that is not a pod"
    UNHELD = "allocated to no handle"


def gather(
    block_entries: Iterable[Entry],
    affinity_entries: Iterable[Entry],
    handle_entries: Iterable[Entry],
    node_entries: Iterable[Entry],
    endpoint_entries: Iterable[Entry],
    pools: Sequence[Pool] = (),
    reservations: Sequence[Prefix] = (),
) -> Facts:
    ledgers, unreadable, misnamed = _ledgers(block_entries)
    nodes = list(node_entries)
    affinities = [a for entry in affinity_entries if (a := documents.affinity_of(entry.document))]
    return Facts(
        ledgers=ledgers,
        faulty={cidr: found for cidr, ledger in ledgers.items() if (found := tuple(blocks.faults(ledger)))},
        unreadable=unreadable,
        misnamed=misnamed,
        affinities={(documents.owner_of(a), a.cidr): a.state for a in affinities},
        handles={_handle_id(entry): documents.counts_of(entry.document) for entry in handle_entries},
        nodes=frozenset(entry.key.name for entry in nodes),
        endpoints=_by_address(map(endpoint_of, endpoint_entries)),
        tunnels=_tunnels(nodes),
        pools=pools,
        reservations=reservations,
    )


def _ledgers(entries: Iterable[Entry]) -> tuple[dict[Prefix, Ledger], dict[str, Corrupt], dict[str, Prefix]]:
    ledgers: dict[Prefix, Ledger] = {}
    unreadable: dict[str, Corrupt] = {}
    misnamed: dict[str, Prefix] = {}
    for entry in entries:
        try:
            ledger = blocks.parse_leniently(entry.document)
        except Corrupt as corrupt:
            unreadable[entry.key.name] = corrupt
            continue
        if documents.block_key(ledger.cidr) != entry.key:
            misnamed[entry.key.name] = ledger.cidr
        else:
            ledgers[ledger.cidr] = ledger
    return ledgers, unreadable, misnamed


def _handle_id(entry: Entry) -> str:
    found = (entry.document.get("spec") or {}).get("handleID")
    return found if isinstance(found, str) and found.lower() == entry.key.name.lower() else entry.key.name


def endpoint_of(entry: Entry) -> Endpoint:
    spec: Mapping[str, Any] = entry.document.get("spec") or {}
    addresses = []
    for text in spec.get("ipNetworks") or ():
        try:
            addresses.append(ip_address(str(text).partition("/")[0]))
        except ValueError:
            continue  # refused at the border; it holds no address
    return Endpoint(
        entry.key.namespace,
        entry.key.name,
        str(spec.get("node") or ""),
        str(spec.get("pod") or ""),
        str(spec.get("containerID") or ""),
        tuple(addresses),
    )


def _by_address(endpoints: Iterable[Endpoint]) -> dict[Address, list[Endpoint]]:
    found: dict[Address, list[Endpoint]] = {}
    for endpoint in endpoints:
        for address in endpoint.addresses:
            found.setdefault(address, []).append(endpoint)
    return found


def _tunnels(nodes: Iterable[Entry]) -> dict[Address, TunnelUse]:
    return {
        address: TunnelUse(entry.key.name, tunnel)
        for entry in nodes
        for tunnel in TUNNELS
        if (address := current(tunnel, entry.document))
    }


def standing(facts: Facts, address: Address, attribute: Attribute) -> Standing:
    """Whether the holder of an address lives."""
    handle, about = blocks.handle_of(attribute), blocks.secondary(attribute)
    if handle == WINDOWS_RESERVED or facts.endpoints.get(address):
        return Standing.LIVE  # an endpoint that has the address lives, whatever the block says about it
    node = about.get("node", "")
    if address in facts.tunnels:
        return Standing.LIVE
    if about.get("type", "").endswith("TunnelAddress"):
        return Standing.LIVE if node in facts.nodes else Standing.NODE_GONE
    if not about.get("pod"):
        return Standing.UNHELD if handle is None and not about else Standing.UNKNOWN
    return Standing.SUSPECT if node in facts.nodes else Standing.NODE_GONE


def holder_name(attribute: Attribute) -> str:
    about = blocks.secondary(attribute)
    if about.get("pod"):
        return f"pod {about.get('namespace', '')}/{about['pod']}"
    return blocks.handle_of(attribute) or "nobody"


def handle_of_endpoint(facts: Facts, endpoint: Endpoint) -> str:
    """The handle under which an endpoint holds its addresses, or would."""
    if endpoint.container:
        for handle in facts.handles:
            if handle.endswith("." + endpoint.container):
                return handle
    return f"k8s-pod-network.{endpoint.container or endpoint.name}"


def by_handle(facts: Facts) -> "dict[str, list[tuple[Ledger, int, Standing]]]":
    """Every allocation in a sound block, with what is to be thought of its holder."""
    found: dict[str, list[tuple[Ledger, int, Standing]]] = {}
    for cidr, ledger in facts.ledgers.items():
        if cidr in facts.faulty:
            continue
        for ordinal, attribute in blocks.in_use(ledger):
            handle = blocks.handle_of(attribute)
            if handle:
                verdict = standing(facts, cidr.address(ordinal), attribute)
                found.setdefault(handle, []).append((ledger, ordinal, verdict))
    return found
