"""The planner: only what is needed, the same whatever the way, and little for little."""

from dataclasses import replace

from felixlite.addresses import Prefix
from felixlite.model.inside import Pool
from felixlite.model.policy import DEFAULT_ALLOW, Action, Direction, EntityRule, NetworkSet, ServiceAccounts
from felixlite.policy import rows
from felixlite.policy.chains import chain_name
from felixlite.policy.inputs import Inputs
from felixlite.policy.plan import Planner, PolicyPlan
from felixlite.policy.rows import Chained, EndpointChain, IpSet, Key
from felixlite.policy.settings import PolicySettings
from felixlite.tables import merged
from tests.unit.policy.world import BOTH, entity, inputs, pod, policy, rule

A = pod("a", "10.65.0.1", app="a")
B = pod("b", "10.65.0.2", app="b")
FAR = pod("far", "10.65.1.1", node="there", app="b")
FROM_B = policy("p", selector="app == 'a'", ingress=(rule(source=entity(selector="app == 'b'")),))


def rows_of(state: Inputs, planner: Planner | None = None) -> dict[Key, rows.Row]:
    return dict(merged((planner or Planner())(state).tables["policy/4"]))


def members(state: dict[Key, rows.Row]) -> set[str]:
    sets = [row for key, row in state.items() if key.name.startswith(("s-", "n-")) and isinstance(row, IpSet)]
    return {str(member) for row in sets for member in row.members}


def test_a_set_holds_the_addresses_of_local_and_remote_endpoints() -> None:
    assert members(rows_of(inputs([A, B], [FROM_B], remote=[FAR]))) == {"10.65.0.2/32", "10.65.1.1/32"}


def test_a_policy_that_selects_nobody_here_is_not_rendered() -> None:
    state = rows_of(inputs([B], [FROM_B], remote=[FAR]))
    assert not [key for key in state if key.kind == "policy" or key.name.startswith("s-")]


def test_a_set_with_a_network_is_another_kind_of_set_with_another_name() -> None:
    group = NetworkSet("office", "default", (Prefix.parse("192.0.2.0/24"),), {"app": "b"})
    state = rows_of(inputs([A, B], [FROM_B], network_sets=[group]))
    (name,) = [key.name for key in state if key.name.startswith(("s-", "n-"))]
    assert name.startswith("n-")
    chain = next(row for key, row in state.items() if key.kind == "policy")
    assert isinstance(chain, Chained)
    assert isinstance(chain.body, rows.PolicyChain)
    assert chain.body.rules[0].match.source.sets == (name,)


def test_networks_that_others_cover_stay_out_of_a_set() -> None:
    nets = tuple(map(Prefix.parse, ("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3/32", "11.0.0.0/8")))
    group = NetworkSet("n", "default", nets, {"app": "b"})
    assert members(rows_of(inputs([A], [FROM_B], network_sets=[group]))) == {"10.0.0.0/8", "11.0.0.0/8"}


def test_every_order_of_changes_ends_in_the_same_rows() -> None:
    pool = Pool("p", Prefix.parse("10.65.0.0/16"), nat_outgoing=True)
    group = NetworkSet("office", "default", (Prefix.parse("192.0.2.0/24"),), {"app": "b"})
    end = inputs([A, B], [FROM_B], remote=[FAR], network_sets=[group], pools={"p": pool})
    ways = [
        [inputs(), inputs([A]), inputs([A, B], [FROM_B]), end],
        [inputs([], [FROM_B]), replace(end, network_sets={}), end],
        [inputs([replace(A, labels={})], [replace(FROM_B, order=3.0)], remote=[A, B]), end],
        [end, inputs(), end],
    ]
    for way in ways:
        planner = Planner()
        for state in way:
            rows_of(state, planner)
        assert rows_of(end, planner) == rows_of(end)


def test_a_change_of_a_remote_pod_touches_the_one_set() -> None:
    planner = Planner()
    before = planner(inputs([A, B], [FROM_B])).tables["policy/4"]
    state = inputs([A, B], [FROM_B])
    state = replace(planner.last, remote_workloads={("default", "far"): FAR}, policies=planner.last.policies)
    after = planner(state).tables["policy/4"]
    assert [one is other for one, other in zip(before, after, strict=True)] == [False, True, True, True, True]


