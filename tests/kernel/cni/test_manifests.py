"""manifests/ against the API: every overlay is accepted, and the roles give exactly the rights that are used."""

import http.client
import json
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest

from felixlite import heartbeat
from felixlite.controllers.objects import KINDS as JUDGED
from felixlite.controllers.team import Team
from felixlite.datastore import connect
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key, Store
from felixlite.ipam.assign import Request
from felixlite.ipam.store import Ipam
from felixlite.model.kinds import KINDS as KIND_BY_NAME
from tests.support.apiserver import KUBECTLS, ApiServer, Kubectl, apiserver
from tests.support.cni import eventually, pod
from tests.support.kubernode import NODE, KubernetesNode, kubernetes_node
from tests.support.manifests import (
    OVERLAYS,
    ROOT,
    Right,
    base,
    built,
    by_kustomize,
    identity,
    knows_kustomize,
    one,
    rights,
    used,
)
from tests.support.store_contract import document

patiently = partial(eventually, seconds=60.0)  # a busy machine is no failure
TUNNEL = Key("IPAMHandle", "ipip-tunnel-addr-n1")
POOL = Key("IPPool", "default-ipv4-ippool")


CALICO = "crd.projectcalico.org"
# what only some runs need, and when
SOMETIMES = {
    Right("", "events", "create"),  # a BGP session was lost
    Right("coordination.k8s.io", "leases", "update", heartbeat.NAMESPACE),  # a run that lasts for half a minute
    Right(CALICO, "ipamconfigs", "get"),  # an assignment before everything is listed for the first time
    Right(CALICO, "ipamhandles", "update"),  # by the controllers: a handle with addresses in several blocks
    Right(CALICO, "ippools/status", "update"),  # where the status is a resource of its own, unlike in our own server
    Right(CALICO, "blockaffinities", "get"),  # every block is taken: an idle one of another node is taken over
}


def move_to_pool(node: KubernetesNode, name: str, cidr: str) -> None:
    """The only pool that selects the node is another one now."""
    document = node.stored(POOL)
    for entry in node.server.store.list("IPPool").entries:
        node.change(entry.key, "spec", nodeSelector="has(elsewhere)")
    spec = {**document["spec"], "cidr": cidr, "nodeSelector": "all()"}
    node.server.store.create(Key("IPPool", name), {**document, "metadata": {"name": name}, "spec": spec})
    start = cidr.rpartition(".0.0")[0]
    patiently(lambda: str(node.stored(NODE)["spec"]["bgp"].get("ipv4IPIPTunnelAddr", "")).startswith(f"{start}."))
    patiently(lambda: len(node.stored(TUNNEL)["spec"]["block"]) == 1)  # what it had is given back


@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_built_of_objects_that_kubernetes_knows(overlay: str) -> None:
    objects = built(overlay)
    for found in objects:
        if found["kind"] == "CustomResourceDefinition":
            continue  # tests/unit/test_crds.py
        kubernetes_validate.validate(found, kubernetes_validate.latest_version(), strict=True)
    if knows_kustomize():
        assert sorted(objects, key=identity) == sorted(by_kustomize(overlay), key=identity)


@pytest.mark.parametrize("program", KUBECTLS.values(), ids=KUBECTLS.keys())
@pytest.mark.parametrize("overlay", OVERLAYS)
def test_an_overlay_is_accepted(overlay: str, program: str, tmp_path: Path) -> None:
    with apiserver() as server:
        kubectl = Kubectl(server.kubeconfig, tmp_path, program=program)
        if program == "kubectl" and knows_kustomize():
            said = kubectl("apply", "--validate=true", "-k", str(ROOT / overlay))
        else:
            objects = {"apiVersion": "v1", "kind": "List", "items": built(overlay)}
            said = kubectl("apply", "--validate=true", "-f", "-", stdin=json.dumps(objects))
        names = {line.split()[0] for line in said.splitlines()}
    assert {"daemonset.apps/felixlite-node", "deployment.apps/felixlite-controllers"} <= names


