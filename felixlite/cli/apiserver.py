"""`felixlite apiserver`: the store for kubectl, where there is no Kubernetes."""

import logging
import signal
import sys
import threading
from pathlib import Path

import click

from felixlite.cli.session import Session, store_option

SWITCH = 0.0005  # seconds; who answers a request waits no longer for the thread that writes to a thousand watchers
STATE = "/var/lib/felixlite/apiserver"


@click.command()
@click.option("--host", default="127.0.0.1", show_default=True, help="Address to listen at; 0.0.0.0 for all.")
@click.option("--port", type=click.IntRange(0, 65535), default=6443, show_default=True, help="0: any that is free.")
@click.option(
    "--name",
    "names",
    multiple=True,
    metavar="NAME",
    help="A name or address by which clients reach it; may be repeated.",
)
@click.option(
    "--state-dir",
    type=click.Path(path_type=Path),
    default=STATE,
    show_default=True,
    help="Where its CA, certificates and token are kept; made on the first start.",
)
@click.option(
    "--kubeconfig-out",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="Write what kubectl needs to reach and to be let in by this server.",
)
@click.option("--read-only", is_flag=True, help="Refuse every write.")
@click.option("--permissive", is_flag=True, help="Take objects of crd.projectcalico.org/v1 as they come.")
@click.option(
    "--audit-log",
    type=click.Path(path_type=Path),
    default=None,
    metavar="FILE",
    help="A line of JSON for each request.",
)
@store_option
@click.pass_obj
def apiserver(
    session: Session,
    host: str,
    port: int,
    names: tuple[str, ...],
    state_dir: Path,
    kubeconfig_out: Path | None,
    read_only: bool,
    permissive: bool,
    audit_log: Path | None,
) -> None:
    """Serve the store as a Kubernetes-style API, so that kubectl works on bare machines.

    \b
    felixlite apiserver --store etcd://10.0.0.1:2379 --kubeconfig-out ~/.kube/felixlite
    kubectl --kubeconfig ~/.kube/felixlite get ippools,bgppeers -o wide
    kubectl --kubeconfig ~/.kube/felixlite edit ippool default-ipv4-ippool

    The store is etcd:// or, to try things out, memory://.
    """
    from felixlite.apiserver.running import Settings, audit_to, running

    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")
    sys.setswitchinterval(SWITCH)
    stopped = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stopped.set())
    settings = Settings(
        state_dir, host, port, names, read_only, permissive, audit=audit_to(audit_log) if audit_log else None
    )
    with running(session.store, settings) as server:
        if kubeconfig_out:
            server.identity.write_kubeconfig(kubeconfig_out, server.url)
        logging.getLogger("felixlite").info("serving %s at %s", session.store.address, server.url)
        stopped.wait()
