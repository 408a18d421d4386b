"""The API server over memory and over etcd, empty before and after each test."""

from collections.abc import Iterator

import pytest

from felixlite.datastore import connect
from felixlite.datastore.memory import MemoryStore
from tests.support.apiserver import ApiServer, apiserver
from tests.support.etcd import Etcd


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
