"""Under which source packets arrive, in every overlay mode and on every backend, next to a Docker that masquerades the
pods' range.

The receivers tell, and so does a capture of every node's cable.
"""

import socket
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from felixlite.lab import world
from felixlite.lab.capture import opened
from felixlite.lab.lab import POOL, Lab
from felixlite.lab.packets import SNAP, headers
from tests.lab.test_switch import CROSS, NODES, RING, VXLAN_CROSS, switched
from tests.support.backends import BACKENDS, moved

DOCKERS_RULE = ["-s", POOL, "!", "-o", "docker0", "-j", "MASQUERADE"]


@contextmanager
def docker(lab: Lab, flavour: str = "nft") -> Iterator[None]:
    """Its default rule, for a bridge whose range is the pool, on every node, in the iptables that the host uses."""
    program = [f"iptables-{flavour}", *(["-w", "60"] if flavour == "legacy" else [])]

    def nat(action: str) -> None:
        for node in lab.topology.node_machines():
            world.run([*program, "-t", "nat", action, "POSTROUTING", *DOCKERS_RULE], namespace=node.namespace)

    nat("-A")
    try:
        yield
    finally:
        nat("-D")


@pytest.fixture
def crossing(configurable: Lab) -> Iterator[Lab]:
    """CrossSubnet before and afterwards."""
    yield configurable
    switched(configurable, CROSS)


def warned(lab: Lab) -> bool:
    return any("rewrites what pods send to pods" in note for note in lab.status("n1")["notes"])


@pytest.mark.parametrize("backend", BACKENDS)
def test_pods_keep_their_addresses_in_every_mode_and_are_masqueraded_once_outside(crossing: Lab, backend: str) -> None:
    with docker(crossing, "legacy" if backend == "legacy" else "nft"):
        moved(crossing, backend, keepPodAddresses=True)
        for mode in [*RING, VXLAN_CROSS]:
            switched(crossing, mode)
            world.wait_for(lambda: are_right(crossing), f"the right sources in {mode}", 60.0)
            with captured(crossing) as wire:
                crossing.ping(count=2)
            assert_sources(crossing, wire, mode)


def are_right(lab: Lab) -> bool:
    return all(cell.is_right for cell in lab.ping(count=2))


Flows = set[tuple[str, str]]  # (source, destination) of the innermost headers of frames


@contextmanager
def captured(lab: Lab) -> Iterator[dict[str, Flows]]:
    """What passes each node's cable while the body runs, by the node's name."""
    taps = {node: opened(lab.topology.switch, f"{node}.eth0") for node in NODES}
    found: dict[str, Flows] = {}
    try:
        yield found
        for node, tap in taps.items():
            inner = [headers(frame)[-1:] for frame in waiting(tap)]
            found[node] = {(header.source, header.destination) for (header,) in filter(None, inner)}
    finally:
        for tap in taps.values():
            tap.close()


def waiting(tap: socket.socket) -> Iterator[bytes]:
    tap.setblocking(False)
    with suppress(BlockingIOError):
        while True:
            yield tap.recv(SNAP)


def assert_sources(lab: Lab, wire: dict[str, Flows], mode: dict[str, str]) -> None:
    pods = {pod.address: pod.node for pod in lab.pods()}
    nodes = {machine.name: str(machine.address) for machine in lab.topology.node_machines()}
    outside = str(lab.topology.outside.address)
    for node, flows in wire.items():
        own = {address for address, where in pods.items() if where == node}
        far = pods.keys() - own
        assert {(a, b) for a in own for b in far} <= flows, (mode, node)
        assert not {(nodes[node], b) for b in far} & flows, (mode, node)
        assert (nodes[node], outside) in flows, (mode, node)
        assert not {(a, outside) for a in own} & flows, (mode, node)


def test_status_names_the_rule_while_nothing_keeps_it_away(lab: Lab) -> None:
    assert not warned(lab)
    with docker(lab):
        world.wait_for(lambda: warned(lab), "the note in status", 30.0)  # keepPodAddresses may have gone just now
