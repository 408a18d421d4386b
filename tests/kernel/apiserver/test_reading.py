"""What the API server answers and to whom: lists, watches, the names in them, and who may ask at all."""

import ssl
import subprocess
from pathlib import Path
from typing import Any

import pytest

from felixlite.datastore.store import Key
from tests.support.apiserver import CRD, MERGE, SETS, V3, ApiServer, a_set, made


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
