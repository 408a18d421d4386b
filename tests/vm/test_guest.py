"""What the guest is for: a kernel that has ipip."""

import platform
from pathlib import Path


def test_the_guest_runs_debians_kernel_on_the_hosts_files():
    assert platform.node() == "guest"
    assert "-amd64" in platform.release()
    assert Path(__file__).exists()
