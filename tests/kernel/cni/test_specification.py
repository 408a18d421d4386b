"""The text of the CNI specification (1.1.0, and what differs in 0.3.1 to 1.0.0), against the installed plugin.

Every test runs with the C plugin and with the Python plugin; sections are those of the specification.
"""

import json
from typing import Any

import pytest

from felixlite.cni.names import interface_name
from tests.support.cni import VERSIONS, PluginNode, eventually, ok, pod, refused
from tests.support.netns import Namespace

# -- VERSION


@pytest.mark.parametrize(
    ("asked", "answered"), [*zip(VERSIONS, VERSIONS, strict=True), ("9.9.9", "1.1.0"), (",", "1.1.0")]
)
def test_version_lists_what_is_supported_in_the_version_that_asks(here: PluginNode, asked: str, answered: str) -> None:
    answer = ok(here.run("VERSION", stdin=json.dumps({"cniVersion": asked})))
    assert tuple(answer["supportedVersions"]) == VERSIONS
    assert answer["cniVersion"] == answered


@pytest.mark.parametrize("command", ["", " ", "add", "ADD DEL", 'ADD" "DEL', "VERSION "])
def test_a_command_that_is_none_is_refused_without_an_agent_too(here: PluginNode, command: str) -> None:
    here.stop()
    refused(here.run(command), 4, "CNI_COMMAND")


def test_version_needs_neither_input_nor_an_agent(here: PluginNode) -> None:
    here.stop()
    nothing = dict.fromkeys(("CNI_CONTAINERID", "CNI_IFNAME", "CNI_PATH"))
    assert ok(here.run("VERSION", stdin="", environment=nothing))["supportedVersions"]


# -- ADD


@pytest.mark.parametrize("version", VERSIONS)
def test_add_answers_a_result_of_the_version_that_was_asked_for(
    here: PluginNode, space: Namespace, version: str
) -> None:
    answer = ok(here.run("ADD", space, cniVersion=version))
    assert answer["cniVersion"] == version
    host, sandbox = answer["interfaces"]
    assert "sandbox" not in host or not host["sandbox"]
    assert (sandbox["name"], sandbox["sandbox"]) == ("eth0", str(space.path))
    assert sandbox["mac"] == space.show("link show dev eth0")[0]["address"]
    (ip,) = answer["ips"]
    assert answer["interfaces"][ip["interface"]] == sandbox
    assert ip["address"].endswith("/32")
    assert (ip.get("version") == "4") == (version < "1.0.0")
    assert ("mtu" in sandbox) == (version == "1.1.0")


def test_add_uses_the_name_that_it_is_given(here: PluginNode, space: Namespace) -> None:
    assert ok(here.run("ADD", space, interface="net7"))["interfaces"][1]["name"] == "net7"
    assert [link["ifname"] for link in space.show("link")] == ["lo", "net7"]


def test_add_says_the_routes_that_it_made(here: PluginNode, space: Namespace) -> None:
    assert ok(here.run("ADD", space))["routes"] == [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}]


def test_add_leaves_default_routes_out_if_told_so(here: PluginNode, space: Namespace) -> None:
    assert ok(here.run("ADD", space, include_default_routes=False))["routes"] == []
    assert [route["dst"] for route in space.show("route")] == ["169.254.1.1"]


def test_add_hands_dns_through(here: PluginNode, space: Namespace) -> None:
    assert ok(here.run("ADD", space, dns={"nameservers": ["192.0.2.53"]}))["dns"] == {"nameservers": ["192.0.2.53"]}


def test_add_fails_if_the_interface_exists_in_the_pod(here: PluginNode, space: Namespace) -> None:
    space.ip("link add eth0 type bridge")
    refused(here.run("ADD", space), 100, "eth0")
    assert (here.addresses(), here.endpoints(), here.host_links()) == (0, [], set())


def test_add_again_for_the_same_container_is_the_same_attachment(here: PluginNode, space: Namespace) -> None:
    first = ok(here.run("ADD", space))
    assert ok(here.run("ADD", space)) == first
    assert (here.addresses(), len(here.endpoints()), len(here.host_links())) == (1, 1, 1)


