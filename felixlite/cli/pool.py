"""`felixlite pool watch`: how far each node is with a pool's encapsulation, by what the nodes publish themselves."""

import time
from collections.abc import Mapping
from dataclasses import dataclass

import click

from felixlite.cli.session import Session, store_option
from felixlite.cli.table import printed
from felixlite.datastore.store import Store
from felixlite.errors import FelixliteError, Rejected
from felixlite.ipam.reading import read_pools
from felixlite.ipip.switch import Standing, called_for, standing
from felixlite.model.inside import Node, Pool
from felixlite.model.parse import parse

PAUSE = 0.2  # seconds between two looks, and no less than looking took


@click.group()
def pool() -> None:
    """IP pools in use.

    \b
    felixlite pool watch default-ipv4-ippool
    """


@pool.command()
@click.argument("name")
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Give up after so many seconds.")
@store_option
@click.pass_obj
def watch(session: Session, name: str, timeout: float) -> None:
    """Follow a change of encapsulation until every node has moved.

    \b
    felixlite patch ippool default-ipv4-ippool -p '{"spec": {"ipipMode": "Never", "vxlanMode": "Always"}}'
    felixlite pool watch default-ipv4-ippool
    """
    began, told = time.monotonic(), dict[str, Standing]()
    while True:
        looked = time.monotonic()
        found = look(session.store, name)
        if not told:
            click.echo(f"pool {name}, {found.pool.cidr}: {mode_of(found.pool)}")
            click.echo(printed(TITLES, [cells(row) for row in found.rows], styled=session.is_terminal))
        for row in found.rows if told else ():
            if told.get(row.node) != row:
                click.echo(f"{looked - began:7.2f} s  {said(row)}")
        told = {row.node: row for row in found.rows}
        left = [row.node for row in found.rows if not row.done]
        if not left:
            click.echo(f"all {len(found.rows)} nodes have moved")
            return
        if looked - began >= timeout:
            raise FelixliteError(
                f"pool {name}: after {timeout:g} s {', '.join(left[:10])} {'has' if len(left) == 1 else 'have'} not moved;"
                f" `felixlite status` there says why"
            )
        time.sleep(max(PAUSE, time.monotonic() - looked))


@dataclass(frozen=True, slots=True)
class Look:
    pool: Pool
    rows: list[Standing]


def look(store: Store, name: str) -> Look:
    pools = {each.name: each for each in read_pools(store)}
    if name not in pools:
        raise FelixliteError(f"there is no valid IPPool {name}; `felixlite get ippools` lists them")
    return Look(pools[name], standing(pools[name], read_nodes(store), pools))


def read_nodes(store: Store) -> Mapping[str, Node]:
    found = {}
    for entry in store.list("Node").entries:
        try:
            node: Node = parse(entry.document).inside()
        except Rejected:
            continue  # the agents do not believe it either
        found[node.name] = node
    return found


# -- words

TITLES = ("NODE", "ACCEPTS IT", "SENDS THROUGH", "STATE")


def mode_of(pool: Pool) -> str:
    return f"ipipMode {pool.ipip.value}, vxlanMode {pool.vxlan.value} ({called_for(pool) or 'no tunnel'})"


def cells(row: Standing) -> tuple[str, str, str, str]:
    accepts = {True: "yes", False: "not yet", None: "does not say"}[row.accepts]
    sends = "does not say" if row.sends is None else ", ".join(sorted(row.sends)) or "no tunnel"
    return row.node, accepts, sends, "done" if row.done else "on the way"


def said(row: Standing) -> str:
    node, accepts, sends, state = cells(row)
    return f"{node}: accepts it: {accepts}, sends through {sends}: {state}"
