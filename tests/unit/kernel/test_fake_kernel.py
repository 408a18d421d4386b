"""The fake kernel keeps the contract of the real one (tests/kernel/test_tables.py runs the same on that)."""

import pytest

from tests.support.fake_kernel import FakeKernel
from tests.support.kernel_contract import KernelContract, tables

__all__ = ["tables"]


@pytest.fixture
def kernel():
    fake = FakeKernel()
    fake.add_link("eth0")
    fake.add_address("eth0", "192.0.2.1/24")
    fake.add_route("203.0.113.0/24", "eth0")
    return fake


class TestFakeKernel(KernelContract):
    pass
