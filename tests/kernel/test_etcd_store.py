"""The store in a real etcd."""

from collections.abc import Iterator

import pytest

from felixlite.datastore import connect
from felixlite.datastore.store import Store
from tests.support.etcd import Etcd
from tests.support.store_contract import StoreContract


@pytest.fixture
def store(empty_etcd: Etcd) -> Iterator[Store]:
    found = connect(empty_etcd.url)
    yield found
    found.close()


class TestEtcd(StoreContract):
    pass
