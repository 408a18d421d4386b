"""`felixlite doctor`: looks for what is wrong with this node, and says what to do. Changes nothing."""

import json
import secrets
import socket
import time
from collections.abc import Collection, Iterator

import click

from felixlite import ways
from felixlite.checkup import BAD, OK, WARN, Finding, Machine, examined
from felixlite.cli.pool import read_nodes
from felixlite.cli.session import Session, store_option
from felixlite.cli.table import printed
from felixlite.config import effective
from felixlite.datastore.store import Store
from felixlite.errors import FelixliteError
from felixlite.intake import Intake
from felixlite.snapshot import Snapshot, fold
from felixlite.ways import Way


@click.group(invoke_without_command=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@store_option
@click.pass_context
def doctor(ctx: click.Context, output: str) -> int:
    """Look for what is wrong with this node, before an installation or after. Exit code 1: something is bad.

    Kernel features, sysctls, ports, rp_filter, iptables, the rules of others, NAT that pods would suffer from, clock, open
    files, the store.

    \b
    felixlite doctor --store etcd://10.0.0.1:2379
    felixlite doctor mtu
    """
    if ctx.invoked_subcommand:
        return 0
    found = [*examined(Machine()), store_reach(ctx.obj), *foreign_nat(ctx.obj)]
    if output == "json":
        click.echo(json.dumps([each._asdict() for each in found], indent=2))
    else:
        for each in found:
            click.echo(f"{each.verdict:<5} {each.check:<18} {each.what}")
            if each.fix:
                click.echo(f"{'':<24} -> {each.fix}")
    return int(any(each.verdict == BAD for each in found))


def store_reach(session: Session) -> Finding:
    began = time.monotonic()
    try:
        session.store.list("ClusterInformation")
    except FelixliteError as error:
        return Finding(
            "store", BAD, str(error), "see that the address, the network and the certificates are right: --store"
        )
    return Finding("store", OK, f"{session.store.address} answers after {(time.monotonic() - began) * 1000:.0f} ms")


def foreign_nat(session: Session) -> Iterator[Finding]:
    """Rules of other programs that would take pods their addresses. Without a store nobody knows where pods are."""
    from felixlite.policy.foreign import rewriting_rules

    try:
        known = _known(session.store)
    except FelixliteError:
        return  # store_reach has said so
    found = rewriting_rules([pool.cidr for pool in known.pools.values()])
    settings = effective({}, {}, known.felix_configurations, socket.gethostname())
    if found and settings["keepPodAddresses"]:
        yield Finding("foreign NAT", OK, f"keepPodAddresses keeps pods away from {'; '.join(found)}")
    elif found:
        fix = "remove the rule, or let FelixConfiguration keepPodAddresses: true keep pods away from it"
        yield from (Finding("foreign NAT", WARN, f"{rule}: rewrites what pods send to pods", fix) for rule in found)
    else:
        yield Finding("foreign NAT", OK, "nobody else rewrites what pods send to pods")


def _known(store: Store) -> Snapshot:
    """Pools and settings, as an agent believes them."""
    intake = Intake("")
    entries = (entry for kind in ("FelixConfiguration", "IPPool") for entry in store.list(kind).entries)
    return fold(Snapshot(""), [change for entry in entries for change in intake.changes(entry.key, entry.document)])


# -- mtu


@doctor.command()
@click.option("--timeout", type=float, default=60.0, show_default=True, help="Give up waiting after so many seconds.")
@store_option
@click.pass_obj
def mtu(session: Session, timeout: float) -> int:
    """Whether packets as large as the links' MTU go from every node to every other, natively and through the tunnels.

    Every node's agent examines its own ways when it reads in the store that somebody asks. Exit code 1: a way does not
    carry them, or a node did not answer.

    \b
    felixlite doctor mtu
    """
    word = secrets.token_hex(8)
    known = read_nodes(session.store)
    nodes = sorted(name for name, node in known.items() if node.accepts is not None)
    if others := sorted(known.keys() - {*nodes}):
        click.echo(f"not asked, because no agent of felixlite publishes anything there: {', '.join(others)}")
    ways.ask(session.store, nodes, word)
    try:
        found = gathered(session.store, nodes, word, timeout)
    finally:
        ways.forget(session.store, nodes)
    click.echo(
        printed(TITLES, [cells(here, way) for here in nodes for way in found.get(here, ())], styled=session.is_terminal)
    )
    failing = [(here, way) for here in nodes for way in found.get(here, ()) if not way.passes]
    for here, way in failing:
        click.echo("\n" + explained(here, way))
    if silent := [name for name in nodes if name not in found]:
        raise FelixliteError(f"after {timeout:g} s nothing came from {', '.join(silent)}: is the agent there running?")
    return int(bool(failing))


def gathered(store: Store, nodes: Collection[str], word: str, timeout: float) -> dict[str, list[Way]]:
    """What each node says. Those that say nothing until the time is up are missing."""
    until = time.monotonic() + timeout
    while True:
        found = ways.answers(store.list("Node").entries, word)
        if found.keys() >= {*nodes} or time.monotonic() > until:
            return found
        time.sleep(PAUSE)


PAUSE = 0.2  # seconds between two looks
TITLES = ("FROM", "TO", "ADDRESS", "THROUGH", "MTU", "LARGEST THAT ARRIVES")


def cells(here: str, way: Way) -> tuple[str, str, str, str, str, str]:
    arrives = "all" if way.passes else str(way.largest or "none")
    return here, way.node, way.address, way.link, str(way.mtu), arrives


def explained(here: str, way: Way) -> str:
    if not way.largest:
        return f"{here} -> {way.node} ({way.address}, {way.link}): {way.why}"
    return (
        f"{here} -> {way.node} ({way.address}, {way.link}): packets of {way.mtu} bytes do not arrive, those of"
        f" {way.largest} do: {way.why}.\n"
        f"Raise the MTU there to {way.mtu}, or lower that of {here}: {remedy(way.link, way.largest)}"
    )


def remedy(link: str, largest: int) -> str:
    setting = {"tunl0": "ipipMTU", "vxlan.calico": "vxlanMTU", "vxlan-v6.calico": "vxlanMTUV6"}.get(link)
    if setting:
        return f"FelixConfiguration {setting}: {largest}"
    return f"`ip link set {link} mtu {largest}`"
