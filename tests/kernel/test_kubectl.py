"""Stock kubectl against `felixlite apiserver` over etcd: every verb that a person uses, and what they see."""

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from felixlite.datastore import connect
from felixlite.datastore.store import Key
from tests.support.apiserver import KUBECTLS, ApiServer, Kubectl, apiserver
from tests.support.etcd import Etcd, etcd

PATIENCE = 60.0
POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: default-ipv4-ippool}
spec: {cidr: 10.244.0.0/16, ipipMode: CrossSubnet, natOutgoing: true}
---
apiVersion: projectcalico.org/v3
kind: BGPPeer
metadata: {name: tor}
spec: {peerIP: 10.0.0.1, asNumber: 65000}
"""


@pytest.fixture(scope="module")
def etcd_server() -> Iterator[Etcd]:
    with etcd() as server:
        yield server


@pytest.fixture(scope="module")
def server(etcd_server: Etcd) -> Iterator[ApiServer]:
    store = connect(etcd_server.url)
    try:
        with apiserver(store) as server:
            yield server
    finally:
        store.close()


@pytest.fixture(scope="module", params=KUBECTLS.values(), ids=KUBECTLS.keys())
def kubectl(request: pytest.FixtureRequest, server: ApiServer, tmp_path_factory: pytest.TempPathFactory) -> Kubectl:
    return Kubectl(server.kubeconfig, tmp_path_factory.mktemp("home"), program=request.param)


@pytest.fixture
def pool(server: ApiServer, kubectl: Kubectl) -> Iterator[Key]:
    """A pool and a peer, applied; gone afterwards."""
    kubectl("apply", "-f", "-", stdin=POOL)
    yield Key("IPPool", "default-ipv4-ippool")
    for key in (Key("IPPool", "default-ipv4-ippool"), Key("BGPPeer", "tor")):
        if server.store.get(key):
            server.store.delete(key)


def spec(server: ApiServer, key: Key) -> dict[str, object]:
    entry = server.store.get(key)
    assert entry
    found: dict[str, object] = entry.document["spec"]
    return found


def eventually(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + PATIENCE
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)


def test_apply_writes_what_calico_would_write(
    server: ApiServer, kubectl: Kubectl, etcd_server: Etcd, pool: Key
) -> None:
    raw = etcd_server.ctl(
        "get", "--print-value-only", "/calico/resources/v3/projectcalico.org/ippools/default-ipv4-ippool"
    )
    found = json.loads(raw)
    assert found["apiVersion"] == "projectcalico.org/v3"
    assert found["spec"]["ipipMode"] == "CrossSubnet"
    assert found["spec"]["blockSize"] == 26
    assert found["metadata"]["uid"]
    assert kubectl("apply", "-f", "-", stdin=POOL) == (
        "ippool.projectcalico.org/default-ipv4-ippool unchanged\nbgppeer.projectcalico.org/tor unchanged\n"
    )


def test_get_shows_the_columns_of_each_kind(kubectl: Kubectl, pool: Key) -> None:
    shown = [line.split() for line in kubectl("get", "ippools,bgppeers", "-o", "wide").splitlines() if line]
    assert shown[0] == ["NAME", "CIDR", "VXLAN", "IPIP", "NAT", "ALLOCATABLE", "AGE"]
    assert shown[1][:5] == [
        "ippool.projectcalico.org/default-ipv4-ippool",
        "10.244.0.0/16",
        "Never",
        "CrossSubnet",
        "true",
    ]
    assert shown[3][:3] == ["bgppeer.projectcalico.org/tor", "10.0.0.1", "65000"]


def test_edit_changes_a_field(server: ApiServer, kubectl: Kubectl, pool: Key) -> None:
    kubectl("edit", "ippool", pool.name, editor="sed -i s/CrossSubnet/Always/")
    assert spec(server, pool)["ipipMode"] == "Always"


def test_edit_of_something_wrong_says_what_and_changes_nothing(server: ApiServer, kubectl: Kubectl, pool: Key) -> None:
    said = kubectl.fails("edit", "ippool", pool.name, editor="sed -i s/CrossSubnet/Sometimes/")
    assert "is invalid" in said or "Sometimes" in said
    assert spec(server, pool)["ipipMode"] == "CrossSubnet"


def test_all_causes_of_a_refusal_are_told_by_field(kubectl: Kubectl, pool: Key) -> None:
    change = {"spec": {"ipipMode": "Sometimes", "cidr": "10.0.0.0/99"}}
    said = kubectl.fails("patch", "ippool", pool.name, "--type", "merge", "-p", json.dumps(change))
    assert "spec.ipipMode" in said
    assert "spec.cidr" in said


def test_an_unknown_field_is_told(kubectl: Kubectl) -> None:
    wrong = POOL.partition("---")[0].replace("natOutgoing", "natOutgoin")
    assert "natOutgoin" in kubectl.fails("apply", "-f", "-", stdin=wrong)


def test_explain_says_what_a_field_means(kubectl: Kubectl) -> None:
    said = kubectl("explain", "ippool.spec.ipipMode")
    assert "ipipMode <string>" in said
    assert "IPIP" in said.partition("DESCRIPTION")[2]
    assert "blockSize" in kubectl("explain", "ippool.spec")


def test_patches_labels_and_annotations(server: ApiServer, kubectl: Kubectl, pool: Key) -> None:
    kubectl("patch", "ippool", pool.name, "--type", "merge", "-p", '{"spec":{"ipipMode":"Always"}}')
    kubectl("patch", "ippool", pool.name, "--type", "json", "-p", '[{"op":"remove","path":"/spec/natOutgoing"}]')
    kubectl("label", "ippool", pool.name, "team=net")
    kubectl("annotate", "ippool", pool.name, "why=test")
    assert spec(server, pool)["ipipMode"] == "Always"
    assert "natOutgoing" not in spec(server, pool)
    assert kubectl("get", "ippools", "-l", "team in (net,x)", "-o", "name").strip().endswith(pool.name)
    assert kubectl("get", "ippools", "-l", "team!=net", "-o", "name") == ""
    assert kubectl("get", "ippools", "--field-selector", "metadata.name=other", "-o", "name") == ""
    assert kubectl("get", "ippool", pool.name, "-o", "jsonpath={.metadata.annotations.why}") == "test"


def test_watch_shows_a_change_and_a_deletion(kubectl: Kubectl, server: ApiServer, pool: Key) -> None:
    watching = kubectl.start("get", "ippools", "-w")
    try:
        assert watching.stdout
        assert watching.stdout.readline().startswith("NAME")
        assert "CrossSubnet" in watching.stdout.readline()
        entry = server.store.get(pool)
        assert entry
        entry.document["spec"]["ipipMode"] = "Always"
        server.store.update(pool, entry.document, entry.revision)  # by somebody who knows nothing of this API
        assert "Always" in watching.stdout.readline()
    finally:
        watching.kill()
        watching.communicate()


def test_dry_run_checks_and_writes_nothing(server: ApiServer, kubectl: Kubectl, pool: Key) -> None:
    changed = POOL.replace("CrossSubnet", "Always")
    assert "configured (server dry run)" in kubectl("apply", "--dry-run=server", "-f", "-", stdin=changed)
    assert "deleted (server dry run)" in kubectl("delete", "--dry-run=server", "bgppeer", "tor")
    assert spec(server, pool)["ipipMode"] == "CrossSubnet"
    assert server.store.get(Key("BGPPeer", "tor"))
    differs = kubectl.run(("diff", "-f", "-"), changed, "")
    assert differs.returncode == 1, differs.stderr
    assert "-  ipipMode: CrossSubnet" in differs.stdout


def test_a_stale_replace_is_a_conflict(kubectl: Kubectl, pool: Key) -> None:
    old = kubectl("get", "ippool", pool.name, "-o", "json")
    kubectl("label", "ippool", pool.name, "a=b")
    assert "the object has been modified" in kubectl.fails("replace", "-f", "-", stdin=old)


def test_a_namespace_takes_its_content_along(server: ApiServer, kubectl: Kubectl) -> None:
    kubectl("create", "namespace", "shop")
    kubectl("create", "-n", "shop", "secret", "generic", "bgp", "--from-literal=password=x")
    policy = {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": {"name": "web"},
        "spec": {"podSelector": {}},
    }
    kubectl("apply", "-n", "shop", "-f", "-", stdin=json.dumps(policy))
    assert server.store.get(Key("KubernetesNetworkPolicy", "web", "shop"))
    assert "not found" in kubectl.fails("apply", "-n", "nowhere", "-f", "-", stdin=json.dumps(policy))
    kubectl("delete", "namespace", "shop")
    assert server.store.get(Key("KubernetesNetworkPolicy", "web", "shop")) is None
    assert server.store.get(Key("Secret", "bgp", "shop")) is None
    assert server.store.get(Key("Namespace", "shop")) is None


def test_kubernetes_own_kinds_are_merged_by_key(server: ApiServer, kubectl: Kubectl) -> None:
    def pod(*containers: dict[str, str]) -> str:
        return json.dumps(
            {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "p"}, "spec": {"containers": containers}}
        )

    first, second = {"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}
    kubectl("apply", "-f", "-", stdin=pod(first, second))
    kubectl("apply", "-f", "-", stdin=pod({**first, "image": "x:2"}))
    assert spec(server, Key("Pod", "p", "default"))["containers"] == [{"name": "a", "image": "x:2"}]
    kubectl("delete", "pod", "p")


def test_a_node_of_calico_is_a_node_of_kubernetes(server: ApiServer, kubectl: Kubectl) -> None:
    key = Key("Node", "n1")
    node = {
        "apiVersion": "projectcalico.org/v3",
        "kind": "Node",
        "metadata": {"name": "n1"},
        "spec": {"bgp": {"ipv4Address": "10.0.0.1/24"}},
    }
    server.store.create(key, node)
    eventually(lambda: "10.0.0.1/24" in kubectl("get", "nodes"))
    kubectl("label", "node", "n1", "rack=r1")
    kubectl("annotate", "node", "n1", "projectcalico.org/RouteReflectorClusterID=1.0.0.1", "mine=yes")
    entry = server.store.get(key)
    assert entry
    assert entry.document["metadata"]["labels"] == {"rack": "r1"}
    assert entry.document["spec"]["bgp"] == {"ipv4Address": "10.0.0.1/24", "routeReflectorClusterID": "1.0.0.1"}
    assert kubectl("get", "node", "n1", "-o", "jsonpath={.metadata.annotations.mine}") == "yes"
    kubectl("delete", "node", "n1")


def test_the_client_certificate_is_as_good_as_the_token(kubectl: Kubectl, server: ApiServer, pool: Key) -> None:
    assert pool.name in kubectl("--context", "felixlite-certificate", "get", "ippools", "-o", "name")
    assert server.audited[-1]["user"] == "felixlite-admin"


def test_server_side_apply_is_refused_with_what_to_do(kubectl: Kubectl) -> None:
    assert "without --server-side" in kubectl.fails("apply", "--server-side", "-f", "-", stdin=POOL)


def test_what_is_not_calicos_is_kept_when_the_server_starts_again(etcd_server: Etcd, tmp_path: Path) -> None:
    store = connect(etcd_server.url)
    try:
        with apiserver(store) as before:
            kubectl = Kubectl(before.kubeconfig, tmp_path)
            kubectl("create", "configmap", "settings", "--from-literal=a=b")
        with apiserver(store) as after:
            kubectl = Kubectl(after.kubeconfig, tmp_path)
            assert kubectl("get", "configmap", "settings", "-o", "jsonpath={.data.a}") == "b"
            kubectl("delete", "configmap", "settings")
    finally:
        store.close()


def test_services_are_made_and_shown_as_elsewhere(server: ApiServer, kubectl: Kubectl) -> None:
    kubectl("create", "service", "clusterip", "web", "--tcp=80:http", "--tcp=443:8443", "--clusterip=10.96.0.7")
    stored = spec(server, Key("Service", "web", "default"))
    assert [(port["port"], port["targetPort"]) for port in stored["ports"]] == [(80, "http"), (443, 8443)]  # type: ignore[attr-defined]
    assert stored["selector"] == {"app": "web"}
    assert "service/web   ClusterIP   10.96.0.7" in kubectl("get", "all")
    assert "80/TCP,443/TCP" in kubectl("get", "services")
    kubectl("delete", "service", "web")


def test_a_policys_selector_is_shown_as_one_writes_it(kubectl: Kubectl) -> None:
    chosen = {
        "matchLabels": {"app": "web"},
        "matchExpressions": [{"key": "tier", "operator": "In", "values": ["a", "b"]}],
    }
    head = {"apiVersion": "networking.k8s.io/v1", "kind": "NetworkPolicy", "metadata": {"name": "web"}}
    kubectl("apply", "-f", "-", stdin=json.dumps({**head, "spec": {"podSelector": chosen}}))
    assert "app=web,tier in (a,b)" in kubectl("get", "netpol")
    kubectl("delete", "netpol", "web")


def test_whoever_asks_as_somebody_else_is_refused(kubectl: Kubectl) -> None:
    kubectl("get", "ippools")  # an older kubectl says only what it makes of a refused discovery, if it is the first
    assert "cannot impersonate" in kubectl.fails("get", "ippools", "--as=bob")
    assert "cannot impersonate" in kubectl.fails("auth", "can-i", "get", "ippools", "--as=bob")


def test_all_that_one_may_is_listed(kubectl: Kubectl) -> None:
    listed = kubectl("auth", "can-i", "--list")
    assert "ippools.projectcalico.org" in listed
    assert "deletecollection" in listed


def test_short_names_mean_one_thing(kubectl: Kubectl, pool: Key) -> None:
    done = kubectl.run(("get", "pools"), "", "")
    assert (pool.name in done.stdout, done.stderr) == (True, "")


def test_a_dry_deletion_deletes_nothing_of_any_kind(server: ApiServer, kubectl: Kubectl) -> None:
    kubectl("create", "configmap", "kept", "--from-literal=a=b")
    for word in ("configmap/kept", "namespace/kube-system"):
        kubectl.run(("delete", word, "--dry-run=server"), "", "")
    assert server.store.get(Key("ConfigMap", "kept", "default"))
    assert server.store.get(Key("Namespace", "kube-system"))
    kubectl("delete", "configmap", "kept")
