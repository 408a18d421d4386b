"""A lab whose store is the API of Kubernetes, served by `felixlite apiserver`: what a kubelet would write, the lab does."""

import json

from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology
from tests.support.labs import clean_leftovers, lab_name


def test_nodes_and_pods_of_kubernetes_reach_each_other_and_are_labelled_and_removed_there():
    clean_leftovers()
    lab = Lab(Topology(name=lab_name("q"), nodes=2, pods=1, store="kubernetes"))
    try:
        lab.up()

        def seen(*words):
            return json.loads(world.run(lab.kubectl("get", *words, "-o", "json")))

        (pod,) = [each for each in seen("pods", "-n", "default")["items"] if each["metadata"]["name"] == "n1-a"]
        assert pod["metadata"]["annotations"]["cni.projectcalico.org/podIP"].startswith(lab.pod("n1-a").address)

        lab.label_pod("n1-a", ["role=web"])
        assert seen("pod", "n1-a", "-n", "default")["metadata"]["labels"]["role"] == "web"

        lab.remove_pod("n1-a")
        assert [each["metadata"]["name"] for each in seen("pods", "-n", "default")["items"]] == ["n2-a"]
        assert [each["metadata"]["name"] for each in seen("nodes")["items"]] == ["n1", "n2"]
    finally:
        lab.down()
