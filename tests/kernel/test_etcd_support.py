"""What the tests' own etcd can do: the faults that the store is tested with must really happen."""

import subprocess

import pytest

from tests.support.etcd import cluster, etcd


def test_a_server_keeps_its_data_over_a_kill():
    with etcd() as server:
        server.ctl("put", "/a", "1")
        server.kill()
        server.start()
        assert server.ctl("get", "/a", "--print-value-only") == "1\n"


def test_a_frozen_server_does_not_answer_until_it_is_thawed():
    with etcd() as server:
        server.freeze()
        with pytest.raises((AssertionError, subprocess.TimeoutExpired)):
            server.ctl("--command-timeout=300ms", "get", "/a")
        server.thaw()
        server.ctl("put", "/a", "1")


def test_a_cluster_lives_on_without_one_member():
    with cluster(3) as members:
        members[0].ctl("put", "/a", "1")
        members[0].kill()
        assert members[1].ctl("get", "/a", "--print-value-only") == "1\n"
