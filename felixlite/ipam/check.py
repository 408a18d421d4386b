"""What is wrong between blocks, handles, affinities, endpoints, nodes and pools, and how to put it right. Pure.

Each Finding names the one invariant that is broken and where; its `fix` says what has to become so (repair.py does it,
after reading again).  No fix frees an address that an endpoint, a node's tunnel or an unknown holder may be using.
Before this comes facts.py; after it the command prints, or repairs.
"""

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from felixlite.addresses import Address, Prefix
from felixlite.datastore.names import block_cidr, block_name
from felixlite.ipam import blocks, fixes
from felixlite.ipam.blocks import Ledger
from felixlite.ipam.facts import Endpoint, Facts, Standing, by_handle, handle_of_endpoint, holder_name, standing
from felixlite.ipam.fixes import Fix
from felixlite.model.inside import AffinityState

GRACE = 900.0  # seconds that an address may be without an endpoint: its pod is being made


@dataclass(frozen=True, slots=True)
class Finding:
    code: str  # stable, for scripts
    subject: str
    sentence: str
    fix: Fix | None = None
    address: Address | None = None

    def __str__(self) -> str:
        return f"{self.code}: {self.subject}: {self.sentence}"


def check(facts: Facts, now: float, grace: float = GRACE) -> list[Finding]:
    """`now` and `grace` decide which leaked addresses are old enough to be freed by a repair."""
    return [
        *_blocks(facts),
        *_overlaps(facts),
        *_owners(facts),
        *_handles(facts),
        *_endpoints(facts),
        *_tunnels(facts),
        *_unheld(facts),
        *_holders(facts, now - grace),
    ]


def _subject(cidr: Prefix) -> str:
    return f"IPAMBlock {block_name(cidr)}"


def _blocks(facts: Facts) -> Iterator[Finding]:
    """Each block by itself."""
    for name, corrupt in facts.unreadable.items():
        cidr = _cidr_named(facts, name)
        fix = fixes.RebuildBlock(name, cidr) if cidr else None
        yield Finding("block-unreadable", f"IPAMBlock {name}", corrupt.problems[0].remedy, fix)
    for name, cidr in facts.misnamed.items():
        remedy = f"says that it is {cidr}, whose block is named {block_name(cidr)}"
        fix = fixes.RebuildBlock(name, real) if (real := _cidr_named(facts, name)) else None
        yield Finding("block-misnamed", f"IPAMBlock {name}", remedy, fix)
    for cidr, problems in facts.faulty.items():
        for problem in problems:
            sentence = f"{problem.field}: {problem.value!r}: {problem.remedy}"
            yield Finding("block-corrupt", _subject(cidr), sentence, fixes.MendBlock(cidr))
    for cidr in facts.ledgers:
        if not any(pool.cidr.covers(cidr) for pool in facts.pools):
            yield Finding("block-outside-pools", _subject(cidr), f"no IPPool covers {cidr}: its pods are unreachable")


def _cidr_named(facts: Facts, name: str) -> Prefix | None:
    """Which block an object is: by its name, or by who refers to it. Its own word is not worth anything."""
    try:
        return block_cidr(name)
    except ValueError:
        return next((cidr for _, cidr in facts.affinities if block_name(cidr) == name), None)


def _overlaps(facts: Facts) -> Iterator[Finding]:
    ordered = sorted(facts.ledgers)
    widest: list[Prefix] = []
    for cidr in ordered:
        widest = [before for before in widest if before.covers(cidr)]
        for before in widest:
            sentence = f"shares addresses with {_subject(before)}: move the pods of one of them, then release it"
            fix = next((fixes.DropBlock(c) for c in (cidr, before) if _is_unused(facts, c)), None)
            yield Finding("blocks-overlap", _subject(cidr), sentence, fix)
        widest.append(cidr)


def _is_unused(facts: Facts, cidr: Prefix) -> bool:
    ledger = facts.ledgers[cidr]
    return cidr not in facts.faulty and blocks.is_empty(ledger)


