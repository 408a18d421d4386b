"""The store in the API of Kubernetes: whatever a Store does, against our own API server, which takes what it is given."""

from collections.abc import Iterator

import pytest

from felixlite.datastore import connect
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key, Store
from tests.support.apiserver import ApiServer, apiserver
from tests.support.store_contract import StoreContract, document

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
