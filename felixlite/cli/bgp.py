"""`felixlite bgp` and `felixlite node`: what the agent of this machine knows of its BGP sessions; what it tells others."""

import json
import socket
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click

from felixlite import control
from felixlite.cli.agent import as_json, run_dir
from felixlite.cli.session import Session
from felixlite.cli.table import lasted, printed
from felixlite.errors import FelixliteError, Unreachable

SOCKET = "agent.sock"


def asked(run_dir: Path, what: str, argument: str = "") -> Any:
    """The one place that talks to the agent."""
    return control.ask(run_dir / SOCKET, "bgp", what=what, argument=argument)


REQUEST = (
    "{{apiVersion: projectcalico.org/v3, kind: CalicoNodeStatus, metadata: {{name: {node}}}, "
    "spec: {{node: {node}, classes: [Agent, BGP, Routes], updatePeriodSeconds: 10}}}}"
)


def reported(session: Session, node: str, part: str = "bgp", what: str = "BGP sessions") -> dict[str, Any]:
    """The last report of the node that has this part."""
    entries = session.store.list("CalicoNodeStatus").entries
    mine = [e.document.get("status") or {} for e in entries if (e.document.get("spec") or {}).get("node") == node]
    told = max((s for s in mine if s.get(part)), key=lambda s: str(s.get("lastUpdated")), default=None)
    if told is None:
        why = "it has not answered yet" if mine else "nobody has asked it to"
        raise FelixliteError(
            f"node {node} does not report its {what}: {why}; "
            f"ask it with: echo '{REQUEST.format(node=node)}' | felixlite apply -f -"
        )
    return told


def peers_of(session: Session, node: str) -> tuple[str, list[dict[str, Any]]]:
    """When the node wrote about its sessions last, and what."""
    from felixlite.bgp.report import peers_in

    told = reported(session, node)
    return str(told.get("lastUpdated")), peers_in(told)


def routes_of(session: Session, node: str) -> list[dict[str, Any]]:
    from felixlite.bgp.report import routes_in

    return routes_in(reported(session, node, "routes", "routes"))


@click.group()
def bgp() -> None:
    """BGP of this node: sessions, routes, and why they are as they are.

    \b
    felixlite bgp peers
    felixlite bgp why 10.42.0.0/26
    felixlite bgp routes --node n2

    Sessions and routes of another node come from a CalicoNodeStatus; received, advertised and why are asked on the
    node itself.
    """


of_node = click.option(
    "--node", "node_name", default="", help="Of another node: what its agent wrote into a CalicoNodeStatus last."
)


@bgp.command()
@run_dir
@of_node
@as_json
@click.pass_obj
def peers(session: Session, run_dir: Path, node_name: str, output: str) -> None:
    """The sessions, with what came in and went out, and the last error in words."""
    if node_name:
        _show(peers_of(session, node_name)[1], output, reported_table)
    else:
        _show(asked(run_dir, "peers"), output, peers_table)


@bgp.command()
@run_dir
@of_node
@as_json
@click.pass_obj
def routes(session: Session, run_dir: Path, node_name: str, output: str) -> None:
    """The learned routes that won; of another node at most 2,000 of each family."""
    if node_name:
        _show(routes_of(session, node_name), output, reported_routes_table)
    else:
        _show(asked(run_dir, "routes"), output, routes_table)


@bgp.command()
@click.argument("peer")
@run_dir
@as_json
def received(peer: str, run_dir: Path, output: str) -> None:
    """What PEER told us, also what was refused."""
    _show(asked(run_dir, "received", peer), output, received_table)


@bgp.command()
@click.argument("peer")
@run_dir
@as_json
def advertised(peer: str, run_dir: Path, output: str) -> None:
    """What we tell PEER."""
    _show(asked(run_dir, "advertised", peer), output, advertised_table)


@bgp.command()
@click.argument("prefix")
@run_dir
@as_json
def why(prefix: str, run_dir: Path, output: str) -> None:
    """Why this path to PREFIX won, and why which peer is told of it or not."""
    answer = asked(run_dir, "why", prefix)
    click.echo(json.dumps(answer, indent=2) if output == "json" else why_text(prefix, answer))


@click.group()
def node() -> None:
    """This machine as a node of the cluster.

    \b
    felixlite node status
    felixlite node shutdown
    """


@node.command()
@click.option("--node-name", envvar="FELIXLITE_NODENAME", default="", help="Default: the host's, in lower case.")
@click.pass_obj
def shutdown(session: Session, node_name: str) -> None:
    """Tell Kubernetes that no pods can be attached here any more: what a container's preStop calls.

    \b
    felixlite --store kubernetes:// node shutdown

    Nothing in the kernel changes: the pods that are here stay connected.
    """
    from felixlite.datastore import announcer

    name = node_name or socket.gethostname().lower()
    if told := announcer(session.store):
        told.announce(name, is_up=False)
        click.echo(f"Node {name}: NetworkUnavailable")
    else:
        click.echo(f"{session.store.address}: nobody to tell")


