"""Which policies decide about which local workload, by their selectors, one change at a time. Pure."""

from felixlite.model.policy import Direction, Policy
from felixlite.model.selector import Selector
from felixlite.policy.chains import may_pass
from felixlite.policy.index import SelectorIndex
from felixlite.policy.inputs import PolicyKey, WorkloadKey
from felixlite.policy.selection import applies_to


class Targets:
    """Policies against local workloads, by their selectors."""

    def __init__(self) -> None:
        self.index: SelectorIndex[WorkloadKey] = SelectorIndex()
        self.by_selector: dict[Selector, set[PolicyKey]] = {}
        self.selectors: dict[PolicyKey, Selector] = {}

    def put_policy(self, key: PolicyKey, before: Policy | None, policy: Policy | None) -> set[WorkloadKey]:
        """The workloads whose chains change with it."""
        old, new = self.selectors.get(key), applies_to(policy) if policy else None
        if new == old and before and policy and _shape(before) == _shape(policy):
            return set()
        touched = set(self.index.selected(old)) if old else set()
        if new == old:
            return touched
        if new:
            self.selectors[key] = new
            self.by_selector.setdefault(new, set()).add(key)
            self.index.add(new)
            touched.update(self.index.selected(new))
        else:
            self.selectors.pop(key, None)
        if old:
            self.by_selector[old].discard(key)
            if not self.by_selector[old]:
                del self.by_selector[old]
                self.index.remove(old)
        return touched

    def policies_of(self, workload: WorkloadKey) -> frozenset[PolicyKey]:
        return frozenset(key for s in self.index.selectors_of(workload) for key in self.by_selector[s])

    def is_active(self, key: PolicyKey) -> bool:
        selector = self.selectors.get(key)
        return selector is not None and next(self.index.selected(selector), None) is not None


def _shape(policy: Policy) -> tuple[object, ...]:
    """What of a policy the chains of its endpoints depend on; its rules live in its own chain."""
    passing = tuple(may_pass(policy.rules(direction)) for direction in Direction)
    return (policy.tier, policy.order, policy.types, passing)