def test_the_agent_may_do_exactly_what_it_does(plugins: dict[str, bytes]) -> None:
    with kubernetes_node(plugins["compiled"]) as node, pod("kn") as space:
        for name, container in (("web-0", "c1"), ("web-1", "c2")):
            node.a_pod(name)
            node.add(space, name, container)
            assert node.call("DEL", space, name, container) == {}
        node.add(space, "web-0", "c3")
        collected = node.call("GC", space, "", "", **{"cni.dev/valid-attachments": []})
        assert collected == {}
        # the tunnel's address moves to another pool, and to a third: then the first one's block is given back
        for name, cidr in (("b", "10.9.0.0/16"), ("c", "10.10.0.0/16")):
            move_to_pool(node, name, cidr)
        asked = Key("CalicoNodeStatus", "n1")
        node.server.store.create(asked, document(asked, node="n1", classes=["BGP"], updatePeriodSeconds=1))
        answered = Right(CALICO, "caliconodestatuses/status", "update")
        patiently(lambda: answered in used(node.server.audited, []))
        done = used(node.server.audited, ["secrets", "leases"])
    allowed = rights(base(), "felixlite-node")
    assert sorted(done - allowed) == []
    assert sorted(allowed - done - SOMETIMES) == []


def test_the_controllers_may_do_exactly_what_they_do() -> None:
    tier = Key("Tier", "security")
    with apiserver(permissive=True) as server:
        for name in ("n1", "n2"):
            key = Key("Node", name)
            server.store.create(key, {**document(key), "spec": {"bgp": {"ipv4Address": f"192.0.2.{name[1]}/24"}}})
        server.store.create(POOL, document(POOL, cidr="10.9.0.0/16", nodeSelector="all()"))
        server.store.create(tier, document(tier, order=1))
        sign = Key("Lease", "n1", heartbeat.NAMESPACE)
        metadata = {"name": sign.name, "namespace": sign.namespace}
        lease = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": metadata, "spec": {}}
        server.store.create(sign, lease)
        nodes = {name: Ipam(server.store, name) for name in ("n1", "n2")}
        for name, ipam in nodes.items():
            ipam.assign(Request(f"k8s-pod-network.{name}", {"node": name, "pod": name, "namespace": "default"}, v4=1))
        with controllers(server):
            patiently(lambda: finalizers_of(server, POOL) and finalizers_of(server, tier))
            server.store.delete(Key("Node", "n1"))
            patiently(lambda: len(server.store.list("BlockAffinity").entries) == 1)
            patiently(lambda: server.store.get(sign) is None)

            for value, reason in (("perhaps", "Invalid"), (True, "OK")):  # past the schema, and right again
                patch = {"spec": {"natOutgoing": value}}
                headers = {"Content-Type": "application/merge-patch+json"}
                assert server.ask("PATCH", f"/apis/{CALICO}/v1/ippools/{POOL.name}", patch, **headers)[0] == 200
                patiently(lambda wanted=reason: f"'reason': '{wanted}'" in str(server.store.get(POOL)))
            (event,) = events_of(server, "IPPool")
            assert (event["reason"], event["involvedObject"]["name"]) == ("Invalid", POOL.name)
            assert "natOutgoing" in event["message"]

            for kind in JUDGED:  # past every schema
                key = Key(kind, "default", "default" if KIND_BY_NAME[kind].namespaced else "")
                server.store.create(key, {**document(key), "spec": "nonsense"})
            for kind in JUDGED:
                name, _ = KIND_BY_NAME[kind].crd
                patiently(lambda wanted=name: events_of(server, wanted))
                assert "nonsense" in events_of(server, name)[0]["message"]
            for kind in JUDGED:
                server.store.delete(Key(kind, "default", "default" if KIND_BY_NAME[kind].namespaced else ""))

            for path in ("ippools/default-ipv4-ippool", "tiers/security"):
                assert server.ask("DELETE", f"/apis/{CALICO}/v1/{path}")[0] in (200, 202)
            patiently(lambda: server.store.get(tier) is None)
            patiently(lambda: "Terminating" in str(server.store.get(POOL)))
            nodes["n2"].release_handle("k8s-pod-network.n2")
            patiently(lambda: server.store.get(POOL) is None)
        done = used(server.audited, ["leases"])
    allowed = rights(base(), "felixlite-controllers")
    administrators = {(verb, kind) for verb in ("delete", "patch") for kind in ("ippools", "tiers")} | {
        ("list", "events")
    }
    ours = {right for right in done if (right.verb, right.resource) not in administrators}
    assert sorted(ours - allowed) == []
    assert sorted(allowed - ours - SOMETIMES) == []


