from ipaddress import ip_address, ip_interface

import pytest

from felixlite.autodetect import choose
from felixlite.errors import Misconfigured
from felixlite.snapshot import LinkState


def link(name, index, up=True):
    return LinkState(name, index, "", up, 1500, "02:00:00:00:00:01")


LINKS = {name: link(name, index) for index, name in enumerate(["lo", "docker0", "eth0", "eth1", "cali1"], 1)}
HELD = [
    ("lo", "127.0.0.1/8"), ("docker0", "172.17.0.1/16"), ("eth0", "10.0.0.5/24"),
    ("eth1", "192.0.2.5/28"), ("eth0", "fe80::5/64"), ("eth1", "fd00::5/64"),
]  # fmt: skip


def find(method, family=4, links=LINKS):
    return choose(method, family, links, HELD, ["lo", "docker.*", "cali.*"], lambda _: ip_address("192.0.2.5"))


@pytest.mark.parametrize(
    ("method", "expected"),
    [
        ("first-found", "10.0.0.5/24"),
        ("interface=eth1", "192.0.2.5/28"),
        ("interface=wlan.*,eth1", "192.0.2.5/28"),
        ("skip-interface=docker.*,eth0", "192.0.2.5/28"),
        ("cidr=192.0.2.0/24", "192.0.2.5/28"),
        ("can-reach=198.51.100.1", "192.0.2.5/28"),
        ("192.0.2.5", "192.0.2.5/28"),
    ],
)
def test_each_method_finds_the_address_with_its_interfaces_prefix_length(method, expected):
    assert find(method) == ip_interface(expected)


def test_an_interface_that_is_down_is_not_looked_at():
    assert find("first-found", links={**LINKS, "eth0": link("eth0", 3, up=False)}) == ip_interface("192.0.2.5/28")


def test_link_local_addresses_are_nobodys_node_address():
    assert find("first-found", family=6) == ip_interface("fd00::5/64")


def test_none_means_no_address_of_that_family():
    assert find("none", family=6) is None


@pytest.mark.parametrize("method", ["interface=wlan0", "cidr=203.0.113.0/24", "10.9.9.9"])
def test_an_address_sought_in_vain_is_an_error_that_says_what_there_is(method):
    with pytest.raises(Misconfigured, match=r"10\.0\.0\.5/24 on eth0"):
        find(method)


@pytest.mark.parametrize("method", ["fastest", "speed=high", "cidr=10.0.0.1/8", "can-reach=home", "interface=("])
def test_a_method_that_makes_no_sense_is_refused(method):
    with pytest.raises(Misconfigured):
        find(method)
