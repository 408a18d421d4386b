import pytest

from felixlite.kernel.host import Host
from tests.support.netns import namespace
from tests.support.real_kernel import RealKernel
from tests.support.walks import Walks, prepare


@pytest.fixture
def kernel():
    with namespace("fk-wk") as net, Host(net.fd) as host:
        yield prepare(RealKernel(net, host))


class TestWalksOnTheRealKernel(Walks):
    pass
