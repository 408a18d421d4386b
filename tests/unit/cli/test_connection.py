"""`felixlite explain A B`: found to be a question about a connection wherever its options stand."""

import json
from collections.abc import Callable

import pytest

from tests.support.command import Felixlite

POD = """
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {{name: n1-k8s-{name}-eth0, namespace: default, labels: {{app: {name}}}}}
spec: {{node: n1, orchestrator: k8s, pod: {name}, endpoint: eth0, profiles: [kns.default], interfaceName: cali{name}, ipNetworks: [{address}/32]}}
"""
CLOSED = """
apiVersion: projectcalico.org/v3
kind: GlobalNetworkPolicy
metadata: {name: closed}
spec: {selector: app == 'b', types: [Ingress]}
"""


@pytest.fixture
def pods(call: Felixlite, written: Callable[..., str]) -> None:
    made = written(POD.format(name="a", address="10.65.0.1"), POD.format(name="b", address="10.65.0.2"))
    assert call("apply", "-f", made).code == 0


@pytest.mark.usefixtures("pods")
@pytest.mark.parametrize(
    "words",
    [
        "a b --port 80 -f {}",
        "-f {} a b --port 80",
        "--port 80 a -f {} b",
        "--port=80 --filename={} a b",
        "a --protocol TCP b -f{} --port 80",
    ],
)
def test_options_stand_before_the_ends_behind_them_and_between(
    call: Felixlite, written: Callable[..., str], words: str
) -> None:
    change = written(CLOSED, name="change.yaml")
    ran = call("explain", *words.format(change).split())
    assert (ran.code, ran.out.splitlines()[0]) == (1, "10.65.0.1 -> 10.65.0.2 TCP port 80 is DENIED")


@pytest.mark.parametrize("words", ["ippool.spec --recursive", "--recursive ippool.spec"])
def test_one_word_is_a_kind_wherever_its_options_stand(call: Felixlite, words: str) -> None:
    assert "cidr" in call("explain", *words.split()).out


NODE = """
apiVersion: projectcalico.org/v3
kind: Node
metadata: {{name: {name}}}
spec: {{bgp: {{ipv4Address: {address}/24, ipv4IPIPTunnelAddr: {tunnel}}}}}
"""
POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {{name: main}}
spec: {{cidr: 10.65.0.0/16, ipipMode: {mode}}}
"""


@pytest.mark.usefixtures("pods")
@pytest.mark.parametrize(("mode", "source"), [("Always", "10.65.9.0"), ("Never", "192.0.2.2")])
def test_a_node_speaks_through_a_tunnel_with_its_address_there(
    call: Felixlite, written: Callable[..., str], mode: str, source: str
) -> None:
    nodes = [NODE.format(name=f"n{n}", address=f"192.0.2.{n}", tunnel=f"10.65.{n + 7}.0") for n in (1, 2)]
    assert call("apply", "-f", written(*nodes, POOL.format(mode=mode), name="nodes.yaml")).code == 0
    found = json.loads(call("explain", "n2", "a", "--port", "80", "-o", "json").out)
    assert (found["packet"]["source"], found["source"]["node"]) == (source, "n2")
    own = json.loads(call("explain", "n1", "a", "--port", "80", "-o", "json").out)
    assert (own["packet"]["source"], own["decided_by"].partition(":")[0]) == ("192.0.2.1", "node n1")


@pytest.mark.usefixtures("pods")
def test_ipv6_of_a_pod_that_has_none_is_said(call: Felixlite) -> None:
    ran = call("explain", "-6", "a", "b")
    assert (ran.code, ran.out) == (2, "")
    assert "'a' has no IPv6 address; it has 10.65.0.1" in ran.err


@pytest.mark.usefixtures("pods")
def test_an_invalid_policy_is_marked_as_one(call: Felixlite, written: Callable[..., str]) -> None:
    wrong = written(CLOSED.replace("[Ingress]", "[Ingress], ingress: [{action: Frob}]"), name="wrong.yaml")
    ran = call("explain", "a", "b", "--port", "80", "-f", wrong)
    assert "is invalid: " in ran.err
    assert "GlobalNetworkPolicy closed: invalid: closes what it selects: Deny" in ran.out
