"""Policies and profiles as chains: rendered once, again when one changes or a set that it names is renamed. Pure.

Only what a local workload needs is here: plan.py says which policies are active, members.py fills the sets.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal, cast

from felixlite.config import is_loggable
from felixlite.model.policy import DENY_ALL, Action, Direction, Policy, PolicyRule, Profile, closed_profile
from felixlite.policy import rows
from felixlite.policy.inputs import PolicyKey
from felixlite.policy.lowering import Wanted, lowered, tells_families_apart
from felixlite.policy.members import FAMILIES, Members
from felixlite.policy.rows import Chained, Key, PolicyStep, Row
from felixlite.policy.settings import PolicySettings

_Names = dict[Wanted, Mapping[int, str]]  # what the sets of a policy are called in each family


@dataclass(slots=True)
class _Rendered:
    """The chains of an active policy, and the sets that they hold on to."""

    policy: Policy | Profile
    wanted: Collection[Wanted]
    chains: dict[int, dict[Key, Chained]]
    steps: dict[Direction, PolicyStep]  # how endpoints ask it


@lru_cache(maxsize=65536)
def chain_name(kind: Literal["policy", "profile"], direction: Direction, key: PolicyKey) -> str:
    letters = "p" if kind == "policy" else "pr"
    way = "i" if direction is Direction.INGRESS else "o"
    return rows.short(f"{letters}{way}-", "/".join(key))


def directions(policy: Policy | Profile) -> Iterator[Direction]:
    for direction in Direction:
        if isinstance(policy, Profile) or direction in policy.types:
            yield direction


def may_pass(rules: tuple[PolicyRule, ...]) -> bool:
    return any(rule.action is Action.PASS for rule in rules)


def _spelled_out(prefix: str, policy: Policy | Profile) -> str:
    """The prefix with the policy's own names in it."""
    kind, namespace, tier = (
        ("Profile", "", "") if isinstance(policy, Profile) else (policy.kind, policy.namespace, policy.tier)
    )
    full = f"{namespace}/{policy.name}" if namespace else policy.name
    for sign, word in (("%t", tier), ("%k", kind), ("%n", policy.name), ("%p", full)):
        prefix = prefix.replace(sign, "".join(filter(is_loggable, word)))
    return prefix


def _closed(policy: Policy | Profile) -> Policy | Profile:
    if isinstance(policy, Profile):
        return closed_profile(policy.name, policy.labels)
    return replace(policy, ingress=(DENY_ALL,), egress=(DENY_ALL,))


class Chains:
    """The chains of the active policies and profiles."""

    def __init__(self, members: Members) -> None:
        self.members = members
        self.rendered: dict[PolicyKey, _Rendered] = {}
        self.rows: dict[int, dict[Key, Row]] = {family: {} for family in FAMILIES}
        self.failed: dict[PolicyKey, str] = {}  # what cannot be rendered, in words

    def renamed(self) -> set[PolicyKey]:
        """The policies that name a set which is called differently now."""
        return cast("set[PolicyKey]", self.members.renamed())

    def step(self, policy: Policy, direction: Direction) -> PolicyStep:
        """How an endpoint asks a policy that selects it."""
        return self.rendered[policy.kind, policy.namespace, policy.name].steps[direction]

    def update(self, wants: Mapping[PolicyKey, Policy | Profile | None], settings: PolicySettings) -> None:
        """Render these again; None: no local workload needs the policy any more."""
        if not wants:
            return
        before = {key: self.rendered.pop(key) for key in wants if key in self.rendered}
        fresh = {family: dict(self.rows[family]) for family in FAMILIES}
        for old in before.values():
            for family in FAMILIES:
                for name in old.chains[family]:
                    del fresh[family][name]
        for key, policy in wants.items():
            self.failed.pop(key, None)
            if policy is not None:
                self._render_or_close(key, policy, settings, fresh, before.get(key))
        for key, old in before.items():
            still = self.rendered[key].wanted if key in self.rendered else ()
            for wanted in old.wanted:
                if wanted not in still:
                    self.members.unwant(wanted, key)
        self.rows = fresh

    def _render_or_close(
        self,
        key: PolicyKey,
        policy: Policy | Profile,
        settings: PolicySettings,
        fresh: dict[int, dict[Key, Row]],
        old: _Rendered | None,
    ) -> None:
        """One policy that nobody can render denies what it selects, and all others are as they should be."""
        wanted: _Names = {}
        try:
            self._render(key, policy, settings, fresh, wanted)
        except Exception as error:  # noqa: BLE001  the border lets nothing through that fails here; if it does, it is this policy's
            for one in wanted.keys() - (old.wanted if old else ()):
                self.members.unwant(one, key)
            named = " ".join(filter(None, (key[0], "/".join(filter(None, key[1:])))))
            self.failed[key] = f"{named}: denies whatever it selects: no rules can be made of it: {error!r}"
            self._render(key, _closed(policy), settings, fresh, {})
            shut = self.rendered[key]
            # asked as the policy would be: endpoints do not look again when only its rules change
            shut.steps = {d: step._replace(may_pass=may_pass(policy.rules(d))) for d, step in shut.steps.items()}

    def _render(
        self,
        key: PolicyKey,
        policy: Policy | Profile,
        settings: PolicySettings,
        fresh: dict[int, dict[Key, Row]],
        wanted: _Names,
    ) -> None:
        steps: dict[Direction, PolicyStep] = {}
        kind: Literal["policy", "profile"] = "profile" if isinstance(policy, Profile) else "policy"
        chains: dict[int, dict[Key, Chained]] = {family: {} for family in FAMILIES}
        for direction in directions(policy):
            name = Key(kind, chain_name(kind, direction, key))
            rules = policy.rules(direction)
            steps[direction] = PolicyStep(name.name, may_pass(rules))
            chains[4][name] = self._chain(key, policy, direction, 4, settings, wanted)
            alike = not any(map(tells_families_apart, rules)) and all(names[4] == names[6] for names in wanted.values())
            chains[6][name] = chains[4][name] if alike else self._chain(key, policy, direction, 6, settings, wanted)
        self.rendered[key] = _Rendered(policy, wanted.keys(), chains, steps)
        for family in FAMILIES:
            fresh[family].update(chains[family])

    def _chain(
        self,
        key: PolicyKey,
        policy: Policy | Profile,
        direction: Direction,
        family: int,
        settings: PolicySettings,
        wanted: _Names,
    ) -> Chained:
        def named(want: Wanted) -> str:
            names = wanted[want] = self.members.want(want, key)
            return names[family]

        namespace = "" if isinstance(policy, Profile) else policy.namespace
        owner = f"Profile {policy.name}" if isinstance(policy, Profile) else str(policy)
        log = settings.log
        line = replace(log, prefix=_spelled_out(log.prefix, policy)) if "%" in log.prefix else log
        rules: list[rows.Rule] = []
        for number, rule in enumerate(policy.rules(direction)):
            action, logs = rule.action, line if rule.action is Action.LOG else None
            rules += [rows.Rule(match, action, logs, number) for match in lowered(rule, namespace, family, named)]
        return rows.chained(rows.PolicyChain(f"{owner} {direction.lower()}", tuple(rules)), settings.mark_mask)