def test_beside_etcd_the_controllers_see_nodes_and_nothing_else() -> None:
    key = Key("Node", "n1")
    with apiserver() as server:
        theirs = {**document(key), "metadata": {"name": "n1", "labels": {"rack": "r1"}}}
        server.store.create(key, theirs)
        own = MemoryStore()
        own.create(key, document(key))
        with controllers(server, own):
            patiently(lambda: "'rack': 'r1'" in str(own.get(key)))
            server.store.delete(key)
            server.store.create(Key("Node", "n2"), document(Key("Node", "n2")))
            patiently(lambda: own.get(key) is None)
        done = used(server.audited, [])
    etcd = built("overlays/etcd")
    assert done == rights(etcd, "felixlite-controllers")
    assert rights(etcd, "felixlite-node") == set()
    (container,) = one(etcd, "Deployment", "felixlite-controllers")["spec"]["template"]["spec"]["containers"]
    assert "--kubernetes=kubernetes://" in container["args"]


def events_of(server: ApiServer, kind: str) -> list[dict[str, Any]]:
    found = server.ask("GET", f"/api/v1/namespaces/default/events?fieldSelector=involvedObject.kind={kind}")[1]["items"]
    assert isinstance(found, list)
    return found


def finalizers_of(server: ApiServer, key: Key) -> list[str]:
    entry = server.store.get(key)
    return list(entry.document["metadata"].get("finalizers") or ()) if entry else []


@contextmanager
def controllers(server: ApiServer, own: Store | None = None) -> Iterator[None]:
    """With the identity that the API server gives everybody; what they may do is compared afterwards."""
    store = connect(f"kubernetes://{server.kubeconfig}")
    team = Team(own, "me", lambda _: None, kubernetes=store) if own else Team(store, "me", lambda _: None)
    thread = threading.Thread(target=team.run)
    thread.start()
    try:
        yield
    finally:
        team.stop()
        thread.join(60)
        store.close()


