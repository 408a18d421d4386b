"""Canned clusters for the tests of the overlays, and plans as text that a person would type."""

from ipaddress import IPv4Interface, IPv6Interface, ip_address

from felixlite.addresses import Prefix
from felixlite.ipip.plan import Ground, ground, routes
from felixlite.model.inside import Block, Mode, Node, Pool
from felixlite.snapshot import Learned, LinkState

P = Prefix.parse
A = ip_address


def pool(cidr="10.42.0.0/16", name="p", ipip="Never", vxlan="Never"):
    return Pool(name, P(cidr), ipip=Mode(ipip), vxlan=Mode(vxlan))


def node(name, ipv4=None, **more):
    return Node(name, ipv4=IPv4Interface(ipv4) if ipv4 else None, **more)


def node6(name, ipv6, **more):
    return Node(name, ipv6=IPv6Interface(ipv6), **more)


def block(cidr, owner, **borrowed):
    """`block("10.42.1.0/26", "n1", n2="10.42.1.9")`: n2 uses 10.42.1.9."""
    return Block(P(cidr), owner, {A(address): user for user, address in borrowed.items()})


def learned(*hops, peers=None, **more):
    return Learned(tuple(map(A, hops)), peers or hops, **more)


def link(name, kind="", mtu=1500, up=True):
    return LinkState(name, 1, kind, up, mtu, "02:00:00:00:00:01")


def on_eth0(*nodes, eth0, pools=(), sending=None) -> Ground:
    """The first node's view; its addresses are on eth0."""
    here = nodes[0]
    return ground(
        here,
        {n.name: n for n in nodes},
        {p.name: p for p in pools},
        {"eth0": link("eth0")},
        {("eth0", text): _subnet(text) for text in eth0},
        sending,
    )


def _subnet(text):
    address, length = text.split("/")
    return Prefix.containing(A(address), int(length))


def typed(rows):
    """Sorted lines, one a row."""
    return "".join(f"{key} {row}\n" for key, row in sorted(rows.items()))


def routes_as_typed(ground, blocks=(), learned=None):
    return typed(routes({b.cidr: b for b in blocks}, {P(p): what for p, what in (learned or {}).items()}, ground))
