from dataclasses import replace

import pytest

from felixlite.addresses import Prefix
from felixlite.datastore.store import Key
from felixlite.errors import NotFound
from felixlite.ipam.assign import Request, View
from felixlite.ipam.tunnels import Tunnels
from felixlite.model.inside import Mode, Pool
from felixlite.model.selector import parse
from tests.unit.ipam.world import World

IPIP = Pool("a", Prefix.parse("10.0.0.0/24"), ipip=Mode.ALWAYS)
VXLAN = Pool("b", Prefix.parse("10.1.0.0/24"), vxlan=Mode.CROSS_SUBNET)
VXLAN6 = Pool("c", Prefix.parse("fd00::/118"), vxlan=Mode.ALWAYS, block_size=122)
NODE = Key("Node", "n1")


class Here(World):
    def __init__(self, atomic=True):
        super().__init__(atomic=atomic)
        self.store.create(NODE, {"metadata": {"name": "n1"}, "spec": {"bgp": {"ipv4Address": "192.0.2.1/24"}}})

    def keep(self, *pools, labels=None):
        self.view = View(pools)
        Tunnels(self.node(), self.store, "n1").keep(pools, labels or {})
        return self.says()

    def says(self):
        spec = self.store.get(NODE).document["spec"]
        return spec["bgp"].get("ipv4IPIPTunnelAddr"), spec.get("ipv4VXLANTunnelAddr"), spec.get("ipv6VXLANTunnelAddr")


@pytest.fixture(params=[True, False], ids=["atomic", "in-steps"])
def here(request):
    return Here(request.param)


def test_each_encapsulation_in_use_has_an_address_of_its_own_pools(here):
    ipip, vxlan, vxlan6 = here.keep(IPIP, VXLAN, VXLAN6)

    assert ipip.startswith("10.0.0.")
    assert vxlan.startswith("10.1.0.")
    assert vxlan6.startswith("fd00::")


def test_nothing_is_written_when_all_is_well(here):
    before = here.keep(IPIP, VXLAN)
    revision = here.store.get(NODE).revision

    assert here.keep(IPIP, VXLAN) == before
    assert here.store.get(NODE).revision == revision


def test_an_address_moves_when_its_pool_no_longer_tunnels(here):
    old, _, _ = here.keep(IPIP)
    other = replace(IPIP, name="z", cidr=Prefix.parse("10.9.0.0/24"))

    new, _, _ = here.keep(replace(IPIP, ipip=Mode.NEVER), other)

    assert new.startswith("10.9.0.")
    assert here.node().held("ipip-tunnel-addr-n1") == (Prefix.parse(new + "/32"),)
    assert old != new


def test_an_address_is_given_back_when_no_pool_needs_it(here):
    here.keep(IPIP)

    assert here.keep(replace(IPIP, ipip=Mode.NEVER)) == (None, None, None)
    assert here.node().held("ipip-tunnel-addr-n1") == ()


def test_a_pool_that_does_not_select_the_node_gives_no_address(here):
    elsewhere = replace(IPIP, node_selector=parse("rack == 'b'"))

    assert here.keep(elsewhere, labels={"rack": "a"})[0] is None
    assert here.keep(elsewhere, labels={"rack": "b"})[0] is not None


def test_an_address_on_the_node_that_somebody_else_holds_is_not_kept_and_not_released(here):
    here.view = View((IPIP,))
    (theirs,) = here.node().assign(Request("k8s.pod", {"node": "n1"}, v4=1)).addresses
    entry = here.store.get(NODE)
    entry.document["spec"]["bgp"]["ipv4IPIPTunnelAddr"] = str(theirs.first)
    here.store.update(NODE, entry.document, entry.revision)

    ipip, _, _ = here.keep(IPIP)

    assert ipip != str(theirs.first)
    assert here.node().held("k8s.pod") == (theirs,)


def test_without_a_node_there_is_nowhere_to_write(here):
    here.store.delete(NODE)

    with pytest.raises(NotFound, match="registers before"):
        here.keep(IPIP)
