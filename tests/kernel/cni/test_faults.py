"""What goes wrong around an attachment: nothing leaks, nothing of a stranger is touched, and the next try works."""

import json
import os
import select
import socket
import subprocess
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Any

import pytest

from felixlite.cni import server
from felixlite.cni.names import HOST_MAC, interface_name, older_handle_id
from felixlite.cni.server import WORKERS
from felixlite.datastore.store import Entry, Key, Meanwhile, Write
from felixlite.errors import Unreachable
from felixlite.ipam.assign import Request
from felixlite.ipam.store import Ipam
from tests.support.cni import PluginNode, eventually, nothing_is_left, open_descriptors, pod, refused
from tests.support.netns import Namespace


def addresses_of(space: Namespace) -> list[str]:
    (eth0,) = space.show("addr show dev eth0")
    return [address["local"] for address in eth0["addr_info"] if address["family"] == "inet"]


@contextmanager
def store_away(here: PluginNode) -> Iterator[None]:
    """Every request to the store fails, as with etcd gone."""
    store: Any = here.store

    def refuse(*_args: Any, **_more: Any) -> Any:
        raise Unreachable("etcd at 127.0.0.1:2379 does not answer")

    names = ("get", "read", "list", "create", "update", "delete", "commit")
    for name in names:
        setattr(store, name, refuse)
    try:
        yield
    finally:
        for name in names:
            delattr(store, name)


# -- the store


def test_add_without_the_store_is_code_11_and_leaves_nothing(one: PluginNode, space: Namespace) -> None:
    with store_away(one):
        ran = one.run("ADD", space)
    assert ran.answer["code"] == 11
    assert "127.0.0.1:2379" in ran.answer["details"]
    assert nothing_is_left(one)
    assert [link["ifname"] for link in space.show("link")] == ["lo"]


