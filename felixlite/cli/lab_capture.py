"""`felixlite lab capture`: what is on the wire, outside and inside of the tunnels."""

from contextlib import closing, nullcontext
from pathlib import Path

import click

from felixlite.cli.lab_option import lab_name
from felixlite.lab.capture import Pcap, concerns, frames, lines, opened
from felixlite.lab.lab import Lab
from felixlite.lab.packets import headers


@click.command()
@lab_name
@click.argument("where", metavar="NODE|POD|ROUTER")
@click.option("-i", "--interface", default="eth0", show_default=True)
@click.option("--decap", is_flag=True, help="Also the headers inside of a tunnel, one line each.")
@click.option("--ip", "address", default="", help="Only what has this address, outside or inside.")
@click.option("-c", "--count", type=click.IntRange(1), help="Stop after so many packets.")
@click.option("--seconds", default=3600.0, help="Stop after so long. Default: an hour.")
@click.option(
    "-w", "--write", type=click.Path(path_type=Path, dir_okay=False), help="A pcap; with --decap of what was inside."
)
def capture(
    name: str,
    where: str,
    interface: str,
    decap: bool,
    address: str,
    count: int | None,
    seconds: float,
    write: Path | None,
) -> None:
    """The packets that pass an interface: who to whom, what, how many bytes.

    \b
    felixlite lab capture n1 --decap
    felixlite lab capture r1 -i s1 --ip 10.244.0.1 -c 10 -w /tmp/r1.pcap
    """
    found = Lab.load(name)
    with opened(found.namespace_of(where), interface) as listening, _pcap(write, decap=decap) as pcap:
        seen = 0
        for at, frame in frames(listening, seconds):
            inside = headers(frame)
            if not inside or not concerns(inside, address):
                continue
            for line in lines(inside, decap=decap):
                click.echo(line)
            if pcap:
                pcap.add(at, frame, inside)
            seen += 1
            if seen == count:
                return


def _pcap(path: Path | None, *, decap: bool) -> closing[Pcap] | nullcontext[None]:
    return closing(Pcap(path, decap=decap)) if path else nullcontext()
