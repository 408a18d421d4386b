"""Policy and packets: what a restart of the agent costs them, and what a thousand policies do.

Two pods of a node with 250 endpoints and 1,000 policies.  The restart is a planner, a reconciler and tables that know
nothing; what is lost is counted by processes of their own (_flow.py).  The cost of a packet is the same traffic with
and without all tables, in turns.
"""

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from statistics import median

from bench.policy import BACKENDS, Line, Node, line, world
from felixlite import collector
from felixlite.model.policy import Action, Policy, PolicyRule
from felixlite.policy.choice import Backend
from felixlite.policy.inputs import Inputs
from tests.support.netns import Namespace, namespace
from tests.support.policylab import plug

SERVER, CLIENT = ("default", "w50"), ("default", "w100")  # both of label a0, whose policies let them talk
STATE = world(250, 1000)


def talking(protocol: int) -> Inputs:
    """The same policies for another protocol."""
    policies = {
        key: replace(policy, ingress=tuple(replace(rule, protocol=protocol) for rule in policy.ingress))
        for key, policy in STATE.policies.items()
    }
    return replace(STATE, policies=policies)


@contextmanager
def two_pods(backend: Backend) -> Iterator[tuple[Node, Namespace, Namespace]]:
    with namespace("fp") as space, namespace("fp") as server, namespace("fp") as client:
        space.command("sysctl", "-qw", "net.ipv4.ip_forward=1")
        for key, pod in ((SERVER, server), (CLIENT, client)):
            plug(space, pod, STATE.local_workloads[key])
        yield Node(space, backend), server, client


def address(key: tuple[str, str]) -> str:
    return STATE.local_workloads[key].addresses[0].first_text


def restart(backend: Backend) -> list[Line]:
    """Read, planned from nothing, compared: nothing may be written, and nobody may notice."""
    state = talking(17)
    with two_pods(backend) as (here, server, client):
        here.timed(state)
        run = [sys.executable, "-m", "bench._flow"]
        with pipe(server, *run, "receive", address(SERVER)) as receiver:
            hear(receiver)
            with pipe(client, *run, "send", address(CLIENT), address(SERVER)) as sender:
                flows(sender, 1000)
                again = Node(here.space, backend)
                start = time.perf_counter()
                with collector.paused():
                    plan = {"policy/4": again.planner(state).tables["policy/4"]}
                    outcome = here.space.run(again.reconciler.converge, plan, start, may_delete=True)["policy/4"]
                seconds = time.perf_counter() - start
                assert (outcome.written, outcome.removed, outcome.failures) == (0, 0, {})
                flows(sender, 1000)
                sent = ended(sender)
            came = ended(receiver)
    what = f"{backend}: restart with 250 endpoints, 1,000 policies"
    return [
        line(f"{what}: in sync, limit", seconds * 1e3, 2000),
        count(f"{what}: datagrams lost of {sent[0]} on an old flow", sent[0] - came[0]),
        count(f"{what}: datagrams lost of {sent[1]} on new flows", sent[1] - came[1]),
    ]


def count(name: str, found: int) -> Line:
    return {"name": name, "ours": found, "yardstick": None, "ratio": None, "unit": "lost"}


@contextmanager
def pipe(space: Namespace, *argv: str) -> Iterator["subprocess.Popen[str]"]:
    argv = ("ip", "netns", "exec", space.name, *argv)
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        yield process


def hear(process: "subprocess.Popen[str]") -> None:
    """Wait until it listens."""
    assert process.stdout
    while "listening" not in (said := process.stdout.readline()):
        assert said, f"{process.args} ended"


