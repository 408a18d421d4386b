"""What BGP peers may say, for properties: peers, paths, strategies of talks, and a Rib that hears them."""

from collections.abc import Iterable
from dataclasses import replace
from ipaddress import IPv4Address, ip_address
from typing import Any

from hypothesis import strategies as st

from felixlite.addresses import Prefix
from felixlite.bgp.rib import Rib
from felixlite.bgp.rows import Peer
from felixlite.snapshot import Path

HERE = ip_address("10.0.0.1")
INTERNAL = Peer(local_as=64512, peer_as=64512, local_address=HERE, router_id=IPv4Address("10.0.0.1"))
EXTERNAL = replace(INTERNAL, peer_as=65000)


def path(hop: str = "10.0.0.9", **fields: Any) -> Path:
    return Path(next_hop=ip_address(hop), **fields)


def rib(**peers: Peer) -> Rib:
    """Peers a, b, ... at 10.0.0.11, 10.0.0.12, ..."""
    made = Rib()
    for number, (name, row) in enumerate(sorted(peers.items()), 11):
        made.open(name, row, ip_address(f"10.0.0.{number}"), IPv4Address(f"1.1.1.{number}"))
    return made


PREFIXES = [Prefix.parse(f"172.20.{i}.0/24") for i in range(3)]
hops = st.sampled_from(["10.0.0.7", "10.0.0.8", "10.0.0.9"])
equals = st.builds(path, hops)  # they share the traffic
paths = equals | st.builds(
    path,
    hops,
    as_path=st.sampled_from([(65000,), (65000, 1), (65000, 2), (65001, 1), (65000, 64512)]),
    local_preference=st.sampled_from(
        [None, 100, 200, 2147483647 - 512]
    ),  # the last one is a priority, as Calico tells it
    med=st.sampled_from([None, 0, 5]),
    origin=st.sampled_from([0, 2]),
    originator=st.sampled_from([None, IPv4Address("3.3.3.3")]),
    cluster_list=st.sampled_from([(), (IPv4Address("8.8.8.8"),)]),
)
PEERS = {"a": INTERNAL, "b": INTERNAL, "c": EXTERNAL}
# what each peer says, in its order: (prefix, path) announces, (prefix, None) withdraws
talks = st.lists(st.tuples(st.sampled_from(PREFIXES), st.none() | equals | paths), max_size=9)


def play(made: Rib, peer: str, said: Iterable[tuple[Prefix, Path | None]]) -> None:
    for prefix, told in said:
        if told is None:
            made.withdraw(peer, [prefix])
        else:
            made.announce(peer, told, [prefix])
