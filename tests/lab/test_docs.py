"""The commands in the documentation are run on node n1 of a lab: each ends well, and says what the page says it does."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from felixlite.lab import world
from tests.support.docpages import PAGES, blocks, inline

TO_BE_RUN = [block for page in PAGES for block in blocks(page) if block.mark == "run"]
INLINE = [(page.name, inline(page)) for page in PAGES if inline(page)]
POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: default-ipv4-ippool}
spec: {cidr: 10.244.0.0/16, ipipMode: Never, vxlanMode: Always, natOutgoing: true}
"""
NOT_FOR_A_TEST = ("lab up", "lab down", "lab capture", "lab tour", "lab break", "lab fix", "lab bench", "delete", "edit", "--fix", "agent",
                  "controllers", "install", "n7")  # fmt: skip
MAY_END_WITH_1 = ("felixlite doctor", "felixlite plan")  # this machine's clock; changes


@pytest.fixture
def shell(lab, tmp_path):
    """As on a node where felixlite is installed and knows its store; `felixlite lab` as beside the lab."""
    (tmp_path / "pool.yaml").write_text(POOL)
    environment = {
        **os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "FELIXLITE_LAB": lab.topology.name,
        "FELIXLITE_STORE": lab.store_url, "FELIXLITE_RUN_DIR": str(lab.run_directory("n1")),
        "ETCDCTL_ENDPOINTS": lab.store_url.removeprefix("etcd://"), "ETCDCTL_API": "3",
    }  # fmt: skip

    def run(line):
        where = None if line.startswith("felixlite lab") else lab.machine("n1").namespace
        line = line.replace("--store etcd://10.0.0.1:2379", "")
        allowed = (0, 1) if line.startswith(MAY_END_WITH_1) else (0,)
        deadline = time.monotonic() + 60
        while True:  # what another test did to the lab may still be healing: then `status` says so
            done = subprocess.run(
                world.inside(where, ["sh", "-c", line]), cwd=tmp_path, env=environment, stdin=subprocess.DEVNULL,
                capture_output=True, text=True, check=False, timeout=200,
            )  # fmt: skip
            if done.returncode in allowed:
                return done.stdout
            assert time.monotonic() < deadline, f"{line}\n{done.stdout}{done.stderr}"
            time.sleep(1)

    return run


@pytest.mark.parametrize("block", TO_BE_RUN, ids=lambda block: f"{block.page}:{block.line}")
def test_a_block_of_commands_does_what_it_shows(lab, shell, block):
    try:
        said = "".join(shell(command) for command in block.commands)
    finally:
        lab.felixlite(
            "patch",
            "ippool",
            "default-ipv4-ippool",
            "-p",
            '{"spec": {"ipipMode": "CrossSubnet", "vxlanMode": "Never"}}',
        )

    assert block.says in said
    lab.wait_until_green(60)
    world.wait_for(lambda: not any(words in shown(lab) for words in ("vxlan", "10.0.2.14")), "the lab as it was", 60)


def shown(lab):
    """Routes, links and addresses of all nodes: nothing of the other tunnel, nor of the node that came and went."""
    looks = (["ip", "route", "show", "proto", "80"], ["ip", "-o", "address"], ["ip", "-o", "link"])
    return "".join(world.run(look, namespace=m.namespace) for m in lab.topology.node_machines() for look in looks)


@pytest.mark.parametrize(("page", "commands"), INLINE, ids=[page for page, _ in INLINE])
def test_the_commands_of_a_page_work(shell, page, commands):
    some = [command for command in commands if not any(words in command for words in NOT_FOR_A_TEST)]
    assert len(some) > 5

    for command in some:
        shell(command)
