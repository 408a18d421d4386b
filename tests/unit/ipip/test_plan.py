from textwrap import dedent

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.ipip.plan import (
    Encapsulation,
    block_routes,
    covered,
    encapsulation,
    inside_routes,
    less,
    outside_routes,
    routes,
)
from tests.support.overlays import A, P, block, learned, node, node6, on_eth0, pool, routes_as_typed

N1 = node("n1", "192.0.2.11/24", vxlan_address=A("10.42.19.65"))
N2 = node("n2", "192.0.2.12/24", vxlan_address=A("10.42.20.1"))
N3 = node("n3", "198.51.100.13/24", vxlan_address=A("10.42.77.1"))
BLOCKS = [block("10.42.19.64/26", "n1"), block("10.42.20.0/26", "n2"), block("10.42.77.0/26", "n3")]
FROM_BGP = {
    "10.42.20.0/26": learned("192.0.2.12"),
    "10.42.77.0/26": learned("192.0.2.1"),
    "0.0.0.0/0": learned("192.0.2.1"),
    "203.0.113.0/24": learned("192.0.2.1", "192.0.2.2"),
}


def n1(*pools, **more):
    return on_eth0(N1, N2, N3, eth0=["192.0.2.11/24"], pools=pools, **more)


@pytest.mark.parametrize(
    ("modes", "near", "far"),
    [
        ({}, "native", "native"),
        ({"ipip": "Always"}, "ipip", "ipip"),
        ({"ipip": "CrossSubnet"}, "native", "ipip"),
        ({"vxlan": "Always"}, "vxlan", "vxlan"),
        ({"vxlan": "CrossSubnet"}, "native", "vxlan"),
    ],
)
def test_always_and_crosssubnet_and_never_decide_by_the_subnet_of_this_node(modes, near, far):
    assert encapsulation(pool(**modes), N1, N2) == near
    assert encapsulation(pool(**modes), N1, N3) == far


def test_own_prefix_length_decides_so_that_a_pair_may_differ_in_its_two_directions():
    wide, narrow = node("w", "10.0.0.1/16"), node("n", "10.0.1.1/24")

    assert encapsulation(pool(ipip="CrossSubnet"), wide, narrow) == "native"
    assert encapsulation(pool(ipip="CrossSubnet"), narrow, wide) == "ipip"


def test_ipv6_is_never_sent_as_ipip():
    a, b = node6("a", "fd00::1/64"), node6("b", "fd01::1/64")

    assert encapsulation(pool("fd42::/64", ipip="Always"), a, b) == "native"
    assert encapsulation(pool("fd42::/64", vxlan="CrossSubnet"), a, b) == "vxlan"


def test_always_ipip_reproduces_the_reference_table():
    n246, n247 = node("n246", "192.168.26.246/24"), node("n247", "192.168.26.247/24")
    ground = on_eth0(n247, n246, eth0=["192.168.26.247/24"], pools=[pool("100.64.0.0/10", ipip="Always")])
    blocks = [block("100.89.161.128/26", "n247"), block("100.118.167.128/26", "n246")]

    assert routes_as_typed(ground, blocks) == dedent("""\
        ip route replace 100.118.167.128/26 via 192.168.26.246 dev tunl0 onlink proto 80
        """)


def test_the_reference_cluster_of_three_nodes_seen_from_its_first():
    a = node("a", "10.20.0.5/24")
    others = [node("b", "10.20.0.3/24"), node("c", "10.20.0.13/24")]
    ground = on_eth0(a, *others, eth0=["10.20.0.5/24"], pools=[pool("192.168.0.0/16", ipip="Always")])
    blocks = [block("192.168.92.128/26", "a"), block("192.168.135.128/26", "b"), block("192.168.182.128/26", "c")]

    assert routes_as_typed(ground, blocks) == dedent("""\
        ip route replace 192.168.135.128/26 via 10.20.0.3 dev tunl0 onlink proto 80
        ip route replace 192.168.182.128/26 via 10.20.0.13 dev tunl0 onlink proto 80
        """)


