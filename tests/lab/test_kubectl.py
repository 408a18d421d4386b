"""kubectl on a rack without Kubernetes: what it writes, the nodes do."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from felixlite.apiserver.namespaces import BUILT_IN
from felixlite.lab import world
from felixlite.lab.lab import Lab
from tests.support.apiserver import Kubectl

POOL = "default-ipv4-ippool"


@pytest.fixture(scope="module")
def kubectl(lab: Lab, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Kubectl]:
    """Where the rack's etcd is, a server; it writes what kubectl needs when it serves."""
    folder, inside = tmp_path_factory.mktemp("apiserver"), lab.topology.switch
    config = folder / "kubeconfig"
    words = ["apiserver", "--state-dir", str(folder / "state"), "--kubeconfig-out", str(config)]
    world.start(inside, [*lab.command, *words], folder / "log")
    world.wait_for(config.exists, "the API server's start", 60.0)
    yield Kubectl(config, folder, *world.inside(inside, []))
    world.kill([pid for pid in world.processes(inside) if "apiserver" in Path(f"/proc/{pid}/cmdline").read_text()])
    lab.felixlite("delete", "namespace", *BUILT_IN)


def routes(lab: Lab, node: str) -> str:
    return world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine(node).namespace)


def test_an_edited_pool_is_in_the_kernel_of_every_node(lab: Lab, kubectl: Kubectl) -> None:
    nodes = [machine.name for machine in lab.topology.node_machines()]
    before = {node: routes(lab, node) for node in nodes}
    assert "dev tunl0" in "".join(before.values())

    kubectl("edit", "ippool", POOL, editor="sed -i s/CrossSubnet/Never/")
    world.wait_for(lambda: not any("tunl0" in routes(lab, node) for node in nodes), "routes without a tunnel", 60.0)

    kubectl("patch", "ippool", POOL, "--type", "merge", "-p", '{"spec":{"ipipMode":"CrossSubnet"}}')
    world.wait_for(lambda: {node: routes(lab, node) for node in nodes} == before, "the routes from before", 60.0)


def test_the_rack_is_there_to_be_seen(lab: Lab, kubectl: Kubectl) -> None:
    nodes = sorted(kubectl("get", "nodes", "-o", "name").split())
    assert nodes == [f"node/{machine.name}" for machine in lab.topology.node_machines()]
    assert len(kubectl("get", "workloadendpoints", "-A", "-o", "name").split()) == 6
    assert kubectl("get", "blockaffinities", "-o", "jsonpath={.items[*].spec.state}").split() == ["confirmed"] * 3
