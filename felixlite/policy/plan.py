"""All rows of the policy tables, from what the store and the kernel say. Pure but for a memory of the last answer.

    planner = Planner()
    plan = planner(Inputs.of(snapshot, settings.of(values), tunnels, service_nets))
    plan.tables      {"policy/4": slices, "policy/6": slices} for reconcile.Reconciler
    plan.notes       what a person should know (a policy in a tier that does not exist, ...)

A second call costs what changed: every mapping is compared with the one before by the identity of its values, only
policies that select a local workload become chains, and only sets that such a policy names are followed.  A fresh
Planner given the same inputs answers the same rows (tests/unit/policy); that is what a restarted agent does.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping
from typing import Final, NamedTuple

from felixlite.model.inside import Workload
from felixlite.model.policy import BUILT_IN_TIERS, Direction, NetworkSet, Policy, Profile
from felixlite.model.selector import Selector
from felixlite.policy import rows
from felixlite.policy.chains import Chains, chain_name
from felixlite.policy.gates import dispatch, gates, own, own_mac, read_by_gates
from felixlite.policy.inputs import NOWHERE, Changed, Inputs, PolicyKey, WorkloadKey, changes
from felixlite.policy.members import FAMILIES, Carrier, Members
from felixlite.policy.rows import Key, Row
from felixlite.policy.selection import (
    by_tier,
    endpoint_labels,
    is_known,
    labelled_by,
    profile_named,
    set_labels,
)
from felixlite.policy.targets import Targets


class PolicyPlan(NamedTuple):
    tables: Mapping[str, tuple[Mapping[Key, Row], ...]]
    notes: tuple[str, ...]


def table_name(family: int) -> str:
    return f"policy/{family}"


DISPATCH: Final = frozenset({rows.FROM_WORKLOADS, rows.TO_WORKLOADS})
NOBODY: Final[
    Mapping[Key, Row]
] = {}  # where no workload has an address of the family nothing jumps to a policy's chains


_Steps = dict[Direction, tuple[rows.TierStep, ...]]


class _Dirty(NamedTuple):
    """What has to be looked at again."""

    policies: set[PolicyKey]
    workloads: set[WorkloadKey]


class Planner:
    def __init__(self) -> None:
        self.last = NOWHERE
        self.started = False
        self.members = Members()
        self.chains = Chains(self.members)
        self.targets = Targets()
        self.endpoints: dict[WorkloadKey, tuple[frozenset[int], dict[Key, Row]]] = {}  # families, rows
        self.profiles: dict[WorkloadKey, frozenset[str]] = {}  # that each local workload uses
        self.endpoint_rows: dict[int, dict[Key, Row]] = {}
        self.own_rows: dict[int, dict[Key, Row]] = {}
        self.gate_rows: dict[int, dict[Key, Row]] = {}
        self.of_policies: tuple[str, ...] = ()  # notes: what is enforced otherwise than its author may expect
        self.of_workloads: tuple[str, ...] = ()

    def __call__(self, inputs: Inputs) -> PolicyPlan:
        last, self.last = self.last, inputs
        local = changes(last.local_workloads, inputs.local_workloads)
        profiles = {key for key, _, _ in changes(last.profiles, inputs.profiles)}
        relabelled = _users_of(profiles, inputs.local_workloads)
        self._put_workloads(last, inputs, local, profiles)
        self._put_network_sets(last, inputs, profiles)
        dirty = self._put_targets(last, inputs, relabelled | {key for key, _, _ in local})
        self._put_chains(last, inputs, dirty, profiles)
        spoofing = last.settings.may_spoof != inputs.settings.may_spoof
        remarked = last.settings.mark_mask != inputs.settings.mark_mask
        otherwise = spoofing or remarked or last.tiers is not inputs.tiers or asks_macs(last) != asks_macs(inputs)
        self._put_endpoints(inputs, dirty, everything=otherwise)
        self._put_the_rest(last, inputs, everything=spoofing or bool(local))
        self.started = True
        slices = {
            table_name(family): (
                self.members.rows(family),
                self.chains.rows[family] if self.endpoint_rows[family].keys() > DISPATCH else NOBODY,
                self.endpoint_rows[family],
                self.own_rows[family],
                self.gate_rows[family],
            )
            for family in FAMILIES
        }
        return PolicyPlan(slices, (*self.of_policies, *self.of_workloads, *self.chains.failed.values()))

    # -- steps

    def _put_workloads(self, last: Inputs, inputs: Inputs, local: list[Changed], profiles: set[str]) -> None:
        """Every endpoint of the cluster that changed, or that inherits from a profile that did."""
        again: dict[WorkloadKey, Workload] = {}
        for key, _, workload in (*local, *changes(last.remote_workloads, inputs.remote_workloads)):
            found = workload or inputs.local_workloads.get(key) or inputs.remote_workloads.get(key)
            if found:
                again[key] = found
            else:
                self.members.drop(key)
        for mapping in (inputs.remote_workloads, inputs.local_workloads):
            again.update((key, mapping[key]) for key in _users_of(profiles, mapping))
        alike: dict[Hashable, tuple[Workload, dict[Hashable, Carrier]]] = {}
        for key, found in again.items():
            _, carriers = alike.setdefault(labelled_by(found), (found, {}))
            carriers[key] = found.addresses, found.ports
        for found, carriers in alike.values():
            self.members.put_alike(carriers, endpoint_labels(found, inputs.profiles))

    def _put_network_sets(self, last: Inputs, inputs: Inputs, profiles: set[str]) -> None:
        again: dict[tuple[str, str], NetworkSet] = {}
        for key, _, network_set in changes(last.network_sets, inputs.network_sets):
            if network_set:
                again[key] = network_set
            else:
                self.members.drop(("s", *key))
        if profiles:
            again.update((k, s) for k, s in inputs.network_sets.items() if f"kns.{s.namespace}" in profiles)
        for key, found in again.items():
            self.members.put(("s", *key), set_labels(found, inputs.profiles), (found.nets, ()))
        if last.services is not inputs.services:
            self.members.put_services(inputs.services)

    def _put_targets(self, last: Inputs, inputs: Inputs, workloads: set[WorkloadKey]) -> _Dirty:
        dirty = _Dirty(set(), set(workloads))
        for key, old, policy in changes(last.policies, inputs.policies):
            dirty.policies.add(key)
            dirty.workloads.update(self.targets.put_policy(key, old, policy))
        turned: set[PolicyKey] = set()  # they select a workload that they did not, or the other way round
        for key in workloads:
            before = self.targets.policies_of(key)
            if workload := inputs.local_workloads.get(key):
                self.targets.index.put(key, endpoint_labels(workload, inputs.profiles))
            else:
                self.targets.index.drop(key)
            turned |= before ^ self.targets.policies_of(key)
        # who has chains and still selects somebody reads as before
        dirty.policies.update(key for key in turned if self.targets.is_active(key) != (key in self.chains.rendered))
        return dirty

    def _put_chains(self, last: Inputs, inputs: Inputs, dirty: _Dirty, profiles: set[str]) -> None:
        again = dirty.policies | self.chains.renamed()
        again |= {("Profile", "", name) for name in profiles | self._profile_changes(inputs, dirty)}
        if last.settings.log != inputs.settings.log or last.settings.mark_mask != inputs.settings.mark_mask:
            again |= self.chains.rendered.keys()
        self.chains.update({key: self._wanted(key, inputs) for key in again}, inputs.settings)

    def _wanted(self, key: PolicyKey, inputs: Inputs) -> Policy | Profile | None:
        """The policy or profile of that name, if a local workload needs it."""
        kind, _, name = key
        if kind == "Profile":
            used = any(name in names for names in self.profiles.values())
            return profile_named(name, inputs.profiles) if used else None
        return inputs.policies.get(key) if self.targets.is_active(key) else None

    def _profile_changes(self, inputs: Inputs, dirty: _Dirty) -> set[str]:
        """The profiles that local workloads began or ceased to use."""
        found: set[str] = set()
        for key in dirty.workloads:
            before = self.profiles.pop(key, frozenset())
            if workload := inputs.local_workloads.get(key):
                self.profiles[key] = frozenset(workload.profiles)
            found |= before ^ self.profiles.get(key, frozenset())
        return found

    def _put_endpoints(self, inputs: Inputs, dirty: _Dirty, *, everything: bool) -> None:
        """A workload has chains in the families of its addresses; in the other one the dispatch drops what it sends."""
        again = inputs.local_workloads.keys() | self.endpoints.keys() if everything else dirty.workloads
        if not again and self.started:
            return
        touched: set[int] = set()
        asked: dict[frozenset[Selector], _Steps] = {}  # under the same selectors the same policies are asked
        for key in again:
            touched |= self.endpoints[key][0] if key in self.endpoints else frozenset()
            workload = inputs.local_workloads.get(key)
            if workload and workload.interface:
                selectors = self.targets.index.selectors_of(key)
                steps = asked.get(selectors)
                if steps is None:
                    steps = asked[selectors] = self._steps(key, inputs)
                families = frozenset([net.family for net in workload.addresses])
                self.endpoints[key] = families, dict(self._endpoint(workload, steps, inputs))
                touched |= families
            else:
                self.endpoints.pop(key, None)
        for family in touched if self.started else FAMILIES:
            found = dict(dispatch(inputs.local_workloads, family))
            for families, endpoint in self.endpoints.values():
                if family in families:
                    found.update(endpoint)
            self.endpoint_rows[family] = found

    def _steps(self, key: WorkloadKey, inputs: Inputs) -> _Steps:
        """The policies that decide about a workload, in the order in which they are asked."""
        tiers = by_tier([inputs.policies[policy] for policy in self.targets.policies_of(key)], inputs.tiers)
        found: _Steps = {}
        for direction in Direction:
            steps = []
            for tier, ordered in tiers:
                if taken := tuple([self.chains.step(p, direction) for p in ordered if direction in p.types]):
                    steps.append(rows.TierStep(tier.name, taken, tier.default_action))
            found[direction] = tuple(steps)
        return found

    def _endpoint(self, workload: Workload, asked: _Steps, inputs: Inputs) -> Iterator[tuple[Key, Row]]:
        for direction, steps in asked.items():
            profiles = tuple(chain_name("profile", direction, ("Profile", "", name)) for name in workload.profiles)
            mac = own_mac(workload, inputs) if direction is Direction.EGRESS and asks_macs(inputs) else None
            body = rows.EndpointChain(workload.interface, direction, steps, profiles, mac)
            yield rows.endpoint_key(direction, workload.interface), rows.chained(body, inputs.settings.mark_mask)

    def _put_the_rest(self, last: Inputs, inputs: Inputs, *, everything: bool) -> None:
        if everything or not self.started:
            self.own_rows = {family: own(inputs, family) for family in FAMILIES}
        if not self.started or read_by_gates(last) != read_by_gates(inputs):
            self.gate_rows = {family: gates(inputs, family) for family in FAMILIES}
        if not self.started or last.policies is not inputs.policies or last.tiers is not inputs.tiers:
            self.of_policies = tuple(_in_no_tier(inputs))
        if everything or not self.started or last.profiles is not inputs.profiles:
            self.of_workloads = tuple(_of_no_profile(inputs))


def asks_macs(inputs: Inputs) -> bool:
    """Whether endpoint chains do: behind IPVS there is no MAC, so there the gates do it before."""
    return inputs.ipvs is None


def _users_of(profiles: set[str], workloads: Mapping[WorkloadKey, Workload]) -> set[WorkloadKey]:
    if not profiles:
        return set()
    return {key for key, workload in workloads.items() if not profiles.isdisjoint(workload.profiles)}


def _in_no_tier(inputs: Inputs) -> Iterator[str]:
    tiers = inputs.tiers.keys() | BUILT_IN_TIERS.keys()
    for policy in inputs.policies.values():
        if policy.tier not in tiers:
            yield (
                f"{policy}: tier: {policy.tier!r}: there is no such tier; it is asked after all others and denies at its end"
            )


def _of_no_profile(inputs: Inputs) -> Iterator[str]:
    """Endpoints that their profiles close. By profile: a hundred may lack the same one."""
    workloads = inputs.local_workloads.values()
    if bare := [workload for workload in workloads if not workload.profiles]:
        yield f"{_first_of(bare)}: profiles: there is none: what no policy allows is denied"
    used = {name for workload in workloads for name in workload.profiles}
    for name in sorted(name for name in used if not is_known(name, inputs.profiles)):
        yield (
            f"{_first_of([w for w in workloads if name in w.profiles])}: profiles: {name!r}: there is no such Profile; "
            "it denies what no policy decides: create it, or take its name out of the endpoint"
        )


def _first_of(workloads: Collection[Workload]) -> str:
    first = min(f"{workload.namespace}/{workload.name}" for workload in workloads)
    return f"WorkloadEndpoint {first}" + (f" and {len(workloads) - 1} more" if len(workloads) > 1 else "")
