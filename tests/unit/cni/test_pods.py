from dataclasses import replace
from ipaddress import ip_address
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.cni import pods
from felixlite.cni.errors import CniError, Code
from felixlite.cni.names import handle_id, interface_name, pod_mac
from felixlite.cni.request import Request
from felixlite.model import scalars
from felixlite.model.fromkubernetes import endpoint_parts
from felixlite.model.parse import parse

K8S = {"K8S_POD_NAME": "web-0", "K8S_POD_NAMESPACE": "shop"}


def request(environment: dict[str, str] | None = None, **config: Any) -> Request:
    return Request("ADD", {"cniVersion": "1.0.0", "name": "net", **config}, "abc", "eth0", "/ns", environment or {})


def document(name: str, labels: dict[str, str] | None = None, spec: Any = None, **annotations: str) -> dict[str, Any]:
    notes = {f"cni.projectcalico.org/{k}": v for k, v in annotations.items()}
    return {"metadata": {"name": name, "labels": labels or {}, "annotations": notes}, "spec": spec or {}}


def wants(
    environment: dict[str, str] | None = None, pod: Any = None, namespace: Any = None, **config: Any
) -> pods.Wants:
    asked = request(environment, **config)
    return pods.wants(asked, pods.whose(asked, "n1"), pod, namespace)


def test_the_host_end_is_named_as_calico_names_it() -> None:
    assert interface_name("default", "nginx") == "calic440f455693"
    assert len(interface_name("default", "nginx", "net1")) == 15
    assert interface_name("default", "nginx", "net1") != interface_name("default", "nginx")


def test_the_hardware_address_of_a_pod_is_local_unicast_and_the_same_again() -> None:
    first = int(pod_mac("abc", "eth0")[:2], 16)
    assert first & 3 == 2
    assert pod_mac("abc", "eth0") == pod_mac("abc", "eth0") != pod_mac("abd", "eth0")


def test_a_handle_tells_networks_and_containers_apart() -> None:
    assert len({handle_id("a", "b", "eth0"), handle_id("a", "c", "eth0"), handle_id("b", "b", "eth0")}) == 3
    assert handle_id("a", "b", "x1") != handle_id("a", "b.x1", "eth0")
    assert handle_id("a", "b", "x1.2") != handle_id("a", "b.x1", "2")
    assert interface_name("a", "b", "x1") != interface_name("a", "b.x1")


def test_a_kubernetes_pod_is_named_by_the_arguments() -> None:
    who = pods.whose(request(K8S), "node-1")
    assert (who.namespace, who.pod) == ("shop", "web-0")
    assert who.endpoint.name == "node--1-k8s-web--0-eth0"


def test_without_kubernetes_the_container_is_the_pod() -> None:
    who = pods.whose(request(), "n1")
    assert (who.namespace, who.pod, who.endpoint.name) == ("default", "abc", "n1-cni-abc-eth0")


@pytest.mark.parametrize("name", ["intelligent_villani", "Web", "a..b", "_", "x" * 240, "-a-", "web\u00e9"])
def test_a_name_that_cannot_be_stored_is_stored_under_another(name: str) -> None:
    asked = request({"K8S_POD_NAME": name})
    who = pods.whose(asked, "n1")
    assert who.pod == name
    assert scalars.name(who.endpoint.name)
    assert endpoint_parts(who.endpoint.name)[0::3] == ("n1", "eth0")
    document = pods.endpoint_document(who, asked, pods.wants(asked, who, None, None), [])
    workload: Any = parse(document, strict=True).inside()
    assert workload.pod == name


def test_names_that_look_alike_are_stored_apart() -> None:
    names = ("Web", "web", "wEb", "web_", "web-", "web_a", "web-a")
    assert len({pods.whose(request({"K8S_POD_NAME": name}), "n1").endpoint for name in names}) == len(names)


@pytest.mark.parametrize("name", ["web-0", "web.net1", "a-", "x" * 200, "0a1b"])
def test_a_name_that_can_be_stored_is_stored_as_it_is(name: str) -> None:
    expected = f"n1-k8s-{name.replace('-', '--')}-eth0"
    assert pods.whose(request({"K8S_POD_NAME": name}), "n1").endpoint.name == expected


def test_by_default_one_ipv4_address_of_any_pool_is_wanted() -> None:
    found = wants()
    assert (found.v4, found.v6, found.pools, found.addresses) == (1, 0, {}, ())


def test_a_pod_wins_over_its_namespace_and_that_over_the_configuration() -> None:
    ipam = {"ipv4_pools": ["c"]}
    namespace = document("shop", ipv4pools='["b"]')
    assert wants(K8S, document("web-0", ipv4pools='["a"]'), namespace, ipam=ipam).pools == {4: ("a",)}
    assert wants(K8S, document("web-0"), namespace, ipam=ipam).pools == {4: ("b",)}
    assert wants(K8S, document("web-0"), document("shop"), ipam=ipam).pools == {4: ("c",)}


def test_an_address_that_is_asked_for_is_the_only_one() -> None:
    found = wants(K8S, document("web-0", ipAddrs='["10.0.0.9"]'))
    assert (found.addresses, found.v4, found.v6) == ((ip_address("10.0.0.9"),), 0, 0)