def test_a_change_of_rules_leaves_the_endpoints_alone() -> None:
    planner = Planner()
    state = inputs([A, B], [FROM_B])
    before = planner(state).tables["policy/4"]
    changed = {("NetworkPolicy", "default", "p"): replace(FROM_B, ingress=(rule(),))}
    after = planner(replace(state, policies=changed)).tables["policy/4"]
    assert after[2] is before[2]
    assert after[1] != before[1]


def test_tiers_and_policies_stand_in_their_order() -> None:
    policies = [
        policy("late", types=BOTH),
        policy("second", order=2.0, types=BOTH),
        policy("first", order=1.0, types=frozenset({Direction.EGRESS})),
        policy("admin", tier="kube-admin", types=BOTH),
    ]
    state = rows_of(inputs([A], policies))
    chain = state[Key("endpoint", "fw-calia")]
    assert isinstance(chain, Chained)
    assert isinstance(chain.body, EndpointChain)
    assert [(tier.name, len(tier.policies)) for tier in chain.body.tiers] == [("kube-admin", 1), ("default", 3)]


def test_an_unknown_tier_is_enforced_and_noted() -> None:
    plan = Planner()(inputs([A], [policy("p", tier="nowhere")]))
    assert "'nowhere'" in plan.notes[0]
    chain = merged(plan.tables["policy/4"])[Key("endpoint", "tw-calia")]
    assert chain.body.tiers[0].end.value == "Deny"


def test_a_profile_that_is_not_there_is_noted_and_denies_until_it_is() -> None:
    lost, found = replace(A, profiles=("nosuch", "kns.default")), replace(B, profiles=("kns.unheard", "ksa.a.b"))
    planner = Planner()
    plan = planner(inputs([found]))
    assert plan.notes == ()
    plan = planner(inputs([lost, found]))
    assert ["'nosuch'" in note and "default/a" in note for note in plan.notes] == [True]
    assert actions_of_profile("nosuch", plan) == [Action.DENY]
    plan = planner(replace(planner.last, profiles={"nosuch": replace(DEFAULT_ALLOW, name="nosuch")}))
    assert (plan.notes, actions_of_profile("nosuch", plan)) == ((), [Action.ALLOW])


def test_who_has_no_profile_is_closed_and_noted() -> None:
    plan = Planner()(inputs([replace(A, profiles=()), replace(B, profiles=())]))
    assert plan.notes == (
        "WorkloadEndpoint default/a and 1 more: profiles: there is none: what no policy allows is denied",
    )
    assert merged(plan.tables["policy/4"])[Key("endpoint", "tw-calia")].body.profiles == ()


def actions_of_profile(name: str, plan: PolicyPlan) -> list[Action]:
    """Of what its ingress chain, to which its endpoint jumps, does."""
    table = merged(plan.tables["policy/4"])
    chain = chain_name("profile", Direction.INGRESS, ("Profile", "", name))
    assert chain in table[Key("endpoint", "tw-calia")].body.profiles
    return [rule.action for rule in table[Key("profile", chain)].body.rules]


def test_both_ends_of_a_moving_pod_agree_on_who_it_is() -> None:
    """A pod that is first seen from afar and then here keeps its address in the sets."""
    planner = Planner()
    rows_of(inputs([A], [FROM_B], remote=[B]), planner)
    assert members(rows_of(inputs([A, B], [FROM_B]), planner)) == {"10.65.0.2/32"}


def test_many_pods_at_once_are_as_many_pods_one_by_one() -> None:
    """Some are known already, two share an address, one has two families and another its own labels."""
    known = pod("k", "10.65.2.1", node="there", app="b")
    many = [pod(f"m{n}", f"10.65.2.{n}", node="there", app="b") for n in range(2, 9)]
    many += [replace(known, labels={"app": "c"}), pod("twin", "10.65.2.2", node="there", app="b")]
    many += [pod("dual", "10.65.2.20 fd00::20", node="there", app="b"), pod("x", "10.65.2.30", app="b", tier="x")]
    policies = [FROM_B, policy("named", ingress=(rule(protocol=6, destination=entity(ports="http")),))]
    start = inputs([A], policies, remote=[known])
    at_once, one_by_one = Planner(), Planner()
    rows_of(start, at_once)
    rows_of(start, one_by_one)
    for number in range(1, len(many) + 1):
        some = inputs(remote=[known, *many[:number]]).remote_workloads
        last = rows_of(replace(start, remote_workloads=some), one_by_one)
    end = replace(start, remote_workloads=some)
    assert rows_of(end, at_once) == last == rows_of(end)
    assert members(last) == {f"10.65.2.{n}/32" for n in (*range(2, 9), 20, 30)}
    fewer = inputs(remote=[each for each in many if each.name != "m2"]).remote_workloads
    assert "10.65.2.2/32" in members(rows_of(replace(end, remote_workloads=fewer), at_once))  # its twin holds it
    assert rows_of(start, at_once) == rows_of(start)


