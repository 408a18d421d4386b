from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.intake import READERS, Entry, Intake, policies_read_by, snapshot_kinds
from felixlite.model.inside import Mode, Pool
from felixlite.model.policy import ALLOW_ALL, Action, Direction
from felixlite.policy import kubernetes
from felixlite.snapshot import Change, Gone, Put, Snapshot, fold

POOL = ("IPPool", "p", "")


def pool(**spec: Any) -> dict[str, Any]:
    return {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "p"}, "spec": spec}


def workload(node: str) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": "w", "namespace": "default"},
        "spec": {"node": node, "interfaceName": "cali1", "ipNetworks": ["10.0.0.1/32"]},
    }


def after(*changes: list[Change]) -> Snapshot:
    return fold(Snapshot("n1"), [change for some in changes for change in some])


def test_a_valid_pool_is_put() -> None:
    intake = Intake("n1")
    assert intake.changes(POOL, pool(cidr="10.0.0.0/16")) == [Put("pools", "p", Pool("p", Prefix.parse("10.0.0.0/16")))]


def test_an_invalid_pool_is_listed_with_the_reason_and_its_last_good_version_stays() -> None:
    intake = Intake("n1")
    snapshot = after(
        intake.changes(POOL, pool(cidr="10.0.0.0/16", ipipMode="Always")),
        intake.changes(POOL, pool(cidr="10.0.0.0/16", ipipMode="Sometimes")),
    )
    assert snapshot.pools["p"].ipip is Mode.ALWAYS
    assert "spec.ipipMode: 'Sometimes'" in snapshot.rejected["IPPool", "p"]


def test_a_pool_that_is_right_again_is_no_longer_listed() -> None:
    intake = Intake("n1")
    snapshot = after(
        intake.changes(POOL, pool(cidr="x")),
        intake.changes(POOL, pool(cidr="10.0.0.0/16")),
    )
    assert not snapshot.rejected
    assert "p" in snapshot.pools


def test_what_is_deleted_goes_with_its_rejection() -> None:
    intake = Intake("n1")
    snapshot = after(
        intake.changes(POOL, pool(cidr="10.0.0.0/16")),
        intake.changes(POOL, pool(cidr="x")),
        intake.changes(POOL, None),
    )
    assert not snapshot.pools
    assert not snapshot.rejected


def test_a_workload_of_this_node_is_local_and_one_that_moves_away_is_remote() -> None:
    intake = Intake("n1")
    which = ("WorkloadEndpoint", "w", "default")
    here = after(intake.changes(which, workload("n1")))
    assert here.local_workloads.keys() == {("default", "w")}
    there = fold(here, intake.changes(which, workload("n2")))
    assert not there.local_workloads
    assert there.remote_workloads.keys() == {("default", "w")}


POLICY = ("NetworkPolicy", "np", "default")