def flows(sender: "subprocess.Popen[str]", count: int) -> None:
    """Wait until so many more of each have been sent."""
    assert sender.stdout
    for _ in range(count // 100):
        assert sender.stdout.readline(), f"{sender.args} ended"


def ended(process: "subprocess.Popen[str]") -> tuple[int, int]:
    first, second = process.communicate("", timeout=10)[0].split()[-2:]
    return int(first), int(second)


def packet_cost(backend: Backend) -> list[Line]:
    """Connections that the last of an endpoint's policies allows, after all rules of twenty others: next to a node
    without policies, and to one without tables (and so without connection tracking).

    A node for each, all at once, and traffic through them in turns too short for the machine to change its pace.
    """
    last = Policy("NetworkPolicy", "z", "default", order=1e6, ingress=(PolicyRule(Action.ALLOW),))
    before = {key: replace(policy, order=1.0) for key, policy in STATE.policies.items()}
    most = "1,000 policies"
    states = {
        "no tables": None,
        "no policies": replace(STATE, policies={}),
        most: replace(STATE, policies=before | {("NetworkPolicy", "default", "z"): last}),
    }
    with ExitStack() as stack:
        pods = {}
        for name, state in states.items():
            here, *pods[name] = stack.enter_context(two_pods(backend))
            if state:
                here.timed(state)
        found = {"Gbit/s": throughputs(pods, 3), "connections/s": connects(pods, 60)}
    return [
        line(f"{backend}: with {most}, next to {other}", rates[most], rates[other], unit)
        for unit, rates in found.items()
        for other in states
        if other != most
    ]


Pods = dict[str, list[Namespace]]  # of each node: server, client


def throughputs(pods: Pods, turns: int) -> dict[str, float]:
    found: dict[str, list[float]] = {name: [] for name in pods}
    for _ in range(turns):
        for name, pair in pods.items():
            found[name].append(throughput(*pair))
    return {name: median(rates) for name, rates in found.items()}


def throughput(server: Namespace, client: Namespace) -> float:
    with pipe(server, "iperf3", "-s", "-1", "-p", "2000", "--forceflush") as listening:
        hear(listening)
        told = json.loads(client.command("iperf3", "-c", address(SERVER), "-p", "2000", "-t", "1", "-J"))
    return float(told["end"]["sum_received"]["bits_per_second"]) / 1e9


CONNECTING = """
import socket, sys, time
print("listening", flush=True)
for _ in sys.stdin:
    start = time.monotonic()
    for _ in range(1000):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\\1\\0\\0\\0\\0\\0\\0\\0")  # leave no TIME_WAIT behind
            s.connect((sys.argv[1], 2000))
    print(1000 / (time.monotonic() - start), flush=True)
"""
LISTENING = """
import socket, sys
with socket.create_server((sys.argv[1], 2000), backlog=1000) as s:
    print("listening", flush=True)
    while True:
        s.accept()[0].close()
"""


def connects(pods: Pods, turns: int) -> dict[str, float]:
    """Connections a second: the median of turns of a thousand each, by processes that stay."""
    found: dict[str, list[float]] = {name: [] for name in pods}
    with ExitStack() as stack:
        clients: dict[str, subprocess.Popen[str]] = {}
        for name, (server, client) in pods.items():
            listening = stack.enter_context(pipe(server, sys.executable, "-c", LISTENING, address(SERVER)))
            stack.callback(listening.terminate)
            hear(listening)
            clients[name] = stack.enter_context(pipe(client, sys.executable, "-c", CONNECTING, address(SERVER)))
            hear(clients[name])
        for _ in range(turns):
            for name, process in clients.items():
                found[name].append(float(asked(process)))
        for process in clients.values():
            process.communicate("", timeout=10)
    return {name: median(rates) for name, rates in found.items()}


def asked(process: "subprocess.Popen[str]") -> str:
    """Its answer to a line."""
    assert process.stdin
    assert process.stdout
    print(file=process.stdin, flush=True)
    return process.stdout.readline()


def main() -> list[Line]:
    found = [each for backend in BACKENDS for each in restart(backend)]
    found += packet_cost("nftables")
    for each in found:
        ratio = f"x{each['ratio']:.2f}" if each["ratio"] is not None else ""
        print(f"{each['name']:75} {each['ours']:9.2f} {each['yardstick'] or 0:9.2f} {each['unit']:6} {ratio}")
    return found


if __name__ == "__main__":
    main()
