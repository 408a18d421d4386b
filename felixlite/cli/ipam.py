"""`felixlite ipam show | check`: who has which address, how full everything is, what does not add up."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from ipaddress import ip_address
from itertools import groupby
from typing import Any

import click

from felixlite.addresses import Address
from felixlite.cli import files
from felixlite.cli.ipam_change import configure, exact, output_option, plan_pool, release, split
from felixlite.cli.session import Session, store_option
from felixlite.cli.table import printed
from felixlite.errors import FelixliteError
from felixlite.ipam import usage
from felixlite.ipam.check import Finding, check
from felixlite.ipam.facts import Facts
from felixlite.ipam.fixes import FreeAddress
from felixlite.ipam.repair import Repair, read_facts
from felixlite.ipam.usage import MARKS, BlockUsage, PoolUsage, Row, Usage

BAR = 64  # characters at most
COLOURS = {"#": "green", "b": "yellow", "!": "red", "~": "cyan", "r": "blue", ".": "bright_black"}
PAUSE = 1.0  # seconds between the two looks of a repair: what is just being written is not broken


@click.group()
def ipam() -> None:
    """Addresses: who has them, what does not add up, how they are assigned.

    \b
    felixlite ipam show --blocks
    felixlite ipam check --fix
    """


ipam.add_command(release)
ipam.add_command(split)
ipam.add_command(configure)
ipam.add_command(plan_pool)


@ipam.command()
@click.option("--blocks", "--show-blocks", "blocks", is_flag=True, help="Each block, with a bar on a terminal.")
@click.option("--borrowed", "--show-borrowed", "borrowed", is_flag=True, help="Addresses in other nodes' blocks.")
@click.option("--addresses", is_flag=True, help="Every address in use.")
@click.option("--ip", "wanted", metavar="ADDRESS", help="Whose this address is.")
@click.option("--pool", metavar="NAME", help="Only this pool.")
@click.option("--node", metavar="NAME", help="Only blocks of this node, and addresses that it uses.")
@output_option
@store_option
@click.pass_obj
def show(
    session: Session,
    blocks: bool,
    borrowed: bool,
    addresses: bool,
    wanted: str | None,
    pool: str | None,
    node: str | None,
    output: str,
) -> None:
    """How many addresses are used and free; whose an address is.

    \b
    felixlite ipam show
    felixlite ipam show --blocks --node n1
    felixlite ipam show --ip 10.42.0.7
    """
    facts = read_facts(session.store)
    if pool and pool not in {known.name for known in facts.pools}:
        raise FelixliteError(f"there is no IPPool {pool}; `felixlite get ippools` lists them")
    if node and node not in {*facts.nodes, *(ledger.node for ledger in facts.ledgers.values())}:
        raise FelixliteError(f"there is no Node {node}, and no block of it; `felixlite get nodes` lists them")
    if wanted:
        _show_address(facts, address_of(wanted), output)
    elif borrowed or addresses:
        found = [row for row in usage.rows(facts, only_borrowed=borrowed) if _is_wanted(facts, row, pool, node)]
        _show_rows(found, output)
    else:
        _show_usage(session, facts, blocks=blocks, pool=pool, node=node, output=output)


def address_of(text: str) -> Address:
    try:
        return ip_address(text)
    except ValueError:
        raise click.UsageError(f"{text!r} is not an IP address") from None


def _is_wanted(facts: Facts, row: Row, pool: str | None, node: str | None) -> bool:
    in_pool = not pool or any(p.name == pool and p.cidr.holds(row.address) for p in facts.pools)
    return in_pool and (not node or node == row.node)


def _show_address(facts: Facts, address: Address, output: str) -> None:
    row = usage.about(facts, address)
    endpoints = [str(endpoint) for endpoint in facts.endpoints.get(address, ())]
    if output == "json":
        found = _row_document(row) if row else {"address": str(address), "state": "in no block"}
        click.echo(files.as_json({**found, "endpoints": endpoints}))
        return
    if row is None:
        inside = [pool.name for pool in facts.pools if pool.cidr.holds(address)]
        click.echo(f"{address} is free: no node has claimed its block yet (pool {inside[0]})" if inside
                   else f"{address} is in no pool")  # fmt: skip
    else:
        for name, value in _row_document(row).items():
            click.echo(f"{name + ':':10} {value or '-'}")
    for endpoint in endpoints:
        click.echo(f"used by:   {endpoint}")


def _row_document(row: Row) -> dict[str, str]:
    return {name: str(value) for name, value in row._asdict().items()}


def _show_rows(found: Sequence[Row], output: str) -> None:
    if output == "json":
        click.echo(files.as_json([_row_document(row) for row in found]))
        return
    if not found:
        click.echo("none")
        return
    titles = ["ADDRESS", "BLOCK", "BLOCK OWNER", "NODE", "HOLDER", "STATE", "SINCE"]
    lines = [
        [str(r.address), str(r.block), r.owner or "-", r.node or "-", r.holder, r.state, r.since or "-"] for r in found
    ]
    click.echo(printed(titles, lines))


def _show_usage(
    session: Session, facts: Facts, *, blocks: bool, pool: str | None, node: str | None, output: str
) -> None:
    every = usage.block_usages(facts)
    pools = [p for p in usage.pool_usages(facts, every) if not pool or p.pool.name == pool]
    found = [b for b in every if (not pool or b.pool == pool) and (not node or b.owner == node)]
    if output == "json":
        document: dict[str, Any] = {"pools": [_pool_document(p) for p in pools]}
        if blocks or node:
            document["blocks"] = [_block_document(block) for block in found]
        click.echo(files.as_json(document))
        return
    titles = ["GROUPING", "CIDR", "NAME", "TOTAL", "USED", "FREE", "BORROWED", "LEAKED", "RESERVED"]
    wide = session.is_terminal and blocks
    lines = []
    for one in pools:
        lines.append(["IP Pool", str(one.pool.cidr), one.pool.name, *_figures(one.usage)])
        lines += [_block_line(block) for block in found if block.pool == one.pool.name and (blocks or node)]
    lines += [_block_line(block) for block in found if not block.pool and (blocks or node)]
    click.echo(printed(titles, lines, styled=session.is_terminal))
    if wide:
        _show_bars(found)
    for cidr in facts.faulty:
        session.warn(f"block {cidr} does not add up and is left out; see `felixlite ipam check`")


def _block_line(block: BlockUsage) -> list[str]:
    return ["Block", str(block.cidr), block.owner or "(nobody)", *_figures(block.usage)]


def _figures(found: Usage) -> list[str]:
    return [
        _size(found.total),
        f"{found.used} ({_share(found.used, found.total)}%)",
        _size(found.free),
        *(str(number) if number else "-" for number in (found.borrowed, found.leaked, found.reserved)),
    ]


def _share(used: int, total: int) -> str:
    """In hundredths; something is never 0, and all but something is never 100."""
    found = 100 * used / total if total else 0.0
    if 0 < found < 1 or 99 < found < 100:
        return "<1" if found < 1 else ">99"
    return f"{found:.0f}"


def _size(number: int) -> str:
    return str(number) if number < 10**9 else f"{number:.4g}"


def _show_bars(found: Sequence[BlockUsage]) -> None:
    click.echo()
    width = max((len(str(block.cidr)) for block in found), default=0)
    for block in found:
        runs = groupby(shortened(block.marks, BAR))
        bar = "".join(click.style("".join(run), fg=COLOURS[mark]) for mark, run in runs)
        click.echo(f"{block.cidr!s:{width}}  {bar}  {block.owner or '(nobody)'}")
    click.echo("  ".join(f"{click.style(mark, fg=COLOURS[mark])} {meaning}" for mark, meaning in MARKS.items()))


def shortened(marks: str, width: int) -> str:
    """At most `width` characters, each the worst of the addresses that it stands for."""
    if len(marks) <= width:
        return marks
    each = -(-len(marks) // width)
    order = "!b#~r."
    return "".join(min(marks[at : at + each], key=order.index) for at in range(0, len(marks), each))


def _numbers(found: Usage) -> dict[str, int]:
    return {**asdict(found), "free": found.free}


def _pool_document(found: PoolUsage) -> dict[str, Any]:
    numbers = {name: exact(value) for name, value in _numbers(found.usage).items()}
    return {
        "pool": found.pool.name,
        "cidr": str(found.pool.cidr),
        "blocks": found.blocks,
        "mostBlocks": exact(found.most_blocks),
        **numbers,
    }


def _block_document(block: BlockUsage) -> dict[str, Any]:
    return {"cidr": str(block.cidr), "pool": block.pool, "node": block.owner, **_numbers(block.usage)}


@ipam.command(name="check")
@click.option("--fix", is_flag=True, help="Repair what can be repaired without touching an address in use.")
@click.option(
    "--grace", metavar="SECONDS", default=900.0, show_default=True, help="How old a leaked address has to be."
)
@output_option
@store_option
@click.pass_obj
def check_command(session: Session, fix: bool, grace: float, output: str) -> int:
    """Verify all that must hold between blocks, handles, affinities, endpoints and nodes. Exit code 1: it does not.

    \b
    felixlite ipam check
    felixlite ipam check --fix
    felixlite ipam check -o json >report.json; felixlite ipam release --from-report report.json
    """
    findings = _lasting(session, grace)
    done = list(_repaired(session, findings, grace)) if fix else []
    left = check(read_facts(session.store), time.time(), grace) if done else findings
    if output == "json":
        document = {"findings": [_finding_document(f) for f in left], "repaired": [_finding_document(f) for f in done]}
        click.echo(files.as_json(document))
    else:
        for finding in done:
            click.echo(f"repaired: {finding}: {finding.fix}")
        for finding in left:
            click.echo(f"{finding}" + ("; --fix: " + str(finding.fix) if finding.fix else ""))
        count = len(left)
        click.echo("nothing is wrong" if not count else f"{count} {'thing is' if count == 1 else 'things are'} wrong")
    return 1 if left else 0


def _lasting(session: Session, grace: float) -> list[Finding]:
    """What is wrong in two looks; what is wrong in one only is being written just now."""
    first = check(read_facts(session.store), time.time(), grace)
    if not first:
        return []
    time.sleep(PAUSE)
    again = {(f.code, f.subject, f.sentence) for f in check(read_facts(session.store), time.time(), grace)}
    return [finding for finding in first if (finding.code, finding.subject, finding.sentence) in again]


def _repaired(session: Session, findings: Sequence[Finding], grace: float) -> Iterator[Finding]:
    """A mended block may show more; four rounds settle everything that can be settled."""
    repair = Repair(session.store, time.time)
    for _ in range(4):
        done = 0
        for finding in findings:
            if finding.fix and repair.apply(finding.fix):
                done += 1
                yield finding
        if not done:
            return
        findings = check(read_facts(session.store), time.time(), grace)


def _finding_document(finding: Finding) -> dict[str, Any]:
    leaked = finding.fix if isinstance(finding.fix, FreeAddress) else None
    return {
        "code": finding.code,
        "subject": finding.subject,
        "sentence": finding.sentence,
        "fix": str(finding.fix) if finding.fix else None,
        "address": str(finding.address) if finding.address else None,
        **({"handle": leaked.handle, "sequence": leaked.sequence} if leaked else {}),
    }
