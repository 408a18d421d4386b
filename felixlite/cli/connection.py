"""`felixlite explain SOURCE DESTINATION`: what becomes of a connection, and which rule says so.

Reads the store and needs no agent; one on this machine is asked what it enforces and what it counts. Writes nothing.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from felixlite import control
from felixlite.cli.agent import run_dir
from felixlite.cli.files import loaded
from felixlite.cli.session import Session, file_options, store_option
from felixlite.errors import FelixliteError


@click.command()
@click.argument("source")
@click.argument("destination")
@click.option("--port", type=click.IntRange(1, 65535), default=None, help="The destination's port.")
@click.option(
    "--source-port", type=click.IntRange(1, 65535), default=40000, show_default=True, help="The source's port."
)
@click.option(
    "--protocol", default=None, help="TCP, UDP, SCTP, ICMP, ICMPv6 or a number. Default: TCP with --port, else ICMP."
)
@click.option("--icmp-type", type=click.IntRange(0, 255), default=None, help="Default: an echo request.")
@click.option("--icmp-code", type=click.IntRange(0, 255), default=None, help="With --icmp-type. Default: 0.")
@click.option("-6", "--ipv6", is_flag=True, help="Names stand for their IPv6 addresses.")
@click.option("--source-address", metavar="ADDRESS", default=None, help="The pod SOURCE sends with this address.")
@click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")
@run_dir
@file_options
@store_option
@click.pass_obj
def connection(
    session: Session, /, output: str, filenames: tuple[str, ...], recursive: bool, run_dir: Path, **asked: Any
) -> int:
    """May SOURCE talk to DESTINATION, and why? Each is an address, [NAMESPACE/]POD, a node or a network set.

    With an agent on this machine, as that agent enforces it, also how often each rule has matched and which route leads
    there. -f shows how it would be after a change, touching nothing. Exit code 0: allowed, 1: denied, 2: error.

    \b
    felixlite explain web-0 backend/db-0 --port 5432
    felixlite explain web-0 8.8.8.8 --protocol UDP --port 53 -f policy.yaml
    """
    from felixlite.policy.explain import lines
    from felixlite.policy.question import Question

    session.error_code = 2
    changed = [found.document for found in loaded(filenames, recursive=recursive)] if filenames else []
    found = _explained(session, Question(**asked), changed, run_dir)
    click.echo(json.dumps(found, indent=2) if output == "json" else "\n".join(lines(found)))
    return 0 if found["action"] == "Allow" else 1


def judged(session: Session, pairs: list[list[str]], protocol: str, port: int) -> list[dict[str, Any]]:
    """What policy says of many connections, with one look at the store."""
    from felixlite.policy.question import Question, packet

    known = _known(session, [])
    questions = [Question(source, destination, protocol, port) for source, destination in pairs]
    return [_judged(known, packet(known.inputs, question))[1] for question in questions]


def _judged(known: Any, asked: Any) -> tuple[Any, dict[str, Any]]:
    """The packet as it arrives, and what becomes of it: a node speaks through a tunnel with its address there."""
    from felixlite.policy.explain import explained

    found = explained(known, asked)
    tunnel = _tunnel(known.inputs, found)
    own = _address_in(tunnel, known.inputs.nodes[found["source"]["node"]], asked.family) if tunnel else None
    if own and found["source"]["pod"] is None:
        asked = replace(asked, source=own)
        found = explained(known, asked)
    return asked, {**found, "tunnel": tunnel}


def _address_in(tunnel: str, node: Any, family: int) -> Any:
    from felixlite.ipip.devices import Tunnel, tunnel_address

    named = {"ipip": Tunnel.IPIP, "vxlan": Tunnel.VXLAN if family == 4 else Tunnel.VXLAN_V6}.get(tunnel)
    return tunnel_address(node, named) if named else None


def _explained(session: Session, question: Any, changed: list[dict[str, Any]], run_dir: Path) -> dict[str, Any]:
    from felixlite.policy.explain import counted
    from felixlite.policy.question import as_values, packet

    known = _known(session, changed)
    asked, found = _judged(known, packet(known.inputs, question))
    agent = run_dir / "agent.sock"
    beside = not changed and agent.exists()  # what an agent knows belongs to things as they are
    if beside:
        enforced = _asked(session, agent, "what the agent enforces", "explain", packet=as_values(asked))
        found = {**enforced, "tunnel": found["tunnel"]} if enforced else found
        if hits := _asked(session, agent, "the counters", "hits", family=asked.family):
            found = counted(found, hits)
        stays = (
            found["destination"]["pod"] is None and found["source"]["node"] == found["destination"]["node"] is not None
        )
        if not stays and (route := _asked(session, agent, "the route", "why", key=found["packet"]["destination"])):
            found = {**found, "route": route}
    return found


def _asked(session: Session, agent: Path, what: str, question: str, **arguments: Any) -> Any:
    """What the agent of this machine answers. None: it does not, and the rest is known without it."""
    try:
        return control.ask(agent, question, **arguments)
    except FelixliteError as error:
        session.warn(f"without {what}: {error}")
        return None


def _tunnel(inputs: Any, found: dict[str, Any]) -> str | None:
    """How it travels between the nodes of the two ends, as the destination's pool says."""
    from felixlite.ipip.plan import encapsulation

    pool = inputs.pools.get(found["destination"]["pool"])
    here, there = (inputs.nodes.get(found[side]["node"]) for side in ("source", "destination"))
    if pool is None or here is None or there is None or here is there:
        return None
    return str(encapsulation(pool, here, there))


