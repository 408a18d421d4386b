"""Next to kube-proxy, Docker, ufw and firewalld: their rules stay, ours decide about pods, services are reached.

The rules are those that these programs write, cut down to what a packet of the test meets.
"""

import re
import shlex
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import replace

import pytest

from felixlite.model.policy import EntityRule
from felixlite.policy.choice import Backend
from felixlite.policy.foreign import rewriting_rules
from felixlite.policy.inputs import Inputs
from felixlite.policy.settings import PolicySettings
from tests.support.netns import Namespace
from tests.support.policylab import LETTING_GO, PolicyLab
from tests.support.policyworld import B_TO_A, C_TO_A, NODE, OUTSIDE, POOL, WORLD, A, Agent, B, C, enforces, udp
from tests.unit.policy.world import entity, inputs, policy, rule

SERVICE = "10.96.0.10"
KUBE_PROXY = """\
*filter
:KUBE-FORWARD - [0:0]
:KUBE-SERVICES - [0:0]
-I FORWARD 1 -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-I FORWARD 1 -m conntrack --ctstate NEW -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A KUBE-FORWARD -m conntrack --ctstate INVALID -j DROP
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
COMMIT
*nat
:KUBE-SERVICES - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-MARK-MASQ - [0:0]
:KUBE-SVC-A - [0:0]
:KUBE-SEP-A - [0:0]
-I PREROUTING 1 -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I OUTPUT 1 -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-I POSTROUTING 1 -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES -d 10.96.0.10/32 -p udp -m udp --dport 80 -j KUBE-SVC-A
-A KUBE-SVC-A ! -s 10.65.0.0/16 -d 10.96.0.10/32 -p udp -m udp --dport 80 -j KUBE-MARK-MASQ
-A KUBE-SVC-A -j KUBE-SEP-A
-A KUBE-SEP-A -s 10.65.0.1/32 -j KUBE-MARK-MASQ
-A KUBE-SEP-A -p udp -m udp -j DNAT --to-destination 10.65.0.1:80
COMMIT
"""
KUBE_PROXY_NFTABLES = """\
table ip kube-proxy {
    map service-ips {
        type ipv4_addr . inet_proto . inet_service : verdict
        elements = { 10.96.0.10 . udp . 80 : goto service-a }
    }
    chain mark-for-masquerade { meta mark set meta mark or 0x4000; }
    chain service-a {
        ip daddr 10.96.0.10 udp dport 80 ip saddr != 10.65.0.0/16 jump mark-for-masquerade
        numgen random mod 1 vmap { 0 : goto endpoint-a }
    }
    chain endpoint-a {
        ip saddr 10.65.0.1 jump mark-for-masquerade
        meta l4proto udp dnat to 10.65.0.1:80
    }
    chain services { ip daddr . meta l4proto . th dport vmap @service-ips; }
    chain nat-prerouting { type nat hook prerouting priority dstnat; policy accept; jump services; }
    chain masquerading {
        meta mark & 0x4000 == 0 return
        meta mark set meta mark xor 0x4000
        masquerade fully-random
    }
    chain nat-postrouting { type nat hook postrouting priority srcnat; policy accept; jump masquerading; }
}
"""
KUBE_PROXY_IPVS = """\
*filter
:KUBE-FORWARD - [0:0]
:KUBE-NODE-PORT - [0:0]
:KUBE-IPVS-FILTER - [0:0]
-A INPUT -m comment --comment "kubernetes ipvs access filter" -j KUBE-IPVS-FILTER
-A INPUT -m comment --comment "kubernetes health check rules" -j KUBE-NODE-PORT
-A FORWARD -m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD
-A KUBE-FORWARD -m mark --mark 0x4000/0x4000 -j ACCEPT
-A KUBE-FORWARD -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A KUBE-IPVS-FILTER -m set --match-set KUBE-CLUSTER-IP dst,dst -j RETURN
COMMIT
*nat
:KUBE-MARK-MASQ - [0:0]
:KUBE-POSTROUTING - [0:0]
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A OUTPUT -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -m comment --comment "kubernetes postrouting rules" -j KUBE-POSTROUTING
-A KUBE-MARK-MASQ -j MARK --set-xmark 0x4000/0x4000
-A KUBE-POSTROUTING -m set --match-set KUBE-LOOP-BACK dst,dst,src -j MASQUERADE
-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN
-A KUBE-POSTROUTING -j MARK --set-xmark 0x4000/0x0
-A KUBE-POSTROUTING -j MASQUERADE --random-fully
-A KUBE-SERVICES ! -s 10.65.0.0/16 -m set --match-set KUBE-CLUSTER-IP dst,dst -j KUBE-MARK-MASQ
-A KUBE-SERVICES -m set --match-set KUBE-CLUSTER-IP dst,dst -j ACCEPT
COMMIT
"""
KUBE_SETS = """\
create KUBE-CLUSTER-IP hash:ip,port
add KUBE-CLUSTER-IP 10.96.0.10,udp:80
create KUBE-LOOP-BACK hash:ip,port,ip
add KUBE-LOOP-BACK 10.65.0.1,udp:80,10.65.0.1
"""
DOCKER = """\
*filter
:FORWARD DROP [0:0]
:DOCKER-USER - [0:0]
:DOCKER-FORWARD - [0:0]
-A FORWARD -j DOCKER-USER
-A FORWARD -j DOCKER-FORWARD
-A DOCKER-FORWARD -i docker0 -j ACCEPT
-A DOCKER-USER -s 192.0.2.99/32 -j DROP
COMMIT
*nat
:DOCKER - [0:0]
-A PREROUTING -m addrtype --dst-type LOCAL -j DOCKER
-A POSTROUTING -s 172.17.0.0/16 ! -o docker0 -j MASQUERADE
COMMIT
"""
UFW = """\
*filter
:FORWARD DROP [0:0]
:ufw-before-forward - [0:0]
:ufw-user-forward - [0:0]
:ufw-reject-forward - [0:0]
-A FORWARD -j ufw-before-forward
-A FORWARD -j ufw-reject-forward
-A ufw-before-forward -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT
-A ufw-before-forward -p icmp -m icmp --icmp-type 8 -j ACCEPT
-A ufw-before-forward -j ufw-user-forward
COMMIT
"""
FIREWALLD = """\
table inet firewalld {
    chain filter_FORWARD {
        type filter hook forward priority filter + 10; policy accept;
        ct state { established, related } accept
        ct status dnat accept
        iifname "lo" accept
        ct state invalid drop
        jump filter_FORWARD_POLICIES
        reject with icmpx admin-prohibited
    }
    chain filter_FORWARD_POLICIES { iifname "cali*" accept; oifname "cali*" accept; }
}
"""
OTHERS = {"kube-proxy": KUBE_PROXY, "kube-proxy-ipvs": KUBE_PROXY_IPVS, "Docker": DOCKER, "ufw": UFW}
IN_FRONT = {  # how each of them writes itself again, when it starts anew or looks after its rules
    "kube-proxy": ['-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'],
    "kube-proxy-ipvs": ['-m comment --comment "kubernetes forwarding rules" -j KUBE-FORWARD'],
    "Docker": ["-j DOCKER-FORWARD", "-j DOCKER-USER"],
    "ufw": ["-j ufw-before-forward"],
}