@pytest.mark.parametrize(
    "config", [{"runtimeConfig": {"ips": ["10.0.0.9/24"]}}, {"args": {"cni": {"ips": ["10.0.0.9"]}}}]
)
def test_an_address_may_be_asked_for_without_kubernetes(config: dict[str, Any]) -> None:
    assert wants(**config).addresses == (ip_address("10.0.0.9"),)
    assert wants({"IP": "10.0.0.9"}).addresses == (ip_address("10.0.0.9"),)


def test_two_addresses_of_one_family_are_refused() -> None:
    with pytest.raises(CniError, match=r"10\.0\.0\.10"):
        wants(runtimeConfig={"ips": ["10.0.0.9", "10.0.0.10"]})


def test_families_follow_the_annotation_or_the_configuration() -> None:
    both = {"assign_ipv4": "true", "assign_ipv6": "true"}
    assert (wants(ipam=both).v4, wants(ipam=both).v6) == (1, 1)
    only_6 = wants(K8S, document("web-0", ipFamilies='["IPv6"]'), ipam=both)
    assert (only_6.v4, only_6.v6) == (0, 1)
    with pytest.raises(CniError, match="nothing to assign"):
        wants(ipam={"assign_ipv4": "false"})


@pytest.mark.parametrize("families", ['["ipv4"]', '["IPv4", "IPX"]', '[""]'])
def test_a_family_that_is_none_is_refused(families: str) -> None:
    with pytest.raises(CniError, match="ipFamilies") as caught:
        wants(K8S, document("web-0", ipFamilies=families))
    assert caught.value.code == Code.INVALID_CONFIG


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"runtimeConfig": {"ips": 5}}, "ips"),
        ({"runtimeConfig": {"ips": [5]}}, "ips"),
        ({"runtimeConfig": {"ips": {"a": 1}}}, "ips"),
        ({"ipam": {"ipv4_pools": [5]}}, "ipv4_pools"),
        ({"ipam": {"ipv6_pools": "six"}}, "ipv6_pools"),
        ({"runtimeConfig": {"mac": "00:00:00:00:00:00"}}, "hardware address"),
        ({"runtimeConfig": {"mac": 5}}, "hardware address"),
    ],
)
def test_a_wish_of_another_kind_is_refused(config: dict[str, Any], words: str) -> None:
    with pytest.raises(CniError, match=words) as caught:
        wants(**config)
    assert caught.value.code == Code.INVALID_CONFIG


@pytest.mark.parametrize("annotation", ["ipAddrs", "ipv4pools", "ipFamilies"])
@pytest.mark.parametrize("text", ["10.0.0.9", "[5]", "[" * 100_000])
def test_an_annotation_that_is_no_list_is_refused_by_its_name(annotation: str, text: str) -> None:
    with pytest.raises(CniError) as caught:
        wants(K8S, document("web-0", **{annotation: text}))
    assert caught.value.code == Code.INVALID_CONFIG
    assert annotation in caught.value.message


def test_a_hardware_address_may_be_asked_for() -> None:
    assert wants(K8S, document("web-0", hwAddr="02:AA:00:00:00:01")).mac == "02:aa:00:00:00:01"


@pytest.mark.parametrize("bad", ["01:00:5e:00:00:01", "02:00:00:00:00", "zz:00:00:00:00:01", "2:0:0:0:0:1"])
def test_a_hardware_address_that_is_none_is_refused(bad: str) -> None:
    with pytest.raises(CniError, match="hardware address"):
        wants(K8S, document("web-0", hwAddr=bad))


@pytest.mark.parametrize("labels", [[{"key": "app", "value": "web"}], {"app": "web"}])
def test_labels_come_through_the_arguments_without_kubernetes(labels: Any) -> None:
    found = wants(args={"cni": {"labels": labels}})
    assert found.labels == {
        "app": "web",
        "projectcalico.org/namespace": "default",
        "projectcalico.org/orchestrator": "cni",
    }


def test_a_pods_labels_and_account_come_from_its_document() -> None:
    found = wants(K8S, document("web-0", {"app": "web"}, {"serviceAccountName": "clerk"}))
    assert found.labels["app"] == "web"
    assert found.labels["projectcalico.org/serviceaccount"] == "clerk"
    assert found.profiles == ("kns.shop", "ksa.shop.clerk")


def test_a_workload_endpoint_reads_back_as_the_workload_it_describes() -> None:
    spec = {"containers": [{"ports": [{"name": "http", "containerPort": 80}, {"containerPort": 81}]}]}
    asked = request(K8S)
    who = pods.whose(asked, "n1")
    wanted = replace(pods.wants(asked, who, document("web-0", {"app": "web"}, spec), None), most_mtu=1500)
    made = pods.endpoint_document(who, asked, wanted, [Prefix.parse("10.0.0.9/32"), Prefix.parse("fd00::9/128")])
    workload: Any = parse(made, strict=True).inside()
    assert (workload.interface, workload.container, workload.pod) == (who.host_interface, "abc", "web-0")
    assert [str(a) for a in workload.addresses] == ["10.0.0.9/32", "fd00::9/128"]
    assert [(p.name, p.port) for p in workload.ports] == [("http", 80)]
    assert (workload.mac, workload.most_mtu) == (wanted.mac, 1500)


def test_a_workload_endpoint_of_a_bare_container_reads_back() -> None:
    asked = request()
    who = pods.whose(asked, "n1")
    made = pods.endpoint_document(who, asked, pods.wants(asked, who, None, None), [Prefix.parse("10.0.0.9/32")])
    workload: Any = parse(made, strict=True).inside()
    assert (workload.namespace, workload.pod, workload.container) == ("default", "", "abc")
