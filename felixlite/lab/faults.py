"""What can be broken in a lab: how it is done, who notices, what mends it, and when it is whole again.

Each fault says within which time it is healed (`bound`, seconds; docs/lab.md has the same table and a test compares
them).  `noticed` is asked of the agents and of the kernel, not of us.  A fault without a `repair` has to heal with
nobody's help; for the others the repair is what an operator or a supervisor would do.  How it is timed is trial.py's.
"""

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from felixlite.errors import FelixliteError, Misconfigured, StoreError
from felixlite.lab import etcd, rack, routers, world
from felixlite.lab.lab import Lab
from felixlite.lab.topology import Machine

Kept = dict[str, Any]  # what a fault remembers from its beginning to its end; goes through JSON
NOTHING: Kept = {}
LEAKED = 10_000
SMALL_POOL = "small"


@dataclass(frozen=True, slots=True)
class Fault:
    name: str
    what: str
    bound: float
    inflict: Callable[[Lab], Kept]
    noticed: Callable[[Lab, Kept], bool]
    healed: Callable[[Lab, Kept], bool]
    repair: Callable[[Lab, Kept], None] | None = None
    harmless: bool = False  # no packet between pods is lost


# -- what is asked


def degraded(lab: Lab, node: str, words: str) -> bool:
    return any(words in each for each in lab.status(node)["degraded"])


def well(lab: Lab, _: Kept = NOTHING) -> bool:
    """Every agent is ready and has nothing to complain of, and the matrix is green."""
    for machine in lab.topology.node_machines():
        try:
            status = lab.status(machine.name)
        except (StoreError, OSError):
            return False
        if not status["ready"] or status["degraded"]:
            return False
    return all(cell.is_right for cell in lab.ping(patience=0.2))


def shell(machine: Machine, *words: str) -> str:
    return world.run(words, namespace=machine.namespace)


def cable(lab: Lab, port: str, *state: str) -> None:
    """The switch's end of a cable."""
    world.run(["ip", "-n", lab.topology.switch, "link", "set", port, *state])


def unplug(lab: Lab) -> Kept:
    cable(lab, "n1.eth0", "down")
    return NOTHING


def plug(lab: Lab, _: Kept) -> None:
    cable(lab, "n1.eth0", "up")


def partition(lab: Lab) -> Kept:
    cable(lab, "r1.s2", "nomaster")
    return NOTHING


def join(lab: Lab, _: Kept) -> None:
    cable(lab, "r1.s2", "master", "subnet2")


# -- processes


def kill_agent(lab: Lab) -> Kept:
    world.signal_and_wait(int(lab.status("n1")["pid"]), 9)
    return NOTHING


def agent_is_away(lab: Lab, _: Kept) -> bool:
    return not lab.agent_is_ready("n1")


def start_agent(lab: Lab, _: Kept) -> None:
    lab.start_agent(lab.machine("n1"))


def exabgp_pid(lab: Lab) -> int:
    found = [p for p in world.processes(lab.machine("n1").namespace) if "felixlite.bgp.engine" in world.command_of(p)]
    if not found:
        raise FelixliteError("n1 has no exabgp now: wait until it is back")
    return found[0]


def kill_exabgp(lab: Lab) -> Kept:
    pid = exabgp_pid(lab)
    world.signal_and_wait(pid, 9)
    return NOTHING


def a_session_is_down(node: str) -> Callable[[Lab, Kept], bool]:
    return lambda lab, _: degraded(lab, node, "BGP ")


# -- cables and links


def link_is_dark(lab: Lab, _: Kept) -> bool:
    return degraded(lab, "n1", "without a carrier")


def lower_mtu(lab: Lab) -> Kept:
    kept = {"tunnel": mtu(lab.machine("n1").namespace, "tunl0")}
    shell(lab.machine("n1"), "ip", "link", "set", "eth0", "mtu", "1400")
    return kept


def mtu(namespace: str, link: str) -> int:
    return int(json.loads(world.run(["ip", "-j", "link", "show", link], namespace=namespace))[0]["mtu"])


def pods_fit_through_1400(lab: Lab, _: Kept) -> bool:
    return all(mtu(pod.namespace, "eth0") <= 1380 for pod in lab.pods() if pod.node == "n1")


