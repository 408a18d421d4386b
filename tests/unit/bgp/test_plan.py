"""Whom to peer with and what to tell whom."""

from dataclasses import replace
from ipaddress import IPv4Address, IPv4Interface, IPv6Interface, ip_address
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.bgp.announcing import Candidate, Speech, announcements, decide
from felixlite.bgp.plan import gateways, peers, router_id
from felixlite.bgp.rows import Announcement, AnnouncementKey, Peer
from felixlite.model.inside import (
    Affinity,
    AffinityState,
    BgpConfiguration,
    BgpFilter,
    BgpPeer,
    FilterOperation,
    FilterRule,
    Node,
    Pool,
    PrefixAdvertisement,
    SecretRef,
    Workload,
)
from felixlite.model.selector import parse
from felixlite.snapshot import Learned, Path

CONFIG = BgpConfiguration()
BLOCK = Prefix.parse("10.42.0.0/26")
POOL = {"p": Pool("p", Prefix.parse("10.42.0.0/16"))}


def node(name: str, last: int, **fields: Any) -> Node:
    return Node(name, ipv4=IPv4Interface(f"192.0.2.{last}/24"), **fields)


N1, N2, N3 = node("n1", 1), node("n2", 2), node("n3", 3)
NODES = {n.name: n for n in (N1, N2, N3)}


def rows(
    here: Node = N2, nodes: Any = NODES, config: Any = CONFIG, secrets: Any = None, filters: Any = None, **bgp: Any
) -> dict[str, Peer]:
    made = {name: replace(peer, name=name) for name, peer in bgp.items()}
    return dict(peers(here, nodes, made, config, filters or {}, secrets or {}).rows)


def test_the_mesh_is_everybody_else_and_one_of_two_dials() -> None:
    assert {key: row.passive for key, row in rows().items()} == {"192.0.2.1": False, "192.0.2.3": True}


def test_who_dials_is_decided_by_text() -> None:
    nodes = {"a": node("a", 10), "b": node("b", 9)}
    assert rows(nodes["a"], nodes)["192.0.2.9"].passive
    assert not rows(nodes["b"], nodes)["192.0.2.10"].passive


def test_no_mesh_when_it_is_off_or_with_reflectors() -> None:
    assert rows(config=replace(CONFIG, mesh=False)) == {}
    reflector = replace(N3, cluster_id=IPv4Address("1.1.1.1"))
    assert set(rows(nodes={**NODES, "n3": reflector})) == {"192.0.2.1"}
    assert rows(reflector) == {}


def test_both_families_have_their_own_sessions() -> None:
    dual = [replace(n, ipv6=IPv6Interface(f"fd00::{i}/64")) for i, n in enumerate((N1, N2), 1)]
    found = rows(dual[0], {n.name: n for n in dual})
    assert {key: row.families for key, row in found.items()} == {"192.0.2.2": (4,), "fd00::2": (6,)}


def test_a_global_peer_wins_over_one_for_the_node_and_over_the_mesh() -> None:
    at = ip_address("192.0.2.3")
    found = rows(specific=BgpPeer("", node="n2", peer_ip=at, asn=1), everywhere=BgpPeer("", peer_ip=at, asn=2))
    assert (found["192.0.2.3"].peer_as, found["192.0.2.3"].kind) == (2, "global")


def test_peers_of_other_nodes_and_ourselves_are_left_out() -> None:
    found = rows(
        config=replace(CONFIG, mesh=False),
        other=BgpPeer("", node="n1", peer_ip=ip_address("192.0.2.200"), asn=1),
        own=BgpPeer("", peer_ip=ip_address("192.0.2.2"), asn=1),
    )
    assert found == {}


def test_the_as_numbers() -> None:
    rr = BgpPeer("", peer_selector=parse("has(rr)"))
    nodes = {**NODES, "n3": replace(N3, labels={"rr": ""}, asn=65003)}
    found = rows(
        nodes=nodes,
        config=replace(CONFIG, mesh=False, asn=65500),
        selected=rr,
        tor=BgpPeer("", peer_ip=ip_address("192.0.2.200"), asn=4200000000, local_asn=65001),
        any=BgpPeer("", peer_ip=ip_address("192.0.2.201"), asn_relation="external"),
        same=BgpPeer("", peer_ip=ip_address("192.0.2.202"), asn_relation="internal"),
    )
    assert {key: (row.local_as, row.peer_as) for key, row in found.items()} == {
        "192.0.2.3": (65500, 65003),
        "192.0.2.200": (65001, 4200000000),
        "192.0.2.201": (65500, None),
        "192.0.2.202": (65500, 65500),
    }


@pytest.mark.parametrize(("reverse", "expected"), [(True, {"192.0.2.1", "192.0.2.2"}), (False, set())])
def test_a_selected_node_gets_the_other_end(reverse: bool, expected: set[str]) -> None:
    reflector = replace(N3, labels={"rr": ""}, cluster_id=IPv4Address("1.1.1.1"))
    peer = BgpPeer("", node_selector=parse("!has(rr)"), peer_selector=parse("has(rr)"), reverse=reverse)
    found = rows(reflector, {**NODES, "n3": reflector}, to_rr=peer)
    assert set(found) == expected
    assert all(row.client for row in found.values())