def test_a_container_may_be_added_once_more_under_another_name(here: PluginNode, space: Namespace) -> None:
    first = here.run("ADD", space)
    second = here.run("ADD", space, interface="eth1", include_default_routes=False)
    assert first.address != second.address
    ok(here.run("DEL", space, interface="eth1"))
    eventually(lambda: [link["ifname"] for link in space.show("link")] == ["lo", "eth0"])
    assert here.addresses() == 1


def test_containers_do_not_get_the_same_address(here: PluginNode, space: Namespace) -> None:
    with pod("fc") as other:
        assert here.run("ADD", space, container="a").address != here.run("ADD", other, container="b").address


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ({"args": {"cni": {"ips": ["10.244.9.9"]}}}, {}),
        ({"runtimeConfig": {"ips": ["10.244.9.9/16"]}}, {}),
        ({}, {"CNI_ARGS": "IP=10.244.9.9"}),
    ],
)
def test_an_address_may_be_asked_for(
    here: PluginNode, space: Namespace, given: dict[str, Any], where: dict[str, str]
) -> None:
    assert here.run("ADD", space, environment=where, **given).address == "10.244.9.9"


def test_an_address_that_is_taken_is_refused(here: PluginNode, space: Namespace) -> None:
    taken = here.run("ADD", space).address
    with pod("fc") as other:
        refused(here.run("ADD", other, container="c2", runtimeConfig={"ips": [taken]}), 7, taken)


def test_a_hardware_address_may_be_asked_for(here: PluginNode, space: Namespace) -> None:
    answer = ok(here.run("ADD", space, runtimeConfig={"mac": "02:11:22:33:44:55"}))
    assert answer["interfaces"][1]["mac"] == "02:11:22:33:44:55"
    assert space.show("link show dev eth0")[0]["address"] == "02:11:22:33:44:55"


def test_labels_come_through_args(here: PluginNode, space: Namespace) -> None:
    ok(here.run("ADD", space, args={"cni": {"labels": [{"key": "app", "value": "web"}]}}))
    assert here.endpoints()[0]["metadata"]["labels"]["app"] == "web"


def test_args_that_mean_nothing_here_are_passed_over(here: PluginNode, space: Namespace) -> None:
    ok(here.run("ADD", space, args={"somebody": "else"}, environment={"CNI_ARGS": "IgnoreUnknown=1;FOO=BAR"}))


def test_any_bytes_in_an_argument_survive_the_way_to_the_agent(here: PluginNode, space: Namespace) -> None:
    odd = 'K8S_POD_NAME=a;NOTE="quoted" \\ tab\there ünïcode'
    ok(here.run("ADD", space, environment={"CNI_ARGS": odd}))


def test_a_configuration_of_a_megabyte_is_read(here: PluginNode, space: Namespace) -> None:
    ok(here.run("ADD", space, padding="x" * 1_000_000))


# -- results of other plugins


def test_a_previous_result_is_passed_on_with_ours(here: PluginNode, space: Namespace) -> None:
    before = {
        "cniVersion": "1.1.0",
        "interfaces": [{"name": "br0"}],
        "ips": [{"address": "192.0.2.9/24", "interface": 0}],
    }
    answer = ok(here.run("ADD", space, prevResult=before))
    assert [interface["name"] for interface in answer["interfaces"]][0::2] == ["br0", "eth0"]
    assert [ip["interface"] for ip in answer["ips"]] == [0, 2]


def test_a_previous_result_without_ips_is_no_obstacle(here: PluginNode, space: Namespace) -> None:
    assert len(ok(here.run("ADD", space, prevResult={"cniVersion": "1.1.0"}))["ips"]) == 1


def test_a_previous_result_that_is_none_is_refused(here: PluginNode, space: Namespace) -> None:
    refused(here.run("ADD", space, prevResult={"ips": [{"address": "x"}]}), 7, "prevResult.ips[0].address")


