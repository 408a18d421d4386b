"""`felixlite controllers`: what has to be done once for the whole cluster, by one process at a time."""

import logging
import os
import signal
import socket
from typing import Any

import click

from felixlite.cli.session import Session, store_option

log = logging.getLogger("felixlite")


@click.command()
@click.option("--identity", default="", help="Who holds the lease. Default: the host's name and this process.")
@click.option("--metrics-host", default="127.0.0.1", show_default=True, help="Address of the metrics server.")
@click.option("--metrics-port", type=click.IntRange(0, 65535), default=9094, show_default=True, help="0: none.")
@click.option("--lease-seconds", type=click.FloatRange(1), default=15.0, show_default=True, help="Of a silent holder.")
@click.option(
    "--kubernetes", metavar="URL", default="", help="With another store: copy labels and the end of Nodes from there."
)
@store_option
@click.pass_obj
def controllers(
    session: Session, identity: str, metrics_host: str, metrics_port: int, lease_seconds: float, kubernetes: str
) -> None:
    """Collect leaked addresses and what deleted nodes left; judge pools; end pools and tiers. Several may run: one acts.

    \b
    felixlite controllers --store etcd://10.0.0.1:2379
    felixlite controllers --store etcd://10.0.0.1:2379 --kubernetes kubernetes://

    Each decision is one line of the log, with its reason. KubeControllersConfiguration `default` sets
    controllers.node.leakGracePeriod (15m; 0s: leaked addresses are left to `felixlite ipam check`).
    """
    from felixlite.controllers.team import Team
    from felixlite.datastore import connect
    from felixlite.health import HttpPages, metrics_text

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    theirs = connect(kubernetes) if kubernetes else None
    team = Team(session.store, identity or f"{socket.gethostname()}-{os.getpid()}", _tell, lease_seconds, theirs)

    def stop(*_: Any) -> None:
        team.stop()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    pages = None
    if metrics_port:
        page = {"/metrics": lambda: (200, metrics_text(team.samples()))}
        pages = HttpPages(metrics_host, metrics_port, page, "--metrics-port")
        pages.start()
    team.run()
    if pages:
        pages.close()


def _tell(event: Any) -> None:
    log.log(logging.WARNING if event.failed else logging.INFO, "%s", event)