def test_a_named_password_that_is_not_there_withholds_that_peer_only() -> None:
    peer = BgpPeer("tor", peer_ip=ip_address("192.0.2.200"), asn=1, password=SecretRef("bgp", "tor"))
    peering = peers(N2, NODES, {"tor": peer}, CONFIG, {}, {})
    assert set(peering.rows) == {"192.0.2.1", "192.0.2.3"}
    assert peering.notes == ("BGPPeer tor is withheld: there is no key 'tor' in the Secret 'bgp'",)
    assert peers(N2, NODES, {"tor": peer}, CONFIG, {}, {("bgp", "tor"): "x\n"}).rows["192.0.2.200"].password == "x"


def test_ranges_are_passive_and_times_are_those_of_the_peer() -> None:
    found = rows(
        config=replace(CONFIG, mesh=False),
        pods=BgpPeer("", peer_range=Prefix.parse("10.9.0.0/24"), asn=1),
        quick=BgpPeer("", peer_ip=ip_address("192.0.2.200"), asn=1, keepalive=1, restart_time=30),
        held=BgpPeer("", peer_ip=ip_address("192.0.2.201"), asn=1, hold_time=9, keepalive=60),
    )
    assert found["10.9.0.0/24"].passive
    assert (found["192.0.2.200"].hold_time, found["192.0.2.200"].restart_time) == (3, 30)
    assert found["192.0.2.201"].hold_time == 9


def test_a_node_without_ipv4_has_a_router_id_of_its_own() -> None:
    six = [Node(name, ipv6=IPv6Interface("fd00::1/64")) for name in ("a", "b")]
    assert router_id(six[0]) != router_id(six[1])
    assert all(0 < int(router_id(n)) >> 24 < 127 for n in six)


def test_reachable_by_is_a_route() -> None:
    peer = BgpPeer("x", peer_ip=ip_address("198.51.100.1"), asn=1, reachable_by=ip_address("192.0.2.254"))
    ((key, route),) = gateways(N1, [peer]).items()
    assert f"{key} {route}" == "ip route replace 198.51.100.1/32 via 192.0.2.254 proto 80"


# -- what to say

MESH = Peer(local_as=64512, peer_as=64512, local_address=None, router_id=IPv4Address("192.0.2.1"))
TOR = replace(MESH, peer_as=65000)
CLIENT = replace(MESH, cluster_id=IPv4Address("9.9.9.9"), client=True)
AFFINITY = {("n1", BLOCK): Affinity("n1", BLOCK, AffinityState.CONFIRMED)}


def said(**given: Any) -> dict[str, Announcement]:
    """peer prefix -> row."""
    fields: dict[str, Any] = {
        "here": N1,
        "peers": {"mesh": MESH, "tor": TOR},
        "affinities": AFFINITY,
        "workloads": {},
        "pools": POOL,
        "config": CONFIG,
        "learned": {},
        **given,
    }
    return {f"{key.peer} {key.prefix}": row for key, row in announcements(**fields).items()}


def test_own_confirmed_blocks_are_told_to_everybody() -> None:
    other = Prefix.parse("10.42.1.0/26")
    affinities = {
        **AFFINITY,
        ("n1", other): Affinity("n1", other, AffinityState.PENDING),
        ("n2", other): Affinity("n2", other, AffinityState.CONFIRMED),
    }
    assert said(affinities=affinities) == {
        "mesh 10.42.0.0/26": Announcement(local_preference=2147482623),
        "tor 10.42.0.0/26": Announcement(),
    }


@pytest.mark.parametrize(
    "pools",
    [
        {},
        {"p": replace(POOL["p"], disable_bgp_export=True)},
        {"p": replace(POOL["p"], cidr=Prefix.parse("10.1.0.0/16"))},
    ],
)
def test_what_no_pool_lets_out_is_not_told(pools: Any) -> None:
    assert said(pools=pools) == {}


def test_borrowed_addresses_are_told_one_by_one_and_own_ones_are_not() -> None:
    inside, borrowed = Prefix.parse("10.42.0.5/32"), Prefix.parse("10.42.7.5/32")
    pod = Workload("w", "ns", "n1", "cali1", (inside, borrowed))
    assert set(said(workloads={("ns", "w"): pod}, peers={"mesh": MESH})) == {"mesh 10.42.0.0/26", "mesh 10.42.7.5/32"}


def test_export_rules_come_before_the_pools() -> None:
    reject = replace(MESH, exports=(FilterRule(False, BLOCK, "Equal"),))
    accept = replace(
        MESH,
        exports=(FilterRule(True, operations=(FilterOperation(add_community="1:1"), FilterOperation(prepend=(7, 8)))),),
    )
    found = said(peers={"no": reject, "yes": accept}, pools={})
    assert found == {
        "yes 10.42.0.0/26": Announcement(local_preference=2147482623, communities=("1:1",), as_path=(7, 8))
    }


