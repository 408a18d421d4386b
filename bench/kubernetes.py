"""An agent whose store is the API of a large cluster: its first sync, its memory, and what steady changes cost it.

10,000 pods on 1,000 nodes, 2,000 policies; the API server is our own, in a process of its own, over a store in memory.  The
yardsticks are the limits that were set: 15 s of one core, 300 MB, 15 % of a core with 50 pod changes a second.
"""

import http.client
import json
import multiprocessing
import os
import shutil
import ssl
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from bench.agent import _resident
from bench.store import Row
from felixlite import control
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Document, Key
from felixlite.kernel.namespaces import visiting
from tests.support.agent import RunningAgent, end_tunnel_processes
from tests.support.apiserver import apiserver
from tests.support.netns import namespace

NODES, PODS, POLICIES = 1000, 10_000, 2000
CHANGES, SECONDS = 50, 10.0
PATIENCE = 150.0
CALICO = "projectcalico.org/v3"


def objects() -> Iterator[Document]:
    yield calico("BGPConfiguration", "default", {"nodeToNodeMeshEnabled": False})
    yield calico("IPPool", "default-ipv4-ippool", {"cidr": "10.0.0.0/8", "ipipMode": "Always", "nodeSelector": "all()"})
    for number in range(NODES):
        address = f"172.16.{number // 250}.{number % 250 + 1}/16"
        yield calico("Node", f"n{number}", {"bgp": {"ipv4Address": address}})
    for number in range(POLICIES):
        source = {"selector": f"app == 'a{number % 100}'"}
        ingress = [{"action": "Allow", "protocol": "TCP", "source": source, "destination": {"ports": [80]}}]
        spec = {"selector": f"app == 'a{number % 500}'", "order": number, "types": ["Ingress"], "ingress": ingress}
        yield calico("GlobalNetworkPolicy", f"p{number}", spec)
    yield from map(pod, range(PODS))


def calico(kind: str, name: str, spec: Document) -> Document:
    return {"apiVersion": CALICO, "kind": kind, "metadata": {"name": name}, "spec": spec}


def pod(number: int) -> Document:
    """As large as a kubelet leaves it."""
    address = f"10.{number // 65536}.{number // 256 % 256}.{number % 256}"
    variables = [{"name": f"VARIABLE_{i}", "value": "x" * 30} for i in range(20)]
    conditions = [
        {"type": f"Condition{i}", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"} for i in range(5)
    ]
    return {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": f"pod-{number}", "namespace": "default", "labels": {"app": f"a{number % 500}"}},
        "spec": {
            "nodeName": f"n{number % NODES}",
            "serviceAccountName": "default",
            "containers": [{"name": "main", "image": "registry.example/app:1", "env": variables}],
        },
        "status": {"phase": "Running", "podIP": address, "podIPs": [{"ip": address}], "conditions": conditions},
    }


def serve(pipe: Any) -> None:
    """The API server's process: tells where it is, and ends when the other side does."""
    store = MemoryStore()
    for document in objects():
        said = document["metadata"]
        store.create(Key(document["kind"], said["name"], said.get("namespace", "")), document)
    with apiserver(store) as server:
        pipe.send((str(server.kubeconfig), server.url, server.token, str(server.ca)))
        pipe.recv()


@contextmanager
def cluster() -> Iterator[tuple[str, str, str, str]]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.Process(target=serve, args=(there,))
    process.start()
    try:
        if not here.poll(PATIENCE):
            raise TimeoutError("the API server does not start")
        yield here.recv()
    finally:
        here.send("end")
        process.join(30)
        process.kill()


def processor(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def churn(url: str, token: str, authority: str) -> float:
    """Labels of pods change, CHANGES a second; answers how many really did."""
    host, _, port = url.removeprefix("https://").rpartition(":")
    context = ssl.create_default_context(cafile=authority)
    connection = http.client.HTTPSConnection(host, int(port), context=context, timeout=60)
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "application/merge-patch+json"}
    began, number = time.monotonic(), 0
    while (now := time.monotonic() - began) < SECONDS:
        if number > now * CHANGES:
            time.sleep(0.002)
            continue
        body = json.dumps({"metadata": {"labels": {"app": f"a{number % 499}"}}})
        connection.request("PATCH", f"/api/v1/namespaces/default/pods/pod-{number}", body, headers)
        answer = connection.getresponse()
        answer.read()
        if answer.status != 200:
            raise RuntimeError(answer.status)
        number += 1
    return number / (time.monotonic() - began)


def main() -> list[Row]:
    folder = Path(tempfile.mkdtemp(prefix="felixlite-bench-"))
    outside = os.open("/proc/self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    try:
        with namespace("bkube") as net:
            net.ip("link add eth0 type bridge")
            net.ip("addr add 172.16.0.1/16 dev eth0")
            net.ip("link set eth0 up")
            with visiting(net.fd), cluster() as (kubeconfig, url, token, authority):
                found = measured(RunningAgent(f"kubernetes://{kubeconfig}", folder, "n0"), url, token, authority)
    finally:
        os.close(outside)
        shutil.rmtree(folder)
    return found


def _check(agent: RunningAgent) -> None:
    """What was measured is an agent that knows all of it, and that heard of the last change."""
    known = control.ask(agent.folder / "agent.sock", "snapshot")
    counts = {kind: len(known[kind]) for kind in ("remote_workloads", "nodes", "policies")}
    if counts != {"remote_workloads": PODS - PODS // NODES, "nodes": NODES, "policies": POLICIES}:
        raise RuntimeError(f"the agent knows only {counts}")
    last = int(CHANGES * SECONDS) - 2
    told = next(
        text
        for name, text in known["remote_workloads"].items()
        if f"-pod--{last}-eth0" in text or f"pod-{last}'" in text
    )
    if f"'a{last % 499}'" not in told:
        raise RuntimeError(f"pod-{last}: the agent has not heard of its new label: {told}")


def measured(agent: RunningAgent, url: str, token: str, authority: str) -> list[Row]:
    began = time.monotonic()
    agent.start()
    try:
        agent.wait_until_ready()
        ready, worked, weighs = time.monotonic() - began, processor(agent.pid), _resident(agent.pid)
        time.sleep(3.0)  # what follows from the first round is over
        before = processor(agent.pid)
        changes = churn(url, token, authority)
        busy = (processor(agent.pid) - before) / SECONDS
        _check(agent)
    finally:
        agent.stop()
        end_tunnel_processes()
    print(f"ready after {ready:.1f} s on this machine; {changes:.0f} pod changes a second")
    rows = (("first sync of 10,000 pods: one core", worked, 15.0, "s limit"),
            ("resident after it", weighs, 300.0, "MB limit"),
            ("50 pod changes a second: of a core", busy * 100, 15.0, "% limit"))  # fmt: skip
    return [
        {"name": n, "ours": ours, "yardstick": limit, "ratio": ours / limit, "unit": u} for n, ours, limit, u in rows
    ]
