"""Fixtures of real processes. They start nothing before a test asks for them."""

from collections.abc import Iterator

import pytest

from tests.support.etcd import Etcd, etcd


@pytest.fixture(scope="session")
def shared_etcd() -> Iterator[Etcd]:
    with etcd() as server:
        yield server


@pytest.fixture
def empty_etcd(shared_etcd: Etcd) -> Etcd:
    shared_etcd.wipe()
    return shared_etcd
