from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.cni import result
from felixlite.cni.errors import CniError, Code
from felixlite.cni.request import Request
from felixlite.snapshot import LinkState

LINK = LinkState("cali1", 7, "veth", up=True, mtu=1480, mac="ee:ee:ee:ee:ee:ee")
MADE = result.Attached(LINK, "02:00:00:00:00:01", [Prefix.parse("10.1.0.5/32")])


def request(version: str = "1.1.0", **config: Any) -> Request:
    return Request("ADD", {"cniVersion": version, "name": "n", **config}, "abc", "eth0", "/run/netns/a")


def test_a_result_names_both_ends_and_puts_the_address_on_the_pods() -> None:
    found = result.result(request("1.0.0"), MADE)
    assert found["interfaces"] == [
        {"name": "cali1", "mac": "ee:ee:ee:ee:ee:ee"},
        {"name": "eth0", "mac": "02:00:00:00:00:01", "sandbox": "/run/netns/a"},
    ]
    assert found["ips"] == [{"address": "10.1.0.5/32", "interface": 1}]
    assert found["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]


@pytest.mark.parametrize(("version", "says"), [("0.3.1", "4"), ("0.4.0", "4"), ("1.0.0", None), ("1.1.0", None)])
def test_the_family_is_said_only_in_versions_before_1_0(version: str, says: str | None) -> None:
    assert result.result(request(version), MADE)["ips"][0].get("version") == says


def test_the_mtu_is_said_from_1_1_on() -> None:
    assert [i.get("mtu") for i in result.result(request(), MADE)["interfaces"]] == [1480, 1480]
    assert [i.get("mtu") for i in result.result(request("1.0.0"), MADE)["interfaces"]] == [None, None]


def test_what_an_earlier_plugin_said_stays_in_front() -> None:
    before = {"interfaces": [{"name": "br0"}], "ips": [{"address": "192.0.2.1/24", "interface": 0, "version": "4"}]}
    found = result.result(request(prevResult=before), MADE)
    assert [i["name"] for i in found["interfaces"]] == ["br0", "cali1", "eth0"]
    assert found["ips"] == [
        {"address": "192.0.2.1/24", "interface": 0},
        {"address": "10.1.0.5/32", "interface": 2},
    ]


def test_no_default_routes_are_promised_when_none_are_made() -> None:
    assert result.result(request(include_default_routes=False), MADE)["routes"] == []


def test_dns_is_the_runtimes_word_before_the_configurations() -> None:
    assert result.dns(request(dns={"domain": "a"}, runtimeConfig={"dns": {"domain": "b"}})) == {"domain": "b"}
    assert result.dns(request(dns={"domain": "a"})) == {"domain": "a"}
    assert result.dns(request()) == {}


def test_an_error_has_details_only_when_there_are_some() -> None:
    assert result.error("1.0.0", CniError(Code.FAILED, "no")) == {"cniVersion": "1.0.0", "code": 100, "msg": "no"}


def test_a_check_looks_at_the_addresses_of_our_interface_only() -> None:
    previous = result.result(
        request(prevResult={"interfaces": [{"name": "x"}], "ips": [{"address": "1.2.3.4/24"}]}), MADE
    )
    assert result.addresses_of(request(prevResult=previous)) == [Prefix.parse("10.1.0.5/32")]


def test_a_check_of_an_interface_that_the_result_does_not_list_is_refused() -> None:
    with pytest.raises(CniError, match="eth0"):
        result.addresses_of(request(prevResult={"interfaces": []}))