def _owners(facts: Facts) -> Iterator[Finding]:
    """Blocks and affinities belong together."""
    names = {block_name(cidr) for cidr in facts.ledgers} | facts.unreadable.keys() | facts.misnamed.keys()
    for (owner, cidr), state in facts.affinities.items():
        ledger, subject = facts.ledgers.get(cidr), f"BlockAffinity {owner.partition(':')[2]} {cidr}"
        if ledger is None and block_name(cidr) not in names:
            sentence = f"{state}, but there is no such block"
            yield Finding("affinity-without-block", subject, sentence, fixes.DropAffinity(owner, cidr))
        elif ledger is not None and ledger.owner != owner:
            sentence = f"the block belongs to {ledger.owner or 'nobody'}"
            yield Finding("affinity-of-another", subject, sentence, fixes.DropAffinity(owner, cidr))
        elif ledger is not None and state is not AffinityState.CONFIRMED:
            sentence = f"{state}: the block is not announced until a claim or a release comes to its end"
            yield Finding("affinity-unconfirmed", subject, sentence, fixes.ConfirmAffinity(owner, cidr))
    for cidr, ledger in facts.ledgers.items():
        if ledger.owner and (ledger.owner, cidr) not in facts.affinities:
            sentence = f"belongs to {ledger.owner}, which has no BlockAffinity for it: it is not announced"
            yield Finding("block-without-affinity", _subject(cidr), sentence, fixes.ConfirmAffinity(ledger.owner, cidr))
        elif ledger.owner is None and _is_unused(facts, cidr):
            yield Finding("block-ownerless", _subject(cidr), "nobody owns or uses it", fixes.DropBlock(cidr))
        elif ledger.node and ledger.node not in facts.nodes:
            sentence = f"its node {ledger.node} does not exist"
            yield Finding("block-of-deleted-node", _subject(cidr), sentence, fixes.FreeBlock(ledger.node, cidr))


def _handles(facts: Facts) -> Iterator[Finding]:
    """Handles are an index of the blocks: they must say what the blocks say."""
    truth: dict[str, dict[Prefix, int]] = {}
    for cidr, ledger in facts.ledgers.items():
        for handle, count in blocks.handles(ledger).items() if cidr not in facts.faulty else ():
            truth.setdefault(handle, {})[cidr] = count
    for handle, counts in facts.handles.items():
        really = truth.get(handle, {})
        for cidr in sorted({*counts, *really} - facts.faulty.keys()):
            says, is_so = counts.get(cidr, 0), really.get(cidr, 0)
            if says != is_so:
                code = "handle-counts-too-much" if says > is_so else "handle-counts-too-little"
                sentence = f"says {says} in {cidr}, which has {is_so} of it"
                yield Finding(
                    code, f"IPAMHandle {handle}", sentence, fixes.RewriteHandle(handle, _cidrs(counts, really))
                )
    for handle, really in truth.items():
        if handle not in facts.handles and handle != blocks.WINDOWS_RESERVED:
            sentence = f"is missing, but holds {sum(really.values())} addresses in {', '.join(map(str, really))}"
            yield Finding(
                "handle-missing", f"IPAMHandle {handle}", sentence, fixes.RewriteHandle(handle, _cidrs(really))
            )


def _cidrs(*counts: Iterable[Prefix]) -> tuple[Prefix, ...]:
    return tuple(sorted({cidr for found in counts for cidr in found}))


def _ledger_of(facts: Facts, address: Address) -> Ledger | None:
    for length in blocks.BLOCK_SIZES[address.version]:
        if ledger := facts.ledgers.get(Prefix.containing(address, length)):
            return ledger
    return None


def _endpoints(facts: Facts) -> Iterator[Finding]:
    """Every address of an endpoint is its own in IPAM."""
    for address, endpoints in facts.endpoints.items():
        if len(endpoints) > 1:
            others = ", ".join(f"{e.namespace}/{e.name}" for e in endpoints[1:])
            yield Finding(
                "address-used-twice",
                str(endpoints[0]),
                f"{address} is also that of {others}: restart one",
                None,
                address,
            )
            continue
        yield from _endpoint(facts, address, endpoints[0])