CONFINE = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mkdir -p "$1/host/proc"
mount --rbind /proc "$1/host/proc"
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
mount -o remount,bind,ro /
shift
exec "$@"
"""


def container_of(kind: str) -> dict[str, Any]:
    """`initContainers` or `containers` of the DaemonSet: the only one."""
    spec = one(base(), "DaemonSet", "felixlite-node")["spec"]["template"]["spec"]
    (container,) = spec[kind]
    assert isinstance(container, dict)
    return container


def confined(container: dict[str, Any], folder: Path, command: list[str], **given: str) -> list[str]:
    """A container without a runtime: its capabilities, its read-only root and /proc/sys, its environment."""
    said = container["securityContext"]
    assert (said["readOnlyRootFilesystem"], said["allowPrivilegeEscalation"]) == (True, False)
    assert not said.get("privileged")
    assert said["capabilities"]["drop"] == ["ALL"]
    allowed = ",".join(["-all", *(f"+{name.lower()}" for name in said["capabilities"].get("add", ()))])
    rights = ["setpriv", f"--bounding-set={allowed}", f"--inh-caps={allowed}", "--no-new-privs", "--"]
    environment = ["env", "-u", "FELIXLITE_HEALTHENABLED", "PYTHONDONTWRITEBYTECODE=1"]
    environment += [f"{name}={value}" for name, value in given.items()]
    return ["unshare", "--mount", "sh", "-c", CONFINE, "sh", str(folder), *environment, *rights, *command]


def environment_of(container: dict[str, Any], folder: Path, store: str) -> dict[str, str]:
    given = {**one(base(), "ConfigMap", "felixlite")["data"], "FELIXLITE_STORE": store, "FELIXLITE_NODENAME": "n1"}
    given |= {found["name"]: found["value"] for found in container["env"] if "value" in found}
    return {**given, "FELIXLITE_PROC_SYS": f"{folder}{given['FELIXLITE_PROC_SYS']}"}


def as_the_manifest_says(command: list[str], folder: Path) -> list[str]:
    container, where = container_of("containers"), command.index("--store")
    store, command = command[where + 1], [*command[:where], *command[where + 2 :]]
    assert [word for word in container["args"] if word not in command] == []
    return confined(container, folder, command, **environment_of(container, folder, store))


def probed(container: dict[str, Any], probe: str) -> int:
    """As a kubelet does it."""
    said = container[probe]["httpGet"]
    connection = http.client.HTTPConnection(
        said["host"], said["port"], timeout=container[probe].get("timeoutSeconds", 30)
    )
    try:
        connection.request("GET", said["path"])
        return connection.getresponse().status
    except OSError:
        return 0
    finally:
        connection.close()


def test_the_agent_works_with_the_rights_that_the_manifest_gives_its_container(plugins: dict[str, bytes]) -> None:
    container = container_of("containers")
    with kubernetes_node(plugins["compiled"], as_the_manifest_says) as node, pod("kn") as space:
        held = (Path("/proc") / str(node.agent.pid) / "status").read_text()
        assert "NoNewPrivs:\t1" in held
        assert int(held.partition("CapEff:")[2].split()[0], 16).bit_count() == 4
        for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
            patiently(lambda probe=probe: node.net.run(probed, container, probe) == 200)
        node.a_pod("web-0")
        address = node.add(space, "web-0", "c1")
        assert f"{address} dev cali" in node.routes()
        patiently(lambda: "tunl0" in node.net.command("ip", "-br", "address"))
        assert "cali" in node.net.command("nft", "list", "ruleset")
        forwards = node.net.command("cat", "/proc/sys/net/ipv4/ip_forward")
        assert forwards.strip() == "1"
        assert node.call("DEL", space, "web-0", "c1") == {}

        program, *words = container["lifecycle"]["preStop"]["exec"]["command"]
        assert program == "felixlite"
        environment = environment_of(container, node.folder, node.store_url)
        command = [sys.executable, "-m", "felixlite", *words]
        assert "NetworkUnavailable" in node.net.command(*confined(container, node.folder, command, **environment))


def test_the_init_container_installs_the_plugin_with_no_capability_at_all(tmp_path: Path) -> None:
    container = container_of("initContainers")
    mounts = [mount["mountPath"] for mount in container["volumeMounts"]]
    for mount in mounts:
        (tmp_path / mount[1:]).mkdir(parents=True, exist_ok=True)
    arguments = [f"{tmp_path}{word}" if word in mounts else word for word in container["args"]]
    assert sum(word.startswith(str(tmp_path)) for word in arguments) == 2

    def run(*command: str) -> "subprocess.CompletedProcess[str]":
        confinement = confined(container, tmp_path, [*command], TMPDIR=str(tmp_path / "tmp"))  # the mount of that name
        return subprocess.run(confinement, capture_output=True, text=True, check=False)

    held = run("cat", "/proc/self/status").stdout
    assert int(held.partition("CapEff:")[2].split()[0], 16) == 0
    assert "Read-only file system" in run("touch", "/usr/felixlite").stderr
    done = run(sys.executable, "-m", "felixlite", *arguments)
    assert done.returncode == 0, done.stderr
    (conflist,) = (tmp_path / "host/etc/cni/net.d").iterdir()
    plugin = tmp_path / "host/opt/cni/bin" / json.loads(conflist.read_text())["plugins"][0]["type"]
    said = subprocess.run(
        [plugin], env={"CNI_COMMAND": "VERSION"}, input="{}", capture_output=True, text=True, check=True
    )
    assert "1.1.0" in json.loads(said.stdout)["supportedVersions"]
