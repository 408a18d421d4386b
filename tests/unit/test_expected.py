"""What the kernel says of a link that somebody is just making: told when he is done, unless it is about an older one."""

from dataclasses import replace

import pytest

from felixlite.kernel.expected import Expected
from felixlite.snapshot import Gone, LinkState, Put

OLD, NEW = (LinkState("cali1", index, "veth", up=False, mtu=1500, mac="ee:ee:ee:ee:ee:ee") for index in (7, 8))
OFF = replace(NEW, on=False)
GONE = Gone("links", "cali1")


def put(link):
    return Put("links", link.name, link)


@pytest.fixture
def told():
    return []


@pytest.fixture
def expected(told):
    return Expected(told.extend)


def test_nobody_is_at_it_and_nothing_is_kept(expected):
    assert not expected.keeps("cali1", 7, put(OLD))


def test_the_last_word_is_told_when_the_maker_is_done(expected, told):
    with expected.making("cali1"):
        assert expected.keeps("cali1", 7, GONE)
        assert expected.keeps("cali1", 8, put(NEW))
        assert not expected.keeps("cali2", 9, GONE)
        assert told == []
    assert told == [put(NEW)]


def test_the_end_of_the_older_link_is_not_told_after_its_successor(expected, told):
    with expected.making("cali1"):
        assert expected.keeps("cali1", OLD.index, GONE)
        expected.made(NEW)
        assert expected.as_made("cali1") is NEW
    assert told == []
    assert expected.as_made("cali1") is None


def test_who_made_nothing_leaves_the_end_of_the_older_link_to_be_told(expected, told):
    with expected.making("cali1"):
        assert expected.keeps("cali1", OLD.index, GONE)
    assert told == [GONE]


def test_the_end_of_the_new_link_itself_is_told(expected, told):
    with expected.making("cali1"):
        expected.made(NEW)
        assert expected.keeps("cali1", NEW.index, GONE)
    assert told == [GONE]


def test_that_a_link_was_born_switched_off_is_not_told_after_its_maker_switched_it_on(expected, told):
    with expected.making("cali1"):
        assert expected.keeps("cali1", NEW.index, put(OFF))
        expected.made(NEW)
    assert told == []


@pytest.mark.parametrize("before", [GONE, put(OLD)], ids=["gone", "there"])
def test_what_was_told_of_an_older_link_does_not_make_the_birth_a_later_word(expected, told, before):
    with expected.making("cali1"):
        assert expected.keeps("cali1", OLD.index, before)
        assert expected.keeps("cali1", NEW.index, put(OFF))
        expected.made(NEW)
    assert told == []


def test_that_it_was_switched_off_later_is_told(expected, told):
    with expected.making("cali1"):
        for word in (put(OFF), put(NEW), put(OFF)):
            assert expected.keeps("cali1", NEW.index, word)
        expected.made(NEW)
    assert told == [put(OFF)]


def test_of_a_link_that_its_maker_leaves_switched_off_its_birth_is_told(expected, told):
    with expected.making("cali1"):
        assert expected.keeps("cali1", NEW.index, put(OFF))
        expected.made(OFF)
    assert told == [put(OFF)]
