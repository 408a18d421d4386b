import json
from typing import Any

import pytest

from felixlite.cni.errors import CniError, Code
from felixlite.cni.request import parse, version_of

ENVIRONMENT = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "abc", "CNI_NETNS": "/run/netns/a", "CNI_IFNAME": "eth0"}
CONFIG: dict[str, Any] = {"cniVersion": "1.1.0", "name": "k8s-pod-network", "type": "felixlite"}


def sent(config: Any = None, **environment: str) -> bytes:
    given = {**ENVIRONMENT, **environment}
    text = config if isinstance(config, bytes) else json.dumps({**CONFIG, **(config or {})}).encode()
    return b"".join(f"{k}={v}".encode() + b"\0" for k, v in given.items()) + b"\0" + text


def refusal(data: bytes) -> CniError:
    with pytest.raises(CniError) as caught:
        parse(data)
    return caught.value


def test_a_request_carries_whose_interface_and_the_arguments() -> None:
    request = parse(sent(CNI_ARGS="IgnoreUnknown=1;K8S_POD_NAME=web"))
    assert (request.command, request.container, request.interface) == ("ADD", "abc", "eth0")
    assert request.args["K8S_POD_NAME"] == "web"
    assert request.handle == "k8s-pod-network.abc"


def test_a_second_interface_of_a_container_has_a_handle_of_its_own() -> None:
    assert parse(sent(CNI_IFNAME="net1")).handle == "k8s-pod-network.abc.net1"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("CNI_COMMAND", "FLY"),
        ("CNI_CONTAINERID", ""),
        ("CNI_CONTAINERID", "../../etc"),
        ("CNI_CONTAINERID", "-x"),
        ("CNI_NETNS", ""),
        ("CNI_IFNAME", ""),
        ("CNI_IFNAME", "a-name-of-sixteen"),
        ("CNI_IFNAME", "."),
        ("CNI_IFNAME", "a/b"),
        ("CNI_IFNAME", "a:b"),
        ("CNI_IFNAME", "a b"),
        ("CNI_IFNAME", "eth%d"),
        ("CNI_IFNAME", "all"),
        ("CNI_IFNAME", "default"),
        ("CNI_ARGS", "no pair"),
    ],
)
def test_a_bad_variable_is_refused_by_its_name(name: str, value: str) -> None:
    error = refusal(sent(**{name: value}))
    assert error.code == Code.INVALID_ENVIRONMENT
    assert name in error.message


def test_a_deletion_needs_no_namespace() -> None:
    assert parse(sent(CNI_COMMAND="DEL", CNI_NETNS="")).netns == ""


def test_a_deletion_is_not_refused_for_what_others_said() -> None:
    odd = {"prevResult": {"dns": "x", "ips": [{"address": 5}]}, "runtimeConfig": {"dns": "x"}}
    assert parse(sent(odd, CNI_COMMAND="DEL")).container == "abc"


@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_what_is_about_the_network_needs_no_container(command: str) -> None:
    assert parse(sent(CNI_COMMAND=command, CNI_CONTAINERID="", CNI_IFNAME="", CNI_NETNS="")).command == command


@pytest.mark.parametrize(
    ("config", "code"),
    [
        (b"{", Code.UNDECODABLE),
        (b"", Code.UNDECODABLE),
        (b"[]", Code.UNDECODABLE),
        (b'{"x":' + b"[" * 100_000 + b"]" * 100_000 + b"}", Code.UNDECODABLE),
        ({"cniVersion": "0.2.0"}, Code.INCOMPATIBLE_VERSION),
        ({"cniVersion": "2.0.0"}, Code.INCOMPATIBLE_VERSION),
        ({"cniVersion": None}, Code.INCOMPATIBLE_VERSION),
        ({"name": ""}, Code.INVALID_CONFIG),
        ({"name": "a/b"}, Code.INVALID_CONFIG),
        ({"ipam": []}, Code.INVALID_CONFIG),
        ({"ipam": [1]}, Code.INVALID_CONFIG),
        ({"ipam": {"type": "host-local"}}, Code.UNSUPPORTED_FIELD),
        ({"mtu": "large"}, Code.INVALID_CONFIG),
        ({"mtu": 20}, Code.INVALID_CONFIG),
        ({"prevResult": {"ips": [{"address": "nonsense"}]}}, Code.INVALID_CONFIG),
        ({"prevResult": {"interfaces": "eth0"}}, Code.INVALID_CONFIG),
        ({"prevResult": {"ips": [{"address": 5}]}}, Code.INVALID_CONFIG),
        ({"prevResult": {"dns": "x"}}, Code.INVALID_CONFIG),
        ({"runtimeConfig": {"dns": "192.0.2.53"}}, Code.INVALID_CONFIG),
        ({"args": {"cni": {"dns": ["192.0.2.53"]}}}, Code.INVALID_CONFIG),
    ],
)
def test_a_bad_configuration_has_the_code_of_the_specification(config: Any, code: Code) -> None:
    if config == {"ipam": []}:
        assert parse(sent(config)).config["ipam"] == []  # empty is absent
    else:
        assert refusal(sent(config)).code == code


def test_an_unsupported_field_is_named_with_its_value() -> None:
    message = refusal(sent({"ipam": {"type": "host-local"}})).message
    assert "ipam.type" in message
    assert "host-local" in message


@pytest.mark.parametrize(("command", "version"), [("CHECK", "0.3.1"), ("GC", "1.0.0"), ("STATUS", "0.4.0")])
def test_a_verb_is_refused_in_a_version_that_did_not_have_it(command: str, version: str) -> None:
    config = {"cniVersion": version, "prevResult": {"ips": []}}
    assert refusal(sent(config, CNI_COMMAND=command)).code == Code.INCOMPATIBLE_VERSION


def test_a_check_needs_the_result_of_the_add() -> None:
    assert refusal(sent(CNI_COMMAND="CHECK")).code == Code.INVALID_CONFIG


def test_an_error_is_said_in_the_version_that_was_asked_for_if_we_speak_it() -> None:
    assert version_of(sent({"cniVersion": "0.4.0"})) == "0.4.0"
    assert version_of(sent({"cniVersion": "9"})) == "1.1.0"
    assert version_of(sent(b"no json")) == "1.1.0"
    assert version_of(sent(b"[" * 100_000)) == "1.1.0"


def test_a_capability_wins_over_an_argument() -> None:
    request = parse(sent({"runtimeConfig": {"mac": "02:00:00:00:00:01"}, "args": {"cni": {"mac": "x", "ips": ["1"]}}}))
    assert request.given("mac") == "02:00:00:00:00:01"
    assert request.given("ips") == ["1"]
    assert request.given("labels") is None


def test_of_a_variable_that_is_there_twice_the_first_counts_as_for_the_plugin() -> None:
    assert parse(sent().replace(b"CNI_COMMAND=ADD\0", b"CNI_COMMAND=ADD\0CNI_COMMAND=DEL\0", 1)).command == "ADD"


def test_a_container_id_is_as_long_as_the_name_of_a_note_may_be() -> None:
    assert len(parse(sent(CNI_CONTAINERID="a" * 200)).container) == 200
    with pytest.raises(CniError, match="CNI_CONTAINERID"):
        parse(sent(CNI_CONTAINERID="a" * 201))
