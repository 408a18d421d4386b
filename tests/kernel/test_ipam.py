"""IPAM on real etcd: many processes at once, members killed, the data restored from a backup, a block damaged by hand."""

import json
import subprocess
import sys
import threading
import time

import pytest

from felixlite.addresses import Prefix
from felixlite.cli.main import run
from felixlite.cli.session import Session
from felixlite.controllers.lease import Lease
from felixlite.datastore import connect
from felixlite.datastore.source import Source
from felixlite.datastore.store import Key
from felixlite.intake import Intake
from felixlite.ipam.assign import Exhausted, Request
from felixlite.ipam.check import check
from felixlite.ipam.repair import read_facts
from felixlite.ipam.store import Ipam
from tests.support import history
from tests.support.etcd import cluster, cluster_url, etcd


@pytest.fixture
def server():
    with etcd() as running:
        yield running


@pytest.fixture
def store(server):
    made = connect(server.url)
    yield made
    made.close()


def put(store, kind, name, spec, api="projectcalico.org/v3"):
    store.create(Key(kind, name), {"apiVersion": api, "kind": kind, "metadata": {"name": name}, "spec": spec})


def pool(store, cidr="10.0.0.0/24", **spec):
    put(store, "IPPool", "p", {"cidr": cidr, **spec})


def wants(handle, node="n1", v4=1, **more):
    return Request(handle, {"node": node, "pod": handle, "namespace": "ns"}, v4=v4, **more)


def test_nobody_has_an_address_twice_while_members_die_workers_crash_and_garbage_is_collected(tmp_path):
    with cluster(3) as members:
        down = []

        def disturb(elapsed):
            if elapsed > 3 and not down:
                members[0].kill()
                down.append(elapsed)
            elif len(down) == 1 and elapsed > down[0] + 2:
                members[0].start()
                down.append(elapsed)

        history.run(cluster_url(members), tmp_path, workers=4, operations=1600, disturb=disturb)
        store = connect(cluster_url(members))
        found, wrong = history.verdict(tmp_path, store)
        store.close()

    assert wrong == []
    assert down
    assert found.operations > 1200
    assert found.collected > 0
    assert max(len(holds) for holds in found.holds.values()) > 1  # addresses were handed out again


