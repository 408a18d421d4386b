"""What `felixlite explain` says, and what it says when it cannot."""

from ipaddress import ip_address

import pytest

from felixlite.addresses import Prefix
from felixlite.errors import FelixliteError
from felixlite.model.inside import Pool
from felixlite.model.policy import TCP
from felixlite.policy.evaluate import Packet
from felixlite.policy.explain import explained, lines, resolved
from tests.unit.policy.world import entity, inputs, pod, policy, rule

A, B = pod("a", "10.65.0.1", app="a"), pod("b", "10.65.0.2", app="b", node="there")
POOL = Pool("main", Prefix.parse("10.65.0.0/16"), nat_outgoing=True)
WORLD = inputs(
    [A],
    [policy("p", selector="app == 'a'", ingress=(rule(source=entity(selector="app == 'b'")),))],
    remote=[B],
    pools={"main": POOL},
)


def said(source: str, destination: str) -> str:
    packet = Packet(ip_address(source), ip_address(destination), TCP, 40000, 80)
    return "\n".join(lines(explained(WORLD, packet)))


def test_it_names_the_rule_that_decided() -> None:
    assert "is allowed\n  by default/a ingress: tier default, NetworkPolicy default/p: rule 0: Allow" in said(
        "10.65.0.2", "10.65.0.1"
    )


def test_it_names_the_end_of_the_tier_that_denied() -> None:
    assert "is DENIED\n  by default/a ingress: tier default, end of tier default" in said("192.0.2.1", "10.65.0.1")


def test_it_says_what_nat_does() -> None:
    assert "the source is masqueraded" in said("10.65.0.1", "192.0.2.1")
    assert "the destination is inside of a pool" in said("10.65.0.2", "10.65.0.1")


def test_two_strangers_are_none_of_our_business() -> None:
    assert "is allowed\n  by no workload of the cluster is at either end" in said("192.0.2.1", "192.0.2.2")


@pytest.mark.parametrize(
    ("name", "address"), [("a", "10.65.0.1"), ("default/b", "10.65.0.2"), ("192.0.2.9", "192.0.2.9")]
)
def test_names_of_pods_and_addresses_are_understood(name: str, address: str) -> None:
    assert str(resolved(WORLD, name)) == address


def test_an_unknown_name_says_what_would_do() -> None:
    with pytest.raises(FelixliteError, match=r"'nobody'.*\[NAMESPACE/\]NAME"):
        resolved(WORLD, "nobody")