def test_prefix_advertisements_add_their_communities() -> None:
    config = replace(CONFIG, advertisements=(PrefixAdvertisement(Prefix.parse("10.42.0.0/16"), ("65000:1", "1:2:3")),))
    assert said(config=config)["tor 10.42.0.0/26"].communities == ("65000:1", "1:2:3")


def learned(ibgp: bool, best: str, prefix: str = "10.42.9.0/26", **fields: Any) -> dict[Prefix, Learned]:
    hop = ip_address("192.0.2.9")
    path = Path(hop, **fields)
    return {Prefix.parse(prefix): Learned((hop,), (best,), ibgp, None, path, best, IPv4Address("5.5.5.5"))}


def test_the_mesh_is_not_passed_on() -> None:
    assert said(affinities={}, learned=learned(True, "mesh")) == {}


def test_what_ebgp_told_inside_of_a_pool_is_passed_on_to_the_others() -> None:
    peers = {"mesh": MESH, "tor": TOR, "tor2": replace(TOR, peer_as=65001)}
    found = said(affinities={}, peers=peers, learned=learned(False, "tor", as_path=(65000,), med=5))
    hop = ip_address("192.0.2.9")
    assert found == {
        "mesh 10.42.9.0/26": Announcement(next_hop=hop, local_preference=2147482623, med=5, as_path=(65000,)),
        "tor2 10.42.9.0/26": Announcement(as_path=(64512, 65000)),
    }


def test_a_reflector_reflects_with_originator_and_cluster() -> None:
    here = replace(N1, cluster_id=IPv4Address("9.9.9.9"))
    peers = {"c1": CLIENT, "c2": CLIENT, "rr2": replace(CLIENT, client=False), "rr3": replace(CLIENT, client=False)}
    fields = {"local_preference": 7, "cluster_list": (IPv4Address("8.8.8.8"),)}
    row = Announcement(
        next_hop=ip_address("192.0.2.9"),
        local_preference=7,
        originator=IPv4Address("5.5.5.5"),
        cluster_list=(IPv4Address("9.9.9.9"), IPv4Address("8.8.8.8")),
    )
    from_client = said(here=here, affinities={}, peers=peers, learned=learned(True, "c1", **fields))
    assert from_client == {f"{to} 10.42.9.0/26": row for to in ("c2", "rr2", "rr3")}
    from_other = said(here=here, affinities={}, peers=peers, learned=learned(True, "rr2", **fields))
    assert from_other == {f"{to} 10.42.9.0/26": row for to in ("c1", "c2")}


def test_communities_can_forbid_to_pass_on() -> None:
    found = said(affinities={}, learned=learned(False, "x", as_path=(1,), communities=("65535:65281",)))
    assert set(found) == {"mesh 10.42.9.0/26"}
    assert said(affinities={}, learned=learned(False, "x", as_path=(1,), communities=("65535:65282",))) == {}


@pytest.mark.parametrize(
    ("mode", "peer", "expected"),
    [("Self", CLIENT, None), ("Keep", TOR, "192.0.2.9"), ("Auto", TOR, None), ("Auto", CLIENT, "192.0.2.9")],
)
def test_next_hop_modes(mode: str, peer: Peer, expected: str | None) -> None:
    here = replace(N1, cluster_id=IPv4Address("9.9.9.9"))
    peers = {"to": replace(peer, next_hop_mode=mode), "from": CLIENT}
    found = said(here=here, affinities={}, peers=peers, learned=learned(True, "from"))
    assert found["to 10.42.9.0/26"].next_hop == (ip_address(expected) if expected else None)


def test_a_refusal_says_why() -> None:
    speech = Speech(N1, (), CONFIG, {"mesh": MESH})
    assert decide(speech, Candidate(BLOCK, "block"), "mesh", MESH).reason == "no IPPool covers it"
    six = Candidate(Prefix.parse("fd00::/122"), "block")
    assert decide(speech, six, "mesh", MESH).reason == "the session does not carry IPv6"


def test_filters_are_taken_in_the_order_of_the_peer() -> None:
    first, second = FilterRule(True, BLOCK, "Equal"), FilterRule(False)
    filters = {
        "a": BgpFilter("a", exports={4: (second,)}),
        "b": BgpFilter("b", exports={4: (first,)}, imports={4: (second,)}),
    }
    peer = BgpPeer("", peer_ip=ip_address("192.0.2.200"), asn=1, filters=("b", "missing", "a"))
    row = rows(filters=filters, config=replace(CONFIG, mesh=False), tor=peer)["192.0.2.200"]
    assert (row.exports, row.imports, row.imports_v6) == ((first, second), (second,), ())


def test_keys_read_as_commands() -> None:
    assert str(AnnouncementKey("192.0.2.2", BLOCK)) == "neighbor 192.0.2.2 announce route 10.42.0.0/26"
