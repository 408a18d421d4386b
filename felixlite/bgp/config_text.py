"""Peers -> the file that exabgp reads. Pure.

One neighbor section a peer, everything spelled out: a template's hold-time silently beats the neighbor's own.
The file holds passwords; whoever writes it (bgp/exabgp.py) keeps it from everybody else's eyes.
"""

from base64 import b64encode
from collections.abc import Mapping

from felixlite.bgp.rows import Peer

SERVICE = "felixlite"
RECEIVE = "receive { packets; update; open; notification; }"


def configuration(peers: Mapping[str, Peer], helper: str = "/bin/true") -> str:
    """`helper` is never run: our child takes the place of exabgp's helper process, whose name the sections need."""
    head = f"process {SERVICE} {{ run {helper}; encoder json; }}\n"
    return head + "\n".join(neighbor(key, peers[key]) for key in sorted(peers))


def neighbor(key: str, peer: Peer) -> str:
    lines = [
        f"router-id {peer.router_id};",
        f"local-address {peer.local_address};" if peer.local_address else "local-address auto;",
        f"local-as {peer.local_as};",
        f"peer-as {peer.peer_as or 'auto'};",
        f"hold-time {peer.hold_time};",
        f"connect {peer.port};",
        f"passive {'true' if peer.passive else 'false'};",
        "adj-rib-in false;",
        "adj-rib-out true;",
        "manual-eor true;",
    ]
    if peer.password is not None:
        # in base64 no character of a password can mean anything to exabgp's parser
        lines += [f"md5-password {b64encode(peer.password.encode()).decode()};", "md5-base64 true;"]
    if peer.ttl_security is not None:
        lines += ["outgoing-ttl 255;", f"incoming-ttl {256 - peer.ttl_security};"]
    lines += [
        f"capability {{ graceful-restart {peer.restart_time}; route-refresh enable; asn4 enable; }}",
        f"family {{ {' '.join(f'ipv{family} unicast;' for family in peer.families)} }}",
        # without families an empty capability is sent, and FRR refuses the OPEN
        *(["nexthop { ipv4 unicast ipv6; }"] if set(peer.families) == {4, 6} else []),
        f"api {{ processes [ {SERVICE} ]; neighbor-changes; negotiated; fsm; {RECEIVE} }}",
    ]
    return f"neighbor {key} {{\n" + "".join(f"    {line}\n" for line in lines) + "}\n"