def flavour(backend: Backend) -> str:
    return "legacy" if backend == "legacy" else "nft"


@contextmanager
def iptables(lab: PolicyLab, backend: Backend, text: str) -> Iterator[None]:
    """Somebody's rules, in the iptables of this host."""
    program = f"iptables-{flavour(backend)}"
    before = lab.node.command(f"{program}-save")
    sets = re.findall(r"create (\S+)", KUBE_SETS) if "--match-set" in text else []
    if sets:
        lab.node.command("ipset", "restore", stdin=KUBE_SETS)
    lab.node.command(f"{program}-restore", "--noflush", stdin=text)
    try:
        yield
    finally:
        lab.node.command(program, "-P", "FORWARD", "ACCEPT")
        for table in ("filter", "nat"):
            lab.node.command(program, "-t", table, "-F")
            lab.node.command(program, "-t", table, "-X")
        lab.node.command(f"{program}-restore", stdin=before)
        for name in sets:
            gone(lab, name)


def gone(lab: PolicyLab, name: str) -> None:
    """The kernel lets go of a set some time after the last rule that names it."""
    deadline = time.monotonic() + LETTING_GO
    while name in lab.node.command("ipset", "list", "-n").split():
        with suppress(AssertionError):
            lab.node.command("ipset", "destroy", name)
        assert time.monotonic() < deadline, f"the kernel still holds {name}"


