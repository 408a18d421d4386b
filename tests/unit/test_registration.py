from ipaddress import ip_interface

import pytest

from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key
from felixlite.errors import Misconfigured
from felixlite.registration import FirstPool, ensure_pool, refuse_namesake, register

N1 = Key("Node", "n1")


def test_a_new_node_is_registered_with_its_address_and_prefix_length():
    store = MemoryStore()

    assert register(store, "n1", ip_interface("10.0.0.5/24"), None)
    assert store.get(N1).document["spec"]["bgp"] == {"ipv4Address": "10.0.0.5/24"}


def test_registering_again_writes_nothing():
    store = MemoryStore()
    register(store, "n1", ip_interface("10.0.0.5/24"), None)
    revision = store.get(N1).revision

    assert not register(store, "n1", ip_interface("10.0.0.5/24"), None)
    assert store.get(N1).revision == revision


def test_a_changed_address_keeps_what_others_set_on_the_node():
    store = MemoryStore()
    spec = {"bgp": {"ipv4Address": "10.0.0.5/24", "asNumber": 65001, "ipv4IPIPTunnelAddr": "192.168.1.1"}}
    store.create(N1, {"kind": "Node", "metadata": {"name": "n1", "labels": {"rack": "a"}}, "spec": spec})

    register(store, "n1", ip_interface("10.0.0.6/24"), ip_interface("fd00::6/64"))

    node = store.get(N1).document
    assert node["metadata"]["labels"] == {"rack": "a"}
    assert node["spec"]["bgp"] == {
        "ipv4Address": "10.0.0.6/24", "ipv6Address": "fd00::6/64", "asNumber": 65001, "ipv4IPIPTunnelAddr": "192.168.1.1"
    }  # fmt: skip


def test_a_node_that_got_the_address_of_another_machine_is_told_of_its_namesake():
    store, own = MemoryStore(), ip_interface("10.0.0.5/24")
    register(store, "n1", own, None)
    refuse_namesake(store.get(N1), [own], ["10.0.0.5"])
    refuse_namesake(store.get(N1), [own], ["10.0.0.6"])  # ours was changed on this machine: it is written anew
    register(store, "n1", ip_interface("10.0.0.9/24"), None)
    refuse_namesake(store.get(N1), [own], ["10.0.0.5", "10.0.0.9"])  # a person chose another one of this machine

    with pytest.raises(Misconfigured, match=r"Node n1: its address became 10\.0\.0\.9.*another --node-name"):
        refuse_namesake(store.get(N1), [own, None], ["10.0.0.5"])


def test_an_address_that_another_node_holds_is_refused_by_name():
    store = MemoryStore()
    register(store, "n1", ip_interface("10.0.0.5/24"), None)

    with pytest.raises(Misconfigured, match=r"10\.0\.0\.5 is already that of Node n1"):
        register(store, "n2", ip_interface("10.0.0.5/16"), None)


def test_the_first_pool_is_made_only_while_there_is_none():
    store = MemoryStore()

    assert ensure_pool(store, FirstPool(), None)
    assert not ensure_pool(store, FirstPool(), None)
    assert store.list("IPPool").entries[0].document["spec"]["cidr"] == "192.168.0.0/16"


def test_the_first_pool_keeps_clear_of_the_nodes_own_network():
    store = MemoryStore()
    ensure_pool(store, FirstPool(), ip_interface("192.168.3.4/24"))

    assert store.list("IPPool").entries[0].document["spec"]["cidr"] == "172.16.0.0/16"
