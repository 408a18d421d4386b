import pytest

from felixlite.addresses import Prefix


@pytest.mark.parametrize("text", ["10.0.0.0/26", "0.0.0.0/0", "192.0.2.1/32", "fd00::/122", "::/0"])
def test_a_prefix_prints_what_it_was_parsed_from(text):
    assert str(Prefix.parse(text)) == text


@pytest.mark.parametrize("text", ["10.0.0.1/26", "10.0.0.0/33", "10.0.0/8", "", "x", "10.0.0.0/-1", "fd00::1/64"])
def test_what_is_not_a_network_is_refused(text):
    with pytest.raises(ValueError, match=r"prefix|host bits"):
        Prefix.parse(text)


def test_a_prefix_covers_itself_and_what_is_inside_but_no_other_family():
    wide, inside, beside = map(Prefix.parse, ["10.0.0.0/16", "10.0.3.64/26", "10.1.0.0/26"])

    assert wide.covers(wide)
    assert wide.covers(inside)
    assert not inside.covers(wide)
    assert not wide.covers(beside)
    assert not Prefix.parse("::/0").covers(wide)


def test_ordinals_count_from_the_first_address():
    block = Prefix.parse("10.0.0.64/26")

    assert str(block.address(63)) == "10.0.0.127"
    assert block.ordinal(block.address(5)) == 5
