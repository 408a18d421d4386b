"""`./run demo`: a lab comes up, its mechanism is shown, the pool is edited under traffic, and nothing is lost."""

import time
from collections.abc import Callable

from felixlite.lab import world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Topology
from felixlite.lab.traffic import Traffic

Say = Callable[[str], None]


def demo(topology: Topology, say: Say) -> int:
    """Answers the exit code: 0 when everything was as it should be."""
    lab = Lab(topology, say)
    lab.down()
    wrong = 0
    try:
        say(f"\n$ felixlite lab up --nodes {topology.nodes} --pods {topology.pods}")
        lab.up()
        _routes(lab, say, "n1")
        wrong += _matrix(lab, say)
        wrong += _switch(lab, say)
        wrong += _heal(lab, say)
    finally:
        began = time.monotonic()
        lab.down()
        say(f"\n$ felixlite lab down\ngone in {time.monotonic() - began:.2f} s")
    return 1 if wrong else 0


def _routes(lab: Lab, say: Say, node: str) -> None:
    say(f"\n$ felixlite lab exec {node} -- ip route show proto 80")
    say(world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine(node).namespace).rstrip())


def _matrix(lab: Lab, say: Say) -> int:
    cells = lab.ping(count=3)
    wrong = [cell for cell in cells if not cell.is_right]
    pods = {pod.name for pod in lab.pods()}
    inside = [cell for cell in cells if cell.source.name in pods and cell.target.name in pods]
    outside = next(cell for cell in cells if cell.target.name == "outside")
    say("\n$ felixlite lab ping")
    say(f"{len(cells) - len(wrong)} of {len(cells)} pairs reach each other, and are seen as who they should be:")
    say(f"  {inside[-1].source.name} -> {inside[-1].target.name}: seen as {inside[-1].seen_from}, its own address")
    say(f"  {outside.source.name} -> outside: seen as {outside.seen_from}, its node's address, masqueraded once")
    return len(wrong)


def _switch(lab: Lab, say: Say) -> int:
    """Round the ring of encapsulations while every pod talks to every pod."""
    lost = 0
    for ipip, vxlan in (("Always", "Never"), ("Never", "Always"), ("Never", "Never"), ("CrossSubnet", "Never")):
        with Traffic(lab.pod_places()) as traffic:
            time.sleep(0.3)
            patch = f'{{"spec": {{"ipipMode": "{ipip}", "vxlanMode": "{vxlan}"}}}}'
            lab.felixlite("patch", "ippool", "default-ipv4-ippool", "-p", patch)
            time.sleep(1.5)
        say(f"\n$ felixlite lab ctl patch ippool default-ipv4-ippool -p '{patch}'")
        _routes(lab, say, "n1")
        say(f"{traffic.lost} of {traffic.sent} packets lost on the way")
        lost += traffic.lost
    return lost


def _heal(lab: Lab, say: Say) -> int:
    node, block = lab.machine("n1"), _remote_block(lab)
    say(f"\n$ felixlite lab exec n1 -- ip route delete {block}   # by hand, behind the agent's back")
    world.run(["ip", "-n", node.namespace, "route", "delete", block])
    took = world.wait_for(
        lambda: bool(world.run(["ip", "-n", node.namespace, "route", "show", block])), "the route's return", 5
    )
    say(f"back after {took * 1000:.0f} ms")
    return 0


def _remote_block(lab: Lab) -> str:
    lines = world.run(["ip", "route", "show", "proto", "80"], namespace=lab.machine("n1").namespace).splitlines()
    return next(line.split()[0] for line in lines if " via " in line)