def raise_mtu(lab: Lab, _: Kept) -> None:
    shell(lab.machine("n1"), "ip", "link", "set", "eth0", "mtu", "1500")


def tunnel_is_wide_again(lab: Lab, kept: Kept) -> bool:
    """Pods keep the smaller MTU for the rest of their lives; new ones get the larger."""
    return bool(mtu(lab.machine("n1").namespace, "tunl0") == kept["tunnel"]) and well(lab)


# -- what the agent wrote


def delete_route(lab: Lab) -> Kept:
    n1 = lab.machine("n1")
    lines = shell(n1, "ip", "route", "show", "proto", "80").splitlines()
    block = next(line.split()[0] for line in lines if line.startswith("10.244.") and " via " in line)
    kept = {"block": block, "rounds": lab.status("n1")["rounds"]}
    shell(n1, "ip", "route", "delete", block)
    return kept


def a_round_was_made(lab: Lab, kept: Kept) -> bool:
    return bool(lab.status("n1")["rounds"] > kept["rounds"])


def route_is_back(lab: Lab, kept: Kept) -> bool:
    return " via " in shell(lab.machine("n1"), "ip", "route", "show", kept["block"])


def flush_rules(lab: Lab) -> Kept:
    """All rules of n1, whoever's they are, in nftables and in iptables."""
    n1 = lab.machine("n1")
    kept = {"rules": rules(n1), "rounds": lab.status("n1")["rounds"]}
    shell(n1, "nft", "flush", "ruleset")
    for table in ("raw", "mangle", "nat", "filter") if "legacy" in kept["rules"] else ():
        for action in ("-F", "-X"):
            shell(n1, "iptables-legacy", "-w", "60", "-t", table, action)
    return kept


def rules(machine: Machine) -> str:
    """The names of all chains: how many packets went through them is no matter."""
    listed = shell(machine, "nft", "-j", "list", "chains")
    found = [each["chain"] for each in json.loads(listed)["nftables"] if "chain" in each]
    names = sorted(f"{chain['family']} {chain['table']} {chain['name']}" for chain in found)
    return "\n".join([*names, *legacy_chains(machine)])


def legacy_chains(machine: Machine) -> Iterable[str]:
    saved = world.run(["iptables-legacy-save"], namespace=machine.namespace, check=False)
    return [f"legacy {line.split()[0]}" for line in saved.splitlines() if line.startswith(":fl-")]


def rules_are_back(lab: Lab, kept: Kept) -> bool:
    return bool(rules(lab.machine("n1")) == kept["rules"])


# -- the store


def stop_etcd(lab: Lab) -> Kept:
    etcd.stop(lab.topology)
    return NOTHING


def store_is_away(lab: Lab, _: Kept) -> bool:
    return all(degraded(lab, m.name, "store: ") for m in lab.topology.node_machines())


def start_etcd(lab: Lab, _: Kept) -> None:
    lab.start_etcd()


def lose_member(lab: Lab) -> Kept:
    if lab.topology.members < 3:
        raise Misconfigured("a member can be spared only of three or more: `felixlite lab up --members 3`")
    etcd.stop(lab.topology, range(1))
    return NOTHING


def store_takes_writes(lab: Lab, _: Kept) -> bool:
    """A change goes in without the lost member, and every agent hears of it."""
    try:
        lab.felixlite("label", "node", "n1", "member=lost", "--overwrite")
        lab.felixlite("label", "node", "n1", "member-")
    except FelixliteError:
        return False
    return True


def start_member(lab: Lab, _: Kept) -> None:
    etcd.start(lab.topology, lab.directory, range(1))


# -- the pool


def exhaust_pool(lab: Lab) -> Kept:
    """A pool of four addresses, and four pods that have them."""
    spec = {"cidr": "10.98.8.0/30", "blockSize": 30, "nodeSelector": "all()", "assignmentMode": "Manual"}
    pool = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": SMALL_POOL}, "spec": spec}
    lab.felixlite("apply", "-f", "-", stdin=json.dumps(pool))
    world.wait_for(lambda: SMALL_POOL in lab.status("n1")["pools"], "the small pool's coming to n1")
    names = [f"full{number}" for number in range(4)]
    for name in names:
        lab.add_pod(lab.machine("n1"), name, pools=[SMALL_POOL])
    return {"pods": names}


