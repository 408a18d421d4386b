"""`felixlite plan -f FILE --cluster` over a store in memory: n1 and n2 on one subnet, n3 on another."""

import json
from itertools import product

import pytest

from felixlite.addresses import Prefix
from felixlite.datastore.store import Key
from felixlite.foretold import foretold
from felixlite.intake import Intake
from felixlite.ipip.plan import block_routes, ground
from felixlite.snapshot import LinkState, Snapshot, fold

API = "projectcalico.org/v3"
MODES = ("Never", "Always", "CrossSubnet")
EITHER = [("Never", "Never"), *((m, "Never") for m in MODES[1:]), *(("Never", m) for m in MODES[1:])]
NODES = {"n1": "10.0.1.11/24", "n2": "10.0.1.12/24", "n3": "10.0.2.13/24"}


def document(kind, name, spec, **more):
    return {"apiVersion": API, "kind": kind, "metadata": {"name": name}, "spec": spec, **more}


def pool(ipip="Never", vxlan="Never", cidr="10.244.0.0/16", **more):
    return document("IPPool", "p", {"cidr": cidr, "ipipMode": ipip, "vxlanMode": vxlan, **more})


def node(name, address, number=0, **status):
    spec = {"bgp": {"ipv4Address": address}}
    if number:
        spec["bgp"]["ipv4IPIPTunnelAddr"] = f"10.244.{number}.1"
        spec["ipv4VXLANTunnelAddr"] = f"10.244.{number}.2"
    return document("Node", name, spec, status=status)


def block(cidr, owner, borrower=None):
    size = Prefix.parse(cidr).size
    allocations = [0 if borrower and ordinal == 5 else None for ordinal in range(size)]
    attributes = [{"handle_id": "h", "secondary": {"node": borrower}}] if borrower else []
    spec = {"cidr": cidr, "affinity": f"host:{owner}", "allocations": allocations, "attributes": attributes}
    return document("IPAMBlock", cidr.translate(str.maketrans(".:/", "---")), spec)


def put(store, *documents):
    for each in documents:
        store.create(Key(each["kind"], each["metadata"]["name"]), each)


@pytest.fixture
def cluster(store):
    put(store, *(node(n, a, accepts=["native", "ipip"], sends=["ipip"]) for n, a in NODES.items()))
    put(store, *(block(f"10.244.{n}.0/26", f"n{n}") for n in (1, 2, 3)))
    return store


@pytest.fixture
def rows(call, written):
    """What is foretold of these documents, and the exit code."""

    def planned(*documents):
        ran = call("plan", "--cluster", "-o", "json", "-f", written(*map(json.dumps, documents)))
        found = json.loads(ran.out)
        assert ran.code == int(bool(found)), ran.err
        return found

    return planned


def ways(found, name):
    """Prefix -> before and after."""
    return {
        prefix: (row["before"], row["after"])
        for row in found
        if row["node"] == name and row["what"] == "way"
        for prefixes in row["blocks"].values()
        for prefix in prefixes
    }


def own(found, name):
    return {r["what"]: (r["before"], r["after"]) for r in found if r["node"] == name and r["what"] != "way"}


def test_between_subnets_and_on_one(cluster, rows):
    put(cluster, pool("Always"))

    found = rows(pool("CrossSubnet"))

    assert ways(found, "n1") == {"10.244.2.0/26": ("ipip", "native")}
    assert ways(found, "n2") == {"10.244.1.0/26": ("ipip", "native")}
    assert ways(found, "n3") == {}
    assert own(found, "n1") == {}


def test_another_tunnel_comes_with_its_address_and_mtu_and_who_does_not_accept_it_yet_is_named(cluster, rows):
    put(cluster, pool("Always"))

    found = rows(pool("Never", "Always"))

    assert ways(found, "n1") == dict.fromkeys(("10.244.2.0/26", "10.244.3.0/26"), ("ipip", "vxlan"))
    assert own(found, "n1") == {
        "tunl0": ("MTU uplink - 20", None),
        "address of tunl0": ("one of p", None),
        "vxlan.calico": (None, "MTU uplink - 50, VNI 4096, port 4789"),
        "address of vxlan.calico": (None, "one of p"),
        "MTU of pods": ("uplink - 20", "uplink - 50"),
        "accepts vxlan": ("not yet", "needed"),
    }


