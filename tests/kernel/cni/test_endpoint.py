"""What an ADD makes, seen with `ip` and with packets, on both sides."""

import json

from felixlite.cni.names import interface_name
from felixlite.datastore.store import Key
from tests.support.cni import POOL, PluginNode, eventually, pod
from tests.support.netns import Namespace, connect

K8S = {"CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=default;K8S_POD_NAME=nginx"}


def test_the_pod_has_its_address_the_gateway_and_a_neighbour(here: PluginNode, space: Namespace) -> None:
    added = here.run("ADD", space)
    assert added.code == 0, added.printed
    (eth0,) = space.show("addr show dev eth0")
    assert [(a["local"], a["prefixlen"]) for a in eth0["addr_info"] if a["family"] == "inet"] == [(added.address, 32)]
    assert {(r["dst"], r.get("gateway"), r.get("scope")) for r in space.show("route")} == {
        ("default", "169.254.1.1", None),
        ("169.254.1.1", None, "link"),
    }
    neighbours = [(n["dst"], n["lladdr"], n["state"]) for n in space.show("neigh")]
    assert ("169.254.1.1", "ee:ee:ee:ee:ee:ee", ["PERMANENT"]) in neighbours


def test_the_host_has_the_end_the_route_and_a_neighbour(here: PluginNode, space: Namespace) -> None:
    added = here.run("ADD", space, environment=K8S)
    assert added.code == 0, added.printed
    (link,) = [link for link in here.net.show("link") if link["ifname"].startswith("cali")]
    assert link["ifname"] == interface_name("default", "nginx") == "calic440f455693"
    assert (link["address"], link["operstate"]) == ("ee:ee:ee:ee:ee:ee", "UP")
    (route,) = [route for route in here.net.show("route") if route["dst"] == added.address]
    assert (route["dev"], route["scope"]) == (link["ifname"], "link")
    mac = added.answer["interfaces"][1]["mac"]
    neighbours = [(n["dst"], n["lladdr"], n["state"]) for n in here.net.show("neigh")]
    assert (added.address, mac, ["PERMANENT"]) in neighbours


def test_the_host_end_is_set_up_as_a_gateway_that_trusts_nobody(one: PluginNode, space: Namespace) -> None:
    link = one.run("ADD", space).answer["interfaces"][0]["name"]

    def setting(path: str) -> str:
        return one.net.command("cat", f"/proc/sys/net/{path}").strip()

    assert setting(f"ipv4/conf/{link}/proxy_arp") == "1"
    assert setting(f"ipv4/neigh/{link}/proxy_delay") == "0"
    assert setting(f"ipv4/conf/{link}/forwarding") == "1"
    assert setting(f"ipv4/conf/{link}/rp_filter") == "1"
    assert setting(f"ipv4/conf/{link}/route_localnet") == "0"
    assert setting(f"ipv6/conf/{link}/accept_ra") == "0"


def test_both_ends_have_one_queue_so_that_nothing_is_waited_for(one: PluginNode, space: Namespace) -> None:
    link = one.run("ADD", space).answer["interfaces"][0]["name"]
    for net, name in ((one.net, link), (space, "eth0")):
        (found,) = json.loads(net.command("ip", "-details", "-json", "link", "show", "dev", name))
        assert (found["num_tx_queues"], found["num_rx_queues"]) == (1, 1)


def test_two_pods_of_a_node_reach_each_other_and_the_host(one: PluginNode, space: Namespace) -> None:
    first = one.run("ADD", space, container="a")
    with pod("fc") as other:
        second = one.run("ADD", other, container="b")
        assert "1 received" in space.command("ping", "-c1", "-W2", second.address)
        assert "1 received" in other.command("ping", "-c1", "-W2", first.address)
        assert "1 received" in one.net.command("ping", "-c1", "-W2", first.address)


def test_arp_in_the_pod_is_answered_without_a_default_route(one: PluginNode, space: Namespace) -> None:
    with pod("fc") as outside:
        connect(one.net, "up0", outside, "up0")
        one.net.ip("addr add 192.0.2.1/24 dev up0")
        one.uplink = "up0"
        one.stop()
        one.start()
        one.run("ADD", space)
        assert not [route for route in one.net.show("route") if route["dst"] == "default"]
        space.ip("neigh flush all nud permanent")
        said = space.command("busybox", "arping", "-c1", "-w2", "-I", "eth0", "169.254.1.1")
    assert "[ee:ee:ee:ee:ee:ee]" in said.lower()