# -- DEL


def test_del_releases_everything(here: PluginNode, space: Namespace) -> None:
    added = ok(here.run("ADD", space))
    gone = here.run("DEL", space, prevResult=added)
    assert (gone.code, gone.printed) == (0, "")
    assert (here.addresses(), here.endpoints(), here.routes()) == (0, [], set())
    eventually(lambda: not here.host_links() and not here.notes())
    assert [link["ifname"] for link in space.show("link")] == ["lo"]


def test_del_may_be_repeated(here: PluginNode, space: Namespace) -> None:
    ok(here.run("ADD", space))
    for _ in range(3):
        ok(here.run("DEL", space))
    assert here.addresses() == 0


def test_del_of_what_was_never_added_succeeds(here: PluginNode, space: Namespace) -> None:
    ok(here.run("DEL", space, container="nobody"))


def test_del_without_a_namespace_and_a_previous_result_frees_what_it_can(here: PluginNode, space: Namespace) -> None:
    ok(here.run("ADD", space))
    ok(here.run("DEL"))
    assert here.addresses() == 0
    eventually(lambda: not here.host_links())


def test_del_with_a_namespace_that_is_gone_succeeds(here: PluginNode, space: Namespace) -> None:
    ok(here.run("ADD", space))
    ok(here.run("DEL", environment={"CNI_NETNS": "/run/netns/long-gone"}))
    assert here.addresses() == 0


def test_del_of_one_container_leaves_the_others_alone(here: PluginNode, space: Namespace) -> None:
    with pod("fc") as other:
        kept = here.run("ADD", other, container="b").address
        ok(here.run("ADD", space, container="a"))
        ok(here.run("DEL", space, container="a"))
        assert here.routes() == {kept}
        assert "1 received" in other.command("ping", "-c1", "-W2", "192.0.2.77")


def test_an_add_may_follow_a_del_at_once(here: PluginNode, space: Namespace) -> None:
    for _ in range(3):
        ok(here.run("ADD", space))
        ok(here.run("DEL", space))
    added = here.run("ADD", space)
    assert "1 received" in space.command("ping", "-c1", "-W2", "192.0.2.77")
    assert here.routes() == {added.address}


def test_a_namespace_may_be_used_again_at_once_by_another_container(here: PluginNode, space: Namespace) -> None:
    for number in range(5):
        ok(here.run("ADD", space, container=f"c{number}"))
        ok(here.run("DEL", space, container=f"c{number}"))


def test_del_of_an_old_sandbox_does_not_touch_the_new_one(here: PluginNode, space: Namespace) -> None:
    pod_name = {"CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-0"}
    ok(here.run("ADD", space, container="old", environment=pod_name))
    with pod("fc") as fresh:
        new = here.run("ADD", fresh, container="new", environment=pod_name)
        assert ok(new)["interfaces"][0]["name"] == interface_name("default", "web-0")
        ok(here.run("DEL", space, container="old", environment=pod_name))
        assert here.addresses() == 1
        assert here.endpoints()[0]["spec"]["containerID"] == "new"
        assert "1 received" in fresh.command("ping", "-c1", "-W2", "192.0.2.77")
        assert here.routes() == {new.address}


# -- CHECK


def test_check_of_what_was_just_added_succeeds_and_prints_nothing(here: PluginNode, space: Namespace) -> None:
    added = ok(here.run("ADD", space))
    checked = here.run("CHECK", space, prevResult=added)
    assert (checked.code, checked.printed) == (0, "")


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        ("link set eth0 down", "eth0 is down"),
        ("link set eth0 address 02:99:00:00:00:01", "hardware address"),
        ("addr flush dev eth0 scope global", "address"),
        ("route del default", "default via 169.254.1.1"),
        ("neigh del 169.254.1.1 dev eth0", "neighbour 169.254.1.1"),
        ("link del eth0", "eth0 is missing"),
    ],
)
def test_check_names_the_first_thing_that_is_wrong_in_the_pod(
    here: PluginNode, space: Namespace, damage: str, words: str
) -> None:
    added = ok(here.run("ADD", space))
    space.ip(damage)
    refused(here.run("CHECK", space, prevResult=added), 101, words)