def test_without_encapsulation_another_subnet_is_the_affair_of_bgp(cluster, rows):
    put(cluster, pool("Always"))

    found = rows(pool())

    assert ways(found, "n1") == {
        "10.244.2.0/26": ("ipip", "native"),
        "10.244.3.0/26": ("ipip", "native, as BGP tells"),
    }
    assert own(found, "n1")["MTU of pods"] == ("uplink - 20", "uplink")


def test_a_node_that_says_nothing_of_what_it_accepts(store, rows):
    put(store, node("n1", NODES["n1"]), node("n2", NODES["n2"]), block("10.244.2.0/26", "n2"), pool())

    found = rows(pool("Always"))

    assert own(found, "n2")["accepts ipip"] == ("does not say", "needed")
    assert "accepts ipip" not in own(found, "n1"), "nobody has anything to send to it"


def test_a_node_that_accepts_it_already_is_not_mentioned(cluster, rows):
    put(cluster, pool())

    found = rows(pool("Always"))

    assert ways(found, "n1")["10.244.2.0/26"] == ("native", "ipip")
    assert "accepts ipip" not in own(found, "n2")


def test_a_tunnel_address_that_stays_that_goes_and_that_comes_from_another_pool(store, rows):
    put(store, node("n1", NODES["n1"], 1), pool("Always"))

    assert "address of tunl0" not in own(rows(pool("CrossSubnet")), "n1")
    assert own(rows(pool()), "n1")["address of tunl0"] == ("10.244.1.1", None)
    other = document("IPPool", "q", {"cidr": "10.9.0.0/16", "ipipMode": "Always"})
    assert own(rows(pool("Always", disabled=True), other), "n1")["address of tunl0"] == ("10.244.1.1", "one of q")


def test_an_address_that_a_node_borrowed_goes_its_own_way(store, rows):
    put(store, *(node(n, a) for n, a in NODES.items()), block("10.244.2.0/26", "n2", borrower="n3"), pool("Always"))

    found = rows(pool("CrossSubnet"))

    assert ways(found, "n1") == {"10.244.2.0/26": ("ipip", "native")}, "the address stays behind the tunnel, at n3"
    assert ways(found, "n2") == {}


def test_settings_for_all_and_for_one_node(cluster, rows):
    put(cluster, pool("Always"))

    found = rows(document("FelixConfiguration", "node.n2", {"ipipMTU": 1400}))

    assert [row["node"] for row in found] == ["n2", "n2"]
    assert own(found, "n2") == {
        "tunl0": ("MTU uplink - 20", "MTU 1400"),
        "MTU of pods": ("uplink - 20", "1400"),
    }


def test_of_two_tunnels_the_narrower_one_bounds_the_pods(cluster, rows):
    put(cluster, pool("Always"), document("FelixConfiguration", "default", {"ipipMTU": 1400}))

    found = rows(document("IPPool", "q", {"cidr": "10.9.0.0/16", "vxlanMode": "Always"}))

    assert own(found, "n1")["MTU of pods"] == ("1400", "min(1400, uplink - 50)")


def test_of_two_tunnels_that_nobody_configured_too(cluster, rows):
    put(cluster, pool("Always"))

    found = rows(document("IPPool", "q", {"cidr": "10.9.0.0/16", "vxlanMode": "Always"}))

    assert own(found, "n1")["MTU of pods"] == ("uplink - 20", "uplink - 50")


def test_ipv6_is_for_the_nodes_that_have_it(store, rows):
    both = node("n2", NODES["n2"])
    both["spec"]["bgp"]["ipv6Address"] = "fd00:1::2/64"
    put(store, node("n1", NODES["n1"]), both, block("fd00:244::100/122", "n1"), block("fd00:244::200/122", "n2"))

    found = rows(document("IPPool", "six", {"cidr": "fd00:244::/112", "vxlanMode": "Always", "blockSize": 122}))

    assert ways(found, "n1") == {"fd00:244::200/122": (None, "vxlan")}
    assert ways(found, "n2") == {}, "n1 has no address that a packet could be sent to"
    assert "vxlan-v6.calico" not in own(found, "n1")
    assert own(found, "n2")["vxlan-v6.calico"] == (None, "MTU uplink - 70, VNI 4096, port 4789")


