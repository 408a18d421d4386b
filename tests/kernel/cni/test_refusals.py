"""The section "Error" of the CNI specification: every code, with what was wrong, against both installed plugins."""

import json
from typing import Any

import pytest

from felixlite.datastore.store import Key
from tests.support.cni import POOL, PluginNode, eventually, nothing_is_left, refused
from tests.support.netns import Namespace


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.3.0", "2.0.0", "latest", None])
def test_an_incompatible_version_is_code_1(here: PluginNode, space: Namespace, version: str | None) -> None:
    refused(here.run("ADD", space, cniVersion=version), 1)


def test_an_unsupported_field_is_code_2_with_its_key_and_value(here: PluginNode, space: Namespace) -> None:
    refused(here.run("ADD", space, ipam={"type": "host-local"}), 2, "ipam.type", "host-local")


@pytest.mark.parametrize("name", ["CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"])
@pytest.mark.parametrize("command", ["ADD", "CHECK"])
def test_a_missing_variable_is_code_4_with_its_name(
    here: PluginNode, space: Namespace, command: str, name: str
) -> None:
    refused(here.run(command, space, environment={name: None}), 4, name)


@pytest.mark.parametrize("name", ["CNI_CONTAINERID", "CNI_IFNAME"])
def test_del_without_whom_it_is_about_is_code_4(here: PluginNode, name: str) -> None:
    refused(here.run("DEL", environment={name: None}), 4, name)


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CNI_CONTAINERID", "-dash"),
        ("CNI_CONTAINERID", "a/b"),
        ("CNI_IFNAME", "sixteen-letters-"),
        ("CNI_IFNAME", ".."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_ARGS", "nonsense"),
        ("CNI_NETNS", "/nowhere"),
        ("CNI_NETNS", "/etc/passwd"),
        ("CNI_NETNS", "/run"),
        ("CNI_NETNS", "/proc/self/ns/mnt"),
        ("CNI_IFNAME", "all"),
        ("CNI_IFNAME", "eth%d"),
    ],
)
def test_an_invalid_variable_is_code_4_with_its_name(here: PluginNode, space: Namespace, name: str, value: str) -> None:
    refused(here.run("ADD", space, environment={name: value}), 4, name)


@pytest.mark.parametrize("command", ["", "add", "DELETE", "A"])
def test_an_unknown_command_is_code_4(here: PluginNode, command: str) -> None:
    refused(here.run(command), 4, "CNI_COMMAND")


def test_a_missing_command_is_code_4(here: PluginNode) -> None:
    refused(here.run("", environment={"CNI_COMMAND": None}), 4, "CNI_COMMAND")


def test_the_hosts_own_namespace_is_refused(here: PluginNode) -> None:
    refused(here.run("ADD", here.net), 4, "CNI_NETNS", "host")


@pytest.mark.parametrize("text", ["{", "", "nonsense", "[]", '"text"', "null"])
def test_what_cannot_be_decoded_is_code_6(here: PluginNode, space: Namespace, text: str) -> None:
    data = f"CNI_COMMAND=ADD\0CNI_CONTAINERID=c1\0CNI_NETNS={space.path}\0CNI_IFNAME=eth0\0\0{text}"
    failed, answer = here.server.answer(data.encode())
    assert failed
    assert json.loads(answer)["code"] == 6
    # the plugin finds no socket in it and asks at the usual place; whoever answers there, it is an error object
    assert here.run("ADD", space, stdin=text).answer["code"] in (6, 11)


@pytest.mark.parametrize(
    "text", ['{"cniVersion":"1.0.0","name":"net",', '{"cniVersion":"1.0.0","name":"net"} trailing']
)
def test_malformed_json_that_names_a_socket_is_code_6(here: PluginNode, space: Namespace, text: str) -> None:
    socket = json.dumps(str(here.run_directory / "cni.sock"))
    refused(here.run("ADD", space, stdin=text.replace("{", '{"socket":' + socket + ",", 1)), 6)


@pytest.mark.parametrize("name", [None, "", "a/b", 7])
def test_a_network_without_a_name_is_code_7(here: PluginNode, space: Namespace, name: Any) -> None:
    refused(here.run("ADD", space, name=name), 7, "name")


@pytest.mark.parametrize(
    "config",
    [
        {"prevResult": {"dns": "x"}},
        {"prevResult": {"ips": [{"address": 5}]}},
        {"runtimeConfig": {"dns": "192.0.2.53"}},
        {"runtimeConfig": {"ips": 5}},
        {"ipam": {"ipv4_pools": [5]}},
        {"ipam": {"ipv4_pools": ["six"]}},
        {"ipam": {"ipv6_pools": ["pool"]}},
        {"args": {"cni": {"labels": {"a b!": "x"}}}},
        {"runtimeConfig": {"mac": "00:00:00:00:00:00"}},
    ],
)
def test_a_configuration_that_cannot_be_followed_is_code_7_and_nothing_is_made(
    one: PluginNode, space: Namespace, config: dict[str, Any]
) -> None:
    six = {**POOL, "metadata": {"name": "six"}, "spec": {"cidr": "fd00:10::/48", "blockSize": 122}}
    one.store.create(Key("IPPool", "six"), six)
    refused(one.run("ADD", space, **config), 7)
    eventually(lambda: nothing_is_left(one))
    assert one.notes() == []


def test_prefixes_to_send_as_that_are_none_are_code_7(one: PluginNode, space: Namespace) -> None:
    one.store.create(Key("Namespace", "shop"), {"metadata": {"name": "shop"}})
    notes = {"cni.projectcalico.org/allowedSourcePrefixes": '["x"]'}
    one.store.create(
        Key("Pod", "web", "shop"), {"metadata": {"name": "web", "namespace": "shop", "annotations": notes}}
    )
    web: dict[str, str | None] = {"CNI_ARGS": "K8S_POD_NAMESPACE=shop;K8S_POD_NAME=web"}
    refused(one.run("ADD", space, environment=web), 7, "allowSpoofedSourcePrefixes")
    assert nothing_is_left(one)


def test_a_result_that_cannot_be_said_undoes_what_was_made(
    one: PluginNode, space: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stumble(*_: Any) -> Any:
        raise KeyError("as a result that nobody thought of")

    monkeypatch.setattr("felixlite.cni.result._routes", stumble)
    refused(one.run("ADD", space), 100)
    eventually(lambda: nothing_is_left(one))


def test_an_error_is_said_in_the_version_of_the_request(here: PluginNode, space: Namespace) -> None:
    assert here.run("ADD", space, cniVersion="0.4.0", name="").answer["cniVersion"] == "0.4.0"


def test_a_pool_that_is_used_up_is_code_11(here: PluginNode, space: Namespace) -> None:
    refused(here.run("ADD", space, ipam={"ipv4_pools": ["nowhere"]}), 7, "nowhere")
    here.state = (50, "starting")
    refused(here.run("ADD", space), 11, "starting")
