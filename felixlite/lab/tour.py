"""A guided walk through a running lab: each step has commands to type, their real output, and what to look at.

Nothing is shown that was not run a moment ago.  The commands are those that a person can type again; docs/tour.md is
this walk, written down by `felixlite lab tour --markdown`.
"""

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from felixlite.lab import world
from felixlite.lab.lab import Lab

POLICY = {
    "apiVersion": "projectcalico.org/v3",
    "kind": "NetworkPolicy",
    "metadata": {"name": "only-n1-a", "namespace": "default"},
    "spec": {
        "selector": "app == 'n2-a'",
        "types": ["Ingress"],
        "ingress": [{"action": "Allow", "source": {"selector": "app == 'n1-a'"}}],
    },
}
POOL = "ippool default-ipv4-ippool"


@dataclass(frozen=True, slots=True)
class Step:
    title: str
    look: str
    commands: tuple[str, ...]  # what stands behind `felixlite lab`
    meanwhile: str = ""  # runs beside the commands, until they are done
    then: str = ""  # wait until a route of n1 says so, before the last command


def edit(fields: Mapping[str, str]) -> str:
    patch = json.dumps({"spec": fields}, separators=(",", ":"))
    tool = "kubectl" if shutil.which("kubectl") else "ctl"
    return f"{tool} patch {POOL} {'--type merge ' if tool == 'kubectl' else ''}-p {patch}"


