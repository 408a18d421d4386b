"""Rows of a node with kube-proxy in ipvs mode, and that nobody else's rows know of it."""

from dataclasses import replace

from felixlite.addresses import Prefix
from felixlite.model.policy import Direction
from felixlite.policy import rows
from felixlite.policy.inputs import KUBE_IPVS, Inputs, behind_ipvs
from felixlite.policy.iptables_text import Spelling as IptablesSpelling
from felixlite.policy.nftables_text import gate_chains
from felixlite.policy.plan import Planner
from felixlite.policy.settings import PolicySettings
from tests.unit.policy.world import inputs, pod, policy, rule

PODS = [replace(pod("a", "10.65.0.1 fd00::1"), mac="02:00:00:00:00:01"), pod("b", "10.65.0.2")]
WITHOUT = inputs(PODS, [policy("p", ingress=(rule(),))])
WITH = replace(WITHOUT, ipvs=frozenset({Prefix.parse("10.96.0.1"), Prefix.parse("fd00:96::1")}))


def planned(planner: Planner, world: Inputs) -> dict[rows.Key, rows.Row]:
    return {key: row for part in planner(world).tables["policy/4"] for key, row in part.items()}


def test_without_the_link_no_row_is_about_it() -> None:
    found = planned(Planner(), WITHOUT)
    gates, sender = found[rows.GATES], found[rows.Key("endpoint", "fw-calia")]

    assert rows.FROM_SENDERS not in found
    assert {rows.SERVICES, rows.SENDERS}.isdisjoint(key.name for key in found)
    assert isinstance(gates, rows.Chained)
    assert type(gates.body) is rows.Gates
    assert repr(gates.body).startswith("Gates(interfaces=")
    assert isinstance(sender, rows.Chained)
    assert isinstance(sender.body, rows.EndpointChain)
    assert sender.body.mac == "02:00:00:00:00:01"


def test_when_the_link_is_gone_the_rows_are_as_before() -> None:
    planner = Planner()
    before = planned(planner, WITHOUT)
    during = planned(planner, WITH)

    assert during == planned(Planner(), WITH)
    assert during != before
    assert planned(planner, WITHOUT) == before


def test_senders_are_known_by_their_addresses_not_by_those_that_they_may_take() -> None:
    a, b = PODS
    spoofer = replace(b, may_send_as=(Prefix.parse("198.51.100.0/24"),))
    world = replace(inputs([a, spoofer], settings=PolicySettings(may_spoof=True)), ipvs=WITH.ipvs)
    found = planned(Planner(), world)

    own = {Prefix.parse("10.65.0.1"), Prefix.parse("10.65.0.2")}
    assert found[rows.Key("set", rows.SENDERS)] == rows.IpSet("ip", frozenset(own))
    assert found[rows.Key("set", rows.SERVICES)] == rows.IpSet("ip", frozenset({Prefix.parse("10.96.0.1")}))
    pairs = frozenset({("10.65.0.1", "fw-calia"), ("10.65.0.2", "fw-calib")})
    assert found[rows.FROM_SENDERS] == rows.Dispatch(Direction.EGRESS, pairs)


def test_a_pod_more_is_a_member_more_and_leaves_the_gates_alone() -> None:
    planner = Planner()
    before = planned(planner, WITH)
    another = replace(pod("d", "10.65.0.4"), mac="02:00:00:00:00:0D")
    after = planned(planner, replace(inputs([*PODS, another]), ipvs=WITH.ipvs))

    assert after[rows.GATES] == before[rows.GATES]
    assert after[rows.Key("set", rows.OWN_MACS)] == rows.IpSet(
        "mac,ip",
        frozenset({("02:00:00:00:00:01", Prefix.parse("10.65.0.1")), ("02:00:00:00:00:0d", Prefix.parse("10.65.0.4"))}),
    )


def test_a_pod_of_which_no_mac_is_known_may_send_with_any() -> None:
    gates = planned(Planner(), WITH)[rows.GATES]
    assert isinstance(gates, rows.Chained)
    assert isinstance(gates.body, rows.ServiceGates)
    nft = gate_chains(gates.body, 4)["own-source"].rules
    own_source = IptablesSpelling(4).chains(rows.GATES, gates)["raw", "fl-own-source"]

    assert gates.body.without_mac == ("calib",)
    assert nft[-2:] == ['iifname "calib" return', "ether saddr . ip saddr != @own-macs counter drop"]
    assert own_source[-2].endswith(" -i calib -j RETURN")
    assert own_source[-1].endswith(" -m set ! --match-set fl4-own-macs src,src -j DROP")


def test_an_address_that_is_the_nodes_as_well_is_no_services() -> None:
    addresses = {
        (KUBE_IPVS, "10.96.0.1/32"): Prefix.parse("10.96.0.1/32"),
        (KUBE_IPVS, "192.0.2.1/32"): Prefix.parse("192.0.2.1/32"),
        ("eth0", "192.0.2.1/24"): Prefix.parse("192.0.2.0/24"),
    }

    assert behind_ipvs(True, addresses) == frozenset({Prefix.parse("10.96.0.1")})
    assert behind_ipvs(False, addresses) is None