@contextmanager
def nft(lab: PolicyLab, text: str, *table: str) -> Iterator[None]:
    lab.node.command("nft", "-f", "-", stdin=text)
    try:
        yield
    finally:
        lab.node.command("nft", "delete", "table", *table)


def reaches_the_service_as_itself(lab: PolicyLab) -> bool:
    """B gets to A by the service's address and under its own; C does not, for A's policy is asked about A."""
    lab.by_address[SERVICE] = "a"
    from_b, from_c = udp("10.65.0.2", SERVICE), udp("10.65.0.3", SERVICE)
    found = lab.arrived([from_b, from_c], [from_b])
    return found == {from_b} and lab.seen_from == {from_b: "10.65.0.2"}


def test_a_service_of_kube_proxy_in_iptables_mode(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    with iptables(lab, backend, KUBE_PROXY):
        agent.converge(WORLD)
        assert reaches_the_service_as_itself(lab)
        assert enforces(lab)
        assert lab.node.run(rewriting_rules, [POOL.cidr]) == []


def test_a_service_of_kube_proxy_in_nftables_mode(lab: PolicyLab, agent: Agent) -> None:
    with nft(lab, KUBE_PROXY_NFTABLES, "ip", "kube-proxy"):
        agent.converge(WORLD)
        assert reaches_the_service_as_itself(lab)
        assert enforces(lab)


@contextmanager
def kube_proxy(lab: PolicyLab, backend: Backend, mode: str) -> Iterator[None]:
    lab.by_address[SERVICE] = "a"
    with (
        iptables(lab, backend, KUBE_PROXY) if mode == "iptables" else nft(lab, KUBE_PROXY_NFTABLES, "ip", "kube-proxy")
    ):
        yield


@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_whoever_calls_a_service_from_outside_is_judged_by_his_own_address_and_seen_as_the_node(
    lab: PolicyLab, agent: Agent, backend: Backend, outside: Namespace, mode: str
) -> None:
    """kube-proxy masquerades him, so that the answer comes back this way: behind policy."""
    outside.ip(f"route replace {SERVICE}/32 via {NODE}")
    call = udp(OUTSIDE, SERVICE)
    with kube_proxy(lab, backend, mode):
        agent.converge(WORLD)
        assert lab.arrived([call]) == set()
        agent.converge(taking(entity(nets=f"{NODE}/32")))
        assert lab.arrived([call]) == set()
        agent.converge(taking(entity(nets=f"{OUTSIDE}/32")))
        assert lab.arrived([call], [call]) == {call}
        assert lab.seen_from == {call: NODE}


@pytest.mark.parametrize("keep", [False, True])
@pytest.mark.parametrize("mode", ["iptables", "nftables"])
def test_a_pod_that_calls_itself_by_a_service_is_asked_about_like_any_other(
    lab: PolicyLab, agent: Agent, backend: Backend, mode: str, keep: bool
) -> None:
    """It goes out and comes back; kube-proxy gives it the node's address, for from itself it would take nothing."""
    hairpin = udp("10.65.0.1", SERVICE)
    settings = PolicySettings(keep_pod_addresses=keep)
    with kube_proxy(lab, backend, mode):
        agent.converge(replace(WORLD, settings=settings))
        assert lab.arrived([hairpin]) == set()
        agent.converge(replace(taking(entity(selector="app == 'a'")), settings=settings))
        assert lab.arrived([hairpin], [hairpin]) == {hairpin}
        assert lab.seen_from == {hairpin: NODE}
        assert agent.differences(replace(taking(entity(selector="app == 'a'")), settings=settings)) == {}


def taking(source: EntityRule) -> Inputs:
    """A takes from there alone."""
    return inputs([A, B, C], [policy("p", selector="app == 'a'", ingress=(rule(source=source),))], pools={"pool": POOL})


def test_kube_proxy_that_puts_itself_in_front_does_not_open_anything(
    lab: PolicyLab, agent: Agent, backend: Backend
) -> None:
    """It comes after us; the next look brings our jumps back to the top. On nftables there is nothing to bring back."""
    agent.converge(WORLD)
    with iptables(lab, backend, KUBE_PROXY):
        assert enforces(lab)
        agent.reconciler.distrust()
        agent.converge(WORLD)
        assert enforces(lab)
        assert reaches_the_service_as_itself(lab)
        assert agent.differences(WORLD) == {}


@pytest.mark.parametrize("who", OTHERS)
def test_whoever_puts_himself_in_front_of_us_is_behind_us_again_with_all_of_his_rules(
    lab: PolicyLab, agent: Agent, backend: Backend, who: str
) -> None:
    if backend == "nftables":
        return  # its chains hang in the hook by themselves
    agent.converge(WORLD)
    with iptables(lab, backend, OTHERS[who]):
        for rule in IN_FRONT[who]:
            lab.node.command(f"iptables-{backend}", "-I", "FORWARD", "1", *shlex.split(rule))
        before = rules(lab, backend)
        agent.reconciler.distrust()
        agent.converge(WORLD)
        forward = lab.node.command(f"iptables-{backend}", "-S", "FORWARD").splitlines()[1:]
        assert "fl-" in forward[0]
        assert rules(lab, backend) == before
        assert enforces(lab)
        assert agent.differences(WORLD) == {}


def test_the_rules_of_kube_proxy_in_ipvs_mode_are_no_danger_to_pods_addresses(
    lab: PolicyLab, agent: Agent, backend: Backend
) -> None:
    """Its masquerade is for what a pod sends to itself: the set has both ends."""
    with iptables(lab, backend, KUBE_PROXY_IPVS):
        agent.converge(WORLD)
        assert enforces(lab)
        assert lab.seen_from[B_TO_A] == str(B_TO_A.source)
        assert lab.node.run(rewriting_rules, [POOL.cidr]) == []


@pytest.mark.parametrize("who", ["Docker", "ufw"])
def test_pods_get_through_where_the_host_forwards_nothing(
    lab: PolicyLab, agent: Agent, backend: Backend, who: str
) -> None:
    with iptables(lab, backend, OTHERS[who]):
        agent.converge(WORLD)
        # what iptables drops, only iptables can let through; backend.choose() takes it on such a host
        passing = {B_TO_A} if backend != "nftables" else set()
        assert lab.arrived([B_TO_A, C_TO_A], passing) == passing


def test_next_to_firewalld_that_trusts_the_pods_interfaces(lab: PolicyLab, agent: Agent) -> None:
    with nft(lab, FIREWALLD, "inet", "firewalld"):
        agent.converge(WORLD)
        assert enforces(lab)
        lab.node.command("nft", "-f", "-", stdin="delete table inet firewalld\n" + FIREWALLD)  # as it reloads
        assert enforces(lab)
        assert agent.differences(WORLD) == {}


@pytest.mark.parametrize("who", OTHERS)
def test_their_rules_are_the_same_after_us(lab: PolicyLab, agent: Agent, backend: Backend, who: str) -> None:
    with iptables(lab, backend, OTHERS[who]):
        before = rules(lab, backend)
        agent.converge(WORLD)
        assert rules(lab, backend) == before
        lab.apply(agent.reconciler, {"policy/4": ({},), "policy/6": ({},)})
        assert rules(lab, backend) == before


def rules(lab: PolicyLab, backend: Backend) -> list[str]:
    saved = lab.node.command(f"iptables-{flavour(backend)}-save").splitlines()
    return [line for line in saved if line.startswith("-A") and "fl-" not in line]