def test_crosssubnet_goes_plain_on_the_shared_subnet_and_by_tunnel_elsewhere():
    assert routes_as_typed(n1(pool(ipip="CrossSubnet")), BLOCKS, FROM_BGP) == dedent("""\
        ip route replace 0.0.0.0/0 metric 1024 via 192.0.2.1 proto 80
        ip route replace 10.42.20.0/26 via 192.0.2.12 dev eth0 proto 80
        ip route replace 10.42.77.0/26 via 198.51.100.13 dev tunl0 onlink proto 80
        ip route replace 203.0.113.0/24 metric 1024 nexthop via 192.0.2.1 nexthop via 192.0.2.2 proto 80
        """)


def test_never_sends_the_far_block_where_bgp_says():
    assert routes_as_typed(n1(pool()), BLOCKS, FROM_BGP).splitlines()[1:3] == [
        "ip route replace 10.42.20.0/26 via 192.0.2.12 dev eth0 proto 80",
        "ip route replace 10.42.77.0/26 via 192.0.2.1 proto 80",
    ]


def test_vxlan_goes_to_the_far_tunnel_address():
    assert routes_as_typed(n1(pool(vxlan="Always")), BLOCKS) == dedent("""\
        ip route replace 10.42.20.0/26 via 10.42.20.1 dev vxlan.calico onlink proto 80
        ip route replace 10.42.77.0/26 via 10.42.77.1 dev vxlan.calico onlink proto 80
        """)


def test_ipv6_vxlan_has_a_device_of_its_own():
    a, b = node6("a", "fd00::1/64"), node6("b", "fd01::1/64", vxlan_address_v6=A("fd42::7f"))
    ground = on_eth0(a, b, eth0=["fd00::1/64"], pools=[pool("fd42::/64", vxlan="Always")])

    assert routes_as_typed(ground, [block("fd42::40/122", "b")]) == (
        "ip route replace fd42::40/122 via fd42::7f dev vxlan-v6.calico onlink proto 80\n"
    )


def test_the_longest_pool_decides_about_a_block_that_two_cover():
    inner = pool("10.42.77.0/24", name="inner", vxlan="Always")

    rows = routes_as_typed(n1(pool(ipip="Always"), inner), BLOCKS)

    assert "10.42.20.0/26 via 192.0.2.12 dev tunl0" in rows
    assert "10.42.77.0/26 via 10.42.77.1 dev vxlan.calico" in rows


def test_a_borrowed_address_goes_to_its_borrower_also_from_the_node_that_owns_the_block():
    lent = [block("10.42.19.64/26", "n1", n3="10.42.19.70"), block("10.42.20.0/26", "n2", n1="10.42.20.5")]

    assert routes_as_typed(n1(pool(ipip="Always")), lent) == dedent("""\
        ip route replace 10.42.19.70/32 via 198.51.100.13 dev tunl0 onlink proto 80
        ip route replace 10.42.20.0/26 via 192.0.2.12 dev tunl0 onlink proto 80
        """)


def test_a_block_without_an_owner_or_of_a_node_without_address_has_no_route():
    ground = on_eth0(N1, node("bare"), eth0=["192.0.2.11/24"], pools=[pool(ipip="Always")])

    assert routes_as_typed(ground, [block("10.42.1.0/26", None), block("10.42.2.0/26", "bare")]) == ""
    assert routes_as_typed(ground, [block("10.42.3.0/26", "gone")]) == ""


def test_a_gateway_that_is_on_no_subnet_of_ours_makes_no_route():
    assert routes_as_typed(n1(pool()), BLOCKS[2:], {"10.42.77.0/26": learned("198.51.100.13")}) == ""


