"""What every table owes the core, and what the kernel does to its rows: one text for the fake and for the real kernel.

A test class inherits from KernelContract and gives a fixture `kernel` (FakeKernel or RealKernel) that has a link eth0,
up, with 192.0.2.1/24, and the foreign route 203.0.113.0/24 on it.
"""

from dataclasses import replace
from ipaddress import ip_address as ip
from ipaddress import ip_interface

import pytest

from felixlite.addresses import Prefix
from felixlite.rows import (
    AddressKey,
    Fdb,
    FdbKey,
    Link,
    LinkAddress,
    Neighbour,
    NeighbourKey,
    RouteKey,
    Rule,
    RuleKey,
    Vxlan,
    blackhole,
    on,
    via,
)

PROXY_ARP = "net/ipv4/conf/eth0/proxy_arp"
VXLAN = Link("vxlan", mtu=1350, mac="66:00:00:00:00:01", vxlan=Vxlan(4096, 4789, ip("192.0.2.1"), "eth0"))


def prefix(text: str) -> RouteKey:
    return RouteKey(Prefix.parse(text))


# Per table: rows, the same keys with other rows (where a row can differ), and a row that must fail.
GOOD = {
    "links": {"vxlan.calico": VXLAN, "eth0": Link("adopt", mtu=1400)},
    "addresses": {AddressKey("eth0", ip_interface("10.0.0.1/32")): LinkAddress()},
    "sysctls": {PROXY_ARP: "1", "net/ipv4/ip_forward": "1"},
    "neighbours": {NeighbourKey("eth0", ip("192.0.2.9")): Neighbour("02:00:00:00:00:09")},
    "fdb": {FdbKey("vxlan.calico", "66:00:00:00:00:02"): Fdb(ip("192.0.2.2"))},
    "routes": {
        prefix("10.1.0.0/26"): blackhole(),
        prefix("10.1.0.5/32"): on("eth0"),
        prefix("10.2.0.0/26"): via(ip("192.0.2.2"), "eth0", mtu=1480),
        prefix("10.3.0.0/26"): via(ip("198.51.100.1"), "eth0", onlink=True),
    },
    "rules": {RuleKey(99, 4, 300, Prefix.parse("10.0.0.0/8"), None, 0x10): Rule()},
}
OTHER = {
    "links": {
        "vxlan.calico": Link(
            "vxlan", mtu=1250, mac="66:00:00:00:00:07", vxlan=Vxlan(4097, 4789, ip("192.0.2.1"), "eth0")
        ),
        "eth0": Link("adopt", mtu=1300),
    },
    "sysctls": {PROXY_ARP: "0", "net/ipv4/ip_forward": "0"},
    "neighbours": {NeighbourKey("eth0", ip("192.0.2.9")): Neighbour("02:00:00:00:00:0a")},
    "fdb": {FdbKey("vxlan.calico", "66:00:00:00:00:02"): Fdb(ip("192.0.2.3"))},
    "routes": {
        prefix("10.1.0.0/26"): via(ip("192.0.2.2"), "eth0"),
        prefix("10.1.0.5/32"): blackhole(),
        prefix("10.2.0.0/26"): via(ip("192.0.2.3"), "eth0"),
        prefix("10.3.0.0/26"): on("eth0"),
    },
}
BAD = {
    "links": {"absent0": Link("adopt", mtu=1400)},
    "addresses": {AddressKey("absent0", ip_interface("10.0.0.1/32")): LinkAddress()},
    "sysctls": {"net/ipv4/conf/absent0/proxy_arp": "1"},
    "neighbours": {NeighbourKey("absent0", ip("192.0.2.9")): Neighbour("02:00:00:00:00:09")},
    "fdb": {FdbKey("absent0", "66:00:00:00:00:02"): Fdb(ip("192.0.2.2"))},
    "routes": {prefix("10.8.0.0/24"): via(ip("198.51.100.1")), prefix("10.9.0.0/24"): on("absent0")},
}
LEFT_AS_IT_IS = {"sysctls"}  # removing a row changes nothing


def look(table, wanted):
    return table.read_for(wanted) if hasattr(table, "read_for") else table.read()


@pytest.fixture
def tables(kernel):
    found = {table.name: table for table in kernel.tables()}
    if "fdb" in found:
        assert found["links"].upsert({"vxlan.calico": VXLAN}) == {}
    return found


