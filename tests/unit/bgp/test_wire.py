"""Lines to and from the exabgp child."""

from ipaddress import IPv4Address, ip_address

import pytest

from felixlite.addresses import Prefix
from felixlite.bgp import wire
from felixlite.bgp.rows import Announcement

ROWS = [
    Announcement(),
    Announcement(next_hop=ip_address("10.0.0.1"), local_preference=2147482623, med=0),
    Announcement(next_hop=ip_address("fd00::1"), as_path=(64512, 4200000000), communities=("1:2", "65000:1:2")),
    Announcement(originator=IPv4Address("1.1.1.1"), cluster_list=(IPv4Address("2.2.2.2"), IPv4Address("3.3.3.3"))),
]


@pytest.mark.parametrize("row", ROWS)
def test_attributes_are_read_back_as_they_were_written(row: Announcement) -> None:
    assert wire.announcement(wire.attributes(row)) == row


def test_an_announcement_reads_as_exabgp_wants_it() -> None:
    row = Announcement(local_preference=100, communities=("65000:1",))
    words = b"next-hop self origin igp local-preference 100 community [ 65000:1 ]"
    line = b"neighbor 10.0.0.2 announce attributes " + words + b" nlri 10.42.0.0/26 10.42.0.64/26\n"
    assert list(wire.announce("10.0.0.2", row, map(Prefix.parse, ("10.42.0.0/26", "10.42.0.64/26")))) == [line]


def test_many_prefixes_are_several_lines() -> None:
    prefixes = [Prefix.from_int(0x0A000000 + (i << 8), 24, 4) for i in range(1001)]
    assert [line.count(b"/24") for line in wire.withdraw("10.0.0.2", prefixes)] == [500, 500, 1]


def test_exabgps_reasons_become_sentences() -> None:
    assert wire.decoded("notification sent (4,0): Hold timer expired") == "sent: hold timer expired"
    assert wire.decoded("notification received (2,2)") == "received: OPEN refused: wrong peer AS"
    assert wire.decoded("closing connection: reset by peer") == "closing connection: reset by peer"
