"""`felixlite ipam release | split | configure | plan-pool`: what changes addresses, their rules and their pools."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import click

from felixlite.addresses import Address, Prefix
from felixlite.admission import change
from felixlite.cli import files
from felixlite.cli.session import Session, store_option
from felixlite.datastore.store import Document, Entry, Key, Store, Write
from felixlite.errors import AlreadyExists, FelixliteError, NotFound
from felixlite.ipam import planning
from felixlite.ipam.assign import DEFAULT_MAX_BLOCKS
from felixlite.ipam.facts import Facts
from felixlite.ipam.reading import read_pools
from felixlite.ipam.releasing import Release
from felixlite.ipam.repair import read_facts
from felixlite.ipam.store import Ipam

output_option = click.option("-o", "--output", type=click.Choice(["table", "json"]), default="table", show_default=True)
MOST_PARTS = 64  # written in one transaction; a part can be split again
CONFIGURATION = Key("IPAMConfiguration", "default")


@click.command()
@click.option("--ip", "addresses", multiple=True, metavar="ADDRESS", help="An address to free; may be repeated.")
@click.option(
    "--from-report",
    "reports",
    multiple=True,
    type=click.Path(exists=True, dir_okay=False),
    help="The leaked addresses of `ipam check -o json`; with two reports those that are in both.",
)
@click.option("--force", is_flag=True, help="Also an address that an endpoint or a tunnel uses.")
@output_option
@store_option
@click.pass_obj
def release(session: Session, addresses: Sequence[str], reports: Sequence[str], force: bool, output: str) -> None:
    """Free addresses that nothing uses any more.

    \b
    felixlite ipam release --ip 10.42.0.7
    felixlite ipam release --from-report monday.json --from-report tuesday.json
    """
    if bool(addresses) == bool(reports):
        raise click.UsageError("say which: --ip ADDRESS or --from-report FILE")
    wanted = [_release(text) for text in addresses] if addresses else _of_reports(reports)
    if not force:
        _refuse_used(read_facts(session.store), [one.address for one in wanted])
    done = Ipam(session.store, "-").release_addresses(wanted)
    found = {"released": done.freed, "free already": done.already_free, "kept": done.not_ours}
    if output == "json":
        click.echo(files.as_json({word: [str(address) for address in some] for word, some in found.items()}))
        return
    for word, some in found.items():
        for address in some:
            click.echo(f"{address} {word}" + (": it is another allocation by now" if word == "kept" else ""))


def _release(text: str) -> Release:
    try:
        return Release(ip_address(text))
    except ValueError:
        raise click.UsageError(f"{text!r} is not an IP address") from None


def _of_reports(names: Sequence[str]) -> list[Release]:
    found = [set(_leaks(name)) for name in names]
    return sorted(set.intersection(*found), key=lambda one: (one.address.version, int(one.address)))


def _leaks(name: str) -> Iterator[Release]:
    try:
        findings = json.loads(Path(name).read_text())["findings"]
        for finding in findings:
            if finding["code"] == "address-leaked" and "handle" in finding:
                yield Release(ip_address(finding["address"]), finding["handle"], finding["sequence"])
    except (ValueError, KeyError, TypeError) as error:
        raise FelixliteError(f"{name}: is no report of `felixlite ipam check -o json` ({error!r})") from None


def _refuse_used(facts: Facts, addresses: Sequence[Address]) -> None:
    for address in addresses:
        users = [str(endpoint) for endpoint in facts.endpoints.get(address, ())]
        users += [f"the {use.tunnel.name} tunnel of node {use.node}"] if (use := facts.tunnels.get(address)) else []
        if users:
            raise FelixliteError(f"{address} is used by {', '.join(users)}; stop that first, or say --force")


@click.command()
@click.argument("pool")
@click.argument("parts", type=int)
@click.option("--dry-run", is_flag=True, help="Only say what the new pools would be.")
@output_option
@store_option
@click.pass_obj
def split(session: Session, pool: str, parts: int, dry_run: bool, output: str) -> None:
    """Replace a pool by PARTS smaller ones (a power of two) with the same settings. No address changes.

    \b
    felixlite ipam split default-ipv4-ippool 4

    The blocks of the old pool are the blocks of the new ones; routing and policy go on without a gap.
    """
    entry = session.store.get(Key("IPPool", pool))
    known = next((found for found in read_pools(session.store) if found.name == pool), None)
    if entry is None or known is None:
        raise NotFound(f"there is no IPPool {pool}" + ("" if entry is None else " that is valid"))
    made = [_part(entry, cidr, number) for number, cidr in enumerate(_parts(known.cidr, known.block_size, parts))]
    if not dry_run:
        _replace(session.store, entry, made)
    if output == "json":
        new = [{"name": key.name, "cidr": document["spec"]["cidr"]} for key, document in made]
        click.echo(files.as_json({"made": new, "deleted": pool, "dryRun": dry_run}))
        return
    for key, document in made:
        click.echo(f"ippool/{key.name} {document['spec']['cidr']} {'would be made' if dry_run else 'made'}")
    click.echo(f"ippool/{pool} {'would be deleted' if dry_run else 'deleted'}")


def _parts(cidr: Prefix, block_size: int, parts: int) -> list[Prefix]:
    if not 2 <= parts <= MOST_PARTS or parts & (parts - 1):
        raise click.UsageError(f"{parts}: must be a power of two from 2 to {MOST_PARTS}")
    length = cidr.length + parts.bit_length() - 1
    if length > block_size:
        most = 1 << (block_size - cidr.length)
        raise FelixliteError(f"{cidr} has {most} blocks of /{block_size}: it can be split into {most} pools at most")
    step = 1 << (cidr.width - length)
    return [Prefix.from_int(int(cidr) + number * step, length, cidr.family) for number in range(parts)]


def _part(entry: Entry, cidr: Prefix, number: int) -> tuple[Key, Document]:
    key = Key("IPPool", f"split-{entry.key.name}-{number}")
    said = entry.document.get("metadata") or {}
    kept = {name: said[name] for name in ("labels", "annotations") if said.get(name)}
    frame = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": key.name, **kept}}
    return key, {**frame, "spec": {**entry.document["spec"], "cidr": str(cidr)}}


def _replace(store: Store, entry: Entry, made: Sequence[tuple[Key, Document]]) -> None:
    """No lock is needed: of pools that overlap only the first by name hands out (ipam/assign.py), and that is the old one
    as long as it is there.  Where the store cannot write all at once, the same command again goes on where it stopped."""
    last = Write(entry.key, None, entry.revision)
    if store.atomic:
        store.commit([*(Write(key, document, None) for key, document in made), last])
        return
    for key, document in made:
        try:
            store.create(key, document)
        except AlreadyExists:
            _must_be_the_same(store, key, document)
    store.commit([last])


def _must_be_the_same(store: Store, key: Key, document: Document) -> None:
    there = store.get(key)
    if there and there.document.get("spec") != document["spec"]:
        raise FelixliteError(f"{key} exists with other settings; delete it, or make it as the pool to split is")


@click.command()
@click.option("--strict-affinity", "--strictaffinity", "strictAffinity", type=bool, help="Never borrow.")
@click.option("--max-blocks-per-host", "maxBlocksPerHost", type=int, help="0: 20.")
@click.option("--auto-allocate", "autoAllocateBlocks", type=bool, help="Nodes claim blocks by themselves.")
@click.option("--ip-cooldown-seconds", "ipCooldownSeconds", type=int, help="How long a freed address rests.")
@output_option
@store_option
@click.pass_obj
def configure(session: Session, /, output: str, **given: Any) -> None:
    """Show or change how addresses are assigned.

    \b
    felixlite ipam configure
    felixlite ipam configure --strict-affinity=true --max-blocks-per-host 4
    """
    wanted = {name: value for name, value in given.items() if value is not None}
    if wanted:
        _configure(session, wanted)
    entry = session.store.get(CONFIGURATION)
    spec = {"strictAffinity": False, "autoAllocateBlocks": True, "maxBlocksPerHost": 0, "ipCooldownSeconds": 0}
    spec |= {
        name: value for name, value in ((entry.document.get("spec") or {}) if entry else {}).items() if name in spec
    }
    if output == "json":
        click.echo(files.as_json(spec))
        return
    for name, value in spec.items():
        shown = str(value).lower() if isinstance(value, bool) else value
        note = f" (that is {DEFAULT_MAX_BLOCKS})" if name == "maxBlocksPerHost" and not value else ""
        click.echo(f"{name + ':':20} {shown}{note}")


def _configure(session: Session, wanted: dict[str, Any]) -> None:
    if session.store.get(CONFIGURATION) is None:
        from felixlite.admission import Batch, Verb, judged

        document = {"apiVersion": "projectcalico.org/v3", "kind": CONFIGURATION.kind, "metadata": {"name": "default"}}
        batch = Batch(session.store, judged([{**document, "spec": wanted}]), Verb.APPLY)
        batch.check()
        list(batch.write())
        return

    def changed(document: Document) -> Document:
        return {**document, "spec": {**(document.get("spec") or {}), **wanted}}

    change(session.store, CONFIGURATION, changed)


@click.command(name="plan-pool")
@click.argument("cidr")
@click.option("--nodes", type=click.IntRange(1), required=True, help="How many nodes.")
@click.option("--pods", type=click.IntRange(1), required=True, help="How many pods on each node at most.")
@click.option("--block-size", type=int, help="Prefix length of a block; else 26, or 122 for IPv6.")
@click.option("--max-blocks-per-host", type=click.IntRange(1), default=DEFAULT_MAX_BLOCKS, show_default=True)
@output_option
def plan_pool(cidr: str, nodes: int, pods: int, block_size: int | None, max_blocks_per_host: int, output: str) -> int:
    """Whether a pool and a block size will do. Exit code 1: they will not.

    \b
    felixlite ipam plan-pool 10.42.0.0/16 --nodes 100 --pods 110
    """
    try:
        verdict = planning.plan(Prefix.parse(cidr), nodes, pods, block_size, max_blocks_per_host)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if output == "json":
        better = _estimate_document(verdict.better) if verdict.better else None
        smallest = str(verdict.smallest) if verdict.smallest else None
        asked = _estimate_document(verdict.asked)
        click.echo(files.as_json({"fits": verdict.asked.fits, "asked": asked, "better": better, "smallest": smallest}))
    else:
        found = verdict.asked
        click.echo(verdict.sentence)
        click.echo(f"blocks of {found.addresses_per_block}: {found.blocks_per_node} a node, "
                   f"room for {found.most_nodes} nodes, {found.wasted} addresses stay unused in claimed blocks")  # fmt: skip
    return 0 if verdict.asked.fits else 1


def _estimate_document(estimate: planning.Estimate) -> dict[str, Any]:
    return {_camel(name): exact(value) if type(value) is int else value for name, value in asdict(estimate).items()}


def _camel(name: str) -> str:
    first, *rest = name.split("_")
    return first + "".join(map(str.title, rest))


def exact(number: int) -> int | str:
    """JSON's numbers end at 2^53 for most who read it; an IPv6 pool has more addresses."""
    return number if number < 2**53 else str(number)
