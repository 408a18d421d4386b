"""An agent on Kubernetes when something is wrong there: what goes on, what is refused, what its status says, how it heals."""

import json
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from felixlite import control
from felixlite.apiserver.requests import Target, User
from felixlite.cluster import FILE
from felixlite.datastore.store import Key
from felixlite.kernel.namespaces import visiting
from tests.support.cni import eventually, pod
from tests.support.kubernode import NODE, KubernetesNode, kubernetes_node
from tests.support.store_contract import document

patiently = partial(eventually, seconds=90.0)  # a busy machine is no failure
POOL = Key("IPPool", "default-ipv4-ippool")
CLUSTER = Key("ClusterInformation", "default")


@pytest.fixture
def node(plugins: dict[str, bytes]) -> Iterator[KubernetesNode]:
    with kubernetes_node(plugins["compiled"]) as found:
        yield found


def degraded(node: KubernetesNode) -> str:
    found: list[str] = control.ask(node.folder / "agent.sock", "status")["degraded"]
    return "\n".join(found)


def links(node: KubernetesNode) -> str:
    return node.net.command("ip", "-br", "address")


def test_a_server_that_is_back_with_a_compacted_history_is_followed_again(node: KubernetesNode) -> None:
    patiently(lambda: "tunl0" in links(node))
    node.a_pod("web-0")
    with pod("kn") as space:
        address = node.add(space, "web-0", "c1")
        node.net.run(node.server.close)
        patiently(lambda: "store: " in degraded(node))
        for number in range(20):  # a history that the next server does not know
            key = Key("NetworkSet", f"s{number}", "default")
            node.server.store.delete(key, node.server.store.create(key, document(key)).revision)
        node.change(POOL, "spec", ipipMode="Never", vxlanMode="Always")
        assert f"{address} dev cali" in node.routes()
        node.net.run(node.server.open)
        patiently(lambda: "vxlan.calico" in links(node))
        patiently(lambda: degraded(node) == "")
        assert f"{address} dev cali" in node.routes()
        assert node.call("DEL", space, "web-0", "c1") == {}


def test_a_node_that_is_deleted_under_its_agent_keeps_its_pods_and_is_told_when_it_is_back(
    node: KubernetesNode,
) -> None:
    node.a_pod("web-0")
    with pod("kn") as space:
        address = node.add(space, "web-0", "c1")
        kubelets = node.stored(NODE)
        node.server.store.delete(NODE)
        patiently(lambda: "there is no Node n1" in degraded(node))
        assert f"{address} dev cali" in node.routes()
        node.server.store.create(NODE, {**kubelets, "metadata": {"name": "n1"}, "spec": {}})
        patiently(lambda: node.stored(NODE)["spec"].get("bgp", {}).get("ipv4Address") == "192.0.2.1/24")
        patiently(lambda: degraded(node) == "")
        assert f"{address} dev cali" in node.routes()
        assert node.call("DEL", space, "web-0", "c1") == {}


def with_a_token_file(command: list[str], folder: Path) -> list[str]:
    """The agent's kubeconfig names a file, as a service account's is one."""
    where = command.index("--store") + 1
    config = json.loads(Path(command[where].removeprefix("kubernetes://")).read_text())
    (user,) = [one["user"] for one in config["users"] if "token" in one["user"]]
    (folder / "token").write_text(user.pop("token"))
    user["tokenFile"] = str(folder / "token")
    own = folder / "kubeconfig"
    own.write_text(json.dumps(config))
    return [*command[:where], f"kubernetes://{own}", *command[where + 1 :]]


def test_a_token_that_expired_is_told_and_the_next_one_is_read_from_the_disk(plugins: dict[str, bytes]) -> None:
    with kubernetes_node(plugins["compiled"], with_a_token_file) as node, pod("kn") as space:
        node.a_pod("web-0")
        node.server.running.identity.token_file.write_text("the-next-one")
        refused = node.call("ADD", space, "web-0", "c1")
        assert "Unauthorized" in refused["msg"] + refused.get("details", ""), refused
        (node.folder / "token").write_text("the-next-one")
        node.add(space, "web-0", "c1")
        node.change(POOL, "spec", ipipMode="Never", vxlanMode="Always")
        patiently(lambda: "vxlan.calico" in links(node))
        assert node.call("DEL", space, "web-0", "c1") == {}