class KernelContract:
    @pytest.mark.parametrize("name", GOOD)
    def test_what_is_written_is_read_back_equal(self, tables, name):
        assert tables[name].upsert(GOOD[name]) == {}

        assert look(tables[name], GOOD[name]) == GOOD[name]

    @pytest.mark.parametrize("name", GOOD)
    def test_writing_the_same_again_changes_nothing(self, tables, name):
        tables[name].upsert(GOOD[name])

        assert tables[name].upsert(GOOD[name]) == {}
        assert look(tables[name], GOOD[name]) == GOOD[name]

    @pytest.mark.parametrize("name", OTHER)
    def test_a_row_is_replaced(self, tables, name):
        tables[name].upsert(GOOD[name])

        assert tables[name].upsert(OTHER[name]) == {}

        assert look(tables[name], OTHER[name]) == OTHER[name]

    @pytest.mark.parametrize("name", [name for name in GOOD if name not in LEFT_AS_IT_IS])
    def test_what_is_removed_is_gone_and_may_be_removed_again(self, tables, name):
        tables[name].upsert(GOOD[name])

        assert tables[name].delete(list(GOOD[name])) == {}
        assert tables[name].delete(list(GOOD[name])) == {}

        assert look(tables[name], {}) == {}

    @pytest.mark.parametrize("name", BAD)
    def test_what_is_refused_is_named_and_all_the_rest_is_done(self, tables, name):
        failed = tables[name].upsert({**BAD[name], **GOOD[name]})

        assert set(failed) == set(BAD[name])
        assert all(str(error) for error in failed.values())
        assert look(tables[name], GOOD[name]) == GOOD[name]

    @pytest.mark.parametrize("name", BAD)
    def test_removing_from_a_link_that_is_gone_is_a_success(self, tables, name):
        assert tables[name].delete(list(BAD[name])) == {}

    @pytest.mark.parametrize("name", GOOD)
    def test_an_empty_table_reads_empty(self, kernel, name):
        (table,) = [table for table in kernel.tables() if table.name == name]

        assert look(table, {}) == {}

    def test_a_foreign_route_is_not_read_not_replaced_not_removed(self, kernel, tables):
        key = prefix("203.0.113.0/24")

        assert list(tables["routes"].upsert({key: blackhole()})) == [key]
        assert tables["routes"].delete([key]) == {}

        assert tables["routes"].read() == {}
        assert kernel.foreign_routes() == {"203.0.113.0/24"}

    def test_addresses_of_other_links_are_not_ours(self, tables):
        assert tables["addresses"].read() == {}

    def test_any_address_on_a_link_of_ours_is_ours(self, kernel, tables):
        kernel.add_address("vxlan.calico", "10.7.7.7/32")

        assert tables["addresses"].read() == {AddressKey("vxlan.calico", ip_interface("10.7.7.7/32")): LinkAddress()}

    def test_what_sits_on_a_link_goes_with_it(self, kernel, tables):
        for name in ("addresses", "fdb"):
            rows = {
                "addresses": {AddressKey("vxlan.calico", ip_interface("10.0.0.1/32")): LinkAddress()},
                "fdb": GOOD["fdb"],
            }[name]
            assert tables[name].upsert(rows) == {}
        tables["routes"].upsert({prefix("10.5.0.0/26"): via(ip("10.6.0.0"), "vxlan.calico", onlink=True)})

        kernel.remove_link("vxlan.calico")

        assert all(look(tables[name], {}) == {} for name in ("links", "addresses", "fdb", "routes"))

    def test_ipv4_routes_leave_a_link_that_goes_down_and_can_come_back_when_it_is_up(self, kernel, tables):
        wanted = {prefix("10.1.0.5/32"): on("eth0"), prefix("10.1.0.0/26"): blackhole()}
        tables["routes"].upsert(wanted)
        kernel.set_down("eth0")
        assert tables["routes"].read() == {prefix("10.1.0.0/26"): blackhole()}
        assert "not up" in str(tables["routes"].upsert({prefix("10.1.0.5/32"): on("eth0")})[prefix("10.1.0.5/32")])

        kernel.set_up("eth0")

        assert tables["routes"].upsert(wanted) == {}
        assert tables["routes"].read() == wanted

    def test_rows_that_a_link_takes_with_it_are_named_by_that_link(self, tables):
        named = {
            name: [key for key, row in GOOD[name].items() if "eth0" in table.links_of(key, row)]
            for name, table in tables.items()
            if hasattr(table, "links_of")
        }

        assert set(named["addresses"]) == set(GOOD["addresses"])
        assert set(named["sysctls"]) == {PROXY_ARP}
        assert set(named["neighbours"]) == set(GOOD["neighbours"])
        assert set(named["fdb"]) == set()
        assert set(named["routes"]) == set(GOOD["routes"]) - {prefix("10.1.0.0/26")}

    def test_a_device_of_another_tool_with_our_vni_is_named(self, kernel, tables):
        tables["links"].delete(["vxlan.calico"])
        other = {"vxlan-v6.calico": VXLAN}
        assert tables["links"].upsert(other) == {}

        (error,) = tables["links"].upsert({"vxlan.calico": VXLAN}).values()

        assert "vxlan-v6.calico already uses VNI 4096" in str(error)

    def test_a_tunnel_that_its_parent_cannot_carry_is_refused(self, tables):
        assert list(tables["links"].upsert({"vxlan.calico": replace(VXLAN, mtu=1451)})) == ["vxlan.calico"]

    def test_a_tunnel_with_a_name_that_is_taken_by_something_else_is_refused(self, kernel, tables):
        tables["links"].delete(["vxlan.calico"])
        kernel.add_link("vxlan.calico", "bridge")

        (error,) = tables["links"].upsert({"vxlan.calico": VXLAN}).values()

        assert "vxlan.calico is of kind bridge" in str(error)