def policy(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "np", "namespace": "default"}
    return {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def test_a_policy_that_was_never_good_denies_what_it_selects() -> None:
    broken = policy(selector="app == 'web'", order=5, ingress=[{"action": "Alow"}], types=["Ingress"])
    snapshot = after(Intake("n1").changes(POLICY, broken))
    found = snapshot.policies["NetworkPolicy", "default", "np"]
    assert str(found.selector) == "app == 'web'"
    assert found.order == 5.0
    assert found.types == {Direction.INGRESS}
    assert [rule.action for rule in found.ingress] == [Action.DENY]
    assert ("NetworkPolicy", "default/np") in snapshot.rejected


def test_a_policy_of_which_nothing_can_be_read_denies_everything_in_its_namespace() -> None:
    for spec in ({"selector": "app =", "order": "x", "types": "Ingress"}, {"selector": 3, "order": float("nan")}):
        snapshot = after(Intake("n1").changes(POLICY, policy(**spec, ingress=7)))
        found = snapshot.policies["NetworkPolicy", "default", "np"]
        assert str(found.selector) == "all()"
        assert found.namespace == "default"
        assert found.order == 0.0
        assert found.types == set(Direction)


def test_a_policy_that_was_never_good_decides_about_both_directions_if_it_names_none() -> None:
    for types in ([], None):
        snapshot = after(Intake("n1").changes(POLICY, policy(types=types, ingress=[{"action": "Alow"}])))
        assert snapshot.policies["NetworkPolicy", "default", "np"].types == set(Direction)


def test_the_last_good_version_of_a_policy_stays_in_force() -> None:
    intake = Intake("n1")
    snapshot = after(
        intake.changes(POLICY, policy(ingress=[{"action": "Allow"}])),
        intake.changes(POLICY, policy(ingress=[{"action": "Alow"}])),
    )
    assert snapshot.policies["NetworkPolicy", "default", "np"].ingress == (ALLOW_ALL,)


def test_a_profile_that_was_never_good_denies_and_hands_its_labels_down() -> None:
    document = {"apiVersion": "projectcalico.org/v3", "kind": "Profile", "metadata": {"name": "locked"}}
    document["spec"] = {"labelsToApply": {"a": "b", "c": 3}, "ingress": [{"action": "Alow"}]}
    intake = Intake("n1")
    snapshot = after(intake.changes(("Profile", "locked", ""), document))
    found = snapshot.profiles["locked"]
    assert [rule.action for rule in (*found.ingress, *found.egress)] == [Action.DENY, Action.DENY]
    assert found.labels == {"a": "b"}
    for labels in (7, None):
        document["spec"]["labelsToApply"] = labels
        assert after(Intake("n1").changes(("Profile", "locked", ""), document)).profiles["locked"].labels == {}
    assert not fold(snapshot, intake.changes(("Profile", "locked", ""), None)).profiles


HTTP = {"action": "Allow", "http": {"methods": ["GET"]}}
UNENFORCED = [
    ("GlobalNetworkPolicy", {"doNotTrack": True, "applyOnForward": True}, "spec.doNotTrack: is about host endpoints"),
    ("GlobalNetworkPolicy", {"preDNAT": True, "applyOnForward": True}, "spec.preDNAT: is about host endpoints"),
    ("GlobalNetworkPolicy", {"ingress": [{"action": "Deny"}, HTTP]}, "spec.ingress[1].http: "),
    ("NetworkPolicy", {"ingress": [HTTP]}, "spec.ingress[0].http: "),
    ("Profile", {"ingress": [HTTP]}, "spec.ingress[0].http: "),
    ("HostEndpoint", {"node": "n1", "interfaceName": "eth0"}, "host endpoints are stored and not enforced"),
]


@pytest.mark.parametrize(("kind", "spec", "words"), UNENFORCED)
def test_what_is_stored_and_not_enforced_is_known_as_long_as_it_is_there(
    kind: str, spec: dict[str, Any], words: str
) -> None:
    which = (kind, "x", "red" if kind == "NetworkPolicy" else "")
    document = {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": "x", "namespace": which[2]}}
    intake = Intake("n1")
    snapshot = after(intake.changes(which, {**document, "spec": spec}))
    [(key, said)] = snapshot.unenforced.items()
    assert (key, said.startswith(words)) == ((kind, "red/x" if which[2] else "x"), True)
    assert not fold(snapshot, intake.changes(which, None)).unenforced


def test_an_invalid_policy_for_host_endpoints_alone_closes_no_pod() -> None:
    wrong = {"selector": "all()", "ingress": [{"action": "Frob"}]}
    which = ("GlobalNetworkPolicy", "x", "")
    document = {"apiVersion": "projectcalico.org/v3", "kind": which[0], "metadata": {"name": "x"}}
    for field, closed in (("doNotTrack", False), ("preDNAT", False), ("applyOnForward", True)):
        snapshot = after(Intake("n1").changes(which, {**document, "spec": {**wrong, field: True}}))
        assert bool(snapshot.policies) is closed
        assert snapshot.rejected
    for unreadable in ("yes", 1, [True]):
        snapshot = after(Intake("n1").changes(which, {**document, "spec": {**wrong, "doNotTrack": unreadable}}))
        assert snapshot.policies


def kubernetes_policy(**spec: Any) -> dict[str, Any]:
    metadata = {"name": "np", "namespace": "default"}
    return {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}


def test_a_policy_of_kubernetes_is_read_by_who_knows_it_and_denies_if_it_is_broken() -> None:
    readers = {**READERS, kubernetes.KIND: policies_read_by(kubernetes.policy)}
    which = (kubernetes.KIND, "np", "default")
    good = kubernetes_policy(podSelector={"matchLabels": {"a": "b"}}, ingress=[{}])
    key = (kubernetes.KIND, "default", "np")
    for types in ({}, {"policyTypes": []}, {"policyTypes": None}):
        good["spec"] |= types
        assert after(Intake("n1", readers).changes(which, good)).policies[key].types == {Direction.INGRESS}
    for broken in (
        {"podSelector": 3},
        {"ingress": [{"from": [{"ipBlock": {"cidr": "x", "except": 4}}]}]},
        {"egress": 7},
    ):
        snapshot = after(Intake("n1", readers).changes(which, kubernetes_policy(**broken)))
        assert [rule.action for rule in snapshot.policies[key].ingress] == [Action.DENY]
        assert snapshot.rejected


def test_a_broken_policy_of_kubernetes_closes_the_pods_and_directions_that_it_names() -> None:
    readers = {**READERS, kubernetes.KIND: policies_read_by(kubernetes.policy)}
    bad = {"ingress": [{"from": [{"ipBlock": {"cidr": "x"}}]}]}
    broken = kubernetes_policy(podSelector={"matchLabels": {"a": "b"}}, policyTypes=["Ingress"], **bad)
    snapshot = after(Intake("n1", readers).changes((kubernetes.KIND, "np", "default"), broken))
    found = snapshot.policies[kubernetes.KIND, "default", "np"]
    assert found.selector.matches({"a": "b", "projectcalico.org/orchestrator": "k8s"})
    assert not found.selector.matches({"a": "c", "projectcalico.org/orchestrator": "k8s"})
    assert found.types == {Direction.INGRESS}
    assert [rule.action for rule in found.ingress] == [Action.DENY]


def test_an_ip_block_is_read_as_kubernetes_reads_it() -> None:
    readers = {**READERS, kubernetes.KIND: policies_read_by(kubernetes.policy)}
    block = {"cidr": "010.244.0.1/16", "except": ["10.244.1.255/24", "fd00::1/64"]}
    document = kubernetes_policy(ingress=[{"from": [{"ipBlock": block}]}])
    snapshot = after(Intake("n1", readers).changes((kubernetes.KIND, "np", "default"), document))
    (rule,) = snapshot.policies[kubernetes.KIND, "default", "np"].ingress
    assert not snapshot.rejected
    assert [str(net) for net in rule.source.nets] == ["10.244.0.0/16"]
    assert [str(net) for net in rule.source.not_nets] == ["10.244.1.0/24", "fd00::/64"]


def test_an_object_on_which_a_reader_stumbles_is_refused_and_a_policy_closed() -> None:
    def stumbles(*_: object) -> dict[Entry, Any]:
        raise ZeroDivisionError("by zero")

    intake = Intake("n1", {**READERS, "IPPool": stumbles, "NetworkPolicy": stumbles})
    snapshot = after(
        intake.changes(POOL, pool(cidr="10.0.0.0/16")), intake.changes(POLICY, policy(selector="a == 'b'"))
    )
    assert "ZeroDivisionError: by zero" in snapshot.rejected["IPPool", "p"]
    assert not snapshot.pools
    found = snapshot.policies["NetworkPolicy", "default", "np"]
    assert str(found.selector) == "a == 'b'"
    assert [rule.action for rule in found.egress] == [Action.DENY]


def test_a_staged_policy_is_not_watched() -> None:
    assert not any("Staged" in kind for kind in snapshot_kinds)


def test_a_new_list_takes_out_what_is_not_on_it() -> None:
    intake = Intake("n1")
    first = intake.relisted("IPPool", [(POOL, pool(cidr="10.0.0.0/16")), (("IPPool", "q", ""), pool(cidr="x"))])
    snapshot = fold(after(first), intake.relisted("IPPool", []))
    assert not snapshot.pools
    assert not snapshot.rejected


def test_a_new_list_leaves_the_last_good_version_of_what_is_invalid_on_it() -> None:
    intake = Intake("n1")
    intake.changes(POOL, pool(cidr="10.0.0.0/16"))
    changes = intake.relisted("IPPool", [(POOL, pool(cidr="x"))])
    assert not any(isinstance(change, Gone) for change in changes)


def endpoint_slice(name: str, *addresses: str) -> tuple[tuple[str, str, str], dict[str, Any]]:
    document = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [address]} for address in addresses],
        "ports": [{"port": 80}],
    }
    return ("EndpointSlice", name, "default"), document