STEPS = (
    Step(
        "A pod is a namespace with one cable",
        "The pod has one address, a /32. The other end of its cable is a cali* interface of the node, named after the pod, "
        "and has no address at all.",
        ("exec n1-a -- ip -br address", "exec n1 -- ip -br link"),
    ),
    Step(
        "A gateway that nobody has",
        "The pod's default route goes to 169.254.1.1. No machine has this address: the node answers for it (proxy ARP), "
        "and all cali* interfaces have one MAC address, so that a pod need not learn anything when its node changes.",
        ("exec n1-a -- ip route", "exec n1-a -- ip neigh", "exec n1 -- sysctl net.ipv4.conf.{cali}.proxy_arp"),
    ),
    Step(
        "A block for each node",
        "n1 owns a /26: a blackhole for what is not in use, and a /32 route for each of its pods. The blocks of the "
        "others lead to their nodes: through tunl0 to the other subnet, straight on to the own one.",
        ("exec n1 -- ip route show proto 80", "ctl ipam show --blocks"),
    ),
    Step(
        "BGP tells where the blocks are",
        "The nodes are AS 64512 and a mesh, the router is AS 65000. A node announces its block and not its pods; a pod "
        "comes and goes without an UPDATE.",
        ("ctl --node n1 bgp peers", "ctl --node n1 bgp received 10.0.1.13", "ctl --node n1 bgp advertised 10.0.1.1",
         "exec r1 -- ip route"),
    ),
    Step(
        "IPIP on the wire",
        "Outside, node to node; inside, pod to pod, one header each. 20 bytes are the whole cost.",
        ("capture n1 --decap --ip {n2a} -c 2",),
        meanwhile="exec n1-a -- ping -i 0.3 {n2a}",
    ),
    Step(
        "Never: the same packets without a tunnel",
        "The pool is edited; no agent restarts, no packet is lost. Now the router must know the blocks: it does, "
        "from BGP.",
        (edit({"ipipMode": "Never"}), "exec n1 -- ip route show proto 80", "capture n1 --decap --ip {n2a} -c 2"),
        meanwhile="exec n1-a -- ping -i 0.3 {n2a}",
        then="{block2} via 10.0.1.1 dev eth0",
    ),
    Step(
        "VXLAN",
        "As flannel does it by default: a UDP packet of 50 bytes more around everything, the same subnet or not.",
        (edit({"vxlanMode": "Always"}), "exec n1 -- ip route show proto 80", "capture n1 --decap --ip {n2a} -c 2"),
        meanwhile="exec n1-a -- ping -i 0.3 {n2a}",
        then="dev vxlan.calico",
    ),
    Step(
        "CrossSubnet: a tunnel only where a router is between",
        "n3 is reached straight on, n2 through the tunnel, by one rule: is the other node's address in my own subnet?",
        (edit({"vxlanMode": "Never", "ipipMode": "CrossSubnet"}), "exec n1 -- ip route show proto 80"),
        then="{block2} via 10.0.2.12 dev tunl0",
    ),
    Step(
        "Masquerade: who the outside sees",
        "To other pods a pod is itself. Whoever is outside of all pools cannot answer to a pod's address, and sees the "
        "node's. That is `natOutgoing`.",
        ("capture r1 -i out --ip 203.0.113.100 -c 2",),
        meanwhile="exec n1-a -- ping -i 0.3 203.0.113.100",
    ),
    Step(
        "Policy",
        "The policy selects n2-a and lets in n1-a only. Before anything is sent, `explain` says which rule decides.",
        ("ctl apply -f {policy}", "ctl explain n1-a n2-a", "ctl explain n3-a n2-a", "exec n1-a -- ping -c 1 -W 1 {n2a}",
         "exec n3-a -- ping -c 1 -W 1 {n2a}", "ctl delete networkpolicy only-n1-a"),
    ),
    Step(
        "The store",
        "All of it is in etcd, in Calico's layout. A snapshot of etcd is a backup of the cluster's network.",
        ("exec store -- etcdctl --endpoints 172.31.255.1:2379 get --prefix --keys-only /calico/resources/v3/projectcalico.org/ippools",
         "exec store -- etcdctl --endpoints 172.31.255.1:2379 snapshot save {snapshot}",
         "exec store -- etcdctl snapshot restore {snapshot} --data-dir {restored}",
         "exec store -- find {restored} -type f"),
    ),
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    command: str  # as one types it
    output: str
    code: int


def prepared(lab: Lab) -> dict[str, str]:
    """What stands for the names in braces."""
    policy = lab.directory / "policy.yaml"
    policy.write_text(json.dumps(POLICY))
    a1, a2 = lab.pod("n1-a").address, lab.pod("n2-a").address
    n1, n2 = lab.machine("n1").namespace, lab.machine("n2").namespace
    local = world.run(["ip", "-o", "route", "show", a1], namespace=n1)
    blackhole = world.run(["ip", "-o", "route", "show", "type", "blackhole", "proto", "80"], namespace=n2)
    shutil.rmtree(lab.directory / "restored", ignore_errors=True)
    return {
        "n2a": a2, "cali": local.split("dev ")[1].split()[0], "block2": blackhole.split()[1], "policy": str(policy),
        "snapshot": str(lab.directory / "etcd.snapshot"), "restored": str(lab.directory / "restored"),
    }  # fmt: skip


def walked(lab: Lab, step: Step, names: Mapping[str, str]) -> Iterator[Shown]:
    """Each command with what it printed, one after the other."""
    beside = _started(lab, step.meanwhile, names) if step.meanwhile else None
    try:
        for number, command in enumerate(step.commands):
            if step.then and number == 1:
                _wait(lab, step.then.format(**names))
            yield _shown(lab, command, names)
    finally:
        if beside:
            beside.terminate()
            beside.wait()


def _wait(lab: Lab, words: str) -> None:
    show = ["ip", "route", "show", "proto", "80"]
    world.wait_for(lambda: words in world.run(show, namespace=lab.machine("n1").namespace), f"a route {words!r}", 60)


def _words(command: str, names: Mapping[str, str]) -> list[str]:
    # a patch is JSON, whose braces are no names
    return [word if word.startswith('{"') else word.format(**names) for word in command.split()]


def _argv(lab: Lab, words: list[str]) -> list[str]:
    verb = 2 if words[0] in ("pod", "node") else 1
    return [sys.executable, "-m", "felixlite", "lab", *words[:verb], "--name", lab.topology.name, *words[verb:]]


def _started(lab: Lab, command: str, names: Mapping[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(_argv(lab, _words(command, names)), stdout=subprocess.DEVNULL)


def _shown(lab: Lab, command: str, names: Mapping[str, str]) -> Shown:
    words = _words(command, names)
    done = subprocess.run(_argv(lab, words), capture_output=True, text=True, check=False)
    typed = " ".join(f"'{word}'" if "{" in word else word for word in words)
    printed = done.stdout + (done.stderr if done.returncode else "")  # etcdctl logs what went well there
    return Shown(f"felixlite lab {typed}", printed.rstrip(), done.returncode)
