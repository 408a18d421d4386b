"""Fixtures of real processes. They start nothing before a test asks for them."""

import gc
import time
from collections.abc import Iterator

import pytest

from tests.support.etcd import Etcd, etcd
from tests.support.leftovers import held

PATIENCE = 30.0


@pytest.fixture(scope="session", autouse=True)
def nothing_is_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """At the end of the run every thread has ended, every netlink socket and namespace is closed. What nobody holds any
    more may still have to be collected, and threads are given time to see that they are to end."""
    before = held()
    yield
    for item in request.session.items:  # pytest itself still holds what the last test was given
        if isinstance(item, pytest.Function) and item.funcargs:
            item.funcargs.clear()
    gc.unfreeze()
    deadline = time.monotonic() + PATIENCE
    while left := held() - before:
        gc.collect()
        assert time.monotonic() < deadline, f"left behind: {sorted(left)}"
        time.sleep(0.1)


@pytest.fixture(scope="session")
def shared_etcd() -> Iterator[Etcd]:
    with etcd() as server:
        yield server


@pytest.fixture
def empty_etcd(shared_etcd: Etcd) -> Etcd:
    shared_etcd.wipe()
    return shared_etcd
