"""The routers of a lab start from our configurations and talk to each other."""

import pytest

from felixlite.lab import rack, routers, world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import CLUSTER_AS, ROUTER_KINDS, Topology
from tests.support.labs import lab_name

# a node that speaks BGP, played by BIRD
NODE = """
router id {address};
protocol device {{}}
protocol static {{ ipv4; route 10.244.7.0/26 blackhole; }}
protocol bgp r1 {{ local {address} as {asn}; neighbor {router} as 65000; direct; connect retry time 1; connect delay time 1;
  ipv4 {{ import all; export all; next hop self; }}; }}
"""


@pytest.fixture
def lab(request):
    topology = Topology(name=lab_name("r"), nodes=1, subnets=1, router=request.param)
    world.directory(topology.name).mkdir(parents=True, exist_ok=True)
    world.build(topology)
    yield topology
    world.clean(topology.name)


@pytest.mark.parametrize("lab", ROUTER_KINDS, indirect=True)
def test_a_router_hears_a_node_that_calls_it(lab):
    machine, node = lab.router_machines()[0], lab.node_machines()[0]
    directory = world.directory(lab.name)
    router = routers.start(lab.router, machine.namespace, directory / "r1", rack.configuration(lab, machine))
    text = NODE.format(address=node.address, asn=CLUSTER_AS, router=machine.address)
    routers.start("bird", node.namespace, directory / "n1", text)

    question = {"bird": ("show", "route"), "frr": ("show bgp ipv4 unicast",), "gobgp": ("global", "rib")}[lab.router]
    world.wait_for(lambda: "10.244.7.0/26" in router.ask(*question), "the node's block at the router", 30)

    if lab.router != "gobgp":
        table = ["ip", "route", "show", "10.244.7.0/26"]
        world.wait_for(
            lambda: str(node.address) in world.run(table, namespace=machine.namespace), "the route in its kernel"
        )


@pytest.mark.parametrize("router", [kind for kind in ROUTER_KINDS if kind != "bird"])  # all other tests have BIRD
def test_a_lab_comes_up_with_every_router(router):
    lab = Lab(Topology(name=lab_name("u"), nodes=2, pods=1, router=router, settings={"FELIXLITE_WAITFORACCEPTS": "60"}))
    try:
        lab.up()
        assert all(cell.is_right for cell in lab.ping())
    finally:
        lab.down()