def test_check_finds_a_missing_route_of_the_host(here: PluginNode, space: Namespace) -> None:
    added = here.run("ADD", space)
    here.net.ip(f"route del {added.address}")
    refused(here.run("CHECK", space, prevResult=ok(added)), 101, "routes", added.address)


def test_check_finds_missing_policy(here: PluginNode, space: Namespace) -> None:
    added = ok(here.run("ADD", space))
    here.chains.rows.clear()
    refused(here.run("CHECK", space, prevResult=added), 101, "chains")


def test_check_allows_what_a_later_plugin_added(here: PluginNode, space: Namespace) -> None:
    added = ok(here.run("ADD", space))
    space.ip("route add 203.0.113.0/24 via 169.254.1.1 dev eth0")
    space.ip("addr add 203.0.113.7/32 dev eth0")
    ok(here.run("CHECK", space, prevResult=added))


def test_check_needs_a_previous_result(here: PluginNode, space: Namespace) -> None:
    refused(here.run("CHECK", space), 7, "prevResult")


def test_check_of_a_deleted_container_fails(here: PluginNode, space: Namespace) -> None:
    added = ok(here.run("ADD", space))
    ok(here.run("DEL", space))
    refused(here.run("CHECK", space, prevResult=added), 101)


def test_check_came_with_0_4_0(here: PluginNode, space: Namespace) -> None:
    added = ok(here.run("ADD", space, cniVersion="0.3.1"))
    refused(here.run("CHECK", space, cniVersion="0.3.1", prevResult=added), 1)
    ok(here.run("CHECK", space, cniVersion="0.4.0", prevResult=added))


# -- GC, STATUS


def test_gc_frees_exactly_what_is_not_listed(here: PluginNode, space: Namespace) -> None:
    with pod("fc") as second, pod("fc") as third:
        kept = here.run("ADD", space, container="keep").address
        here.run("ADD", second, container="drop1")
        here.run("ADD", third, container="drop2")
        valid = [{"containerID": "keep", "ifname": "eth0"}, {"containerID": "drop1", "ifname": "eth9"}]
        assert here.run("GC", environment=NO_CONTAINER, **{"cni.dev/valid-attachments": valid}).code == 0
        assert here.addresses() == 1
        assert here.routes() == {kept}
        eventually(lambda: len(here.host_links()) == 1)


def test_gc_leaves_other_networks_alone(here: PluginNode, space: Namespace) -> None:
    ok(here.run("ADD", space))
    ok(here.run("GC", environment=NO_CONTAINER, name="another", **{"cni.dev/valid-attachments": []}))
    assert here.addresses() == 1


def test_gc_without_a_list_is_refused(here: PluginNode) -> None:
    refused(here.run("GC", environment=NO_CONTAINER), 7, "cni.dev/valid-attachments")


def test_gc_and_status_came_with_1_1_0(here: PluginNode) -> None:
    refused(here.run("GC", cniVersion="1.0.0", environment=NO_CONTAINER), 1)
    refused(here.run("STATUS", cniVersion="1.0.0", environment=NO_CONTAINER), 1)


def test_status_succeeds_when_pods_can_be_added(here: PluginNode) -> None:
    ran = here.run("STATUS", environment=NO_CONTAINER)
    assert (ran.code, ran.printed) == (0, "")


def test_status_says_50_or_51_and_why(here: PluginNode) -> None:
    here.state = (50, "the store has not been listed yet")
    refused(here.run("STATUS", environment=NO_CONTAINER), 50, "not been listed")
    here.state = (51, "chains cannot be written")
    refused(here.run("STATUS", environment=NO_CONTAINER), 51, "chains")


NO_CONTAINER: dict[str, str | None] = dict.fromkeys(("CNI_CONTAINERID", "CNI_IFNAME", "CNI_NETNS"))
