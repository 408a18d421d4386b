"""manifests/crds/crds.yaml is what the models say, and an API server can read it."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import celpy
import kubernetes_validate
import pytest
from celpy.adapter import json_to_cel

from felixlite.cli.explain import definitions
from felixlite.model import kinds
from felixlite.model.schema import NOT_STORED, custom_resource, custom_resources
from felixlite.yamltext import values

MANIFEST = Path(__file__).parents[2] / "manifests" / "crds" / "crds.yaml"
ALL = list(custom_resources())
IDS = [one["metadata"]["name"].partition(".")[0] for one in ALL]


def schema_of(definition: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]
    return found


def every(schema: dict[str, Any], path: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    yield path, schema
    for name, below in schema.get("properties", {}).items():
        yield from every(below, f"{path}.{name}")
    for word in ("items", "additionalProperties"):
        if isinstance(schema.get(word), dict):
            yield from every(schema[word], f"{path}[]")


def test_the_manifest_is_what_the_models_say() -> None:
    assert MANIFEST.read_text() == definitions(), "run `felixlite explain --crds >manifests/crds/crds.yaml`"
    assert values(MANIFEST.read_text(), str(MANIFEST)) == ALL


def test_every_kind_that_kubernetes_does_not_have_is_defined() -> None:
    assert {one["spec"]["names"]["kind"] for one in ALL} == {
        kind.crd[0] for kind in kinds.calico_kinds() if kind.name not in NOT_STORED
    }


@pytest.mark.parametrize("definition", ALL, ids=IDS)
def test_a_definition_is_one_that_kubernetes_knows(definition: dict[str, Any]) -> None:
    kubernetes_validate.validate(definition, kubernetes_validate.latest_version(), strict=True)


@pytest.mark.parametrize("definition", ALL, ids=IDS)
def test_a_definition_has_what_an_api_server_asks_of_it(definition: dict[str, Any]) -> None:
    names = definition["spec"]["names"]
    assert definition["metadata"]["name"] == f"{names['plural']}.{definition['spec']['group']}"
    assert schema_of(definition)["properties"]["metadata"] == {"type": "object"}
    for path, schema in every(schema_of(definition)):
        assert set(schema.get("required", ())) <= schema.get("properties", {}).keys(), path
        if "default" in schema:
            assert schema["default"] != "", path
            assert not path.startswith(".status"), path


@pytest.mark.parametrize("kind", ["BGPConfiguration", "FelixConfiguration"])
def test_an_object_for_one_node_is_not_filled_with_defaults_that_hide_the_clusters(kind: str) -> None:
    for path, schema in every(schema_of(custom_resource(kinds.KINDS[kind]))):
        assert "default" not in schema, path


def test_a_free_address_of_a_block_is_null() -> None:
    block = schema_of(custom_resource(kinds.KINDS["IPAMBlock"]))
    assert block["properties"]["spec"]["properties"]["allocations"]["items"] == {"type": "integer", "nullable": True}


# -- the rules, as an API server evaluates them


def broken(kind: str, spec: dict[str, Any], before: dict[str, Any] | None = None) -> list[str]:
    """The messages of the rules that a spec breaks; rules about change count only where there is a before."""
    found = []
    environment = celpy.Environment()
    for path, schema in every(schema_of(custom_resource(kinds.KINDS[kind]))):
        for one in schema.get("x-kubernetes-validations", ()):
            new, old = at(spec, path), at(before, path)
            if new is None or ("oldSelf" in one["rule"] and old is None):
                continue
            program = environment.program(environment.compile(one["rule"]))
            if not program.evaluate({"self": json_to_cel(new), "oldSelf": json_to_cel(old)}):
                found.append(one["message"])
    return found


def at(spec: Any, path: str) -> Any:
    for step in path.removeprefix(".spec").split(".")[1:]:
        spec = (spec or {}).get(step)
    return spec


V4: dict[str, Any] = {"cidr": "10.0.0.0/16"}


@pytest.mark.parametrize(
    ("kind", "spec", "said"),
    [
        ("IPPool", V4, ""),
        ("IPPool", {**V4, "ipipMode": "Always", "vxlanMode": "Never"}, ""),
        ("IPPool", {**V4, "ipipMode": "Always", "vxlanMode": "CrossSubnet"}, "ipipMode must be Never while"),
        ("IPPool", {"cidr": "fd00::/64", "ipipMode": "Never"}, ""),
        ("IPPool", {"cidr": "fd00::/64", "ipipMode": "Always"}, "for an IPv6 pool"),
        ("IPPool", {**V4, "allowedUses": ["Workload", "Tunnel"]}, ""),
        ("IPPool", {**V4, "allowedUses": ["LoadBalancer", "Tunnel"]}, "excludes every other use"),
        ("BGPPeer", {"peerIP": "10.0.0.1", "node": "n1"}, ""),
        ("BGPPeer", {"peerIP": "10.0.0.1", "node": "n1", "nodeSelector": "all()"}, "node excludes"),
        ("BGPPeer", {"peerIP": "10.0.0.1", "peerSelector": "all()"}, "peerIP excludes"),
        ("FelixConfiguration", {"ipipTTL": 0}, ""),
        ("FelixConfiguration", {"ipipTTL": 64, "ipipPMTUDiscovery": True}, ""),
        ("FelixConfiguration", {"ipipTTL": 64}, "ipipTTL needs ipipPMTUDiscovery: true"),
        ("GlobalNetworkPolicy", {"doNotTrack": True, "preDNAT": False}, ""),
        ("GlobalNetworkPolicy", {"doNotTrack": True, "preDNAT": True}, "doNotTrack excludes"),
    ],
)
def test_a_rule_excludes_one_field_by_another(kind: str, spec: dict[str, Any], said: str) -> None:
    found = broken(kind, spec)
    assert (len(found), said in "".join(found)) == (bool(said), True)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"natOutgoing": True}, ""),
        ({"cidr": "10.1.0.0/16"}, "cidr cannot be changed"),
        ({"blockSize": 27}, "blockSize cannot be changed"),
        ({"allowedUses": ["LoadBalancer"]}, "cannot be added or taken away"),
    ],
)
def test_a_rule_forbids_a_change(change: dict[str, Any], said: str) -> None:
    before = {**V4, "blockSize": 26, "allowedUses": ["Workload"]}
    found = broken("IPPool", {**before, **change}, before)
    assert (len(found), said in "".join(found)) == (bool(said), True)
