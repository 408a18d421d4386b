"""`felixlite lab`: a whole rack on one machine."""

import json
import os
import sys
from collections.abc import Callable
from typing import Any

import click

from felixlite.cli.lab_faults import bench, break_, fix
from felixlite.errors import FelixliteError
from felixlite.lab.lab import Lab
from felixlite.lab.probe import Cell
from felixlite.lab.topology import ROUTER_KINDS, Topology

name_option = click.option(
    "--name", default="lab", show_default=True, help="Which lab; several may be up side by side."
)


@click.group()
def lab() -> None:
    """Nodes, routers and pods in network namespaces of this machine: real agents, real routers, real packets.

    \b
    felixlite lab up
    felixlite lab ping
    felixlite lab exec n1 -- ip route
    felixlite lab down
    """


@lab.command()
@name_option
@click.option("--nodes", default=3, show_default=True)
@click.option("--pods", default=2, show_default=True, help="On each node.")
@click.option("--routers", default=1, show_default=True)
@click.option("--router", type=click.Choice(ROUTER_KINDS), default="bird", show_default=True)
@click.option("--subnets", default=2, show_default=True, help="Nodes are spread over them; the routers join them.")
@click.option("--members", default=1, show_default=True, help="Of etcd.")
@click.option("--hold", default=30, show_default=True, help="Hold time of the routers' BGP sessions, in seconds.")
def up(name: str, nodes: int, pods: int, routers: int, router: Any, subnets: int, members: int, hold: int) -> None:
    """Build a lab; ready when every pod reaches every other, the routers and the outside."""
    made = Lab(Topology(name, nodes, pods, routers, router, subnets, members, hold), say=click.echo)
    made.up()
    click.echo(
        f"lab {name!r} is up: try `felixlite lab ping`, `felixlite lab exec n1 -- ip route`, `felixlite lab down`"
    )


@lab.command()
@name_option
def demo(name: str) -> None:
    """A lab of three nodes and a router: up, shown, switched under traffic, healed, down."""
    from felixlite.lab.demo import demo as run_demo

    sys.exit(run_demo(Topology(name), click.echo))


@lab.command()
@name_option
def down(name: str) -> None:
    """Take a lab down, also one that was built or killed half-way."""
    count = Lab(Topology(name)).down()
    click.echo(f"lab {name!r} is down: {count} namespaces removed" if count else f"there is no lab {name!r}")


@lab.command()
@name_option
@click.option("--count", default=3, show_default=True, help="Probes for each pair.")
@click.option("--json", "as_json", is_flag=True)
def ping(name: str, count: int, as_json: bool) -> None:
    """All pairs: loss, round trip, and the source address that the receiver saw. Exit code: how many cells are wrong."""
    found = Lab.load(name)
    cells = found.ping(count)
    wrong = [cell for cell in cells if not found.is_right(cell)]
    if as_json:
        click.echo(json.dumps([_cell(cell, found.is_right) for cell in cells], indent=2))
    else:
        for cell in cells:
            click.echo(_line(cell, found.is_right(cell)))
        click.echo(f"{len(cells) - len(wrong)} of {len(cells)} cells are right")
    sys.exit(min(len(wrong), 125))


def _cell(cell: Cell, is_right: Callable[[Cell], bool]) -> dict[str, Any]:
    return {
        "from": cell.source.name, "to": cell.target.name, "sent": cell.sent, "answered": cell.answered,
        "loss": cell.loss, "best_ms": cell.best_ms, "seen_from": cell.seen_from, "right": is_right(cell),
    }  # fmt: skip


def _line(cell: Cell, right: bool) -> str:
    took = f"{cell.best_ms:7.2f} ms" if cell.best_ms is not None else "         -"
    seen = f"seen as {cell.seen_from}" if cell.seen_from else "not seen"
    verdict = "" if right else "   WRONG"
    return f"{cell.source.name:>8} -> {cell.target.name:<8} {cell.answered}/{cell.sent} {took}  {seen}{verdict}"


@lab.command()
@name_option
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text")
def status(name: str, output: str) -> None:
    """Nodes, routers and pods with their addresses and network namespaces, so that other tools can enter."""
    found = Lab.load(name)
    machines = {kind: [{"name": m.name, "ip": str(m.address), "netns": m.namespace} for m in them]
                for kind, them in (("nodes", found.topology.node_machines()), ("routers", found.topology.router_machines()))}  # fmt: skip
    everything: dict[str, Any] = {
        "name": name,
        "store": found.store_url,
        "pool": "default-ipv4-ippool",
        **machines,
        "pods": [{"name": p.name, "node": p.node, "ip": p.address, "netns": p.namespace} for p in found.pods()],
    }
    if output == "json":
        click.echo(json.dumps(everything, indent=2))
        return
    for kind in ("nodes", "routers", "pods"):
        click.echo(kind)
        for each in everything[kind]:
            click.echo(f"  {each['name']:<10} {each['ip']:<16} netns {each['netns']}")


@lab.command("exec", context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("where")
@click.argument("command", nargs=-1, required=True)
def exec_(name: str, where: str, command: tuple[str, ...]) -> None:
    """Run a command in a node, a router or a pod.

    \b
    felixlite lab exec n1 -- ip route
    felixlite lab exec n1-a -- ip address
    """
    found = Lab.load(name)
    pods = {pod.name: pod.namespace for pod in found.pods()}
    namespace = pods.get(where) or found.machine(where).namespace
    os.execvp("ip", ["ip", "netns", "exec", namespace, *command])  # noqa: S606  a program by list, no shell


@lab.command(context_settings={"ignore_unknown_options": True})
@name_option
@click.argument("arguments", nargs=-1, required=True)
def ctl(name: str, arguments: tuple[str, ...]) -> None:
    """Any felixlite command against this lab's store: `felixlite lab ctl get ippools`."""
    found = Lab.load(name)
    os.execvp("ip", ["ip", "netns", "exec", found.topology.switch, *found.command, *arguments])  # noqa: S606  a program by list, no shell


@lab.group()
def pod() -> None:
    """Add and remove pods of a running lab."""


@pod.command("add")
@name_option
@click.argument("node")
@click.argument("pod_name")
@click.option("-l", "--label", "labels", multiple=True, metavar="KEY=VALUE")
def pod_add(name: str, node: str, pod_name: str, labels: tuple[str, ...]) -> None:
    """A new pod on NODE, through the CNI plugin."""
    found = Lab.load(name)
    if any(existing.name == pod_name for existing in found.pods()):
        raise FelixliteError(f"there is a pod {pod_name!r} already")
    made = found.add_pod(found.machine(node), pod_name, dict(label.split("=", 1) for label in labels if "=" in label))
    click.echo(f"{made.name} {made.address} on {made.node}")


@pod.command("rm")
@name_option
@click.argument("pod_name")
def pod_rm(name: str, pod_name: str) -> None:
    """Remove a pod, through the CNI plugin."""
    Lab.load(name).remove_pod(pod_name)


for each in (break_, fix, bench):
    lab.add_command(each)
