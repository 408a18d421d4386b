"""What the API server does with what is written, as far as a client of Kubernetes relies on it."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from felixlite.datastore.store import Key
from tests.support.apiserver import CRD, MERGE, SETS, V3, ApiServer, a_set, made


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