def test_a_service_is_what_all_of_its_slices_say() -> None:
    intake = Intake("n1")
    snapshot = after(
        intake.changes(*endpoint_slice("web-1", "10.0.0.1")), intake.changes(*endpoint_slice("web-2", "10.0.0.2"))
    )
    assert [str(b.address) for b in snapshot.services["default", "web"].backends] == ["10.0.0.1", "10.0.0.2"]
    snapshot = fold(snapshot, intake.changes(("EndpointSlice", "web-1", "default"), None))
    assert [str(b.address) for b in snapshot.services["default", "web"].backends] == ["10.0.0.2"]
    snapshot = fold(snapshot, intake.changes(("EndpointSlice", "web-2", "default"), None))
    assert not snapshot.services


def test_a_namespace_is_a_profile_that_hands_down_its_labels() -> None:
    document = {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "a", "labels": {"team": "x"}}}
    snapshot = after(Intake("n1").changes(("Namespace", "a", ""), document))
    assert snapshot.profiles["kns.a"].labels["pcns.team"] == "x"


def test_a_secret_is_known_by_its_name_and_key() -> None:
    document = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "a"}}
    document["data"] = {"password": "aHVudGVyMg=="}
    assert after(Intake("n1").changes(("Secret", "s", "a"), document)).secrets == {("s", "password"): "hunter2"}


def test_settings_that_can_be_read_count_although_others_cannot() -> None:
    document = {"apiVersion": "projectcalico.org/v3", "kind": "FelixConfiguration", "metadata": {"name": "default"}}
    document["spec"] = {"vxlanPort": "x", "vxlanVNI": 7}
    snapshot = after(Intake("n1").changes(("FelixConfiguration", "default", ""), document))
    assert snapshot.felix_configurations["default"]["vxlanVNI"] == 7
    assert ("FelixConfiguration", "default") in snapshot.rejected


def test_a_bgp_configuration_arrives_as_it_was_written() -> None:
    document = {"apiVersion": "projectcalico.org/v3", "kind": "BGPConfiguration", "metadata": {"name": "default"}}
    document["spec"] = {"asNumber": "1.10"}
    snapshot = after(Intake("n1").changes(("BGPConfiguration", "default", ""), document))
    assert snapshot.bgp_configurations == {"default": {"asNumber": "1.10"}}
