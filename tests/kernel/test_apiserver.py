"""What the API server does on the wire, as far as a client of Kubernetes relies on it. Over memory and over etcd."""

import ssl
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from felixlite.datastore import connect
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key
from tests.support.apiserver import ApiServer, apiserver
from tests.support.etcd import Etcd

V3, CRD = "/apis/projectcalico.org/v3", "/apis/crd.projectcalico.org/v1"
MERGE = "application/merge-patch+json"


@pytest.fixture(scope="module", params=["memory", "etcd"])
def server(request: pytest.FixtureRequest, shared_etcd: Etcd) -> Iterator[ApiServer]:
    shared_etcd.wipe()
    store = MemoryStore() if request.param == "memory" else connect(shared_etcd.url)
    try:
        with apiserver(store) as server:
            yield server
    finally:
        store.close()


@pytest.fixture(autouse=True)
def _nothing_is_left(server: ApiServer) -> Iterator[None]:
    yield
    for kind in ("IPPool", "GlobalNetworkSet", "BlockAffinity", "IPAMHandle", "IPAMBlock", "Pod", "BGPPeer"):
        for entry in server.store.list(kind).entries:
            server.store.delete(entry.key)


def a_set(name: str, *nets: str, **metadata: Any) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkSet",
        "metadata": {"name": name, **metadata},
        "spec": {"nets": list(nets)},
    }


SETS = f"{V3}/globalnetworksets"


def made(server: ApiServer, path: str, document: Any) -> dict[str, Any]:
    code, found = server.ask("POST", path, document)
    assert code == 201, found
    assert isinstance(found, dict)
    return found


