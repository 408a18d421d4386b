"""An address lent by one node's block to a pod of another node: everybody reaches it, the block's owner too.

On the owner the whole block is a blackhole but for the addresses of its own pods; a lent one has to have a route of its
own there, which elsewhere has been forgotten more than once.
"""

import json

import pytest

from felixlite.lab import world

BLOCK = "10.98.7.0/26"


@pytest.fixture
def lent(lab):
    """A pod on n1, whose node owns the only block of a pool, and one on n2, which borrows from it."""
    default = json.loads(lab.felixlite("get", "ippool", "default-ipv4-ippool", "-o", "json"))
    spec = {**default["spec"], "cidr": BLOCK, "assignmentMode": "Manual", "allowedUses": ["Workload"]}
    only = {**default, "metadata": {"name": "lending"}, "spec": spec}
    lab.felixlite("create", "-f", "-", stdin=json.dumps(only))
    try:
        for node in ("n1", "n2"):
            world.wait_for(lambda node=node: "lending" in lab.status(node)["pools"], "the new pool", 10)
        lab.add_pod(lab.machine("n1"), "owner", pools=["lending"])
        lab.add_pod(lab.machine("n2"), "borrower", pools=["lending"])
        yield lab.pod("borrower")
    finally:
        made = [pod.name for pod in lab.pods() if pod.name in ("owner", "borrower")]
        for pod in made:
            lab.remove_pod(pod)
        lab.felixlite("delete", "ippool", "lending", "--force")
        if made:  # a node keeps an empty block, and for other tests `ipam check` would find it outside every pool
            lab.felixlite("delete", "blockaffinity", "n1-10-98-7-0-26")
            lab.felixlite("delete", "ipamblock", "10-98-7-0-26")


def reached(source, address):
    world.run(["ping", "-c", "3", "-i", "0.2", "-W", "2", address], namespace=source)


def test_a_lent_address_is_reached_from_everywhere_and_from_the_owner_of_its_block(lab, lent):
    assert json.loads(lab.felixlite("ipam", "show", "--ip", lent.address, "-o", "json"))["owner"] == "n1"
    owner = lab.machine("n1").namespace
    world.wait_for(
        lambda: "via" in world.run(["ip", "route", "show", lent.address], namespace=owner),
        "the owner's route to the lent address",
        10,
    )

    assert "blackhole" in world.run(["ip", "route", "show", BLOCK], namespace=owner)
    lab.wait_until_green(20)
    reached(owner, lent.address)
    reached(lab.pod("owner").namespace, lent.address)
    reached(lent.namespace, lab.pod("owner").address)
