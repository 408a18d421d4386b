"""Which service addresses a node announces."""

from dataclasses import replace
from ipaddress import IPv4Interface
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.bgp.services import EXCLUDED, addresses, ranges
from felixlite.intake import Intake
from felixlite.ipip.plan import Reach, outside_routes
from felixlite.model.inside import BgpConfiguration, Node
from felixlite.snapshot import Learned, Snapshot, fold

HERE = Node("n1", ipv4=IPv4Interface("192.0.2.1/24"))
P = Prefix.parse
CONFIG = BgpConfiguration(
    service_cluster_cidrs=(P("10.96.0.0/12"),),
    service_external_cidrs=(P("198.51.100.0/24"), P("203.0.113.7/32")),
    service_load_balancer_cidrs=(P("192.0.2.64/26"),),
)


def service(policy: str = "Cluster", **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {
            "type": "LoadBalancer",
            "clusterIP": "10.96.0.10",
            "clusterIPs": ["10.96.0.10"],
            "externalIPs": ["198.51.100.5", "203.0.113.7", "8.8.8.8"],
            "externalTrafficPolicy": policy,
            **spec,
        },
        "status": {"loadBalancer": {"ingress": [{"ip": "192.0.2.70"}, {"hostname": "lb.example.net"}]}},
    }


def endpoints(node: str = "n1", ready: bool | None = True) -> dict[str, Any]:
    return {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "web-1", "namespace": "shop", "labels": {"kubernetes.io/service-name": "web"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": ["10.42.0.9"], "nodeName": node, "conditions": {"ready": ready}}],
        "ports": [{"port": 80}],
    }


def told(*documents: dict[str, Any], config: BgpConfiguration = CONFIG, here: Node = HERE) -> list[str]:
    intake, known = Intake("n1"), Snapshot("n1")
    for one in documents:
        which = (one["kind"], one["metadata"]["name"], one["metadata"]["namespace"])
        known = fold(known, intake.changes(which, one))
    assert not known.rejected
    return [str(address) for address in addresses(here, known.service_addresses, known.served_here, config)]


def test_ranges_are_announced_by_everybody_but_a_single_address_only_when_a_service_uses_it() -> None:
    assert [str(cidr) for cidr in ranges(HERE, CONFIG)] == ["10.96.0.0/12", "198.51.100.0/24", "192.0.2.64/26"]
    assert told() == []
    assert told(service()) == ["203.0.113.7/32"]


@pytest.mark.parametrize(("node", "ready", "known"), [("n1", True, True), ("n1", None, True), ("n1", False, False), ("n2", True, False)])  # fmt: skip
def test_a_local_service_is_announced_where_it_has_a_ready_endpoint(node: str, ready: bool | None, known: bool) -> None:
    found = ["10.96.0.10/32", "192.0.2.70/32", "198.51.100.5/32", "203.0.113.7/32"] if known else []
    assert told(service("Local"), endpoints(node, ready)) == found


def test_without_aggregation_each_load_balancer_address_is_announced() -> None:
    single = replace(CONFIG, service_load_balancer_aggregation=False)
    assert P("192.0.2.64/26") not in ranges(HERE, single)
    assert told(service(), config=single) == ["192.0.2.70/32", "203.0.113.7/32"]
    assert told(service("Local"), config=single) == []


def test_services_without_an_address_and_excluded_nodes_announce_nothing() -> None:
    assert told(service("Local", clusterIP="None", clusterIPs=["None"]), endpoints()) == []
    assert told(service("Local", type="ExternalName"), endpoints()) == []
    away = replace(HERE, labels={EXCLUDED: ""})
    assert ranges(away, CONFIG) == ()
    assert told(service("Local"), endpoints(), here=away) == []


def test_no_node_routes_into_a_range_of_services() -> None:
    learned = Learned((IPv4Interface("192.0.2.2/24").ip,), ("192.0.2.2",))
    reach = Reach([P("192.0.2.0/24")])
    assert outside_routes({P("10.96.0.0/12"): learned}, (), reach) != {}
    assert outside_routes({P("10.96.0.0/12"): learned}, (), reach, services=(P("10.96.0.0/12"),)) == {}