class TestWrites:
    def test_an_object_gets_what_kubernetes_gives_it(self, server: ApiServer) -> None:
        found = made(server, SETS, a_set("a"))
        assert found["metadata"]["uid"]
        assert found["metadata"]["creationTimestamp"].endswith("Z")
        assert found["metadata"]["generation"] == 1
        assert server.ask("GET", f"{SETS}/a") == (200, found)

    def test_it_is_created_once(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        code, said = server.ask("POST", SETS, a_set("a"))
        assert (code, said["reason"], said["details"]["name"]) == (409, "AlreadyExists", "a")

    def test_a_name_is_made_of_its_beginning(self, server: ApiServer) -> None:
        document = a_set("")
        document["metadata"] = {"generateName": "many-"}
        names = {made(server, SETS, document)["metadata"]["name"] for _ in range(2)}
        assert len(names) == 2
        assert all(name.startswith("many-") and len(name) == 10 for name in names)

    def test_an_update_counts_generations_of_the_spec_only(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        change = {"metadata": {"labels": {"a": "b"}}}
        _, labelled = server.ask("PATCH", f"{SETS}/a", change, Content_Type=MERGE)
        _, changed = server.ask("PATCH", f"{SETS}/a", {"spec": {"nets": ["10.0.0.0/8"]}}, Content_Type=MERGE)
        assert [one["metadata"]["generation"] for one in (labelled, changed)] == [1, 2]

    def test_an_update_that_changes_nothing_writes_nothing(self, server: ApiServer) -> None:
        found = made(server, SETS, a_set("a"))
        code, again = server.ask("PUT", f"{SETS}/a", found)
        assert (code, again["metadata"]["resourceVersion"]) == (200, found["metadata"]["resourceVersion"])

    def test_an_update_of_an_old_version_is_a_conflict(self, server: ApiServer) -> None:
        old = made(server, SETS, a_set("a"))
        server.ask("PATCH", f"{SETS}/a", {"spec": {"nets": ["10.0.0.0/8"]}}, Content_Type=MERGE)
        code, said = server.ask("PUT", f"{SETS}/a", old)
        assert (code, said["reason"]) == (409, "Conflict")

    def test_patches_at_the_same_time_are_all_in_it(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))

        def patched(number: int) -> int:
            change = {"metadata": {"annotations": {f"n{number}": "x"}}}
            return server.ask("PATCH", f"{SETS}/a", change, Content_Type=MERGE)[0]

        with ThreadPoolExecutor(6) as pool:
            assert set(pool.map(patched, range(24))) == {200}
        assert len(server.ask("GET", f"{SETS}/a")[1]["metadata"]["annotations"]) == 24

    def test_an_update_of_a_custom_resource_names_its_version(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        code, said = server.ask("PUT", f"{SETS}/a", a_set("a"))
        assert (code, said["details"]["causes"][0]["field"]) == (422, "metadata.resourceVersion")

    def test_another_object_of_the_same_name_is_not_meant(self, server: ApiServer) -> None:
        found = made(server, SETS, a_set("a"))
        found["metadata"]["uid"] = "00000000-0000-0000-0000-000000000000"
        assert server.ask("PUT", f"{SETS}/a", found)[0] == 409

    def test_what_is_wrong_is_told_by_field(self, server: ApiServer) -> None:
        document = {
            "apiVersion": "projectcalico.org/v3",
            "kind": "BGPPeer",
            "metadata": {"name": "p"},
            "spec": {"peerIP": "nowhere", "asNumber": -1},
        }
        code, said = server.ask("POST", f"{V3}/bgppeers", document)
        assert (code, said["reason"], said["details"]["name"]) == (422, "Invalid", "p")
        assert {cause["field"] for cause in said["details"]["causes"]} >= {"spec.peerIP", "spec.asNumber"}

    @pytest.mark.parametrize(("validation", "code"), [("Strict", 400), ("Warn", 201), ("Ignore", 201), ("Odd", 400)])
    def test_unknown_fields_are_refused_or_left_out(self, server: ApiServer, validation: str, code: int) -> None:
        document = a_set("a")
        document["spec"]["netz"] = []
        found, said = server.ask("POST", f"{SETS}?fieldValidation={validation}", document)
        assert found == code
        if code == 201:
            assert "netz" not in said["spec"]

    def test_a_dry_run_writes_nothing(self, server: ApiServer) -> None:
        code, found = server.ask("POST", f"{SETS}?dryRun=All", a_set("a"))
        assert (code, found["metadata"]["name"]) == (201, "a")
        assert server.ask("GET", f"{SETS}/a")[0] == 404
        made(server, SETS, a_set("a"))
        assert server.ask("DELETE", f"{SETS}/a?dryRun=All")[0] == 200
        assert server.ask("DELETE", f"{SETS}/a", {"dryRun": ["All"]})[0] == 200
        assert server.ask("DELETE", SETS, {"dryRun": ["All"]})[0] == 200
        assert server.ask("GET", f"{SETS}/a")[0] == 200

    @pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"kind":"IPPool"}', b'{"metadata":7}'])
    def test_a_body_that_is_no_such_object_is_a_bad_request(self, server: ApiServer, body: bytes) -> None:
        assert server.ask("POST", SETS, body)[0] == 400

    def test_yaml_is_read_too(self, server: ApiServer) -> None:
        text = b"apiVersion: projectcalico.org/v3\nkind: GlobalNetworkSet\nmetadata: {name: a}\nspec: {nets: [10.0.0.0/8]}\n"
        assert server.ask("POST", SETS, text, Content_Type="application/yaml")[0] == 201

    def test_a_json_patch_that_does_not_fit_is_told(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        change = [{"op": "remove", "path": "/spec/nothing"}]
        code, said = server.ask("PATCH", f"{SETS}/a", change, Content_Type="application/json-patch+json")
        assert (code, "nothing" in said["message"]) == (422, True)

    @pytest.mark.parametrize(
        "kind", ["application/strategic-merge-patch+json", "application/apply-patch+yaml", "text/plain"]
    )
    def test_other_patches_are_refused_for_custom_resources(self, server: ApiServer, kind: str) -> None:
        made(server, SETS, a_set("a"))
        assert server.ask("PATCH", f"{SETS}/a", {}, Content_Type=kind)[0] == 415


class TestDeletion:
    def test_what_is_deleted_is_gone(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        code, said = server.ask("DELETE", f"{SETS}/a")
        assert (code, said["status"]) == (200, "Success")
        assert server.ask("DELETE", f"{SETS}/a")[0] == 404
        assert server.ask("GET", SETS)[1]["items"] == []

    def test_a_finalizer_keeps_it_until_it_is_taken_away(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a", finalizers=["felixlite.io/test"]))
        code, said = server.ask("DELETE", f"{SETS}/a")
        assert (code, bool(said["metadata"]["deletionTimestamp"])) == (200, True)
        assert server.ask("GET", f"{SETS}/a")[0] == 200
        server.ask("PATCH", f"{SETS}/a", {"metadata": {"finalizers": None}}, Content_Type=MERGE)
        assert server.ask("GET", f"{SETS}/a")[0] == 404

    @pytest.mark.parametrize("name", ["uid", "resourceVersion"])
    def test_preconditions_hold(self, server: ApiServer, name: str) -> None:
        found = made(server, SETS, a_set("a"))["metadata"][name]
        assert server.ask("DELETE", f"{SETS}/a", {"preconditions": {name: f"{found}0"}})[0] == 409
        assert server.ask("DELETE", f"{SETS}/a", {"preconditions": {name: found}})[0] == 200

    def test_a_collection_is_deleted_by_selector(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a", labels={"x": "y"}))
        made(server, SETS, a_set("b"))
        assert server.ask("DELETE", f"{SETS}?labelSelector=x%3Dy")[0] == 200
        assert [item["metadata"]["name"] for item in server.ask("GET", SETS)[1]["items"]] == ["b"]

    def test_a_running_pod_is_given_time(self, server: ApiServer) -> None:
        pods = "/api/v1/namespaces/default/pods"
        document = {"metadata": {"name": "p"}, "spec": {"nodeName": "n1", "containers": []}}
        made(server, pods, document)
        code, said = server.ask("DELETE", f"{pods}/p")
        assert (code, said["metadata"]["deletionGracePeriodSeconds"]) == (200, 30)
        assert server.ask("GET", f"{pods}/p")[0] == 200
        server.ask("DELETE", f"{pods}/p", {"gracePeriodSeconds": 0})
        assert server.ask("GET", f"{pods}/p")[0] == 404

    def test_a_pool_with_addresses_in_use_stays(self, server: ApiServer) -> None:
        pool = {"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16"}}
        made(server, f"{V3}/ippools", pool)
        spec = {"cidr": "10.0.0.0/26", "affinity": "host:n1", "allocations": [0] + [None] * 63, "unallocated": list(range(1, 64)),
                "attributes": [{"handle_id": "h"}]}  # fmt: skip
        made(server, f"{CRD}/ipamblocks", {"metadata": {"name": "10-0-0-0-26"}, "spec": spec})
        code, said = server.ask("DELETE", f"{V3}/ippools/p")
        assert (code, "1 addresses" in said["message"]) == (409, True)


class TestStatus:
    def test_status_and_spec_are_written_apart(self, server: ApiServer) -> None:
        path = f"{V3}/ippools"
        pool = {"metadata": {"name": "p"}, "spec": {"cidr": "10.0.0.0/16"}, "status": {"conditions": []}}
        assert "status" not in made(server, path, pool)
        condition = {"type": "Allocatable", "status": "True", "reason": "OK"}
        change = {"spec": {"disabled": True}, "status": {"conditions": [condition]}}
        _, found = server.ask("PATCH", f"{path}/p/status", change, Content_Type=MERGE)
        assert found["status"]["conditions"][0]["reason"] == "OK"
        assert not found["spec"].get("disabled")
        _, found = server.ask("PATCH", f"{path}/p", {**change, "status": None}, Content_Type=MERGE)
        assert found["spec"]["disabled"] is True
        assert found["status"]["conditions"][0]["reason"] == "OK"

    def test_there_is_none_where_the_kind_has_none(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        assert server.ask("GET", f"{SETS}/a/status")[0] == 404

    def test_a_nodes_annotations_are_written_with_its_status(self, server: ApiServer) -> None:
        made(server, "/api/v1/nodes", {"metadata": {"name": "n1"}, "spec": {"podCIDRs": ["10.1.0.0/24"]}})
        condition = {"type": "NetworkUnavailable", "status": "False"}
        change = {
            "metadata": {"annotations": {"projectcalico.org/IPv4Address": "10.0.0.1/24"}},
            "status": {"conditions": [condition]},
        }
        for kind in ("application/strategic-merge-patch+json", MERGE):
            code, found = server.ask("PATCH", "/api/v1/nodes/n1/status", change, Content_Type=kind)
            assert code == 200
            assert found["metadata"]["annotations"]["projectcalico.org/IPv4Address"] == "10.0.0.1/24"
            assert found["status"]["conditions"] == [condition]
            assert found["spec"] == {"podCIDRs": ["10.1.0.0/24"]}
        entry = server.store.get(Key("Node", "n1"))
        assert entry
        assert entry.document["spec"]["bgp"] == {"ipv4Address": "10.0.0.1/24"}
        server.ask("DELETE", "/api/v1/nodes/n1")


class TestLists:
    def test_pages_are_of_one_moment(self, server: ApiServer) -> None:
        for number in range(7):
            made(server, SETS, a_set(f"s{number}"))
        _, first = server.ask("GET", f"{SETS}?limit=3")
        assert first["metadata"]["remainingItemCount"] == 4
        server.ask("DELETE", f"{SETS}/s5")
        made(server, SETS, a_set("s55"))
        names = [item["metadata"]["name"] for item in first["items"]]
        token = first["metadata"]["continue"]
        while token:
            _, page = server.ask("GET", f"{SETS}?limit=3&continue={token}")
            assert page["metadata"]["resourceVersion"] == first["metadata"]["resourceVersion"]
            names += [item["metadata"]["name"] for item in page["items"]]
            token = page["metadata"].get("continue")
        assert names == [f"s{number}" for number in range(7)]

    def test_an_unknown_continuation_has_expired(self, server: ApiServer) -> None:
        code, said = server.ask("GET", f"{SETS}?limit=3&continue=x")
        assert (code, said["reason"]) == (410, "Expired")

    @pytest.mark.parametrize("selector", ["a in b", "a==b==c", "!", "(a)"])
    def test_a_selector_that_is_none_is_a_bad_request(self, server: ApiServer, selector: str) -> None:
        code, _ = server.ask("GET", f"{SETS}?labelSelector={selector.replace(' ', '%20').replace('=', '%3D')}")
        assert code == 400

    def test_tables_have_the_columns(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        _, table = server.ask("GET", SETS, Accept="application/json;as=Table;v=v1;g=meta.k8s.io,application/json")
        assert table["kind"] == "Table"
        assert table["columnDefinitions"][0]["name"] == "Name"
        assert table["rows"][0]["cells"][0] == "a"
        assert table["rows"][0]["object"]["kind"] == "PartialObjectMetadata"


class TestWatches:
    def test_changes_since_a_list_in_order(self, server: ApiServer) -> None:
        revision = server.ask("GET", SETS)[1]["metadata"]["resourceVersion"]
        with server.watch(f"{SETS}?watch=1&resourceVersion={revision}") as frames:
            made(server, SETS, a_set("a"))
            server.ask("PATCH", f"{SETS}/a", {"spec": {"nets": ["10.0.0.0/8"]}}, Content_Type=MERGE)
            server.ask("DELETE", f"{SETS}/a")
            assert frames.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]
        with server.watch(f"{SETS}?watch=1&resourceVersion={revision}") as again:
            assert again.names(3) == [("ADDED", "a"), ("MODIFIED", "a"), ("DELETED", "a")]

    def test_what_exists_comes_first_and_its_end_is_marked(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        query = "watch=1&sendInitialEvents=true&resourceVersionMatch=NotOlderThan&allowWatchBookmarks=true"
        with server.watch(f"{SETS}?{query}") as frames:
            assert frames.names(1) == [("ADDED", "a")]
            kind, said = frames.next()
            assert (kind, said["kind"]) == ("BOOKMARK", "GlobalNetworkSet")
            assert said["metadata"]["annotations"] == {"k8s.io/initial-events-end": "true"}

    def test_what_leaves_the_selection_is_deleted_for_this_watcher(self, server: ApiServer) -> None:
        revision = server.ask("GET", SETS)[1]["metadata"]["resourceVersion"]
        with server.watch(f"{SETS}?watch=1&resourceVersion={revision}&labelSelector=x%3Dy") as frames:
            made(server, SETS, a_set("other"))
            made(server, SETS, a_set("a", labels={"x": "y"}))
            server.ask("PATCH", f"{SETS}/a", {"metadata": {"labels": {"x": "z"}}}, Content_Type=MERGE)
            server.ask("PATCH", f"{SETS}/a", {"metadata": {"labels": {"x": "y"}}}, Content_Type=MERGE)
            assert frames.names(3) == [("ADDED", "a"), ("DELETED", "a"), ("ADDED", "a")]

    def test_one_object_may_be_watched(self, server: ApiServer) -> None:
        made(server, SETS, a_set("a"))
        made(server, SETS, a_set("b"))
        with server.watch(f"{SETS}?watch=1&fieldSelector=metadata.name%3Db") as frames:
            assert frames.names(1) == [("ADDED", "b")]

    def test_a_version_that_is_too_old_ends_in_an_error_event(self, server: ApiServer) -> None:
        with server.watch(f"{SETS}?watch=1&resourceVersion=-1") as frames:
            assert frames.code == 400
        first = int(server.ask("GET", f"{V3}/tiers")[1]["metadata"]["resourceVersion"])
        if first > 1:
            with server.watch(f"{SETS}?watch=1&resourceVersion=1") as frames:
                assert frames.code == 200
                kind, said = frames.next()
                assert (kind, said["code"], said["reason"]) == ("ERROR", 410, "Expired")
                assert frames.next() == ("", None)

    def test_it_ends_when_its_time_is_over(self, server: ApiServer) -> None:
        with server.watch(f"{SETS}?watch=1&resourceVersion=&timeoutSeconds=1") as frames:
            assert frames.next() == ("", None)

    def test_who_goes_away_is_forgotten(self, server: ApiServer) -> None:
        pump = server.running.api.pump
        with server.watch(f"{SETS}?watch=1"):
            eventually(lambda: pump.count > 0)
        eventually(lambda: pump.count == 0)


class TestNames:
    """IPAM's objects, named in Kubernetes as Calico names them there."""

    @pytest.mark.parametrize(("cidr", "name"), [("10.0.0.0/26", "n-1-10-0-0-0-26"), ("fd00::/122", "n-1-fd00---122")])
    def test_an_affinity(self, server: ApiServer, cidr: str, name: str) -> None:
        path = f"{CRD}/blockaffinities"
        spec = {"cidr": cidr, "node": "n-1", "state": "confirmed", "deleted": "false", "type": "host"}
        found = made(server, path, {"metadata": {"name": name}, "spec": spec})
        assert found["metadata"]["name"] == name
        digest = "projectcalico.org/hostname-hash"
        selected = f"{path}?labelSelector={digest}%3D{found['metadata']['labels'][digest]}"
        assert [item["metadata"]["name"] for item in server.ask("GET", selected)[1]["items"]] == [name]
        found["spec"]["deleted"] = "true"
        code, found = server.ask("PUT", f"{path}/{name}", found)
        assert (code, found["spec"]["deleted"]) == (200, "true")
        wanted = {"preconditions": {"uid": found["metadata"]["uid"]}}
        assert server.ask("DELETE", f"{path}/{name}", wanted)[0] == 200
        assert server.store.list("BlockAffinity").entries == ()

    def test_a_handle_in_lower_case(self, server: ApiServer) -> None:
        path = f"{CRD}/ipamhandles"
        spec = {"handleID": "k8s-pod-network.ABC", "block": {"10.0.0.0/26": 1}}
        found = made(server, path, {"metadata": {"name": "k8s-pod-network.abc"}, "spec": spec})
        assert (found["metadata"]["name"], found["spec"]["handleID"]) == ("k8s-pod-network.abc", "k8s-pod-network.ABC")
        assert [entry.key.name for entry in server.store.list("IPAMHandle").entries] == ["k8s-pod-network.ABC"]
        assert server.ask("DELETE", f"{path}/k8s-pod-network.abc")[0] == 200

    def test_labels_that_calico_means_are_the_objects_labels(self, server: ApiServer) -> None:
        meant = {"projectcalico.org/metadata": '{"labels":{"a":"b"},"annotations":{"c":"d"}}'}
        document = {"metadata": {"name": "x", "annotations": meant}, "spec": {"nets": []}}
        made(server, f"{CRD}/globalnetworksets", document)
        entry = server.store.get(Key("GlobalNetworkSet", "x"))
        assert entry
        assert entry.document["metadata"]["labels"] == {"a": "b"}
        assert entry.document["metadata"]["annotations"] == {"c": "d"}
        assert entry.document["apiVersion"] == "projectcalico.org/v3"
        assert server.ask("GET", f"{SETS}/x")[1]["metadata"]["labels"] == {"a": "b"}


class TestWhoMay:
    def test_nobody_without_credentials(self, server: ApiServer) -> None:
        code, said = server.ask("GET", SETS, Authorization="")
        assert (code, said["reason"]) == (403, "Forbidden")
        assert said["details"] == {"group": "projectcalico.org", "kind": "globalnetworksets"}
        assert server.ask("GET", "/version", Authorization="")[0] == 200

    def test_a_wrong_token_is_nobody(self, server: ApiServer) -> None:
        code, said = server.ask("GET", "/version", Authorization="Bearer wrong")
        assert (code, said["reason"]) == (401, "Unauthorized")

    def test_a_new_token_replaces_the_old_at_once(self, server: ApiServer) -> None:
        old = server.token
        try:
            server.running.identity.token_file.write_text("another")
            assert server.ask("GET", SETS, Authorization=f"Bearer {old}")[0] == 401
            assert server.ask("GET", SETS)[0] == 200
        finally:
            server.running.identity.token_file.write_text(old)

    def test_a_certificate_of_somebody_else_is_refused(self, server: ApiServer, tmp_path: Path) -> None:
        cert, key = tmp_path / "c.crt", tmp_path / "c.key"
        words = [
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:prime256v1",
            "-nodes",
            "-subj",
            "/CN=felixlite-admin",
        ]
        subprocess.run(["openssl", *words, "-keyout", str(key), "-out", str(cert)], check=True, capture_output=True)
        context = ssl.create_default_context(cafile=str(server.ca))
        context.load_cert_chain(cert, key)
        with pytest.raises((ssl.SSLError, ConnectionError)):
            server.ask_with(context, "GET", SETS)

    def test_secrets_are_readable_by_their_owner_only(self, server: ApiServer) -> None:
        folder = server.running.identity.folder
        assert folder.stat().st_mode & 0o077 == 0
        assert server.kubeconfig.stat().st_mode & 0o077 == 0
        assert all(path.stat().st_mode & 0o077 == 0 for path in (*folder.glob("*.key"), folder / "token"))


def eventually(what: Any) -> None:
    import time

    deadline = time.monotonic() + 30
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.02)
