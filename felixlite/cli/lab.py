"""`felixlite lab`: a whole rack on one machine."""

import json
import os
from typing import Any, TextIO

import click
from click.core import ParameterSource

from felixlite.cli.lab_capture import capture
from felixlite.cli.lab_change import node, pod
from felixlite.cli.lab_faults import bench, break_, fix
from felixlite.cli.lab_option import lab_name
from felixlite.cli.lab_tour import picture, tour
from felixlite.lab import matrix
from felixlite.lab.lab import Lab
from felixlite.lab.probe import Cell
from felixlite.lab.topology import ROUTER_KINDS, STORE_KINDS, Topology
from felixlite.lab.topology_file import topology
from felixlite.yamltext import values


@click.group()
def lab() -> None:
    """Nodes, routers and pods in network namespaces of this machine: real agents, real routers, real packets.

    \b
    felixlite lab up
    felixlite lab ping
    felixlite lab exec n1 -- ip route
    felixlite lab down
    """


@lab.command(short_help="Build a lab.")
@lab_name
@click.option("--nodes", default=3, show_default=True)
@click.option("--pods", default=2, show_default=True, help="On each node.")
@click.option("--routers", default=1, show_default=True)
@click.option("--router", type=click.Choice(ROUTER_KINDS), default="bird", show_default=True)
@click.option("--subnets", default=2, show_default=True, help="Nodes are spread over them; the routers join them.")
@click.option(
    "--store",
    type=click.Choice(STORE_KINDS),
    default="etcd",
    show_default=True,
    help="kubernetes: the same etcd behind `felixlite apiserver`; needs kubectl.",
)
@click.option("--members", default=1, show_default=True, help="Of etcd.")
@click.option("--hold", default=30, show_default=True, help="Hold time of the routers' BGP sessions, in seconds.")
@click.option(
    "-f", "--file", "file", type=click.File(), help="A topology in YAML; options above and FELIXLITE_LAB beat it."
)
@click.pass_context
def up(ctx: click.Context, /, file: TextIO | None, **options: Any) -> None:
    """Build a lab; ready when every pod reaches every other, the routers and the outside.

    \b
    felixlite lab up --nodes 10 --router frr
    felixlite lab up --file topology.yaml
    """
    given = {name: value for name, value in options.items() if file is None or _said(ctx, name)}
    made = Lab(topology(_document(file), given), say=click.echo)
    made.up()
    name = made.topology.name
    click.echo(
        f"lab {name!r} is up: try `felixlite lab ping`, `felixlite lab exec n1 -- ip route`, `felixlite lab down`"
    )


def _document(file: TextIO | None) -> Any:
    return next(iter(values(file.read(), file.name)), {}) if file else {}


def _said(ctx: click.Context, option: str) -> bool:
    return ctx.get_parameter_source(option) is not ParameterSource.DEFAULT


@lab.command(short_help="Up, shown, switched under traffic, healed, down.")
@lab_name
def demo(name: str) -> int:
    """A lab of three nodes and a router: up, shown, switched under traffic, healed, down."""
    from felixlite.lab.demo import demo as run_demo

    return run_demo(Topology(name), click.echo)


@lab.command()
@lab_name
def down(name: str) -> None:
    """Take a lab down, also one that was built or killed half-way."""
    count = Lab(Topology(name)).down()
    click.echo(f"lab {name!r} is down: {count} namespaces removed" if count else f"there is no lab {name!r}")


