"""What the rules have counted, on every backend: who asks `explain`, or Prometheus, gets these figures."""

from dataclasses import replace

from felixlite.figures import of_policy
from felixlite.model.policy import UDP, Action
from felixlite.policy.backend import tally
from felixlite.policy.choice import Backend
from felixlite.policy.counting import Tally
from felixlite.policy.evaluate import Packet
from felixlite.policy.explain import Known, counted, explained
from felixlite.policy.inputs import Inputs
from felixlite.policy.passage import verdict
from felixlite.policy.rows import Log
from felixlite.policy.settings import PolicySettings
from felixlite.tables import merged
from tests.support.policylab import PolicyLab
from tests.support.policyworld import A, Agent, B, C, udp
from tests.unit.policy.world import entity, inputs, policy, rule

MANY_NETS = "10.65.0.2 192.0.2.0/24"  # two lists in one rule: several lines of iptables
RULES = (
    rule(Action.LOG, protocol=UDP),
    rule(Action.DENY, protocol=UDP, destination=entity(ports="81")),
    rule(Action.ALLOW, protocol=UDP, source=entity(nets=MANY_NETS), destination=entity(ports="80")),
)
WORLD = replace(
    inputs([A, B, C], [policy("p", selector="app == 'a'", ingress=RULES)]),
    settings=PolicySettings(log=Log("%k %p", "100/second", 7)),
)
ALLOWED = [udp("10.65.0.2", "10.65.0.1", 80)]
BY_RULE = [udp("10.65.0.2", "10.65.0.1", 81), udp("10.65.0.3", "10.65.0.1", 81)]
BY_NOTHING = [udp("10.65.0.3", "10.65.0.1", port) for port in (80, 82, 83)]


def tallied(lab: PolicyLab, agent: Agent, backend: Backend, world: Inputs) -> Tally:
    return lab.node.run(tally, 4, backend, merged(agent.planner(world).tables["policy/4"]))


def sent(lab: PolicyLab) -> None:
    probes: list[Packet] = [*ALLOWED, *BY_RULE, *BY_NOTHING]
    assert lab.arrived(probes, ALLOWED) == set(ALLOWED)


def test_each_rule_counts_what_it_decided(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    agent.converge(WORLD)
    sent(lab)
    found = tallied(lab, agent, backend, WORLD)
    hits = {(hit.rule, hit.action): hit.packets for hit in found.hits if hit.owner == "NetworkPolicy default/p"}
    assert hits == {(0, Action.LOG): 6, (1, Action.DENY): 2, (2, Action.ALLOW): 1}
    assert ("calia", "ingress", 3) in found.unmatched
    assert ("calib", "egress", 0) in found.unmatched


def test_explain_and_the_metrics_show_them(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    agent.converge(WORLD)
    sent(lab)
    found = tallied(lab, agent, backend, WORLD)
    asked = {"rules": [hit._asdict() for hit in found.hits], "unmatched": found.unmatched}
    for probe, packets in ((BY_RULE[0], 2), (BY_NOTHING[0], 3)):
        shown = counted(explained(Known(WORLD), probe), asked)
        assert [step["packets"] for step in shown["way"] if step["decides"]] == [packets]
    metrics = {(sample.name, sample.labels): sample.value for sample in of_policy(found, 4)}
    who = (("policy", "NetworkPolicy default/p"), ("direction", "ingress"), ("family", "4"))
    assert metrics["felixlite_policy_denied_packets", who] == 2
    assert metrics["felixlite_policy_logged_packets", who] == 6
    assert verdict(WORLD, BY_NOTHING[0]).action is Action.DENY


def test_a_changed_log_setting_writes_the_log_rules_again(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    agent.converge(WORLD)
    listing = {
        "nftables": "nft list table ip felixlite",
        "legacy": "iptables-legacy-save",
        "nft": "iptables-nft-save",
    }[backend]
    assert "NetworkPolicy default/p: " in lab.node.command(*listing.split())
    agent.converge(replace(WORLD, settings=PolicySettings(log=Log("elsewhere"))))
    shown = lab.node.command(*listing.split())
    assert "elsewhere: " in shown
    assert "NetworkPolicy default/p: " not in shown
    assert "100/sec" not in shown
