"""`felixlite cni`: put the plugin where the container runtime finds it, take it away, show its configuration."""

import json
from pathlib import Path
from typing import Any

import click

from felixlite.cni import install as installing
from felixlite.cni.request import VERSIONS

BIN = Path("/opt/cni/bin")
CONF = Path("/etc/cni/net.d")


def settings_options(command: Any) -> Any:
    """What `install` and `config` have in common: what the conflist says."""
    for option in reversed(
        (
            click.option(
                "--socket", default="/run/felixlite/cni.sock", show_default=True, help="Where the agent listens."
            ),
            click.option("--network", default="k8s-pod-network", show_default=True, help="The network's name."),
            click.option("--cni-version", type=click.Choice(VERSIONS), default="1.0.0", show_default=True),
            click.option("--mtu", default=0, show_default=True, help="Of pods; 0: what the pools leave room for."),
            click.option("--ipv6", is_flag=True, help="Give pods an IPv6 address besides the IPv4 one."),
            click.option("--bin-dir", type=click.Path(path_type=Path), default=BIN, show_default=True),
            click.option(
                "--chain",
                multiple=True,
                metavar="PLUGIN",
                help="Plugins behind this one. [default: portmap, if it is there]",
            ),
        )
    ):
        command = option(command)
    return command


def _settings(
    socket: str, network: str, cni_version: str, mtu: int, ipv6: bool, bin_dir: Path, chain: tuple[str, ...]
) -> installing.Settings:
    chained = chain or (("portmap",) if (bin_dir / "portmap").exists() else ())
    return installing.Settings(Path(socket), network, cni_version, mtu, ipv6, chained)


@click.group()
def cni() -> None:
    """The plugin that a container runtime calls for each pod.

    \b
    felixlite cni install
    felixlite cni install --uninstall
    felixlite cni config --mtu 1400
    """


@cni.command()
@settings_options
@click.option("--conf-dir", type=click.Path(path_type=Path), default=CONF, show_default=True)
@click.option("--conf-name", default="10-felixlite.conflist", show_default=True)
@click.option(
    "--plugin",
    type=click.Choice(["auto", "built", "compiled", "python"]),
    default="auto",
    show_default=True,
    help="built: comes with the package; compiled: here and now; auto: the fastest there is.",
)
@click.option("--uninstall", is_flag=True, help="Remove conflist and plugin again.")
def install(conf_dir: Path, conf_name: str, plugin: Any, uninstall: bool, **given: Any) -> None:
    """Write the plugin, then the conflist: from that moment on the runtime uses it."""
    bin_dir, conf_file = given["bin_dir"], conf_dir / conf_name
    if uninstall:
        removed = installing.uninstall(bin_dir, conf_file)
        click.echo("\n".join(f"removed {path}" for path in removed) or "there was nothing to remove")
        return
    said = installing.install(bin_dir, conf_file, _settings(**given), plugin)
    click.echo(f"wrote {bin_dir / installing.TYPE}: {said}\nwrote {conf_file}")


@cni.command()
@settings_options
def config(**given: Any) -> None:
    """Print the conflist that `install` would write."""
    click.echo(json.dumps(installing.conflist(_settings(**given)), indent=2))
