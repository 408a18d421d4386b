"""The store of a lab: one etcd, or several members of one, all on the management network and in the switch's namespace.

Every member has an address of its own, so each can be stopped and started alone.  The data live as long as the lab;
nothing is synced to disk, because a lab that loses its power loses everything anyway.
"""

from functools import partial
from pathlib import Path

from felixlite.errors import FelixliteError
from felixlite.lab import world
from felixlite.lab.topology import Topology


def url(topology: Topology) -> str:
    return "etcd://" + ",".join(f"{address.ip}:2379" for address in topology.store_addresses)


def start(topology: Topology, directory: Path, members: range | None = None) -> None:
    """Start members (all, unless told which) and wait until each answers."""
    numbers = members or range(topology.members)
    for number in numbers:
        world.start(topology.switch, _command(topology, directory, number), directory / f"etcd{number + 1}.log")
    for number in numbers:
        world.wait_for(partial(_answers, topology, number), f"an answer of etcd member {number + 1}", 60)


def stop(topology: Topology, members: range | None = None) -> None:
    """kill -9."""
    for number in members or range(topology.members):
        for pid in pids(topology, number):
            world.signal_and_wait(pid, 9)


def pids(topology: Topology, number: int) -> list[int]:
    marks = f"etcd --name e{number + 1} "
    return [pid for pid in world.processes(topology.switch) if world.command_of(pid).startswith(marks)]


def _client(topology: Topology, number: int) -> str:
    return f"http://{topology.store_addresses[number].ip}:2379"


def _peer(topology: Topology, number: int) -> str:
    return f"http://{topology.store_addresses[number].ip}:2380"


def _command(topology: Topology, directory: Path, number: int) -> list[str]:
    cluster = ",".join(f"e{n + 1}={_peer(topology, n)}" for n in range(topology.members))
    client, peer = _client(topology, number), _peer(topology, number)
    return [
        "etcd", "--name", f"e{number + 1}", "--data-dir", str(directory / f"etcd{number + 1}"), "--unsafe-no-fsync",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", cluster,
        "--log-level", "error",
    ]  # fmt: skip


def _answers(topology: Topology, number: int) -> bool:
    try:
        world.run(
            ["etcdctl", "--endpoints", _client(topology, number), "endpoint", "health"], namespace=topology.switch
        )
    except FelixliteError:
        return False
    return True