def test_whether_pods_may_spoof_is_settled_anew_when_the_setting_changes() -> None:
    spoofer = replace(A, may_send_as=(Prefix.parse("198.51.100.0/24"),), mac="02:00:00:00:00:01")
    strict = inputs([spoofer, B])
    loose = replace(strict, settings=replace(strict.settings, may_spoof=True))
    planner = Planner()
    for state in (strict, loose, strict):
        assert rows_of(state, planner) == rows_of(state)
    assert rows_of(strict) != rows_of(loose)


def test_other_marks_are_other_chains_and_nothing_else() -> None:
    planner = Planner()
    before = rows_of(inputs([A, B], [FROM_B]), planner)
    other = replace(inputs([A, B], [FROM_B]), settings=PolicySettings(mark_mask=0x0FFE0000))
    after = rows_of(other, planner)
    changed = {key for key in before if before[key] != after[key]}
    assert changed == {key for key in before if key.kind in ("policy", "profile", "endpoint", "gates")}
    assert after == rows_of(other)


def test_what_a_log_prefix_takes_from_a_policy_ends_no_text() -> None:
    evil = 'x"\naccept #$\\'
    logged = policy("p", tier=evil, ingress=(rule("Log"), rule("Deny")))
    state = rows_of(inputs([A], [logged], settings=PolicySettings(log=rows.Log("[%t] %n"))))
    chain = next(row for key, row in state.items() if key.kind == "policy")
    assert isinstance(chain, Chained)
    assert isinstance(chain.body, rows.PolicyChain)
    assert chain.body.rules[0].log is not None
    assert chain.body.rules[0].log.prefix == "[xaccept #] p"


def test_names_with_quotes_are_names() -> None:
    for odd in ("a'\"b", "'", '"', "a'b"):
        robots = ServiceAccounts((odd, "robot"))
        one = policy("p", namespace=odd, ingress=(rule(source=entity(service_accounts=robots)),))
        here = replace(A, namespace=odd, service_account=odd)
        far = replace(FAR, namespace=odd, service_account="robot")
        elsewhere = replace(B, service_account=odd)
        assert members(rows_of(inputs([here, elsewhere], [one], remote=[far]))) == {"10.65.0.1/32", "10.65.1.1/32"}


def test_sets_of_different_names_are_never_one_set() -> None:
    one = policy("one", ingress=(rule(source=entity(service_accounts=ServiceAccounts(("x'", "z'")))),))
    other = policy("other", ingress=(rule(source=entity(service_accounts=ServiceAccounts(("x'\", \"z'",)))),))
    state = rows_of(inputs([A], [one, other]))
    assert len([key for key in state if key.name.startswith("s-")]) == 2


def test_a_policy_that_nobody_can_render_denies_what_it_selects_and_says_so() -> None:
    odd = policy("odd", ingress=(rule(source=entity(selector="app == 'b'")), rule(source=EntityRule(nets=("x",)))))  # type: ignore[arg-type]  # as a fault of the border would let it in
    planner = Planner()
    good = replace(odd, ingress=odd.ingress[:1])
    for before in (inputs([A, B], [FROM_B]), inputs([A, B], [FROM_B, good])):
        planner(before)
        state = rows_of(inputs([A, B], [FROM_B, odd]), planner)
        chains = {
            row.body.owner: row.body
            for row in state.values()
            if isinstance(row, Chained) and isinstance(row.body, rows.PolicyChain)
        }
        assert [r.action for r in chains["NetworkPolicy default/odd ingress"].rules] == [Action.DENY]
        assert [r.action for r in chains["NetworkPolicy default/p ingress"].rules] == [Action.ALLOW]
        assert members(state) == {"10.65.0.2/32"}
    (note,) = planner(inputs([A, B], [FROM_B, odd])).notes
    assert note.startswith("NetworkPolicy default/odd: denies whatever it selects")
    after = inputs([A, B], [FROM_B, good])
    assert rows_of(after, planner) == rows_of(after)
    assert not planner(after).notes
