"""Bad rows and a host that lacks something, on every backend: what is new stays closed, what is in force stays in force.

What is said about it are the failures of the round, which `felixlite status` prints as they are.
"""

import platform
import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest

from felixlite.addresses import Prefix
from felixlite.model.policy import UDP, NetworkSet
from felixlite.policy import ipset, xtables
from felixlite.policy.choice import Backend
from felixlite.policy.inputs import Inputs
from felixlite.policy.rows import ANYWHERE, Key, Match, PolicyChain, Rule, Side, chained
from felixlite.reconcile import Reconciler
from felixlite.tables import merged
from tests.support.policylab import PolicyLab
from tests.support.policyworld import B_TO_A, C_TO_A, FROM_B, WORLD, A, Agent, B, C, enforces, udp
from tests.unit.policy.world import entity, inputs, policy, rule


def test_a_row_that_the_kernel_refuses_fails_alone_and_closes_what_it_guards(
    lab: PolicyLab, backend: Backend, agent: Agent
) -> None:
    rows = {name: dict(merged(slices)) for name, slices in agent.planner(WORLD).tables.items()}
    (bad,) = [key for key in rows["policy/4"] if key.kind == "policy"]
    missing_set = Match(source=Side(sets=("s-nobody",)), destination=ANYWHERE)
    rows["policy/4"][bad] = chained(PolicyChain("bad", (Rule(missing_set, rule().action),)))
    outcomes = lab.node.run(
        agent.reconciler.converge, {name: (found,) for name, found in rows.items()}, 1.0, may_delete=True
    )
    failed = set(outcomes["policy/4"].failures)
    assert {bad, Key("endpoint", "tw-calia")} <= failed
    assert Key("endpoint", "tw-calib") not in failed
    to_b = udp("10.65.0.3", "10.65.0.2")
    assert lab.arrived([B_TO_A, C_TO_A, to_b], [to_b]) == {to_b}


def test_ten_thousand_networks_some_within_others_make_a_set(lab: PolicyLab, agent: Agent, backend: Backend) -> None:
    nets = tuple(Prefix.from_int((11 << 24) + (n << 8), 24, 4) for n in range(10_000))
    wide = replace(FROM_B, ingress=(rule(source=entity(nets="10.65.0.2")), rule(source=entity(selector="has(many)"))))
    group = sets((*nets, Prefix.parse("11.0.0.0/16"), Prefix.parse("10.65.0.3/32")))
    world = inputs([A, B, C], [wide], network_sets=[group])
    agent.converge(world)
    assert lab.arrived([B_TO_A, C_TO_A], [B_TO_A, C_TO_A]) == {B_TO_A, C_TO_A}
    assert Agent(lab, backend).differences(world) == {}


def sets(nets: tuple[Prefix, ...], name: str = "many") -> NetworkSet:
    return NetworkSet(name, "default", nets, {"many": "yes"})


