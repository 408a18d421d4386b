import pytest
from hypothesis import given
from hypothesis import strategies as st

from felixlite.addresses import Prefix
from felixlite.datastore.names import affinity_name, affinity_parts, block_cidr, block_name


def _network(family: int, value: int, length: int) -> Prefix:
    return Prefix.from_int(value, length, family).masked()


v4 = st.builds(_network, st.just(4), st.integers(0, 2**32 - 1), st.integers(0, 32))
v6_anywhere = st.builds(_network, st.just(6), st.integers(0, 2**128 - 1), st.integers(0, 128))
v6_short = st.builds(_network, st.just(6), st.integers(0, 2**40), st.integers(80, 128))  # ::1:2, ::ffff:1.2.3.4
v6_ula = st.builds(
    _network, st.just(6), st.integers(0, 2**20).map(lambda low: 0xFD << 120 | low), st.integers(100, 128)
)
cidrs = v4 | v6_anywhere | v6_short | v6_ula
ASCII = st.characters(codec="ascii")  # with all of Unicode in sight hypothesis takes a second to begin
names = nodes = st.from_regex(r"[a-z0-9]([a-z0-9.-]{0,20}[a-z0-9])?", fullmatch=True, alphabet=ASCII)


def test_names_are_those_of_calico():
    assert block_name(Prefix.parse("10.0.0.0/26")) == "10-0-0-0-26"
    assert block_name(Prefix.parse("fd00::/122")) == "fd00---122"
    assert affinity_name("node-1", Prefix.parse("10.0.0.64/26")) == "node-1-10-0-0-64-26"


def test_a_node_that_ends_like_a_group_is_told_from_the_cidr():
    name = affinity_name("n-1", Prefix.parse("fd00::/122"))
    assert name != affinity_name("n", Prefix.parse("1:fd00::/122"))
    assert affinity_parts(name) == ("n-1", Prefix.parse("fd00::/122"))


@given(cidrs)
def test_a_block_is_found_again_by_its_name(cidr: Prefix):
    assert block_cidr(block_name(cidr)) == cidr


@given(nodes, cidrs)
def test_node_and_cidr_are_found_again_by_the_name_of_their_affinity(node: str, cidr: Prefix):
    assert affinity_parts(affinity_name(node, cidr)) == (node, cidr)


@pytest.mark.parametrize(
    "name", ["", "-", "10-0-0-0", "10-0-0-1-26", "10-0-0-0-026", "10-0-0-0-33", "x-26", "010-0-0-0-26"]
)
def test_what_is_no_blocks_name_is_refused(name: str):
    with pytest.raises(ValueError, match=r"is not|has no|has host"):
        block_cidr(name)


@pytest.mark.parametrize("name", ["", "n1", "10-0-0-0-26", "n1-10-0-0-1-26", "n1-fd00---122", "-10-0-0-0-26"])
def test_what_is_no_affinitys_name_is_refused(name: str):
    with pytest.raises(ValueError, match="is not the name of a BlockAffinity"):
        affinity_parts(name)
