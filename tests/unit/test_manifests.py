"""manifests/base: what Kubernetes and felixlite can read, and no more rights for a process than it needs."""

from typing import Any

import click
import kubernetes_validate
import pytest

from felixlite import config
from felixlite.cli.main import felixlite
from felixlite.cli.session import Session
from felixlite.config import SETTINGS
from tests.support.manifests import base, one

OBJECTS = base()
IDS = [f"{found['kind']} {found['metadata']['name']}" for found in OBJECTS]
WORKLOADS = [found for found in OBJECTS if found["kind"] in ("DaemonSet", "Deployment")]
ENVIRONMENT = {"FELIXLITE_STORE", "FELIXLITE_NODENAME", "FELIXLITE_PROC_SYS", "FELIXLITE_POOL_CIDR", "FELIXLITE_POOL_IPIP",
               "FELIXLITE_POOL_VXLAN"}  # fmt: skip


def template(workload: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = workload["spec"]["template"]["spec"]
    return found


CONTAINERS = [c for w in WORKLOADS for c in [*template(w).get("initContainers", ()), *template(w)["containers"]]]


@pytest.mark.parametrize("found", OBJECTS, ids=IDS)
def test_every_object_is_one_that_kubernetes_knows(found: dict[str, Any]) -> None:
    kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)


def test_pods_reach_services_that_their_own_node_answers() -> None:
    (settings,) = [found["data"] for found in OBJECTS if found["kind"] == "ConfigMap"]
    effective = config.effective({}, settings, {}, "n1")
    assert effective["defaultEndpointToHostAction"] == "Accept"


def test_every_role_is_bound_to_a_service_account_that_somebody_uses() -> None:
    accounts = {o["metadata"]["name"] for o in OBJECTS if o["kind"] == "ServiceAccount"}
    assert {template(w)["serviceAccountName"] for w in WORKLOADS} == accounts
    for kind in ("Role", "ClusterRole"):
        roles = {o["metadata"]["name"] for o in OBJECTS if o["kind"] == kind}
        bindings = [o for o in OBJECTS if o["kind"] == f"{kind}Binding"]
        assert {b["roleRef"]["name"] for b in bindings} == roles
        assert {s["name"] for b in bindings for s in b["subjects"]} <= accounts


def test_no_right_is_given_by_a_wildcard() -> None:
    for role in (o for o in OBJECTS if o["kind"] in ("Role", "ClusterRole")):
        for rule in role["rules"]:
            assert "*" not in [*rule["apiGroups"], *rule["resources"], *rule["verbs"]]


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: c["name"])
def test_a_container_may_do_no_more_than_it_must(container: dict[str, Any]) -> None:
    limits = container["securityContext"]
    assert limits["readOnlyRootFilesystem"] is True
    assert limits["allowPrivilegeEscalation"] is False
    assert limits["capabilities"]["drop"] == ["ALL"]
    assert not limits.get("privileged")
    assert container["resources"]["requests"].keys() == {"cpu", "memory"}


def test_the_node_agent_runs_wherever_there_is_a_node() -> None:
    spec = template(one(OBJECTS, "DaemonSet", "felixlite-node"))
    assert spec["tolerations"] == [{"operator": "Exists"}]
    assert (spec["hostNetwork"], spec["priorityClassName"]) == (True, "system-node-critical")


def test_the_controllers_run_as_nobody_and_stand_by() -> None:
    found = one(OBJECTS, "Deployment", "felixlite-controllers")
    assert found["spec"]["replicas"] > 1
    assert template(found)["securityContext"]["runAsNonRoot"] is True
    assert "hostNetwork" not in template(found)


@pytest.mark.parametrize("workload", WORKLOADS, ids=lambda w: w["metadata"]["name"])
def test_every_mount_has_a_volume_and_every_volume_a_mount(workload: dict[str, Any]) -> None:
    spec = template(workload)
    mounted = {m["name"] for c in [*spec.get("initContainers", ()), *spec["containers"]] for m in c["volumeMounts"]}
    assert mounted == {volume["name"] for volume in spec["volumes"]}


@pytest.mark.parametrize("container", CONTAINERS, ids=lambda c: c["name"])
def test_what_a_container_runs_is_a_command_with_these_options(container: dict[str, Any]) -> None:
    commands = [container["args"]]
    if hook := container.get("lifecycle"):
        commands.append(hook["preStop"]["exec"]["command"][1:])
    for words in commands:
        command: click.Command = felixlite
        rest, context = list(words), click.Context(felixlite, obj=Session())
        while isinstance(command, click.Group):
            command = command.get_command(context, rest.pop(0)) or felixlite
        command.make_parser(context).parse_args(rest)  # raises for an option that is none


def test_what_is_in_the_environment_is_read_by_somebody() -> None:
    given = set(one(OBJECTS, "ConfigMap", "felixlite")["data"])
    given |= {variable["name"] for container in CONTAINERS for variable in container.get("env", ())}
    settings = {f"FELIXLITE_{setting.name.upper()}" for setting in SETTINGS}
    assert given <= ENVIRONMENT | settings