def test_pools_and_rules_are_read_from_the_store(store):
    pool(store, nodeSelector="rack == 'a'")
    put(store, "IPReservation", "r", {"reservedCIDRs": ["10.0.0.0/25", "10.0.0.128/26"]})
    put(store, "IPAMConfiguration", "default", {"strictAffinity": True, "maxBlocksPerHost": 1})
    node = {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": "n1", "labels": {"rack": "a"}}}
    store.create(Key("Node", "n1"), {**node, "spec": {}})

    given = Ipam(store, "n1").assign(wants("a", v4=64)).addresses

    assert {str(Prefix(a.packed, 26).masked()) for a in given} == {"10.0.0.192/26"}
    with pytest.raises(Exhausted, match="limit is 1"):
        Ipam(store, "n1").assign(wants("b"))


def test_what_is_stored_is_in_calicos_layout(server, store):
    pool(store)
    address = Ipam(store, "n1").assign(wants("k8s-pod-network.abc")).addresses[0]

    keys = server.ctl("get", "/calico/ipam/", "--prefix", "--keys-only").split()
    block = str(Prefix(address.packed, 26).masked()).replace("/", "-")
    assert keys == [
        f"/calico/ipam/v2/assignment/ipv4/block/{block}",
        "/calico/ipam/v2/handle/k8s-pod-network.abc",
        f"/calico/ipam/v2/host/n1/ipv4/block/{block}",
    ]
    value = json.loads(server.ctl("get", keys[0], "--print-value-only"))
    assert value["affinity"] == "host:n1"
    assert value["attributes"][0]["handle_id"] == "k8s-pod-network.abc"
    assert json.loads(server.ctl("get", keys[2], "--print-value-only"))["state"] == "confirmed"


def until(condition, what, seconds=60.0):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"not within {seconds} s: {what}"
        time.sleep(0.05)


@pytest.fixture
def followed(store):
    """The agent's watch on the store, which notices that the connection broke."""
    source = Source(store, ["IPPool"], Intake("n1"), lambda _: None)
    thread = threading.Thread(target=source.run)
    thread.start()
    until(lambda: source.epoch, "the store is followed")
    yield source
    source.stop()
    thread.join()


def test_after_a_restore_from_a_snapshot_every_address_is_as_it_was(tmp_path, server, store, followed):
    """What the old agent remembers has the revisions that the first writes after the restore get, and is not believed."""
    pool(store)
    ipam = Ipam(store, "n1", epoch=lambda: followed.epoch)
    before = {handle: ipam.assign(wants(handle)).addresses for handle in "abcdef"}
    ipam.release_handle("b")
    snapshot = tmp_path / "snapshot.db"
    server.ctl("snapshot", "save", str(snapshot))
    after_the_snapshot = ipam.assign(wants("late")).addresses
    server.kill()
    until(lambda: followed.epoch is None, "the watch has broken")
    server.restore(snapshot)
    server.start()
    until(lambda: followed.epoch, "the store is followed again")

    same_agent = {handle: ipam.held(handle) for handle in "acdef"}
    fresh = Ipam(store, "n1")
    given = {f"new{n}": (ipam if n % 2 else fresh).assign(wants(f"new{n}")).addresses for n in range(30)}

    assert same_agent == {handle: before[handle] for handle in "acdef"}
    assert len(set(given.values())) == 30
    assert not set(given.values()) & {before[handle] for handle in "acdef"}
    assert {handle: fresh.held(handle) for handle in given} == given
    assert after_the_snapshot  # lost with the cluster: its pod is gone with it, or `ipam check` finds the endpoint


def test_a_block_damaged_by_hand_is_found_and_repaired_by_the_command(server, store, capsys):
    pool(store)
    put(store, "Node", "n1", {})
    (address,) = Ipam(store, "n1").assign(wants("k8s-pod-network.c1")).addresses
    spec = {"node": "n1", "pod": "k8s-pod-network.c1", "containerID": "c1", "ipNetworks": [str(address)]}
    frame = {"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint"}
    meta = {"name": "w", "namespace": "ns"}
    store.create(Key("WorkloadEndpoint", "w", "ns"), {**frame, "metadata": meta, "spec": spec})
    assert check(read_facts(store), time.time()) == []
    (path,) = server.ctl("get", "/calico/ipam/v2/assignment/", "--prefix", "--keys-only").split()
    server.ctl("put", path, "{garbage")

    def command(*words):
        return run(["ipam", *words], Session(url=server.url))

    assert command("check") == 1
    assert "block-" in capsys.readouterr().out
    assert command("check", "--fix") == 0
    assert command("show", "--ip", str(address.first)) == 0
    assert "k8s-pod-network.c1" in capsys.readouterr().out
    assert Ipam(store, "n1").assign(wants("next")).addresses != (address,)


def controllers(server, identity, log):
    words = ["--store", server.url, "--identity", identity, "--metrics-port", "0", "--lease-seconds", "2"]
    main = "from felixlite.cli.main import main; main()"
    with log.open("w") as stderr:
        return subprocess.Popen([sys.executable, "-c", main, "controllers", *words], stderr=stderr)


def test_of_two_controllers_one_acts_and_the_other_takes_over_when_it_is_killed(server, store, tmp_path):
    pool(store)
    for node in ("n1", "n2"):
        put(store, "Node", node, {})
        Ipam(store, node).assign(wants(f"k8s-pod-network.{node}", node=node))
    first = controllers(server, "first", tmp_path / "first")
    try:
        until(lambda: "acquired" in (tmp_path / "first").read_text(), "the first has the lease")
        second = controllers(server, "second", tmp_path / "second")
        try:
            store.delete(Key("Node", "n1"))
            until(lambda: not Ipam(store, "n1").held("k8s-pod-network.n1"), "what n1 left is collected")
            until(lambda: "pod ns/k8s-pod-network.n1" in (tmp_path / "first").read_text(), "the reason in the log")
            assert (tmp_path / "second").read_text() == ""
            first.kill()
            store.delete(Key("Node", "n2"))
            until(lambda: not store.list("IPAMBlock").entries, "what n2 left is collected")
            until(lambda: "block-of-deleted-node" in (tmp_path / "second").read_text(), "the reason in the log")
            second.terminate()
            assert second.wait(timeout=10) == 0
        finally:
            second.kill()
    finally:
        first.kill()
        first.wait()


def test_the_lease_of_the_controllers_lives_in_etcd(store):
    one, other = Lease(store, "felixlite-controllers", "one"), Lease(store, "felixlite-controllers", "other")

    assert (one.renew(), other.renew()) == (True, False)
    one.release()
    assert (other.renew(), one.renew()) == (True, False)
