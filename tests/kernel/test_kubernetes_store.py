"""The store in the API of Kubernetes: whatever a Store does, against our own API server, which takes what it is given."""

from collections.abc import Iterator
from typing import Any

import pytest

from felixlite.apiserver.strategic import merge
from felixlite.datastore import connect
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Changed, Deleted, Document, Key, Store
from felixlite.errors import AlreadyExists, Conflict, NotFound, StoreError
from tests.support.apiserver import ApiServer, apiserver
from tests.support.store_contract import StoreContract, document, listening

NAMESPACES = ("a", "a-b", "b", "ns")


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with apiserver(permissive=True) as found:
        yield found


@pytest.fixture(params=["crd.projectcalico.org/v1", "projectcalico.org/v3"])
def store(server: ApiServer, request: pytest.FixtureRequest) -> Iterator[Store]:
    found = connect(f"kubernetes://{server.kubeconfig}?qps=10000&burst=10000&group={request.param}")
    for name in NAMESPACES:
        key = Key("Namespace", name)
        server.store.create(key, document(key))
    yield found
    found.close()
    assert isinstance(server.store, MemoryStore)
    for key in list(server.store._entries):
        server.store.delete(key)


class TestKubernetes(StoreContract):
    pass


# -- IPAM's objects are marked before they are deleted (reference 4.2)

BLOCK = Key("IPAMBlock", "10-0-0-0-26")
PATH = "/apis/crd.projectcalico.org/v1/ipamblocks/10-0-0-0-26"


@pytest.fixture
def custom(server: ApiServer) -> Iterator[Store]:
    found = connect(f"kubernetes://{server.kubeconfig}?qps=10000&burst=10000")
    yield found
    found.close()
    if server.store.get(BLOCK):
        server.store.delete(BLOCK)


def block() -> Document:
    return document(
        BLOCK, cidr="10.0.0.0/26", allocations=[None] * 64, unallocated=list(range(64)), attributes=[], deleted=False
    )


def doom(server: ApiServer) -> None:
    """What a process does that is killed in the middle of a deletion."""
    headers = {"Content-Type": "application/merge-patch+json"}
    code, _ = server.ask("PATCH", PATH, {"spec": {"deleted": True}}, **headers)
    assert code == 200


def test_a_block_is_marked_and_then_deleted_and_watchers_hear_of_it_once(server: ApiServer, custom: Store) -> None:
    made = custom.create(BLOCK, block())
    server.audited.clear()
    with listening(custom, {"IPAMBlock": custom.list("IPAMBlock").revision}) as heard:
        custom.delete(BLOCK, made.revision)
        assert isinstance(heard.next(), Deleted)
        assert heard.is_quiet()
    assert [one["verb"] for one in server.audited if one["verb"] in ("update", "patch", "delete")] == [
        "patch",
        "delete",
    ]


def test_a_marked_block_is_as_good_as_gone(server: ApiServer, custom: Store) -> None:
    made = custom.create(BLOCK, block())
    doom(server)
    assert custom.get(BLOCK) is None
    assert custom.list("IPAMBlock").entries == ()
    with pytest.raises(NotFound):
        custom.delete(BLOCK)
    again = custom.create(BLOCK, block())
    assert again.document["metadata"]["uid"] != made.document["metadata"]["uid"]
    assert custom.get(BLOCK) == again


def test_a_living_block_is_not_created_over(custom: Store) -> None:
    custom.create(BLOCK, block())
    with pytest.raises(AlreadyExists):
        custom.create(BLOCK, block())


# -- what Kubernetes has itself

POD = Key("Pod", "web-0", "ns")
ENDPOINT = Key("WorkloadEndpoint", "n1-k8s-web--0-eth0", "ns")


@pytest.fixture
def with_pod(server: ApiServer, store: Store) -> Store:
    spec = {"nodeName": "n1", "serviceAccountName": "robot", "containers": [{"name": "c"}]}
    server.store.create(POD, {**document(POD), "spec": spec, "status": {"phase": "Pending"}})
    server.store.create(Key("Node", "n1"), document(Key("Node", "n1")))
    return store