def test_a_store_that_goes_away_after_the_address_was_assigned_costs_no_address(
    one: PluginNode, space: Namespace
) -> None:
    one.chains.broken = True
    commit = one.store.commit
    away = threading.Event()

    def once(writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        if away.is_set():
            raise Unreachable("etcd is gone in the middle")
        done = commit(writes, meanwhile)
        if any(write.key.kind == "WorkloadEndpoint" for write in writes):
            away.set()
        return done

    one.store.commit = once  # type: ignore[method-assign]  # the fault
    from felixlite.cni import attachments

    patience, attachments.ADD_PATIENCE = attachments.ADD_PATIENCE, 0.5  # type: ignore[misc]
    try:
        assert one.run("ADD", space).code != 0
    finally:
        attachments.ADD_PATIENCE = patience  # type: ignore[misc]
    assert (one.addresses(), one.notes()) == (1, ["c1.eth0"])
    away.clear()
    one.store.commit = commit  # type: ignore[method-assign]
    one.chains.broken = False
    one.attachments.work_off_notes()
    eventually(lambda: nothing_is_left(one) and not one.notes())


def test_del_without_the_store_succeeds_and_is_owed(one: PluginNode, space: Namespace) -> None:
    assert one.run("ADD", space).code == 0
    with store_away(one):
        assert one.run("DEL", space).code == 0
        assert one.notes() == ["c1.eth0"]
        eventually(lambda: [link["ifname"] for link in space.show("link")] == ["lo"])
    one.attachments.work_off_notes()
    eventually(lambda: nothing_is_left(one) and not one.notes())


def test_a_slow_store_is_waited_for(one: PluginNode, space: Namespace) -> None:
    commit, asked, answers = one.store.commit, threading.Event(), threading.Event()

    def slowly(writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        asked.set()
        assert answers.wait(30)
        return commit(writes, meanwhile)

    one.store.commit = slowly  # type: ignore[method-assign]  # the fault
    with ThreadPoolExecutor(1) as runtime:
        adding = runtime.submit(one.run, "ADD", space)
        assert asked.wait(30)
        assert not adding.done()
        assert not one.routes()
        answers.set()
        assert adding.result(30).code == 0, adding.result().printed


def test_a_pair_that_gets_no_address_goes_again(one: PluginNode, space: Namespace) -> None:
    with pod("fc") as other:  # so that the block is the node's already
        assert one.run("ADD", other, container="c0").code == 0
        assert one.run("DEL", other, container="c0").code == 0
    eventually(lambda: nothing_is_left(one))
    commit, lost = one.store.commit, []

    def lose(_writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        if meanwhile:
            meanwhile()
            lost.append(one.host_links())
        raise Unreachable("etcd at 127.0.0.1:2379 does not answer")

    one.store.commit = lose  # type: ignore[method-assign]  # the fault
    assert one.run("ADD", space).answer["code"] == 11
    assert lost
    assert all(lost)
    one.store.commit = commit  # type: ignore[method-assign]  # the end of it
    eventually(lambda: nothing_is_left(one))
    added = one.run("ADD", space)
    assert added.code == 0, added.printed
    assert one.routes() == {added.address}


def test_a_pair_made_for_an_address_that_somebody_else_got_is_made_for_the_next(
    one: PluginNode, space: Namespace
) -> None:
    with pod("fc") as other:  # so that the block is the node's already
        assert one.run("ADD", other, container="c0").code == 0
        assert one.run("DEL", other, container="c0").code == 0
    eventually(lambda: nothing_is_left(one))
    commit = one.store.commit
    drafted: list[str] = []

    def be_overtaken(writes: Sequence[Write], meanwhile: Meanwhile = None) -> Sequence[Entry | None]:
        if not drafted and meanwhile:
            meanwhile()
            drafted.extend(addresses_of(space))
            Ipam(one.store, one.name).assign_address(
                Request("another process of this node", {}), ip_address(drafted[0])
            )
        return commit(writes, meanwhile)

    one.store.commit = be_overtaken  # type: ignore[method-assign]  # the fault
    added = one.run("ADD", space)
    assert added.code == 0, added.printed
    assert drafted != addresses_of(space) == [added.address]
    assert one.routes() == {added.address}


# -- requests


def test_a_request_nested_a_hundred_thousand_deep_is_code_6_and_the_worker_lives(
    one: PluginNode, space: Namespace
) -> None:
    nested = json.dumps(one.config())[:-1] + ',"x":' + "[" * 100_000 + "]" * 100_000 + "}"
    for _ in range(WORKERS + 1):
        assert one.run("ADD", space, stdin=nested).answer["code"] == 6
    assert one.run("ADD", space).code == 0


def test_callers_that_are_killed_before_they_read_the_greeting_leave_no_descriptor(
    one: PluginNode, space: Namespace
) -> None:
    before = open_descriptors()
    for _ in range(20):
        with (
            socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as caller,
            visited_file(space) as descriptor,
        ):
            caller.connect(str(one.run_directory / "cni.sock"))
            socket.send_fds(caller, [b"CNI_COMMAND=ADD\0CNI_CONT"], [descriptor])
            assert select.select([caller], [], [], 30)[0]  # the greeting is there, unread: closing now is a reset
    assert one.run("ADD", space).code == 0
    eventually(lambda: open_descriptors() <= before)


@contextmanager
def visited_file(space: Namespace) -> Iterator[int]:
    descriptor = os.open(space.path, os.O_RDONLY)
    try:
        yield descriptor
    finally:
        os.close(descriptor)


# -- notes


@contextmanager
def no_room_for_another_note(one: PluginNode) -> Iterator[None]:
    folder = one.run_directory / "cni-notes"
    kept = {path.name: path.read_bytes() for path in folder.iterdir()}
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"nr_inodes={1 + len(kept)}", "tmpfs", folder], check=True)
    try:
        for name, data in kept.items():
            (folder / name).write_bytes(data)
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


def test_del_without_room_for_a_note_removes_the_pair_before_it_answers(one: PluginNode, space: Namespace) -> None:
    assert one.run("ADD", space).code == 0
    with no_room_for_another_note(one):
        deleted = one.run("DEL", space)
        assert deleted.code == 0, deleted.printed
        assert nothing_is_left(one)


def test_del_that_can_neither_be_done_nor_noted_says_so(one: PluginNode, space: Namespace) -> None:
    assert one.run("ADD", space).code == 0
    with no_room_for_another_note(one), store_away(one):
        refused(one.run("DEL", space), 5, "noted", "No space left", "127.0.0.1:2379")
        assert [link["ifname"] for link in space.show("link")] == ["lo"]
    assert one.run("DEL", space).code == 0
    eventually(lambda: nothing_is_left(one) and not one.notes())


def test_notes_are_worked_off_where_there_is_no_room_for_another(one: PluginNode, space: Namespace) -> None:
    assert one.run("ADD", space).code == 0
    with store_away(one):
        assert one.run("DEL", space).code == 0
        with no_room_for_another_note(one):
            one.attachments.work_off_notes()  # as the thread does it every few seconds
            assert one.notes() == ["c1.eth0"]
    with no_room_for_another_note(one):
        one.attachments.work_off_notes()
        eventually(lambda: nothing_is_left(one) and not one.notes())


def test_a_directory_among_the_notes_holds_nothing_up(one: PluginNode, space: Namespace) -> None:
    (one.run_directory / "cni-notes" / "a").mkdir()
    assert one.run("ADD", space).code == 0
    with store_away(one):
        assert one.run("DEL", space).code == 0
    one.attachments.work_off_notes()
    eventually(lambda: nothing_is_left(one) and one.notes() == ["a"])


# -- names


@pytest.mark.parametrize("args", ["K8S_POD_NAME=intelligent_villani", "K8S_POD_NAME=Web", ""])
def test_a_container_may_have_a_name_that_is_none_for_dns(one: PluginNode, space: Namespace, args: str) -> None:
    who: Any = {"container": "Keen_b.C", "interface": "Eth_0", "environment": {"CNI_ARGS": args}}
    added = one.run("ADD", space, **who)
    assert added.code == 0, added.printed
    (endpoint,) = one.endpoints()
    spec = endpoint["spec"]
    assert (spec.get("pod") or spec["workload"], spec["endpoint"]) == (args.partition("=")[2] or "Keen_b.C", "Eth_0")
    assert one.run("CHECK", space, prevResult=added.answer, **who).code == 0
    assert one.run("DEL", space, **who).code == 0
    eventually(lambda: nothing_is_left(one))


def test_a_dot_in_a_container_id_is_not_the_dot_before_an_interface(one: PluginNode, space: Namespace) -> None:
    with pod("fc") as other:
        kept = one.run("ADD", space, container="a", interface="x1").address
        assert one.run("ADD", other, container="a.x1").address != kept
        assert one.run("DEL", other, container="a.x1").code == 0
        assert (one.addresses(), one.routes()) == (1, {kept})
    assert "1 received" in space.command("ping", "-c1", "-W2", "192.0.2.77")


def test_a_dot_in_a_pods_name_is_not_the_dot_before_an_interface(one: PluginNode, space: Namespace) -> None:
    with pod("fc") as other:
        web: Any = {"environment": {"CNI_ARGS": "K8S_POD_NAME=web"}, "interface": "net1"}
        first = one.run("ADD", space, **web).address
        second = one.run("ADD", other, container="c2", environment={"CNI_ARGS": "K8S_POD_NAME=web.net1"}).address
        assert one.routes() == {first, second}
        assert "1 received" in space.command("ping", "-c1", "-W2", second)


@pytest.mark.parametrize("verb", ["DEL", "GC"])
def test_what_was_made_under_the_older_names_is_found_again(
    one: PluginNode, space: Namespace, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    with monkeypatch.context() as older:
        older.setattr("felixlite.cni.request.handle_id", older_handle_id)
        older.setattr("felixlite.cni.pods.interface_name", lambda ns, pod, i: interface_name(ns, f"{pod}.{i}"))
        added = one.run("ADD", space, container="a.b", interface="net1")
    assert [entry.key.name for entry in one.store.list("IPAMHandle").entries] == ["net.a.b.net1"]
    assert one.host_links() == {interface_name("default", "a.b.net1")}
    assert one.run("CHECK", space, container="a.b", interface="net1", prevResult=added.answer).code == 0
    if verb == "DEL":
        assert one.run("DEL", space, container="a.b", interface="net1").code == 0
    else:
        assert one.run("GC", **{"cni.dev/valid-attachments": None}).code == 0
    eventually(lambda: nothing_is_left(one) and not one.notes())
    assert one.store.list("IPAMHandle").entries == ()


# -- the kernel


def test_a_strangers_link_under_our_name_is_left_alone(one: PluginNode, space: Namespace) -> None:
    name = one.run("ADD", space).answer["interfaces"][0]["name"]
    one.run("DEL", space)
    eventually(lambda: not one.host_links())
    one.net.ip(f"link add {name} type bridge")
    ran = one.run("ADD", space)
    assert ran.answer["code"] == 100
    assert name in ran.answer["msg"]
    assert one.run("DEL", space).code == 0
    eventually(lambda: not one.notes())
    assert one.host_links() == {name}
    assert one.addresses() == 0


def test_a_pair_that_a_killed_add_left_is_taken_over(one: PluginNode, space: Namespace) -> None:
    name = one.run("ADD", space).answer["interfaces"][0]["name"]
    space.ip("addr flush dev eth0 scope global")
    space.ip("link set eth0 down")
    one.stop()
    one.start()
    ran = one.run("ADD", space)
    assert ran.code == 0, ran.printed
    assert "1 received" in space.command("ping", "-c1", "-W2", "192.0.2.77")
    assert one.host_links() == {name}


def test_a_pair_with_an_address_that_is_another_pods_by_now_is_made_anew(one: PluginNode, space: Namespace) -> None:
    """The ADD was killed before the store knew of the address that its pair was made with."""
    drafted = one.run("ADD", space).address
    one.stop()
    for entry in one.store.list("WorkloadEndpoint").entries:
        one.store.commit([Write(entry.key, None, entry.revision)])
    one.ipam.release_handle("net.c1", [])
    Ipam(one.store, one.name).assign_address(Request("another pod", {}), ip_address(drafted))
    one.start()
    added = one.run("ADD", space)
    assert added.code == 0, added.printed
    assert drafted != added.address
    assert addresses_of(space) == [added.address]
    assert one.routes() == {added.address}
    assert "1 received" in space.command("ping", "-c1", "-W2", "192.0.2.77")
    assert one.run("CHECK", space, prevResult=added.answer).code == 0


def test_a_namespace_that_vanishes_is_an_error_and_nothing_stays(one: PluginNode) -> None:
    with pod("fc") as space:
        path = space.path
    ran = one.run("ADD", environment={"CNI_NETNS": str(path)})
    assert ran.answer["code"] == 4
    assert nothing_is_left(one)


def test_no_policy_no_pod(one: PluginNode, space: Namespace, monkeypatch: pytest.MonkeyPatch) -> None:
    from felixlite.cni import attachments

    monkeypatch.setattr(attachments, "ADD_PATIENCE", 4.0)
    one.chains.broken = True
    ran = one.run("ADD", space)
    assert ran.answer["code"] == 11
    assert "chains" in ran.answer["details"]
    eventually(lambda: nothing_is_left(one))
    one.chains.broken = False
    assert one.run("ADD", space).code == 0


def test_an_add_whose_policy_is_late_succeeds_when_it_is_in(one: PluginNode, space: Namespace) -> None:
    one.chains.broken = True
    timer = threading.Timer(0.4, lambda: setattr(one.chains, "broken", False))
    timer.start()
    ran = one.run("ADD", space)
    timer.join()
    assert ran.code == 0, ran.printed
    assert ran.seconds > 0.4


def test_gc_sweeps_links_of_ours_that_no_endpoint_stands_behind(one: PluginNode, space: Namespace) -> None:
    name = one.run("ADD", space).answer["interfaces"][0]["name"]
    with pod("fc") as other:
        for left, mac in (("cali0123456789a", HOST_MAC), ("cali0123456789b", "02:00:00:00:00:01"), ("veth0", HOST_MAC)):
            one.net.ip(f"link add {left} address {mac} type veth peer name x{left[-1]} netns {other.name}")
        one.net.ip("link add cali0123456789c type bridge")
        valid = [{"containerID": "c1", "ifname": "eth0"}]
        ran = one.run("GC", **{"cni.dev/valid-attachments": valid})
        assert ran.code == 0, ran.printed
        kept = {link["ifname"] for link in one.net.show("link")} - {"lo"}
        assert kept == {name, "cali0123456789b", "cali0123456789c", "veth0"}


def test_gc_frees_the_older_container_of_a_pod_that_was_made_anew(one: PluginNode, space: Namespace) -> None:
    web: dict[str, str | None] = {"CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"}
    with pod("fc") as fresh, pod("fc") as third:
        one.run("ADD", space, container="old", environment=web)
        kept = one.run("ADD", fresh, container="new", environment=web).address
        another = one.run("ADD", third, container="another", name="another").address
        valid = [{"containerID": "new", "ifname": "eth0"}, {"containerID": "old", "ifname": "eth0"}]
        assert one.run("GC", **{"cni.dev/valid-attachments": valid}).code == 0
        assert one.addresses() == 3
        assert one.run("GC", **{"cni.dev/valid-attachments": valid[:1]}).code == 0
        assert {entry.key.name for entry in one.store.list("IPAMHandle").entries} == {"net.new", "another.another"}
        assert one.routes() == {kept, another}
        assert "1 received" in fresh.command("ping", "-c1", "-W2", another)


@pytest.mark.parametrize(
    "valid",
    [
        {},
        [5],
        [{}],
        [{"containerID": "c1"}],
        [{"containerID": "c1", "ifname": ""}],
        [{"containerID": 7, "ifname": "a"}],
    ],
)
def test_gc_with_a_list_that_is_none_frees_nothing(one: PluginNode, space: Namespace, valid: Any) -> None:
    assert one.run("ADD", space).code == 0
    refused(one.run("GC", **{"cni.dev/valid-attachments": valid}), 7, "cni.dev/valid-attachments")
    assert one.addresses() == 1


# -- Kubernetes


def test_a_pod_that_is_gone_from_the_api_is_not_wired(one: PluginNode, space: Namespace) -> None:
    one.store.create(Key("Namespace", "shop"), {"metadata": {"name": "shop"}})
    args = {"CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web"}
    assert one.run("ADD", space, environment=args).answer["code"] == 3


def test_a_pods_document_says_its_labels_and_its_address(one: PluginNode, space: Namespace) -> None:
    one.store.create(Key("Namespace", "shop"), {"metadata": {"name": "shop"}})
    notes = {"cni.projectcalico.org/ipAddrs": '["10.244.7.7"]', "cni.projectcalico.org/hwAddr": "02:00:00:00:00:77"}
    document = {"metadata": {"name": "web", "namespace": "shop", "labels": {"app": "web"}, "annotations": notes}}
    one.store.create(Key("Pod", "web", "shop"), document)
    ran = one.run("ADD", space, environment={"CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web"})
    assert ran.address == "10.244.7.7"
    assert ran.answer["interfaces"][1]["mac"] == "02:00:00:00:00:77"
    (endpoint,) = one.endpoints()
    assert endpoint["metadata"]["name"] == "n1-k8s-web-eth0"
    assert endpoint["metadata"]["labels"]["app"] == "web"


def test_callers_that_send_byte_by_byte_do_not_hold_up_the_others_for_ever(
    one: PluginNode, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "READ_PATIENCE", 0.5)
    enough = threading.Event()

    def drips(caller: socket.socket) -> bool:
        """Whether it was hung up on."""
        with caller:
            caller.connect(str(one.run_directory / "cni.sock"))
            try:
                while not enough.wait(0.02):
                    caller.send(b"x")
            except OSError:
                return True
        return False

    callers = [socket.socket(socket.AF_UNIX) for _ in range(WORKERS)]
    with ThreadPoolExecutor(WORKERS) as pool:
        dripping = [pool.submit(drips, caller) for caller in callers]
        limit = threading.Timer(30.0, enough.set)
        limit.start()
        eventually(lambda: all(found.done() for found in dripping), 20)
        limit.cancel()
        enough.set()
    assert all(found.result() for found in dripping)
    assert one.run("STATUS").code == 0
