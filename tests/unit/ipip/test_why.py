from textwrap import dedent

from felixlite.ipip.plan import Encapsulation
from felixlite.ipip.why import gaps, why
from tests.support.overlays import A, P, block, learned, node, on_eth0, pool

N1 = node("n1", "192.0.2.11/24")
N2 = node("n2", "192.0.2.12/24")
N3 = node("n3", "198.51.100.13/24", vxlan_address=A("10.42.77.1"))
BLOCKS = {b.cidr: b for b in [block("10.42.19.64/26", "n1", n3="10.42.19.70"), block("10.42.77.0/26", "n3")]}


def ask(what, pools, said=None, **more):
    ground = on_eth0(N1, N2, N3, eth0=["192.0.2.11/24"], pools=pools, **more)
    told = {P(prefix): path for prefix, path in (said or {}).items()}
    return "\n".join(why(P(what), BLOCKS, told, ground)) + "\n"


def test_the_whole_decision_is_told():
    assert ask("10.42.77.0/26", [pool(ipip="CrossSubnet")]) == dedent("""\
        10.42.77.0/26 is a block of n3.
        Pool p (10.42.0.0/16) covers it: ipipMode CrossSubnet.
        n3 (198.51.100.13) is not on our subnet 192.0.2.0/24.
        So traffic goes through IPIP.
        ip route replace 10.42.77.0/26 via 198.51.100.13 dev tunl0 onlink proto 80
        """)


def test_a_route_that_has_no_way_is_told_with_its_reason():
    assert ask("10.42.77.3/32", [pool()]).splitlines()[-1] == (
        "No route: n3 is not on our subnet, the pool says no encapsulation, and no BGP peer announces it."
    )
    assert ask("10.42.77.3/32", [pool()], {"10.42.77.0/26": learned("198.51.100.13")}).splitlines()[-1] == (
        "No route: gateway 198.51.100.13 is not on a subnet of ours; a router of this subnet has to announce it."
    )


def test_a_learned_way_is_told_with_who_said_it():
    assert ask("10.42.77.0/26", [pool()], {"10.42.77.0/26": learned("192.0.2.1")}).splitlines()[-2:] == [
        "10.42.77.0/26 is learned by BGP: 192.0.2.1 says via 192.0.2.1.",
        "ip route replace 10.42.77.0/26 via 192.0.2.1 proto 80",
    ]


def test_a_borrowed_address_is_told_as_such():
    assert ask("10.42.19.70/32", [pool(ipip="Always")]).splitlines()[0] == (
        "10.42.19.70/32 is in block 10.42.19.64/26 of n1 and was borrowed by n3."
    )


def test_what_is_held_back_is_told():
    told = ask("10.42.77.0/26", [pool(ipip="Always")], sending={("p", "n3"): Encapsulation.VXLAN})

    assert "For the moment it still goes through VXLAN: n3 does not say yet that it accepts ipip." in told


def test_own_blocks_and_strangers_are_told():
    assert "That is this node" in ask("10.42.19.64/26", [pool()])
    assert ask("172.30.0.1/32", [pool()]) == dedent("""\
        172.30.0.1/32 is in no block, and no BGP peer announces it.
        No pool covers 172.30.0.1/32.
        No route of ours leads there.
        """)


def test_blocks_that_nothing_leads_to_are_listed():
    blocks = {**BLOCKS, P("10.42.88.0/26"): block("10.42.88.0/26", "gone")}
    ground = on_eth0(N1, N2, N3, eth0=["192.0.2.11/24"], pools=[pool()])

    assert list(gaps(blocks, {P("10.42.77.0/26"): learned("198.51.100.13")}, ground)) == [
        (
            "no route to 10.42.77.0/26 of n3: gateway 198.51.100.13 is not on a subnet of ours;"
            " a router of this subnet has to announce it"
        ),
        "no route to 10.42.88.0/26: there is no Node gone",
    ]