def _endpoint(facts: Facts, address: Address, endpoint: Endpoint) -> Iterator[Finding]:
    pool = next((p for p in facts.pools if p.cidr.holds(address)), None)
    ledger = _ledger_of(facts, address)
    if ledger is None and pool is None:
        yield Finding("address-outside-pools", str(endpoint), f"{address} is in no pool: not of IPAM", None, address)
        return
    if ledger is not None and ledger.cidr in facts.faulty:
        return  # the block is mended first, then checked again
    attribute = ledger.attribute(ledger.cidr.ordinal(address)) if ledger else None
    occupy = fixes.Occupy(address, endpoint, handle_of_endpoint(facts, endpoint), pool.block_size if pool else None)
    if attribute is None or blocks.is_cooling(attribute):
        sentence = f"uses {address}, which IPAM takes for free and may hand out again"
        yield Finding("address-not-allocated", str(endpoint), sentence, occupy, address)
    elif not _same_holder(attribute, endpoint):
        sentence = f"uses {address}, which IPAM gave to {holder_name(attribute)}"
        yield Finding("address-of-another", str(endpoint), sentence, occupy, address)


def _same_holder(attribute: blocks.Attribute, endpoint: Endpoint) -> bool:
    about, handle = blocks.secondary(attribute), blocks.handle_of(attribute) or ""
    if handle and endpoint.container and handle.endswith("." + endpoint.container):
        return True
    if not about.get("pod"):
        return handle != "" and not about.get("type", "").endswith("TunnelAddress")
    return (about.get("namespace", endpoint.namespace), about["pod"]) == (endpoint.namespace, endpoint.pod)


def _tunnels(facts: Facts) -> Iterator[Finding]:
    for address, use in facts.tunnels.items():
        ledger = _ledger_of(facts, address)
        if ledger is None or ledger.cidr in facts.faulty:
            continue  # host-local addresses are not of IPAM; a faulty block is repaired first
        attribute = ledger.attribute(ledger.cidr.ordinal(address))
        if attribute is None or blocks.handle_of(attribute) != use.handle:
            who = holder_name(attribute) if attribute else "nobody"
            sentence = f"{use.tunnel.name} address {address} is allocated to {who}; the node's agent assigns another"
            fix = fixes.Occupy(address, use, use.handle) if attribute is None else None
            yield Finding("tunnel-address-not-allocated", f"Node {use.node}", sentence, fix, address)


def _unheld(facts: Facts) -> Iterator[Finding]:
    """Allocated, and nothing says to whom. Who made it may know why, so nobody but a person frees it."""
    for cidr, ledger in facts.ledgers.items():
        for ordinal, attribute in blocks.in_use(ledger) if cidr not in facts.faulty else ():
            address = cidr.address(ordinal)
            if standing(facts, address, attribute) is Standing.UNHELD:
                sentence = f"{address} is allocated and nothing says to whom; `felixlite ipam release --ip {address}`"
                yield Finding("address-unheld", _subject(cidr), sentence, None, address)


def _holders(facts: Facts, before: float) -> Iterator[Finding]:
    """Allocated addresses that nobody seems to use. A handle's addresses are leaked all together or not at all."""
    for handle, held in by_handle(facts).items():
        standings = Counter(standing for _, _, standing in held)
        if standings[Standing.SUSPECT] + standings[Standing.NODE_GONE] < len(held):
            continue
        for ledger, ordinal, found in held:
            address, attribute = ledger.cidr.address(ordinal), ledger.attribute(ordinal)
            since = blocks.secondary(attribute or {}).get("timestamp")
            sentence = f"{address} is held by {holder_name(attribute or {})} since {since or 'ever'}: {found.value}"
            old = found is Standing.NODE_GONE or (blocks.seconds(since) or math.inf) <= before
            fix = fixes.FreeAddress(address, handle, ledger.sequences.get(ordinal)) if old else None
            yield Finding("address-leaked", _subject(ledger.cidr), sentence, fix, address)