def test_a_verb_that_the_role_lacks_is_named_and_the_rest_goes_on(plugins: dict[str, bytes]) -> None:
    lacking = set[tuple[str, str, str]]()

    def may(_: User, target: Target, verb: str) -> str:
        asked = (verb, target.served.plural, target.subresource)
        return "RBAC: not allowed" if asked in lacking else ""

    with kubernetes_node(plugins["compiled"], may=may) as node, pod("kn") as space:
        node.a_pod("web-0")
        lacking.add(("patch", "pods", "status"))
        refused = node.call("ADD", space, "web-0", "c1")
        said = refused["msg"] + refused.get("details", "")
        assert "patch" in said, said
        assert "pods" in said, said
        lacking.clear()
        node.add(space, "web-0", "c1")

        lacking.add(("watch", "bgppeers", ""))
        node.net.run(node.server.close)
        node.net.run(node.server.open)
        patiently(lambda: "watch BGPPeer" in degraded(node))
        node.change(POOL, "spec", ipipMode="Never", vxlanMode="Always")  # by lists, then
        patiently(lambda: "vxlan.calico" in links(node))
        lacking.clear()
        patiently(lambda: degraded(node) == "")
        assert node.call("DEL", space, "web-0", "c1") == {}


@pytest.mark.parametrize(
    ("key", "spec", "field"),
    [
        (POOL, {"ipipMode": "Sometimes"}, "ipipMode"),
        (Key("BGPPeer", "tor"), {"peerIP": 7}, "peerIP"),
        (Key("BGPConfiguration", "default"), {"asNumber": "many"}, "asNumber"),
        (Key("GlobalNetworkPolicy", "all"), {"order": "first"}, "order"),
        (Key("BGPFilter", "out"), {"exportV4": "none"}, "exportV4"),
        (Key("FelixConfiguration", "default"), {"logSeverityScreen": ["Loud"]}, "logSeverityScreen"),
    ],
)
def test_an_object_written_past_the_schema_stays_what_it_was(
    kept_out: KubernetesNode, key: Key, spec: dict[str, object], field: str
) -> None:
    node, good = kept_out, kept_out.server.store.get(key)
    if good is None:
        good = node.server.store.create(key, {**document(key), "spec": GOOD[key.kind]})
        patiently(lambda: knows(node, key))
    node.server.store.update(key, {**good.document, "spec": {**good.document["spec"], **spec}}, good.revision)
    patiently(lambda: f"{key} is kept out" in degraded(node))
    assert field in degraded(node)
    assert knows(node, key)
    again = node.server.store.get(key)
    assert again
    node.server.store.update(key, good.document, again.revision)
    patiently(lambda: f"{key} is kept out" not in degraded(node))


GOOD = {
    "BGPPeer": {"peerIP": "192.0.2.9", "asNumber": 65000, "nodeSelector": "has(nothing)"},
    "BGPConfiguration": {"asNumber": 64999},
    "GlobalNetworkPolicy": {"order": 5, "selector": "has(nothing)"},
    "BGPFilter": {"exportV4": [{"action": "Reject"}]},
    "FelixConfiguration": {"logSeverityScreen": "Warning"},
}


@pytest.fixture(scope="module")
def kept_out(plugins: dict[str, bytes]) -> Iterator[KubernetesNode]:
    with kubernetes_node(plugins["compiled"]) as found:
        yield found


def knows(node: KubernetesNode, key: Key) -> bool:
    return key.name in str(control.ask(node.folder / "agent.sock", "snapshot"))


def test_another_clusters_store_is_refused_and_nothing_is_written_there(node: KubernetesNode) -> None:
    guid = node.stored(CLUSTER)["spec"]["clusterGUID"]
    assert (node.folder / FILE).read_text().strip() == guid
    patiently(lambda: "tunl0" in links(node))
    node.agent.stop()
    before = node.routes()
    node.change(CLUSTER, "spec", clusterGUID="f00d")
    written = [entry.revision for entry in node.server.store.list("Node").entries]
    with visiting(node.net.fd):
        done = subprocess.run(
            node.agent.command, env=node.agent.environment, capture_output=True, text=True, check=False
        )
    assert done.returncode != 0
    assert f"clusterGUID 'f00d' of {node.store_url.partition('?')[0][:13]}" in done.stderr
    assert str(node.folder / FILE) in done.stderr
    assert [entry.revision for entry in node.server.store.list("Node").entries] == written
    assert node.routes() == before
    with visiting(node.net.fd):
        (node.folder / FILE).unlink()  # as it says
        node.agent.start()
    node.agent.wait_until_ready()
    assert (node.folder / FILE).read_text() == "f00d\n"


def test_a_store_that_becomes_another_clusters_ends_the_agent(node: KubernetesNode) -> None:
    node.net.run(node.server.close)
    node.change(CLUSTER, "spec", clusterGUID="f00d")
    node.change(POOL, "spec", ipipMode="Never", vxlanMode="Always")
    node.net.run(node.server.open)
    assert node.agent.process
    assert node.agent.process.wait(90) == 1
    assert "clusterGUID 'f00d'" in node.agent.log
    assert "vxlan.calico" not in links(node)
