"""What a node does beside policy, on every backend: guards, NAT, other people's rules, restarts, another backend."""

import threading
from dataclasses import replace
from ipaddress import ip_address, ip_interface
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.model.inside import Mode, Node, Pool
from felixlite.model.policy import ICMP, UDP, Direction
from felixlite.policy.backend import PolicyTable
from felixlite.policy.choice import Backend
from felixlite.policy.evaluate import Packet
from felixlite.policy.foreign import rewriting_rules
from felixlite.policy.rows import Key
from felixlite.policy.settings import PolicySettings
from felixlite.reconcile import Reconciler
from tests.support.netns import Namespace
from tests.support.policylab import PolicyLab
from tests.support.policyworld import (
    B_TO_A,
    C_TO_A,
    NODE,
    OUTSIDE,
    POOL,
    WORLD,
    A,
    Agent,
    B,
    C,
    enforces,
    udp,
)
from tests.unit.policy.world import inputs, policy

# -- restarts and other people -----------------------------------------------------------------------------------------


def test_a_restarted_agent_finds_nothing_to_do(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    agent.converge(WORLD)
    assert Agent(lab, backend).differences(WORLD) == {}


def test_a_restarted_agent_writes_no_rule_and_no_member_again(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    """A rule that is written again has another handle, or counts from nothing again; a set is another object."""
    agent.converge(WORLD)
    assert enforces(lab)
    before = identities(lab, backend)
    Agent(lab, backend).converge(WORLD)
    assert identities(lab, backend) == before
    agent.lab.apply(agent.reconciler, {"policy/4": ({},), "policy/6": ({},)})
    agent.converge(WORLD)
    assert identities(lab, backend) != before


def identities(lab: PolicyLab, backend: Backend) -> list[str]:
    """Every rule of ours with what tells it from a rule of the same text."""
    if backend == "nftables":
        found = lab.node.command("nft", "-a", "list", "table", "ip", "felixlite")
    else:
        found = lab.node.command(f"iptables-{backend}-save", "-c") + lab.node.command("ipset", "list", "-terse")
    return [line for line in found.splitlines() if not line.startswith(("#", "References"))]


def test_when_nothing_is_wanted_nothing_of_ours_is_left(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    before = everything(lab)
    agent.converge(WORLD)
    agent.lab.apply(agent.reconciler, {"policy/4": ({},), "policy/6": ({},)})
    assert without_empty_tables(everything(lab)) == without_empty_tables(before)


def everything(lab: PolicyLab) -> str:
    commands = ("iptables-legacy-save", "ip6tables-legacy-save", "iptables-nft-save", "ipset save", "nft list tables")
    return "\n".join(lab.node.command(*command.split()) for command in commands)


def without_empty_tables(text: str) -> list[str]:
    """iptables makes its own empty tables and chains when it first looks; comments carry the time."""
    ours = ("#", "*", ":", "COMMIT", "table ip", "table ip6")
    return [line for line in text.splitlines() if not line.startswith(ours) or "felixlite" in line]


BREAKAGES = {
    "nftables": ["nft flush table ip felixlite", "nft flush chain ip felixlite deny", "nft delete table ip felixlite"],
    "legacy": ["iptables-legacy -F fl-tw-calia", "iptables-legacy -D fl-tw-calia 2", "iptables-legacy -F FORWARD"],
    "nft": ["iptables-nft -F fl-tw-calia", "iptables-nft -D fl-tw-calia 2", "iptables-nft -F FORWARD"],
}


@pytest.mark.parametrize("which", range(3))
def test_what_somebody_else_destroys_is_written_again(
    lab: PolicyLab, agent: Agent, backend: Backend, which: int
) -> None:
    agent.converge(WORLD)
    lab.node.command(*BREAKAGES[backend][which].split())
    agent.reconciler.distrust()
    agent.converge(WORLD)
    assert enforces(lab)
    assert Agent(lab, backend).differences(WORLD) == {}


def test_a_jump_of_ours_that_others_pushed_down_returns_to_the_top(
    lab: PolicyLab, agent: Agent, backend: Backend
) -> None:
    if backend == "nftables":
        return  # its chains hang in the hook by themselves
    agent.converge(WORLD)
    program = f"iptables-{backend}"
    lab.node.command(program, "-I", "FORWARD", "1", "-s", "192.0.2.77", "-j", "ACCEPT")
    agent.reconciler.distrust()
    agent.converge(WORLD)
    listing = lab.node.command(program, "-S", "FORWARD").splitlines()
    lab.node.command(program, "-D", "FORWARD", "-s", "192.0.2.77", "-j", "ACCEPT")
    assert "fl-FORWARD" in listing[1]
    assert "192.0.2.77" in listing[2]


def test_rules_and_sets_of_others_survive_every_transition(lab: PolicyLab, agent: Agent) -> None:
    lab.node.command("nft", "-f", "-", stdin="table inet operator {\n chain c {\n  ip saddr 192.0.2.99 drop\n }\n}\n")
    lab.node.command("ipset", "create", "operators", "hash:ip", "-exist")
    for program in ("iptables-legacy", "iptables-nft"):
        lab.node.command(program, "-A", "FORWARD", "-s", "192.0.2.99", "-j", "DROP")
        lab.node.command(program, "-t", "nat", "-A", "POSTROUTING", "-s", "192.0.2.99", "-j", "ACCEPT")
    agent.converge(WORLD)
    agent.converge(inputs([A]))
    agent.lab.apply(agent.reconciler, {"policy/4": ({},), "policy/6": ({},)})
    left = everything(lab)
    lab.node.command("nft", "delete", "table", "inet", "operator")
    lab.node.command("ipset", "destroy", "operators")
    for program in ("iptables-legacy", "iptables-nft"):
        lab.node.command(program, "-D", "FORWARD", "-s", "192.0.2.99", "-j", "DROP")
        lab.node.command(program, "-t", "nat", "-D", "POSTROUTING", "-s", "192.0.2.99", "-j", "ACCEPT")
    assert left.count("-A FORWARD -s 192.0.2.99/32 -j DROP") == 2
    assert left.count("-A POSTROUTING -s 192.0.2.99/32 -j ACCEPT") == 2
    assert "create operators hash:ip" in left
    assert "table inet operator" in left


# -- guards ----------------------------------------------------------------------------------------------------------


def test_a_pod_cannot_send_with_the_address_of_another(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(WORLD)
    assert lab.arrived([B_TO_A], sent_by="c") == set()
    assert lab.arrived([B_TO_A], [B_TO_A], sent_by="b") == {B_TO_A}


def test_a_pod_without_an_ipv6_address_sends_no_ipv6(lab: PolicyLab, agent: Agent) -> None:
    """It has no chains there. Not even one that may spoof gets past the dispatch."""
    four = replace(C, addresses=C.addresses[:1], may_send_as=(Prefix.parse("::/0"),))
    own = Packet(ip_address("fd00::3"), ip_address("fd00::1"), UDP, 1000, 80)
    agent.converge(inputs([A, B, C]))
    assert lab.arrived([own], [own]) == {own}
    agent.converge(replace(inputs([A, B, four]), settings=PolicySettings(may_spoof=True)))
    assert lab.arrived([own, C_TO_A], [C_TO_A]) == {C_TO_A}


@pytest.mark.parametrize("prefixes", ["10.65.0.2/32 198.51.100.0/24 fd00::2/128", "0.0.0.0/0 ::/0"])
def test_a_pod_that_may_spoof_can(lab: PolicyLab, agent: Agent, prefixes: str) -> None:
    spoofer = replace(C, may_send_as=tuple(map(Prefix.parse, prefixes.split())))
    sent = [B_TO_A, C_TO_A, udp("198.51.100.9", "10.65.0.1", 80), udp("fd00::2", "fd00::1", 80)]
    agent.converge(replace(inputs([A, B, spoofer]), settings=PolicySettings(may_spoof=True)))
    assert lab.arrived(sent, sent, sent_by="c") == set(sent)
    agent.converge(inputs([A, B, spoofer]))
    assert lab.arrived(sent, [C_TO_A], sent_by="c") == {C_TO_A}


def test_a_pod_that_may_spoof_does_so_with_its_prefixes_only(lab: PolicyLab, agent: Agent) -> None:
    spoofer = replace(C, may_send_as=(Prefix.parse("198.51.100.0/24"), Prefix.parse("fd01::/64")))
    sent = [B_TO_A, udp("198.51.101.9", "10.65.0.1", 80), udp("fd00::2", "fd00::1", 80)]
    agent.converge(replace(inputs([A, B, spoofer]), settings=PolicySettings(may_spoof=True)))
    assert lab.arrived([*sent, C_TO_A], [C_TO_A], sent_by="c") == {C_TO_A}


def test_a_pod_with_the_address_of_a_node_opens_no_tunnel(lab: PolicyLab, agent: Agent) -> None:
    spoofer = replace(C, may_send_as=(Prefix.parse("198.51.100.0/24"),))
    node = Node("n2", ip_interface("198.51.100.2/24"))
    vxlan, other = udp("198.51.100.2", NODE, 4789), udp("198.51.100.2", NODE, 4790)
    settings = PolicySettings(may_spoof=True, to_host="Accept")
    world = inputs([A, B, spoofer], pools={"pool": replace(POOL, vxlan=Mode.ALWAYS)}, nodes={"n2": node})
    agent.converge(replace(world, settings=settings))
    assert lab.arrived([vxlan, other], [other], sent_by="c") == {other}


def test_a_pod_cannot_send_tunnel_packets(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(inputs([A, B]))
    vxlan = udp("10.65.0.2", "10.65.0.1", 4789)
    assert lab.arrived([vxlan, B_TO_A], [B_TO_A]) == {B_TO_A}


def test_vxlan_enters_from_known_hosts_only(lab: PolicyLab, agent: Agent) -> None:
    vxlan = udp(OUTSIDE, NODE, 4789)
    other = udp(OUTSIDE, NODE, 4790)
    world = inputs([A], pools={"pool": replace(POOL, vxlan=Mode.ALWAYS)})
    agent.converge(world)
    assert lab.arrived([vxlan, other], [other]) == {other}
    agent.converge(replace(world, nodes={"out": Node("out", ip_interface(f"{OUTSIDE}/24"))}))
    assert lab.arrived([vxlan, other], [vxlan, other]) == {vxlan, other}


def test_a_workload_interface_without_policy_is_closed(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(inputs([A, B]))
    from_c, to_c = C_TO_A, udp("10.65.0.2", "10.65.0.3")
    assert lab.arrived([from_c, to_c, B_TO_A], [B_TO_A]) == {B_TO_A}


def test_the_host_reaches_its_own_pods_whatever_the_policy(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(inputs([A], [policy("closed")]))
    probe = udp(NODE, "10.65.0.1")
    assert lab.arrived([probe], [probe]) == {probe}


@pytest.mark.parametrize(("action", "passes"), [("Drop", False), ("Return", True), ("Accept", True)])
def test_pod_to_host_follows_its_setting_after_policy(lab: PolicyLab, agent: Agent, action: Any, passes: bool) -> None:
    no_egress = policy("mute", selector="app == 'b'", types=frozenset({Direction.EGRESS}))
    agent.converge(replace(inputs([A, B], [no_egress]), settings=PolicySettings(to_host=action)))
    open_pod, mute_pod = udp("10.65.0.1", NODE), udp("10.65.0.2", NODE)
    expected = {open_pod} if passes else set()
    assert lab.arrived([open_pod, mute_pod], expected) == expected


def test_a_service_address_that_nobody_owns_does_not_circle(lab: PolicyLab, agent: Agent, outside: Namespace) -> None:
    lab.add("outside", outside, "198.51.100.1")
    lab.node.ip(f"route replace 198.51.100.0/24 via {OUTSIDE}")
    outside.ip("address replace 198.51.100.1/32 dev lo")
    probe = udp("10.65.0.1", "198.51.100.1")
    agent.converge(inputs([A]))
    assert lab.arrived([probe], [probe]) == {probe}
    agent.converge(replace(inputs([A]), service_nets=(Prefix.parse("198.51.100.0/24"),)))
    assert lab.arrived([probe]) == set()


# -- NAT ---------------------------------------------------------------------------------------------------------------


def test_what_leaves_the_pools_is_masqueraded_and_nothing_else(lab: PolicyLab, agent: Agent) -> None:
    agent.converge(inputs([A, B], pools={"pool": POOL}))
    leaving, inside = udp("10.65.0.1", OUTSIDE), udp("10.65.0.2", "10.65.0.1")
    assert lab.arrived([leaving, inside], [leaving, inside]) == {leaving, inside}
    assert lab.seen_from == {leaving: NODE, inside: "10.65.0.2"}


def test_another_pool_is_inside_too(lab: PolicyLab, agent: Agent) -> None:
    far = Pool("far", Prefix.parse("192.0.2.0/24"))
    agent.converge(inputs([A], pools={"pool": POOL, "far": far}))
    probe = udp("10.65.0.1", OUTSIDE)
    lab.arrived([probe], [probe])
    assert lab.seen_from == {probe: "10.65.0.1"}


def test_the_operator_chooses_address_and_ports(lab: PolicyLab, agent: Agent) -> None:
    lab.node.ip("address replace 192.0.2.50/24 dev eth0")
    chosen = PolicySettings(nat_address=ip_address("192.0.2.50"), nat_ports=(40000, 40010))
    agent.converge(replace(inputs([A], pools={"pool": POOL}), settings=chosen))
    probes = [udp("10.65.0.1", OUTSIDE), Packet(ip_address("10.65.0.1"), ip_address(OUTSIDE), ICMP, icmp_type=8)]
    lab.arrived(probes, probes)
    lab.node.ip("address delete 192.0.2.50/24 dev eth0")
    assert set(lab.seen_from.values()) == {"192.0.2.50"}


def test_a_pod_keeps_its_address_between_pods_though_docker_masquerades_its_pool(
    lab: PolicyLab, agent: Agent, backend: Backend
) -> None:
    """Docker's default rule for a bridge whose range covers the pool; the far pod is outside of the machine."""
    program = "iptables-legacy" if backend == "legacy" else "iptables-nft"
    docker = ["POSTROUTING", "-s", "10.65.0.0/16", "!", "-o", "docker0", "-j", "MASQUERADE"]
    lab.node.command(program, "-t", "nat", "-A", *docker)
    world = inputs([A], pools={"pool": POOL, "far": Pool("far", Prefix.parse("192.0.2.2/32"))})
    probe = udp("10.65.0.1", OUTSIDE)
    try:
        agent.converge(world)
        lab.arrived([probe], [probe])
        spoiled = lab.seen_from[probe]
        agent.converge(replace(world, settings=PolicySettings(keep_pod_addresses=True)))
        lab.arrived([probe], [probe])
    finally:
        lab.node.command(program, "-t", "nat", "-D", *docker)
    assert (spoiled, lab.seen_from[probe]) == (NODE, "10.65.0.1")


FIREWALLD = """\
table inet firewalld {
    chain nat_POST_public { meta nfproto ipv4 oifname != "lo" masquerade; }
    chain nat_POSTROUTING { type nat hook postrouting priority srcnat + 10; policy accept; jump nat_POST_public; }
}
"""


def test_a_native_rule_of_nftables_that_takes_pods_their_addresses_is_named_and_kept_away(
    lab: PolicyLab, agent: Agent
) -> None:
    lab.node.command("nft", "-f", "-", stdin=FIREWALLD)
    world = inputs([A], pools={"pool": POOL, "far": Pool("far", Prefix.parse("192.0.2.2/32"))})
    probe = udp("10.65.0.1", OUTSIDE)
    try:
        agent.converge(world)
        named = lab.node.run(rewriting_rules, [POOL.cidr])
        lab.arrived([probe], [probe])
        spoiled = lab.seen_from[probe]
        agent.converge(replace(world, settings=PolicySettings(keep_pod_addresses=True)))
        lab.arrived([probe], [probe])
    finally:
        lab.node.command("nft", "delete", "table", "inet", "firewalld")
    assert named == ['nft inet firewalld nat_POST_public: meta nfproto ipv4 oifname != "lo" masquerade']
    assert (spoiled, lab.seen_from[probe]) == (NODE, "10.65.0.1")


# -- from one backend to another ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("there", ["nftables", "legacy", "nft"])
def test_moving_to_another_backend_lets_nothing_through_and_loses_nothing(
    lab: PolicyLab, backend: Backend, there: Backend
) -> None:
    agent = Agent(lab, backend)
    agent.converge(WORLD)
    done = threading.Event()

    def move() -> None:
        for table in agent.tables:
            table.use(there)
        agent.reconciler.distrust()
        agent.converge(WORLD)
        done.set()

    mover = threading.Thread(target=move)
    mover.start()
    rounds = []
    while not done.is_set() or len(rounds) < 3:
        rounds.append(enforces(lab))
        if not mover.is_alive() and not done.is_set():
            break
    mover.join()
    assert done.is_set()
    assert all(rounds)
    assert Agent(lab, there).differences(WORLD) == {}
    lab.apply(Reconciler(lab.tables(there)), {"policy/4": ({},), "policy/6": ({},)})


@pytest.mark.parametrize("names", [("legacy", "nft"), ("nft", "legacy")])
def test_what_is_left_in_both_flavours_goes_in_whatever_order(lab: PolicyLab, names: tuple[str, str]) -> None:
    """The sets are removed with the legacy flavour; the rules of the other one still name them."""
    old = Agent(lab, "nft")
    old.converge(WORLD)
    for table in old.tables:
        table.use("nftables")
        assert lab.node.run(table.delete, [Key("leftover", name) for name in names]) == {}
    assert "fl" not in lab.node.command("ipset", "list", "-n")
    assert Agent(lab, "nftables").tables[0].read_for({}) == {}


def test_the_operators_wish_is_followed_at_once_whenever_it_is_heard(lab: PolicyLab, backend: Backend) -> None:
    """Also when the tables were read before anything was known of it, as an agent does at its start."""
    wishes: dict[Backend, dict[str, Any]] = {
        "nftables": {"nftables": "Enabled"},
        "legacy": {"nftables": "Disabled", "iptables": "Legacy"},
        "nft": {"nftables": "Disabled", "iptables": "NFT"},
    }
    agent = Agent(lab, backend)
    agent.tables = [PolicyTable(family) for family in (4, 6)]
    agent.reconciler = Reconciler(agent.tables)
    lab.node.run(agent.reconciler.converge, {}, 0.0, may_delete=True)
    world = replace(WORLD, settings=PolicySettings(**wishes[backend]))
    for now in (10.0, 20.0, 30.0):  # each family in its turn finds that it has to be read again
        lab.node.run(agent.reconciler.converge, agent.planner(world).tables, now, may_delete=True)
    assert [table.backend for table in agent.tables] == [backend, backend]
    assert Agent(lab, backend).differences(world) == {}
    assert enforces(lab)
    lab.apply(agent.reconciler, {"policy/4": ({},), "policy/6": ({},)})
