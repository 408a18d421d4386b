"""Which tunnels' packets are admitted from known nodes only."""

from ipaddress import ip_address

import pytest

from felixlite.addresses import Prefix
from felixlite.model.inside import Pool
from felixlite.policy import gates, rows
from felixlite.policy.inputs import Inputs
from felixlite.policy.rows import Tunnel


@pytest.mark.parametrize(("link", "guarded"), [("tunl0", (True, False)), ("vxlan.calico", (False, True))])
def test_a_tunnel_is_guarded_as_long_as_it_is_open(link: str, guarded: tuple[bool, bool]) -> None:
    """During a switch it stays open for others when no pool calls for it any more."""
    plain = {"p": Pool("p", Prefix.parse("10.42.0.0/16"))}
    inputs = Inputs(pools=plain, tunnels=(Tunnel(link, ip_address("10.42.0.1")),))

    row = gates.gates(inputs, 4)[rows.GATES]

    assert isinstance(row, rows.Chained)
    assert isinstance(row.body, rows.Gates)
    assert (row.body.ipip, row.body.vxlan) == guarded
