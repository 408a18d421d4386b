"""`felixlite agent`, and the commands that ask a running one: status, show, plan."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from felixlite import control
from felixlite.addresses import Prefix
from felixlite.cli.session import Session, file_options, store_option
from felixlite.cluster import STATE_DIRECTORY

MODE = click.Choice(["Never", "Always", "CrossSubnet"])
RUN_DIRECTORY = "/run/felixlite"

run_dir = click.option(
    "--run-dir",
    type=click.Path(path_type=Path),
    default=RUN_DIRECTORY,
    envvar="FELIXLITE_RUN_DIR",
    show_default=True,
    help="Where the agent keeps its sockets and notes.",
)
as_json = click.option("-o", "--output", type=click.Choice(["text", "json"]), default="text", help="How to print.")


@click.command()
@click.option(
    "--node-name", envvar="FELIXLITE_NODENAME", default="", help="This node's name. Default: the host's, in lower case."
)
@click.option("--ip", default="", help="This node's IPv4 address (with its prefix length, or as the interface has it).")
@click.option(
    "--ip-autodetection-method", default="", help="first-found, interface=REGEX, can-reach=ADDRESS, cidr=CIDR, ..."
)
@click.option(
    "--set", "settings", multiple=True, metavar="NAME=VALUE", help="A FelixConfiguration field, above all other places."
)
@click.option(
    "--controllers", is_flag=True, help="Also run what `felixlite controllers` does; one agent acts at a time."
)
@click.option(
    "--pool-cidr", envvar="FELIXLITE_POOL_CIDR", default="", help="Of the first pool, made while there is none at all."
)
@click.option(
    "--pool-ipip", envvar="FELIXLITE_POOL_IPIP", type=MODE, default="Always", show_default=True, help="Its ipipMode."
)
@click.option(
    "--pool-vxlan", envvar="FELIXLITE_POOL_VXLAN", type=MODE, default="Never", show_default=True, help="Its vxlanMode."
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=STATE_DIRECTORY,
    envvar="FELIXLITE_STATE_DIR",
    show_default=True,
    help="Where the agent notes which cluster this node is in.",
)
@run_dir
@click.pass_obj
def agent(
    session: Session,
    node_name: str,
    ip: str,
    ip_autodetection_method: str,
    settings: tuple[str, ...],
    controllers: bool,
    pool_cidr: str,
    pool_ipip: str,
    pool_vxlan: str,
    state_dir: Path,
    run_dir: Path,
) -> int:
    """Run this node's agent until it is told to stop.

    \b
    felixlite --store etcd://10.0.0.1:2379 agent
    felixlite agent --node-name n1 --ip-autodetection-method interface=eth0
    """
    from felixlite.agent import Options, run
    from felixlite.registration import FirstPool

    flags = dict(_assignment(each) for each in settings)
    if ip_autodetection_method:
        flags["ipAutodetectionMethod"] = ip_autodetection_method
    if ip:
        flags["ipAutodetectionMethod"] = ip
    pool = FirstPool(_cidr(pool_cidr), pool_ipip, pool_vxlan)
    return run(Options(session.url, node_name, run_dir, state_dir, flags, pool, controllers))


def _cidr(text: str) -> Prefix | None:
    try:
        return Prefix.parse(text) if text else None
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--pool-cidr") from None


def _assignment(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals or not name:
        raise click.BadParameter(f"{text!r}: must be NAME=VALUE", param_hint="--set")
    return name, value


def _ask(directory: Path, name: str, **arguments: Any) -> Any:
    return control.ask(directory / "agent.sock", name, **arguments)


@click.command()
@run_dir
@as_json
@click.option("--cluster", is_flag=True, help="All nodes, as the store knows them; needs no agent here.")
@store_option
@click.pass_obj
def status(session: Session, run_dir: Path, output: str, cluster: bool) -> int:
    """How this node is, on one screen. Exit code 0: all is well; 1: something is degraded; 2: no agent answers.

    \b
    felixlite status
    felixlite status -o json
    felixlite status --cluster --store etcd://10.0.0.1:2379
    """
    if cluster:
        return _cluster_status(session, output)
    session.error_code = 2
    found = _ask(run_dir, "status")
    click.echo(json.dumps(found, indent=2) if output == "json" else "\n".join(_status_lines(found)))
    return 0 if found["ready"] and not found["degraded"] else 1


def _cluster_status(session: Session, output: str) -> int:
    from datetime import UTC, datetime

    from felixlite.cli.cluster_status import TITLES, cells, cluster
    from felixlite.cli.table import printed

    rows = cluster(session.store, datetime.now(UTC))
    table = printed(TITLES, [cells(row) for row in rows], styled=session.is_terminal)
    click.echo(json.dumps(rows, indent=2) if output == "json" else table)
    return int(any(row["problems"] for row in rows))


WRITTEN_WITH = {"nftables": "nftables", "legacy": "iptables-legacy", "nft": "iptables-nft"}


def _status_lines(found: dict[str, Any]) -> list[str]:
    lines = [
        f"node {found['node']}  {'ready' if found['ready'] else 'NOT READY'}  {found['store']}  ipip: {found['ipip']}"
    ]
    lines += [f"  degraded: {what}" for what in found["degraded"]]
    lines += [f"  note: {what}" for what in found["notes"]]
    lines.append("\nsources")
    lines += [f"  {name:<14} {'in sync' if source['in_sync'] else 'waiting'}  {source.get('detail', '')}".rstrip()
              for name, source in found["sources"].items()]  # fmt: skip
    lines.append("\ntables")
    for name, table in found["tables"].items():
        failing = f"  {len(table['failures'])} failing" if table["failures"] else ""
        backend = f"  {WRITTEN_WITH[table['backend']]}: {table['because']}" if "backend" in table else ""
        lines.append(f"  {name:<14} {'?' if table['rows'] is None else table['rows']:>6} rows{failing}{backend}")
    last = found["last_round"]
    if last:
        lines.append(
            f"\nlast round #{last['number']}: {last['cause']}: {last['written']} written, {last['removed']} removed, {last['ms']} ms"
        )
    lines.append("\npools")
    lines += [
        f"  {name:<24} {p['cidr']:<20} ipip {p['ipip']}, vxlan {p['vxlan']}" for name, p in found["pools"].items()
    ]
    lines.append(f"\nBGP: {found['learned']} prefixes learned")
    lines += [f"  {peer:<24} {s['state']:<12} {s['error']}".rstrip() for peer, s in found["sessions"].items()]
    return lines


@click.command()
@click.argument("what", type=click.Choice(["plan", "diff", "config", "snapshot", "why"]))
@click.argument("key", default="")
@run_dir
@as_json
def show(what: str, key: str, run_dir: Path, output: str) -> None:
    """What the agent wants (plan), what differs (diff), its settings, all it knows, or why a prefix goes where it goes.

    \b
    felixlite show plan
    felixlite show config
    felixlite show why 192.168.92.128/26
    """
    if (what == "why") != bool(key):
        raise click.UsageError("`show why` needs a prefix or an address, the others need nothing")
    answer = _ask(run_dir, what, key=key)
    if output == "json":
        click.echo(json.dumps(answer, indent=2))
    elif what == "config":
        for name, value in answer["settings"].items():
            click.echo(f"{name:<34} {_short(value['value']):<28} {value['from']}")
        for warning in answer["warnings"]:
            click.echo(f"warning: {warning}", err=True)
    elif what == "snapshot":
        click.echo(json.dumps(answer, indent=2))
    else:
        click.echo("\n".join(answer) or "nothing")


def _short(value: Any) -> str:
    text = ",".join(map(str, value)) if isinstance(value, list) else str(value)
    return text if len(text) <= 28 else text[:25] + "..."


@click.command()
@file_options
@run_dir
@as_json
@click.option("--cluster", is_flag=True, help="The overlays of all nodes, by the store alone; needs no agent here.")
@store_option
@click.pass_obj
def plan(
    session: Session, filenames: tuple[str, ...], recursive: bool, run_dir: Path, output: str, cluster: bool
) -> int:
    """What a change would do on this node, in every table, touching nothing. Exit code 0: nothing, 1: changes, 2: error.

    \b
    felixlite plan -f pool.yaml
    felixlite plan -f pool.yaml --cluster --store etcd://10.0.0.1:2379
    """
    from felixlite.cli.files import loaded  # YAML, which `status` has no need of

    session.error_code = 2
    given = [found.document for found in loaded(filenames, recursive=recursive)]
    if cluster:
        changes: Sequence[Any] = _cluster_plan(session, given, output)
    else:
        changes = _ask(run_dir, "what-if", documents=given)
        nothing = "nothing would change on this node"
        click.echo(json.dumps(changes, indent=2) if output == "json" else "\n".join(changes) or nothing)
    return int(bool(changes))


def _cluster_plan(session: Session, given: list[dict[str, Any]], output: str) -> Sequence[Any]:
    from felixlite.cli.plan_cluster import as_text, as_values, planned

    rows, notes = planned(session.store, given)
    for note in notes:
        session.warn(note)
    text = as_text(rows, styled=session.is_terminal)
    click.echo(json.dumps(as_values(rows), indent=2) if output == "json" else text)
    return rows
