"""Every table against the real kernel: the contract that the fake keeps too."""

import pytest

from felixlite.kernel.host import Host
from tests.support.kernel_contract import KernelContract, tables
from tests.support.netns import namespace
from tests.support.real_kernel import RealKernel

__all__ = ["tables"]


@pytest.fixture
def kernel():
    with namespace("fk-tb") as net, Host(net.fd) as host:
        real = RealKernel(net, host)
        real.add_link("eth0")
        real.add_address("eth0", "192.0.2.1/24")
        real.add_route("203.0.113.0/24", "eth0")
        yield real


class TestRealKernel(KernelContract):
    pass