def test_another_program_that_holds_the_xtables_lock_delays_and_does_not_spoil(
    lab: PolicyLab, backend: Backend, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend != "legacy":
        return  # nobody else looks at that lock
    agent = Agent(lab, backend)
    with xtables.locked(), monkeypatch.context() as hasty:
        hasty.setattr(xtables, "PATIENCE", 0.2)
        outcomes = lab.node.run(agent.reconciler.converge, agent.planner(WORLD).tables, 1.0, may_delete=True)
    assert outcomes["policy/4"].failures
    lab.apply(Reconciler(lab.tables(backend)), agent.planner(WORLD).tables)
    assert enforces(lab)
    lab.apply(Reconciler(lab.tables(backend)), {"policy/4": ({},), "policy/6": ({},)})


def test_without_ipset_what_is_in_force_stays_and_a_new_pod_is_closed(
    lab: PolicyLab, agent: Agent, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "nftables":
        return  # it has sets of its own
    agent.converge(inputs([A, B], [FROM_B]))
    for program in (
        f"ip{six}tables-{flavour}-{what}"
        for six in ("", "6")
        for flavour in ("legacy", "nft")
        for what in ("save", "restore")
    ):
        (tmp_path / program).symlink_to(shutil.which(program) or "")
    with monkeypatch.context() as without:
        without.setattr(ipset, "_ENVIRONMENT", {"PATH": str(tmp_path)})
        outcomes = lab.node.run(agent.reconciler.converge, agent.planner(WORLD).tables, 1.0, may_delete=True)
        to_c = udp("10.65.0.2", "10.65.0.3")
        assert {str(failure.error) for failure in outcomes["policy/4"].failures.values()} == {
            "ipset: No such file or directory; install it"
        }
        assert lab.arrived([B_TO_A, C_TO_A, to_c], [B_TO_A]) == {B_TO_A}
    agent.converge(WORLD)
    assert lab.arrived([B_TO_A, C_TO_A, to_c], [B_TO_A, to_c]) == {B_TO_A, to_c}


TO_C = udp("10.65.0.2", "10.65.0.3", 90)


def test_a_match_that_this_hosts_iptables_lacks_closes_the_new_pod_that_needs_it_and_nothing_else(
    lab: PolicyLab, agent: Agent, backend: Backend, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if backend == "nftables":
        return  # it has no plug-ins; what the kernel itself refuses is tried above
    many = rule(protocol=UDP, destination=entity(ports=" ".join(str(port) for port in range(80, 100, 2))))
    world = inputs([A, B, C], [FROM_B, policy("many", selector="app == 'c'", ingress=(many,))])
    agent.converge(inputs([A, B], [FROM_B]))
    for plug_in in PLUG_INS.glob("*.so"):
        if plug_in.name != "libxt_multiport.so":
            (tmp_path / plug_in.name).symlink_to(plug_in)
    with monkeypatch.context() as without:
        without.setattr(ipset, "_ENVIRONMENT", {**ipset._ENVIRONMENT, "XTABLES_LIBDIR": str(tmp_path)})
        outcomes = lab.node.run(agent.reconciler.converge, agent.planner(world).tables, 1.0, may_delete=True)
        failures = {str(key): str(failure.error) for key, failure in outcomes["policy/4"].failures.items()}
        assert any("multiport" in error for error in failures.values()), failures
        assert any("calic" in key for key in failures), failures
        assert not any("calia" in key or "calib" in key for key in failures), failures
        assert lab.arrived([B_TO_A, C_TO_A, TO_C], [B_TO_A]) == {B_TO_A}
    agent.converge(world)
    assert lab.arrived([B_TO_A, C_TO_A, TO_C], [B_TO_A, TO_C]) == {B_TO_A, TO_C}


PLUG_INS = Path(f"/usr/lib/{platform.machine()}-linux-gnu/xtables")

OVERLAPPING = ["10.65.0.0/29", "10.65.0.2/31", "10.65.0.2/32"]  # B is in all of them, C in the first two


@pytest.mark.parametrize("order", list(permutations(OVERLAPPING))[::2], ids=" ".join)
def test_of_overlapping_networks_those_that_are_left_still_count(
    lab: PolicyLab, agent: Agent, backend: Backend, order: tuple[str, ...]
) -> None:
    """They come and go one by one, in a set of their own each or two in one."""
    by_set = replace(FROM_B, ingress=(rule(source=entity(selector="has(many)")),))

    def world(nets: tuple[str, ...]) -> Inputs:
        first, others = nets[:1], nets[1:]
        groups = [sets(tuple(map(Prefix.parse, first))), sets(tuple(map(Prefix.parse, others)), "others")]
        return inputs([A, B, C], [by_set], network_sets=groups)

    for left in [*(order[: n + 1] for n in range(3)), *(order[n:] for n in range(1, 4))]:
        agent.converge(world(left))
        passing = {B_TO_A} if left else set()
        passing |= {C_TO_A} if {*left} & {*OVERLAPPING[:2]} else set()
        assert lab.arrived([B_TO_A, C_TO_A], passing) == passing, left
        assert Agent(lab, backend).differences(world(left)) == {}, left


def test_a_selector_on_a_label_that_nobody_has_waits_for_somebody_to_have_it(lab: PolicyLab, agent: Agent) -> None:
    nobody = policy("p", selector="app == 'a'", ingress=(rule(source=entity(selector="role == 'boss'")),))
    agent.converge(inputs([A, B, C], [nobody]))
    assert lab.arrived([B_TO_A, C_TO_A]) == set()
    agent.converge(inputs([A, B, replace(C, labels={**C.labels, "role": "boss"})], [nobody]))
    assert lab.arrived([B_TO_A, C_TO_A], [C_TO_A]) == {C_TO_A}