def test_the_address_of_a_node(store, rows):
    put(store, node("n1", NODES["n1"]), node("n2", NODES["n2"], 2), block("10.244.2.0/26", "n2"), pool("Always"))

    found = rows(node("n2", "10.0.1.99/24"))

    assert ways(found, "n1") == {"10.244.2.0/26": ("ipip via 10.0.1.12", "ipip via 10.0.1.99")}
    assert own(found, "n2") == {}, "a file that leaves out what the agent wrote does not mean it to go"


def test_many_blocks_are_counted(cluster, call, written):
    put(cluster, pool("Always"), *(block(f"10.244.{n}.0/26", "n2") for n in range(100, 130)))

    ran = call("plan", "--cluster", "-f", written(json.dumps(pool("Never", "Always"))))

    assert ran.code == 1
    cells = [[cell.strip() for cell in line.split("   ") if cell.strip()] for line in ran.out.splitlines()]
    assert cells[0] == ["NODE", "WHAT", "BEFORE", "AFTER"]
    assert cells[1] == ["n1", "32 blocks of 2 nodes", "ipip", "vxlan"]
    assert ["n2", "10.244.1.0/26 (n1), 10.244.3.0/26 (n3)", "ipip", "vxlan"] in cells
    assert "`felixlite plan -f` on a node shows its tables" in ran.out


def test_nothing_changes_and_nothing_is_written(cluster, call, written):
    put(cluster, pool("Always"))
    before = {kind: cluster.list(kind).revision for kind in ("IPPool", "Node")}

    same = call("plan", "--cluster", "-f", written(json.dumps(pool("Always"))))
    other = call("plan", "--cluster", "-f", written(json.dumps(pool("CrossSubnet"))))

    assert (same.code, other.code) == (0, 1)
    assert "nothing of the overlays would change on any node" in same.out
    assert {kind: cluster.list(kind).revision for kind in before} == before


def test_a_bad_pool_is_refused_by_field(cluster, call, written):
    put(cluster, pool("Always"))

    for bad, why in (
        (pool("Sometimes"), "spec.ipipMode"),
        (pool("Always", "Always"), "vxlanMode"),
        (pool("Always", cidr="10.99.0.0/16"), "spec.cidr"),
    ):
        ran = call("plan", "--cluster", "-f", written(json.dumps(bad)))
        assert ran.code == 2
        assert ran.out == ""
        assert "IPPool p" in ran.err
        assert why in ran.err


def test_what_is_no_matter_of_overlays_is_said_to_be_none(cluster, call, written):
    peer = document("BGPPeer", "tor", {"peerIP": "10.0.1.1", "asNumber": 65000})

    ran = call("plan", "--cluster", "-f", written(json.dumps(peer)))

    assert ran.code == 0
    assert "BGPPeer tor is no matter of overlays: `felixlite plan -f` on a node" in ran.err


@pytest.mark.parametrize(("old", "new"), list(product(EITHER, EITHER)))
def test_a_way_changes_where_and_only_where_the_planner_has_another_route(old, new):
    """The oracle: what each agent's own planner makes of the same documents."""
    intake = Intake("")
    documents = [node(name, address, int(name[1:])) for name, address in NODES.items()]
    documents += [block("10.244.1.0/26", "n1"), block("10.244.2.0/26", "n2"), block("10.244.3.0/26", "n3", "n1")]

    def taken(each):
        return intake.changes((each["kind"], each["metadata"]["name"], ""), each)

    before = fold(Snapshot(""), [change for each in [*documents, pool(*old)] for change in taken(each)])
    after = fold(before, taken(pool(*new)))

    for name in NODES:
        told = {p for r in foretold(before, after) if r.node == name for ps in r.places.values() for p in ps}
        was, will = (_routes(snapshot, name) for snapshot in (before, after))
        assert told == {key.prefix for key in {**was, **will} if was.get(key) != will.get(key)}


def _routes(snapshot, name):
    links = {"eth0": LinkState("eth0", 2, "", up=True, mtu=1500, mac="")}
    here = snapshot.nodes[name]
    uplink = {("eth0", NODES[name]): Prefix.parse(str(here.ipv4.network))}
    return block_routes(snapshot.blocks, ground(here, snapshot.nodes, snapshot.pools, links, uplink))