def kubelet_writes(server: ApiServer, key: Key, **status: Any) -> None:
    entry = server.store.get(key)
    assert entry
    server.store.update(key, merge(entry.document, {"status": status}), entry.revision)


def endpoint(address: str, container: str = "c1") -> Document:
    return document(ENDPOINT, node="n1", pod="web-0", ipNetworks=[address], containerID=container)


def test_an_endpoint_is_a_pod_that_has_an_address(server: ApiServer, with_pod: Store) -> None:
    assert with_pod.get(ENDPOINT) is None
    made = with_pod.create(ENDPOINT, endpoint("10.0.0.1/32"))
    assert made == with_pod.get(ENDPOINT)
    assert made.document["spec"]["profiles"] == ["kns.ns", "ksa.ns.robot"]
    with pytest.raises(AlreadyExists):
        with_pod.create(ENDPOINT, endpoint("10.0.0.2/32"))
    assert with_pod.get(ENDPOINT._replace(name="n2-k8s-web--0-eth0")) is None

    kubelet_writes(server, POD, phase="Running", conditions=[{"type": "Ready"}])
    changed = with_pod.update(ENDPOINT, endpoint("10.0.0.2/32", "c2"), made.revision)
    assert changed.document["spec"]["containerID"] == "c2"
    with pytest.raises(Conflict):
        with_pod.delete(ENDPOINT, made.revision)
    with_pod.delete(ENDPOINT, changed.revision)
    assert with_pod.get(ENDPOINT) is None
    with pytest.raises(NotFound):
        with_pod.delete(ENDPOINT)


def test_watchers_hear_when_a_pod_gets_its_address_and_when_it_gives_it_back(with_pod: Store) -> None:
    with listening(with_pod, {"WorkloadEndpoint": with_pod.list("WorkloadEndpoint").revision}) as heard:
        made = with_pod.create(ENDPOINT, endpoint("10.0.0.1/32"))
        assert heard.next() == Changed(made)
        with_pod.delete(ENDPOINT)
        gone = heard.next()
        assert isinstance(gone, Deleted)
        assert gone.key == ENDPOINT


def test_a_container_that_is_no_pod_has_no_place(store: Store) -> None:
    with pytest.raises(StoreError, match="only a pod has an endpoint"):
        store.get(ENDPOINT._replace(name="n1-cni-c1-eth0"))


def test_a_node_is_annotated_and_what_the_kubelet_writes_is_no_conflict(server: ApiServer, with_pod: Store) -> None:
    key = Key("Node", "n1")
    entry = with_pod.get(key)
    assert entry
    kubelet_writes(server, key, conditions=[{"type": "Ready", "status": "True"}])
    spec = {"bgp": {"ipv4Address": "192.0.2.1/24", "asNumber": 64512}}
    wanted = {**entry.document, "spec": spec, "status": {"accepts": ["ipip", "none"]}}
    written = with_pod.update(key, wanted, entry.revision)
    assert written.document["spec"]["bgp"]["ipv4Address"] == "192.0.2.1/24"
    assert written.document["status"]["accepts"] == ["ipip", "none"]
    with pytest.raises(Conflict):
        with_pod.update(key, wanted, entry.revision)
    with pytest.raises(StoreError, match="kubectl delete node"):
        with_pod.delete(key)
    with pytest.raises(StoreError, match="the kubelet makes it"):
        with_pod.create(Key("Node", "n2"), wanted)


def test_profiles_are_the_namespaces_and_nothing_of_their_own(store: Store) -> None:
    assert store.get(Key("Profile", "kns.ns")) is None
    assert store.list("Profile").entries == ()
    with pytest.raises(StoreError, match="no place in Kubernetes"):
        store.create(Key("Profile", "p"), document(Key("Profile", "p")))


def test_secrets_are_those_of_our_namespace(server: ApiServer, store: Store) -> None:
    for namespace in ("kube-system", "ns"):
        key = Key("Secret", "bgp", namespace)
        server.store.create(key, {**document(key), "data": {"password": "c2VjcmV0"}})
    assert [entry.key.namespace for entry in store.list("Secret").entries] == ["kube-system"]
