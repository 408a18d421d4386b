"""`felixlite version` and `felixlite completion`."""

import platform
from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import click
from click.shell_completion import get_completion_class

import felixlite
from felixlite.cli.session import Session, store_option
from felixlite.datastore.store import Key
from felixlite.errors import FelixliteError

LIBRARIES = ("exabgp", "pyroute2", "python-iptables", "etcd3", "pydantic")


@click.command()
@click.option("--client", is_flag=True, help="Do not ask the store.")
@store_option
@click.pass_obj
def version(session: Session, client: bool) -> None:
    """Versions of the command, of the libraries it runs on, and of the cluster.

    \b
    felixlite version
    felixlite version --client
    """
    click.echo(f"felixlite {felixlite.__version__}, Python {platform.python_version()}")
    click.echo(", ".join(f"{name} {_installed(name)}" for name in LIBRARIES))
    if not client:
        click.echo(f"cluster: {_cluster(session)}")


def _installed(name: str) -> str:
    try:
        return installed(name)
    except PackageNotFoundError:
        return "(not installed)"


def _cluster(session: Session) -> str:
    try:
        entry = session.store.get(Key("ClusterInformation", "default"))
    except FelixliteError as error:
        return f"not known: {error}"
    spec = entry.document.get("spec", {}) if entry else {}
    if not spec:
        return f"nothing at {session.url} yet"
    return f"{spec.get('clusterType') or 'felixlite'}, GUID {spec.get('clusterGUID') or '(none)'}"


@click.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_context
def completion(ctx: click.Context, shell: str) -> None:
    """The script that makes a shell complete commands, kinds and names.

    \b
    felixlite completion bash >/etc/bash_completion.d/felixlite
    source <(felixlite completion zsh)
    """
    root = ctx.find_root()
    made = get_completion_class(shell)
    if made is None:
        raise click.UsageError(f"there is no completion for {shell}")
    click.echo(made(root.command, {}, "felixlite", "_FELIXLITE_COMPLETE").source())