def test_where_the_best_gateway_is_on_no_subnet_of_ours_the_next_best_that_is_takes_its_place():
    """The far node itself says it best, but natively only the router of this subnet leads there."""
    both = learned("198.51.100.13", others=((A("203.0.113.9"), "x"), (A("192.0.2.1"), "tor")))

    assert routes_as_typed(n1(pool()), BLOCKS[2:], {"10.42.77.0/26": both}) == (
        "ip route replace 10.42.77.0/26 via 192.0.2.1 proto 80\n"
    )
    assert "via 198.51.100.13 dev tunl0" in routes_as_typed(n1(pool(ipip="Always")), [], {"10.42.77.0/26": both})


def test_a_learned_prefix_of_a_pool_is_tunnelled_to_the_node_that_is_its_next_hop():
    ground = n1(pool(ipip="Always"))

    assert routes_as_typed(ground, [], {"10.42.77.9/32": learned("198.51.100.13")}) == (
        "ip route replace 10.42.77.9/32 via 198.51.100.13 dev tunl0 onlink proto 80\n"
    )


def test_a_learned_prefix_of_a_pool_whose_next_hop_is_no_node_goes_as_learned():
    assert routes_as_typed(n1(pool(ipip="Always")), [], {"10.42.99.0/26": learned("192.0.2.1")}) == (
        "ip route replace 10.42.99.0/26 via 192.0.2.1 proto 80\n"
    )


def test_an_address_that_two_nodes_announce_is_shared_between_their_tunnels():
    assert routes_as_typed(n1(pool(ipip="Always")), [], {"10.42.99.1/32": learned("192.0.2.12", "198.51.100.13")}) == (
        "ip route replace 10.42.99.1/32 nexthop via 192.0.2.12 dev tunl0 onlink"
        " nexthop via 198.51.100.13 dev tunl0 onlink proto 80\n"
    )


def test_what_bgp_says_about_a_block_of_ours_never_makes_a_route():
    assert "10.42.19.64/26" not in routes_as_typed(n1(pool()), BLOCKS, {"10.42.19.64/26": learned("192.0.2.1")})


def test_a_destination_that_is_held_back_keeps_the_encapsulation_in_use():
    ground = n1(pool(ipip="Always"), sending={("p", "n3"): Encapsulation.VXLAN})

    assert "10.42.77.0/26 via 10.42.77.1 dev vxlan.calico" in routes_as_typed(ground, BLOCKS)


def test_switching_a_mode_changes_rows_and_no_keys():
    """A replace is a replace: nothing passes through absent."""
    said = {P(p): what for p, what in FROM_BGP.items()}
    plans = [
        routes({b.cidr: b for b in BLOCKS}, said, n1(p))
        for p in (
            pool(),
            pool(ipip="Always"),
            pool(ipip="CrossSubnet"),
            pool(vxlan="Always"),
            pool(vxlan="CrossSubnet"),
        )
    ]

    assert len({frozenset(plan) for plan in plans}) == 1


@settings(max_examples=30, deadline=None)
@given(st.lists(st.sampled_from(sorted(FROM_BGP)), unique=True), st.sampled_from(["Never", "Always", "CrossSubnet"]))
def test_one_prefix_at_a_time_gives_what_all_at_once_gives(prefixes, mode):
    ground = n1(pool(ipip=mode))
    said = {P(p): FROM_BGP[p] for p in prefixes}
    blocks = {b.cidr: b for b in BLOCKS}

    inside = {k: v for p, s in said.items() for k, v in covered({p: s}, ground.pools).items()}
    rows = {}
    for prefix, found in inside.items():
        rows |= inside_routes({prefix: found}, ground)
    for prefix, s in said.items():
        rows |= outside_routes({prefix: s}, ground.pools, ground.reach)
    by_block = {}
    for cidr, b in blocks.items():
        by_block |= block_routes({cidr: b}, ground)

    assert {**less(rows, by_block), **by_block} == routes(blocks, said, ground)
