"""UPDATEs of the wire, good ones and hostile ones."""

import struct

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from felixlite.addresses import Prefix
from felixlite.bgp.update import Decoder, Malformed

ORIGIN, AS_PATH, NEXT_HOP = (
    bytes.fromhex("40010100"),
    bytes.fromhex("4002060201000 0fde8".replace(" ", "")),
    bytes.fromhex("4003040a000002"),
)
BASIC = ORIGIN + AS_PATH + NEXT_HOP
NLRI = bytes.fromhex("18ac1400")  # 172.20.0.0/24
P = Prefix.parse("172.20.0.0/24")


def update(attributes: bytes = BASIC, announced: bytes = NLRI, withdrawn: bytes = b"") -> bytes:
    return struct.pack("!H", len(withdrawn)) + withdrawn + struct.pack("!H", len(attributes)) + attributes + announced


def attribute(flags: int, code: int, data: bytes) -> bytes:
    return bytes((flags | 0x10, code)) + struct.pack("!H", len(data)) + data


def test_a_plain_one() -> None:
    found = Decoder(internal=False).decode(update(withdrawn=bytes.fromhex("1a0a000040")))
    assert found.withdrawn == [Prefix.parse("10.0.0.64/26")]
    ((path, prefixes),) = found.announced
    assert prefixes == [P]
    assert (str(path.next_hop), path.as_path, path.origin) == ("10.0.0.2", (65000,), 0)


def test_the_same_attributes_are_the_same_object() -> None:
    decoder = Decoder()
    assert decoder.decode(update()).announced[0][0] is decoder.decode(update(announced=b"\x08\x0a")).announced[0][0]


def test_all_attributes_that_we_read() -> None:
    more = (
        attribute(0x40, 5, struct.pack("!I", 200))
        + attribute(0x80, 4, struct.pack("!I", 7))
        + attribute(0xC0, 8, struct.pack("!HHHH", 65000, 1, 65000, 2))
        + attribute(0xC0, 32, struct.pack("!III", 65000, 1, 2))
        + attribute(0x80, 9, bytes([1, 1, 1, 1]))
        + attribute(0x80, 10, bytes([2, 2, 2, 2, 3, 3, 3, 3]))
    )
    path = Decoder().decode(update(BASIC + more)).announced[0][0]
    assert (path.local_preference, path.med) == (200, 7)
    assert path.communities == ("65000:1", "65000:2", "65000:1:2")
    assert (str(path.originator), [str(c) for c in path.cluster_list]) == ("1.1.1.1", ["2.2.2.2", "3.3.3.3"])


def test_an_ebgp_peer_has_no_say_in_our_preferences() -> None:
    path = Decoder(internal=False).decode(update(BASIC + attribute(0x40, 5, b"\0\0\0\xff"))).announced[0][0]
    assert path.local_preference is None


def test_bits_behind_the_length_are_nothing() -> None:
    found = Decoder().decode(update(announced=bytes.fromhex("1a0a0000ff")))
    assert found.announced[0][1] == [Prefix.parse("10.0.0.192/26")]


def test_ipv6_and_the_ends_of_rib() -> None:
    reach = struct.pack("!HBB", 2, 1, 16) + Prefix.parse("fd00::2").packed + b"\0" + bytes.fromhex("40fd000000000000aa")
    found = Decoder().decode(update(ORIGIN + AS_PATH + attribute(0x80, 14, reach), b""))
    ((path, prefixes),) = found.announced
    assert (str(path.next_hop), prefixes) == ("fd00::2", [Prefix.parse("fd00:0:0:aa::/64")])
    assert Decoder().decode(bytes(4)).end_of_rib == 4
    assert Decoder().decode(update(attribute(0x80, 15, struct.pack("!HB", 2, 1)), b"")).end_of_rib == 6


def test_ipv4_with_an_ipv6_next_hop() -> None:
    reach = struct.pack("!HBB", 1, 1, 16) + Prefix.parse("fd00::2").packed + b"\0" + NLRI
    found = Decoder().decode(update(ORIGIN + AS_PATH + attribute(0x80, 14, reach), b""))
    assert [(str(path.next_hop), prefixes) for path, prefixes in found.announced] == [("fd00::2", [P])]


def test_two_byte_paths_get_their_long_numbers_back() -> None:
    short = attribute(0x40, 2, bytes.fromhex("0202fde85ba0"))  # 65000 23456
    long = attribute(0xC0, 17, bytes.fromhex("0201") + struct.pack("!I", 4200000000))
    path = Decoder(asn4=False).decode(update(ORIGIN + short + NEXT_HOP + long)).announced[0][0]
    assert path.as_path == (65000, 4200000000)


@pytest.mark.parametrize(
    ("attributes", "fault"),
    [
        (AS_PATH + NEXT_HOP, "ORIGIN is missing"),
        (ORIGIN + NEXT_HOP, "AS_PATH is missing"),
        (ORIGIN + AS_PATH, "NEXT_HOP is missing"),
        (attribute(0x40, 1, b"\3") + AS_PATH + NEXT_HOP, "attribute 1 is 03"),
        (attribute(0x40, 1, b"\0\0") + AS_PATH + NEXT_HOP, "attribute 1 is 0000"),
        (ORIGIN + AS_PATH + attribute(0x40, 3, bytes(4)), "next hop 0.0.0.0"),
        (ORIGIN + AS_PATH + attribute(0x40, 3, bytes([224, 0, 0, 1])), "next hop 224.0.0.1"),
        (ORIGIN + AS_PATH + attribute(0x40, 3, b"\x0a"), "a next hop of 1 bytes"),
        (ORIGIN + attribute(0x40, 2, b"\2\5\0\0\0\1") + NEXT_HOP, "wrong length"),
        (ORIGIN + attribute(0x40, 2, b"\7\1\0\0\0\1") + NEXT_HOP, "segment of type 7"),
        (ORIGIN + attribute(0x40, 2, b"\2\1\0\0\0\0") + NEXT_HOP, "AS 0"),
        (BASIC + attribute(0xC0, 8, b"\1\2\3"), "attribute 8 has 3 bytes"),
        (BASIC + attribute(0x80, 10, b"\1"), "CLUSTER_LIST"),
        (BASIC + attribute(0x80, 5, b"\0\0\0\1"), "has the flags"),
        (BASIC + b"\x40\x04\xff\x00", "longer than the message"),
    ],
)
def test_a_fault_in_an_attribute_withdraws_its_routes(attributes: bytes, fault: str) -> None:
    found = Decoder().decode(update(attributes))
    assert fault in found.fault
    assert (found.announced, found.withdrawn) == ([], [P])


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\0\0\0",
        b"\xff\xff\0\0",
        b"\0\0\xff\xff",
        update(announced=b"\x21\x0a\0\0\0\0"),
        update(announced=b"\x18\x0a"),
    ],
)
def test_where_no_prefix_can_be_told_the_session_has_to_go(body: bytes) -> None:
    with pytest.raises(Malformed):
        Decoder().decode(body)


@settings(max_examples=150, deadline=None)
@given(
    st.binary(max_size=80)
    | st.builds(lambda a, b: update(BASIC + a, b), st.binary(max_size=30), st.binary(max_size=12))
)
def test_nothing_that_comes_in_breaks_the_decoder_or_yields_a_malformed_prefix(body: bytes) -> None:
    try:
        found = Decoder().decode(body)
    except Malformed:
        return
    for prefix in [*found.withdrawn, *(p for _, prefixes in found.announced for p in prefixes)]:
        assert Prefix.parse(str(prefix)) == prefix
