from felixlite.addresses import Prefix
from felixlite.ipam.plan import blackholes
from felixlite.model.inside import Affinity, AffinityState


def affinity(cidr, node="n1", state=AffinityState.CONFIRMED, **more):
    found = Affinity(node, Prefix.parse(cidr), state, **more)
    return {(found.node, found.cidr): found}


def test_each_confirmed_block_of_this_node_is_a_blackhole():
    affinities = affinity("10.0.0.0/26") | affinity("fd00::/122") | affinity("10.0.0.64/26", "n2")

    assert sorted(f"{key} {row}" for key, row in blackholes("n1", affinities).items()) == [
        "ip route replace 10.0.0.0/26 blackhole proto 80",
        "ip route replace fd00::/122 blackhole proto 80",
    ]


def test_what_is_not_certainly_ours_or_is_a_single_address_gets_no_blackhole():
    affinities = (
        affinity("10.0.0.0/26", state=AffinityState.PENDING)
        | affinity("10.0.0.64/26", state=AffinityState.PENDING_DELETION)
        | affinity("10.0.0.128/32")
        | affinity("fd00::1/128")
        | affinity("10.0.1.0/26", virtual=True)
    )

    assert blackholes("n1", affinities) == {}
