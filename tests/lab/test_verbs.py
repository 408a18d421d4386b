"""What one does to a lab that is up: nodes and pods come and go, packets are looked at."""

import json
import subprocess
import sys
import threading
from ipaddress import ip_network

from felixlite.lab import world
from felixlite.lab.capture import frames, opened
from felixlite.lab.packets import headers


def felixlite(*arguments):
    return subprocess.run([sys.executable, "-m", "felixlite", *arguments], capture_output=True, text=True, check=False)


def routes(lab, node="n1"):
    return world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine(node).namespace)


def block_of(pod):
    return str(ip_network(f"{pod.address}/26", strict=False))


def test_a_node_joins_with_its_pods_and_leaves_nothing_when_it_goes(lab):
    node = lab.add_node()
    lab.wait_until_green()
    assert str(node.address) in routes(lab)
    pods = [pod for pod in lab.pods() if pod.node == node.name]
    assert len(pods) == lab.topology.pods
    block = block_of(pods[0])
    assert all(block in routes(lab, each) for each in ("n1", "n2", "n3"))

    lab.remove_node(node)

    for each in (
        "n1",
        "n2",
        "n3",
    ):  # the router no longer tells of it either, though it waits for who dies without a word
        world.wait_for(lambda each=each: block not in routes(lab, each), f"the end of {each}'s route to its block", 60)
    lab.wait_until_green()
    assert node.name not in lab.felixlite("get", "nodes") + lab.felixlite("get", "blockaffinities")
    assert not (world.NETNS / node.namespace).exists()


def test_a_label_decides_which_policy_a_pod_is_under_and_ping_knows_what_was_denied(lab):
    spec = {"selector": "role == 'vault'", "types": ["Ingress"]}
    metadata = {"name": "closed", "namespace": "default"}
    deny = {"apiVersion": "projectcalico.org/v3", "kind": "NetworkPolicy", "metadata": metadata, "spec": spec}
    lab.felixlite("apply", "-f", "-", stdin=json.dumps(deny))
    try:
        assert felixlite("lab", "pod", "label", "--name", lab.topology.name, "n1-a", "role=vault").returncode == 0
        world.wait_for(
            lambda: any(c.target.name == "n1-a" and not c.answered for c in lab.ping(patience=0.2)), "denial", 60
        )

        done = felixlite("lab", "ping", "--name", lab.topology.name, "--json")

        cells = {(cell["from"], cell["to"]): cell for cell in json.loads(done.stdout)}
        closed, open_ = cells["n2-a", "n1-a"], cells["n2-a", "n1-b"]
        assert closed["verdict"].startswith("denied by default/n1-a ingress")
        assert (closed["right"], open_["verdict"], open_["way"].split()[0]) == (True, "allowed", "ipip")
    finally:
        assert felixlite("lab", "pod", "label", "--name", lab.topology.name, "n1-a", "role-").returncode == 0
        lab.felixlite("delete", "networkpolicy", "closed")
        lab.wait_until_green()


def test_a_capture_shows_the_tunnel_and_what_is_in_it(lab):
    n1, sender, receiver = lab.machine("n1"), lab.pod("n1-a"), lab.pod("n2-a")
    seen = []
    with opened(n1.namespace, "eth0") as listening:
        ending = threading.Thread(target=lambda: seen.extend(headers(frame) for _, frame in frames(listening, 3)))
        ending.start()
        world.run(["ping", "-c", "3", "-i", "0.2", receiver.address], namespace=sender.namespace)
        ending.join()

    ends = [[(each.source, each.destination) for each in found] for found in seen]
    there = lab.machine("n2").address
    assert [(str(n1.address), str(there)), (sender.address, receiver.address)] in ends


def test_capture_writes_a_pcap_that_tcpdump_reads(lab, tmp_path):
    file = tmp_path / "inner.pcap"
    command = ["lab", "capture", "--name", lab.topology.name, "n1", "--decap", "--ip", lab.pod("n1-a").address, "-c", "1", "-w", str(file)]  # fmt: skip
    pinging = subprocess.Popen(
        world.inside(lab.pod("n1-a").namespace, ["ping", "-i", "0.2", lab.pod("n2-a").address]),
        stdout=subprocess.DEVNULL,
    )
    try:
        done = felixlite(*command)
    finally:
        pinging.terminate()
        pinging.wait()

    assert done.stdout.splitlines()[1].startswith("  10.244."), done.stderr
    read = subprocess.run(["tcpdump", "-nr", str(file)], capture_output=True, text=True, check=True).stdout
    assert "ICMP echo" in read
