import socket
import subprocess

import pytest

from felixlite.kernel.namespaces import visiting
from tests.support.netns import connect, namespace


def names() -> set[str]:
    return {name for _, name in socket.if_nameindex()}


def test_code_runs_inside_and_the_caller_stays_outside():
    with namespace("fk-ns") as net:
        net.ip("link add inside0 type bridge")

        assert "inside0" in net.run(names)
        assert "inside0" not in names()


def test_a_visit_ends_at_home_even_after_an_error():
    with namespace("fk-ns") as net:
        net.ip("link add inside0 type bridge")

        with pytest.raises(ZeroDivisionError), visiting(net.fd):
            assert 1 / ("inside0" not in names())

        assert "inside0" not in names()


def test_a_namespace_is_gone_after_its_body_also_when_the_body_fails():
    with pytest.raises(ZeroDivisionError), namespace("fk-ns") as net:
        raise ZeroDivisionError

    listed = subprocess.run(["ip", "netns", "list"], capture_output=True, text=True, check=True).stdout
    assert net.name not in listed


def test_two_connected_namespaces_reach_each_other():
    with namespace("fk-ns") as left, namespace("fk-ns") as right:
        connect(left, "eth0", right, "eth0")
        left.ip("address add 192.0.2.1/30 dev eth0")
        right.ip("address add 192.0.2.2/30 dev eth0")

        left.command("ping", "-c", "1", "-W", "2", "192.0.2.2")