@node.command()
@run_dir
@of_node
@as_json
@click.pass_obj
def status(session: Session, run_dir: Path, node_name: str, output: str) -> None:
    """The BGP sessions of this node, or of another that a CalicoNodeStatus asks to report."""
    if node_name:
        at, found = peers_of(session, node_name)
        click.echo(
            json.dumps(found, indent=2) if output == "json" else f"Node {node_name}, {at}\n{reported_table(found)}"
        )
        return
    try:
        answer = asked(run_dir, "peers")
    except Unreachable as error:
        raise click.ClickException(f"felixlite process is not running: {error}") from None
    click.echo(json.dumps(answer, indent=2) if output == "json" else status_text(answer, time.time()))


def _show(answer: Sequence[Mapping[str, Any]], output: str, table: Any) -> None:
    click.echo(json.dumps(answer, indent=2) if output == "json" else table(answer))


# -- as text


def status_text(peers: Sequence[Mapping[str, Any]], now: float) -> str:
    lines = ["felixlite process is running.", ""]
    for family, colon in ((4, False), (6, True)):
        some = [peer for peer in peers if (":" in peer["peer"]) == colon]
        if not some:
            lines += [f"No IPv{family} peers found.", ""]
            continue
        rows = [_status_row(peer, now) for peer in some]
        titles = ("PEER ADDRESS", "PEER TYPE", "STATE", "SINCE", "UP-TIME", "IN", "OUT", "INFO")
        lines += [f"IPv{family} BGP status", printed(titles, rows), ""]
    return "\n".join(lines).rstrip()


def _status_row(peer: Mapping[str, Any], now: float) -> tuple[str, ...]:
    up = peer["state"] == "Established"
    since = time.strftime("%H:%M:%S" if now - peer["since"] < 86400 else "%Y-%m-%d", time.localtime(peer["since"]))
    info = peer["state"] + (f" {peer['error']}" if peer["error"] else "")
    duration = lasted(now - peer["since"]) if up else "-"
    return (
        peer["peer"],
        peer["type"],
        "up" if up else "start",
        since,
        duration,
        str(peer["received"]),
        str(peer["announced"]),
        info,
    )


def reported_table(peers: Sequence[Mapping[str, Any]]) -> str:
    return printed(("PEER", "TYPE", "STATE", "SINCE"), [(p["peer"], p["type"], p["state"], p["since"]) for p in peers])


def peers_table(peers: Sequence[Mapping[str, Any]]) -> str:
    titles = ("PEER", "AS", "TYPE", "NAME", "STATE", "IN", "OUT", "FLAPS", "ERROR")
    return printed(
        titles,
        [
            (
                p["peer"],
                str(p["as"] or "any"),
                p["type"],
                p["name"] or p["node"] or "-",
                p["state"],
                str(p["received"]) + (f" ({p['stale']} stale)" if p["stale"] else ""),
                str(p["announced"]),
                str(p["flaps"]),
                p["error"] or "-",
            )
            for p in peers
        ],
    )


def routes_table(routes: Sequence[Mapping[str, Any]]) -> str:
    rows = [(r["prefix"], ", ".join(r["hops"]), ", ".join(r["from"]), "iBGP" if r["ibgp"] else "eBGP") for r in routes]
    return printed(("PREFIX", "NEXT HOP", "FROM", "BY"), rows)


def reported_routes_table(routes: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (r["prefix"], ", ".join(r["hops"]), ", ".join(r["from"]), "yes" if r["in_kernel"] else "no") for r in routes
    ]
    return printed(("PREFIX", "NEXT HOP", "FROM", "IN KERNEL"), rows)


def received_table(routes: Sequence[Mapping[str, Any]]) -> str:
    rows = [
        (r["prefix"], r["next_hop"], r["as_path"] or "-", " ".join(r["communities"]) or "-", _verdict(r))
        for r in routes
    ]
    return printed(("PREFIX", "NEXT HOP", "AS PATH", "COMMUNITIES", "VERDICT"), rows)


def _verdict(route: Mapping[str, Any]) -> str:
    if route["refused"]:
        return f"refused: {route['refused']}"
    return "stale" if route["stale"] else "usable"


def advertised_table(routes: Sequence[Mapping[str, Any]]) -> str:
    rows = [(r["prefix"], r["next_hop"], r["as_path"] or "-", " ".join(r["communities"]) or "-") for r in routes]
    return printed(("PREFIX", "NEXT HOP", "AS PATH", "COMMUNITIES"), rows)


def why_text(prefix: str, answer: Mapping[str, Any]) -> str:
    heard = [(p["chosen"], f"{p['peer']} says via {p['next_hop']}: {p['reason']}") for p in answer["paths"]]
    told = [(p["told"], f"{p['peer']}: {'yes' if p['told'] else 'no'}, {p['reason']}") for p in answer["peers"]]
    lines = [f"{prefix}, as we heard it:", *_marked(heard, "no peer told of it")]
    return "\n".join([*lines, "As we tell it:", *_marked(told, "there are no peers")])


def _marked(lines: Sequence[tuple[bool, str]], nothing: str) -> list[str]:
    return [f"{'->' if good else '  '} {line}" for good, line in lines] or [f"   {nothing}"]