@lab.command(short_help="All pairs: loss, time, source address seen, way.")
@lab_name
@click.option("--count", default=3, show_default=True, help="Probes for each pair.")
@click.option("--json", "as_json", is_flag=True)
def ping(name: str, count: int, as_json: bool) -> int:
    """All pairs: loss, round trip, and the source address that the receiver saw. Exit code: how many cells are wrong."""
    found = Lab.load(name)
    cells = found.ping(count)
    wrong = [cell for cell in cells if not cell.is_right]
    silent = [cell for cell in wrong if not cell.arrived]
    verdicts = dict(zip(map(id, silent), matrix.verdicts(found, silent), strict=True))
    wrong = [cell for cell in wrong if not verdicts.get(id(cell), "").startswith("denied")]
    told = [
        _cell(cell, way, verdicts.get(id(cell), "allowed"), right=cell not in wrong)
        for cell, way in zip(cells, matrix.ways(found, cells), strict=True)
    ]
    if as_json:
        click.echo(json.dumps(told, indent=2))
    else:
        for each in told:
            click.echo(_line(each))
        click.echo(f"{len(cells) - len(wrong)} of {len(cells)} cells are right")
    return min(len(wrong), 125)


def _cell(cell: Cell, way: str, verdict: str, *, right: bool) -> dict[str, Any]:
    return {
        "from": cell.source.name, "to": cell.target.name, "sent": cell.sent, "answered": cell.answered,
        "loss": cell.loss, "best_ms": cell.best_ms, "seen_from": cell.seen_from, "way": way,
        "verdict": verdict, "right": right,
    }  # fmt: skip


def _line(cell: dict[str, Any]) -> str:
    took = f"{cell['best_ms']:7.2f} ms" if cell["best_ms"] is not None else "         -"
    seen = f"seen as {cell['seen_from']}" if cell["seen_from"] else "not seen"
    verdict = f"   {cell['verdict']}" if cell["verdict"] != "allowed" else ""
    wrong = "" if cell["right"] else "   WRONG"
    ends = f"{cell['from']:>8} -> {cell['to']:<8}"
    return f"{ends} {cell['answered']}/{cell['sent']} {took}  {cell['way']:<11}  {seen}{verdict}{wrong}"


@lab.command(short_help="Nodes, routers and pods with addresses and namespaces.")
@lab_name
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
@lab_name
@click.argument("where")
@click.argument("command", nargs=-1, required=True)
def exec_(name: str, where: str, command: tuple[str, ...]) -> None:
    """Run a command in a node, a router or a pod.

    \b
    felixlite lab exec n1 -- ip route
    felixlite lab exec n1-a -- ip address
    """
    found = Lab.load(name)
    os.execvp("ip", ["ip", "netns", "exec", found.namespace_of(where), *command])  # noqa: S606  a program by list, no shell


@lab.command(context_settings={"ignore_unknown_options": True})
@lab_name
@click.option("--node", default="", help="On this node, next to its agent; for `status`, `bgp`, `show`, `plan`.")
@click.argument("arguments", nargs=-1, required=True)
def ctl(name: str, node: str, arguments: tuple[str, ...]) -> None:
    """Any felixlite command against this lab's store.

    \b
    felixlite lab ctl get ippools
    felixlite lab ctl --node n1 bgp peers
    """
    found = Lab.load(name)
    where = found.machine(node).namespace if node else found.topology.switch
    environment = {**os.environ, "FELIXLITE_RUN_DIR": str(found.run_directory(node))} if node else dict(os.environ)
    os.execvpe("ip", ["ip", "netns", "exec", where, *found.command, *arguments], environment)  # noqa: S606  a program by list, no shell


@lab.command(short_help="The path of a kubeconfig for this lab.")
@lab_name
def kubeconfig(name: str) -> None:
    """The path of a kubeconfig for this lab's store, served as a Kubernetes-style API. Its server is inside the lab."""
    click.echo(Lab.load(name).kubeconfig())


@lab.command(context_settings={"ignore_unknown_options": True, "help_option_names": []})
@lab_name
@click.argument("arguments", nargs=-1, required=True)
def kubectl(name: str, arguments: tuple[str, ...]) -> None:
    """kubectl against this lab.

    \b
    felixlite lab kubectl get ippools,nodes
    felixlite lab kubectl edit ippool default-ipv4-ippool
    """
    command = Lab.load(name).kubectl(*arguments)
    os.execvp(command[0], command)  # noqa: S606  a program by list, no shell


for each in (pod, node, capture, tour, picture, break_, fix, bench):
    lab.add_command(each)
