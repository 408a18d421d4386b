"""`felixlite explain A B`: found to be a question about a connection wherever its options stand."""

from collections.abc import Callable

import pytest

from tests.support.command import Felixlite

POD = """
apiVersion: projectcalico.org/v3
kind: WorkloadEndpoint
metadata: {{name: n1-k8s-{name}-eth0, namespace: default, labels: {{app: {name}}}}}
spec: {{node: n1, orchestrator: k8s, pod: {name}, endpoint: eth0, interfaceName: cali{name}, ipNetworks: [{address}/32]}}
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