def one_more_is_refused(lab: Lab, _: Kept) -> bool:
    try:
        lab.add_pod(lab.machine("n1"), "onemore", pools=[SMALL_POOL])
    except FelixliteError as error:
        return SMALL_POOL in str(error)
    return False


def remove_one_pod(lab: Lab, kept: Kept) -> None:
    lab.remove_pod(kept["pods"][0])


def one_more_is_taken(lab: Lab, kept: Kept) -> bool:
    """And nothing is left of all of it."""
    lab.add_pod(lab.machine("n1"), "onemore", pools=[SMALL_POOL])
    for name in [*kept["pods"][1:], "onemore"]:
        lab.remove_pod(name)
    lab.felixlite("delete", "ippool", SMALL_POOL)
    return True


# -- the router


def stop_router(lab: Lab) -> Kept:
    r1 = lab.machine("r1")
    for pid in [p for p in world.processes(r1.namespace) if world.command_of(p).startswith(lab.topology.router)]:
        world.signal_and_wait(pid, 9)
    return NOTHING


def start_router(lab: Lab, _: Kept) -> None:
    lab.start_router(lab.machine("r1"))


def leak(lab: Lab, count: int = LEAKED) -> Kept:
    if lab.topology.router != "bird":
        raise Misconfigured("only BIRD is made to leak: `felixlite lab up --router bird`")
    kept = {"learned": lab.status("n1")["learned"]}
    tell_router(lab, count)
    return kept


def tell_router(lab: Lab, leaked: int) -> None:
    r1 = lab.machine("r1")
    router = routers.Router(lab.topology.router, r1.namespace, lab.directory / "r1")
    router.configure(rack.configuration(lab.topology, r1, leaked))


def leak_has_come(lab: Lab, kept: Kept) -> bool:
    return bool(lab.status("n1")["learned"] >= kept["learned"] + LEAKED)


def end_leak(lab: Lab, _: Kept) -> None:
    tell_router(lab, 0)


def leak_is_gone(lab: Lab, kept: Kept) -> bool:
    left = shell(lab.machine("n1"), "ip", "route", "show", "proto", "80", "root", str(rack.LEAKS))
    return lab.status("n1")["learned"] <= kept["learned"] and not left and well(lab)


FAULTS: Mapping[str, Fault] = {
    fault.name: fault
    for fault in (
        Fault("agent", "kill -9 the agent of n1", 60, kill_agent, agent_is_away, well, start_agent, harmless=True),
        Fault("exabgp", "kill -9 the exabgp of n1", 60, kill_exabgp, a_session_is_down("n1"), well, harmless=True),
        Fault("link", "unplug n1 from its switch", 60, unplug, link_is_dark, well, plug),
        Fault("route", "delete a route to a block on n1 by hand", 30, delete_route, a_round_was_made, route_is_back),
        Fault("rules", "flush nftables and iptables on n1", 30, flush_rules, a_round_was_made, rules_are_back),
        Fault("etcd", "kill -9 every member of etcd", 60, stop_etcd, store_is_away, well, start_etcd, harmless=True),
        Fault(
            "member",
            "kill -9 one of three members of etcd",
            60,
            lose_member,
            store_takes_writes,
            well,
            start_member,
            True,
        ),
        Fault(
            "partition",
            "r1 and subnet 2 lose each other, all lights on",
            60,
            partition,
            a_session_is_down("n2"),
            well,
            join,
        ),
        Fault(
            "pool",
            "give away every address of a pool",
            60,
            exhaust_pool,
            one_more_is_refused,
            one_more_is_taken,
            remove_one_pod,
            True,
        ),
        Fault(
            "mtu",
            "lower the MTU of n1's uplink to 1400",
            60,
            lower_mtu,
            pods_fit_through_1400,
            tunnel_is_wide_again,
            raise_mtu,
        ),
        Fault(
            "router",
            "kill -9 the routing program of r1",
            60,
            stop_router,
            a_session_is_down("n1"),
            well,
            start_router,
            True,
        ),
        Fault(
            "leak", f"r1 announces {LEAKED:,} routes too many", 60, leak, leak_has_come, leak_is_gone, end_leak, True
        ),
    )
}