def test_a_pod_may_have_both_families(one: PluginNode, space: Namespace) -> None:
    one.net.command("sh", "-c", "echo 1 > /proc/sys/net/ipv6/conf/all/forwarding")  # the agent does that
    pool6 = {**POOL, "metadata": {"name": "six"}, "spec": {"cidr": "fd00:10::/48", "blockSize": 122}}
    one.store.create(Key("IPPool", "six"), pool6)
    added = one.run("ADD", space, ipam={"type": "calico-ipam", "assign_ipv4": "true", "assign_ipv6": "true"})
    assert added.code == 0, added.printed
    six = added.address
    assert ":" in six
    assert [r["gateway"] for r in space.show("-6 route") if r["dst"] == "default"] == ["fe80::ecee:eeff:feee:eeee"]
    with pod("fc") as other:
        second = one.run("ADD", other, container="c2", ipam={"assign_ipv6": "true"})
        assert "1 received" in space.command("ping", "-c1", "-W2", second.address)
        assert "1 received" in one.net.command("ping", "-c1", "-W2", six)


def test_the_mtu_follows_the_pools_down_on_both_ends_of_a_running_pod(one: PluginNode, space: Namespace) -> None:
    link = one.run("ADD", space).answer["interfaces"][0]["name"]
    assert [x["mtu"] for x in space.show("link show dev eth0")] == [1500]
    one.mtu = 1450
    one.loop.submit([]).result(10)
    assert [x["mtu"] for x in space.show("link show dev eth0")] == [1450]
    assert [x["mtu"] for x in one.net.show(f"link show dev {link}")] == [1450]
    one.hear_of_links()
    one.mtu = 9000  # as when jumbo frames are switched on at this node, and who knows where else
    one.loop.submit([]).result(10)
    assert [x["mtu"] for x in space.show("link show dev eth0")] == [1500]
    one.most_mtu = 9000
    with pod("fc") as other:
        assert one.run("ADD", other, container="c2").answer["interfaces"][1]["mtu"] == 9000


def test_a_lowered_mtu_comes_back_when_there_is_room_again_and_packets_use_it(
    one: PluginNode, space: Namespace
) -> None:
    """As when a pool is tunnelled for a while."""
    with pod("fc") as other:
        one.run("ADD", space)
        there = one.run("ADD", other, container="c2").address
        full = ("ping", "-c1", "-W2", "-M", "do", "-s", "1472", there)
        assert "1 received" in space.command(*full)
        for mtu, passes in ((1480, False), (1500, True)):
            one.mtu = mtu
            one.loop.submit([]).result(10)
            one.hear_of_links()
            assert {x["mtu"] for net in (space, other) for x in net.show("link show dev eth0")} == {mtu}
            assert ("1 received" in space.command("sh", "-c", " ".join(full) + " || true")) == passes


def test_an_mtu_that_was_asked_for_does_not_follow_up(one: PluginNode, space: Namespace) -> None:
    one.run("ADD", space, mtu=1400)
    one.hear_of_links()
    one.mtu = 9000
    one.loop.submit([]).result(10)
    assert [x["mtu"] for x in space.show("link show dev eth0")] == [1400]


def test_the_mtu_of_the_configuration_wins(one: PluginNode, space: Namespace) -> None:
    assert one.run("ADD", space, mtu=1400).answer["interfaces"][1]["mtu"] == 1400
    assert [x["mtu"] for x in space.show("link show dev eth0")] == [1400]


def test_a_pod_does_not_forward_unless_it_is_asked_to(one: PluginNode, space: Namespace) -> None:
    space.command("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
    one.run("ADD", space)
    assert space.command("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "0"
    with pod("fc") as other:
        one.run("ADD", other, container="c2", container_settings={"allow_ip_forwarding": True})
        assert other.command("cat", "/proc/sys/net/ipv4/ip_forward").strip() == "1"


def test_what_is_lost_on_the_host_comes_back(one: PluginNode, space: Namespace) -> None:
    added = one.run("ADD", space)
    one.net.ip(f"route del {added.address}")
    one.loop.touched()
    eventually(lambda: added.address in one.routes())