def _known(session: Session, changed: list[dict[str, Any]]) -> Any:
    """All that the store holds, and the change on top."""
    from felixlite.intake import READERS, Intake, policies_read_by
    from felixlite.model.resource import identified
    from felixlite.policy import kubernetes
    from felixlite.policy.explain import Known
    from felixlite.snapshot import Snapshot, fold

    readers = {**READERS, kubernetes.KIND: policies_read_by(kubernetes.policy)}
    intake = Intake("", readers)
    found = [
        change
        for kind in readers
        if kind not in ("IPAMBlock", "BlockAffinity", "Secret")
        for entry in session.store.list(kind).entries
        for change in intake.changes(entry.key, entry.document)
    ]
    for document in changed:
        metadata = document.get("metadata") or {}
        which = (identified(document).name, str(metadata.get("name", "")), str(metadata.get("namespace", "")))
        found += intake.changes(which, document)
    snapshot = fold(Snapshot(""), found)
    for (kind, name), reason in snapshot.rejected.items():
        what = "is invalid" if kind.endswith("NetworkPolicy") else "is left out"
        session.warn(f"{kind} {name} {what}: {reason}")
    return Known.of(snapshot)


@click.command(
    context_settings={"ignore_unknown_options": True, "allow_extra_args": True, "help_option_names": []},
    add_help_option=False,
)
@click.argument("arguments", nargs=-1, type=click.UNPROCESSED)
@click.pass_context
def explain(ctx: click.Context, arguments: tuple[str, ...]) -> int:
    """What a kind and its fields mean (one argument), or what becomes of a connection (two).

    \b
    felixlite explain ippool.spec.ipipMode
    felixlite explain web-0 backend/db-0 --port 5432
    """
    from felixlite.cli.explain import explain as kind

    if arguments in (("--help",), ()):
        for each in (kind, connection):
            with click.Context(each, parent=ctx.parent, info_name="explain") as inner:
                click.echo(each.get_help(inner) + "\n")
        return 0
    chosen: click.Command = connection if _ends(arguments) > 1 else kind
    with chosen.make_context("explain", list(arguments), parent=ctx.parent) as inner:
        return chosen.invoke(inner) or 0


def _ends(arguments: tuple[str, ...]) -> int:
    """How many of the words are neither options of a connection nor their values."""
    options = [param for param in connection.params if isinstance(param, click.Option) and not param.is_flag]
    taking = {name for option in options for name in option.opts}
    before = ("", *arguments)
    return sum(not word.startswith("-") and last not in taking for last, word in zip(before, arguments, strict=False))
