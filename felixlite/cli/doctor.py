"""`felixlite doctor`: looks for what is wrong with this node, and says what to do. Changes nothing."""

import json
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass
from ipaddress import IPv4Address

import click

from felixlite.checkup import BAD, OK, Finding, Machine, examined
from felixlite.cli.pool import read_nodes
from felixlite.cli.session import Session, store_option
from felixlite.cli.table import printed
from felixlite.errors import FelixliteError
from felixlite.kernel.addresses import every_address
from felixlite.kernel.host import Host
from felixlite.kernel.links import every_link
from felixlite.model.inside import Node
from felixlite.pathmtu import Echoes, Verdict, examine, link_of, source_of


@click.group(invoke_without_command=True)
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@store_option
@click.pass_context
def doctor(ctx: click.Context, output: str) -> None:
    """Look for what is wrong with this node, before an installation or after. Exit code 1: something is bad.

    Kernel features, sysctls, ports, rp_filter, iptables, the rules of others, clock, open files, the store.

    \b
    felixlite doctor --store etcd://10.0.0.1:2379
    felixlite doctor mtu
    """
    if ctx.invoked_subcommand:
        return
    found = [*examined(Machine()), store_reach(ctx.obj)]
    if output == "json":
        click.echo(json.dumps([each._asdict() for each in found], indent=2))
    else:
        for each in found:
            click.echo(f"{each.verdict:<5} {each.check:<18} {each.what}")
            if each.fix:
                click.echo(f"{'':<24} -> {each.fix}")
    ctx.exit(int(any(each.verdict == BAD for each in found)))


def store_reach(session: Session) -> Finding:
    began = time.monotonic()
    try:
        session.store.list("ClusterInformation")
    except FelixliteError as error:
        return Finding(
            "store", BAD, str(error), "see that the address, the network and the certificates are right: --store"
        )
    return Finding("store", OK, f"{session.store.address} answers after {(time.monotonic() - began) * 1000:.0f} ms")


# -- mtu


@dataclass(frozen=True, slots=True)
class Way:
    """From here to an address of another node, through the link that the routing table chooses."""

    node: str
    address: IPv4Address
    link: str
    mtu: int


@doctor.command()
@click.option("--node-name", envvar="FELIXLITE_NODENAME", default="", help="This node; else the host's name.")
@store_option
@click.pass_obj
def mtu(session: Session, node_name: str) -> None:
    """Whether packets as large as the links' MTU reach every other node, natively and through the tunnels.

    Run it on each node: it examines the ways from here.

    \b
    felixlite doctor mtu
    """
    here = node_name or socket.gethostname().lower()
    nodes = read_nodes(session.store)
    if here not in nodes:
        raise FelixliteError(f"there is no Node {here} in the store: say --node-name; there are {', '.join(nodes)}")
    ways = list(ways_to([node for name, node in sorted(nodes.items()) if name != here]))
    if not ways:
        click.echo("there is no other node")
        return
    try:
        with Echoes() as echoes:
            found = [(way, examine(echoes, way.address, way.mtu)) for way in ways]
    except PermissionError:
        raise FelixliteError("ICMP needs a raw socket: run it as root") from None
    click.echo(printed(TITLES, [cells(way, verdict) for way, verdict in found], styled=session.is_terminal))
    for way, verdict in found:
        if not verdict.passes:
            click.echo("\n" + explained(here, way, verdict))
    if not all(verdict.passes for _, verdict in found):
        click.get_current_context().exit(1)


def ways_to(others: list[Node]) -> Iterator[Way]:
    """To each node's own address, and to its ends of the tunnels where a route leads there."""
    with Host() as host:
        links = {name: seen.state for name, seen in every_link(host).items()}
        names = {link.index: name for name, link in links.items()}
        addresses = [(names[a.link], str(a.address)) for a in every_address(host) if a.link in names]
    for node in others:
        examined = set[str]()  # two addresses behind the same link are one way
        for address in (node.address(4), node.ipip_address, node.vxlan_address):
            source = source_of(address) if isinstance(address, IPv4Address) else None
            link = link_of(source, addresses) if source else ""
            if isinstance(address, IPv4Address) and link in links and link not in examined:
                examined.add(link)
                yield Way(node.name, address, link, links[link].mtu)


TITLES = ("NODE", "ADDRESS", "THROUGH", "MTU", "LARGEST THAT ARRIVES")


def cells(way: Way, verdict: Verdict) -> tuple[str, str, str, str, str]:
    arrives = str(verdict.largest) if verdict.largest else "none"
    return way.node, str(way.address), way.link, str(way.mtu), "all" if verdict.passes else arrives


def explained(here: str, way: Way, verdict: Verdict) -> str:
    if not verdict.largest:
        return f"{here} -> {way.node} ({way.address}, {way.link}): {verdict.why}"
    return (
        f"{here} -> {way.node} ({way.address}, {way.link}): packets of {verdict.size} bytes do not arrive, those of"
        f" {verdict.largest} do: {verdict.why}.\n"
        f"Raise the MTU there to {verdict.size}, or lower this node's: {remedy(way.link, verdict.largest)}"
    )


def remedy(link: str, largest: int) -> str:
    setting = {"tunl0": "ipipMTU", "vxlan.calico": "vxlanMTU"}.get(link)
    if setting:
        return f"FelixConfiguration {setting}: {largest}"
    return f"`ip link set {link} mtu {largest}`"
