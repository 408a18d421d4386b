"""Whom a policy speaks about: labels with all that is inherited, selectors with all that is implied, and the order.

Pure.  Both the planner and the evaluator build on these few functions, so this is where a mistake would hide from
their comparison; tests/unit/policy therefore checks it by hand, against the documents.  Reference 14.1-14.3.
"""

from collections.abc import Hashable, Iterable, Mapping
from functools import lru_cache

from felixlite.model.inside import Workload
from felixlite.model.policy import (
    BUILT_IN_TIERS,
    DEFAULT_ALLOW,
    EntityRule,
    NetworkSet,
    Policy,
    Profile,
    Tier,
    closed_profile,
    namespace_profile,
    service_account_profile,
)
from felixlite.model.selector import Selector, conjunction, one_of, parse

NAMESPACE = "projectcalico.org/namespace"
SERVICE_ACCOUNT = "projectcalico.org/serviceaccount"
ORCHESTRATOR = "projectcalico.org/orchestrator"
IN_KUBERNETES = (ORCHESTRATOR, "k8s")
_GIVEN = (NAMESPACE, SERVICE_ACCOUNT)
_INHERITED = ("pcns.", "pcsa.")

Profiles = Mapping[str, Profile]


# -- labels ----------------------------------------------------------------------------------------------------------


def profile_named(name: str, profiles: Profiles) -> Profile:
    """The profile, or the one that its name implies when the store holds none (an etcd without namespaces).

    One that nobody knows denies: what it would have denied must not pass until it is there.
    """
    return profiles.get(name) or _implied(name) or closed_profile(name)


def is_known(name: str, profiles: Profiles) -> bool:
    return name in profiles or _implied(name) is not None


@lru_cache(maxsize=4096)
def _implied(name: str) -> Profile | None:
    if name == DEFAULT_ALLOW.name:
        return DEFAULT_ALLOW
    kind, _, rest = name.partition(".")
    if kind == "kns" and rest:
        return namespace_profile(rest, {})
    if kind == "ksa" and rest:
        return service_account_profile(*rest.partition(".")[::2], {})
    return None


def endpoint_labels(workload: Workload, profiles: Profiles) -> dict[str, str]:
    """Its own labels win over those of its profiles, but where it belongs; the earlier profile wins over the later."""
    labels: dict[str, str] = {}
    for name in reversed(workload.profiles):
        labels.update(profile_named(name, profiles).labels)
    labels.update(_own(workload.labels))
    labels[NAMESPACE] = workload.namespace
    if workload.pod:
        labels.update((IN_KUBERNETES,))
    if workload.service_account:
        labels[SERVICE_ACCOUNT] = workload.service_account
    return labels


def labelled_by(workload: Workload) -> Hashable:
    """What `endpoint_labels` reads of a workload: whoever is alike in this has the same labels."""
    own = tuple(workload.labels.items())
    return workload.namespace, bool(workload.pod), workload.service_account, workload.profiles, own


def set_labels(network_set: NetworkSet, profiles: Profiles) -> dict[str, str]:
    own = _own(network_set.labels)
    if not network_set.namespace:
        return own
    namespace = profile_named(f"kns.{network_set.namespace}", profiles)
    return {**namespace.labels, **own, NAMESPACE: network_set.namespace}


def _own(labels: Mapping[str, str]) -> dict[str, str]:
    """Without those that say where something belongs: whoever may write labels must not choose that with them.

    The reference lets own labels win over these too (14.2); then a pod's author would choose its namespace's labels,
    and namespaceSelector would keep nobody out.
    """
    return {
        key: value
        for key, value in labels.items()
        if not key.startswith(_INHERITED) and key not in _GIVEN and (key, value) != IN_KUBERNETES
    }


# -- selectors -------------------------------------------------------------------------------------------------------


@lru_cache(maxsize=65536)
def _prefixed(text: str, prefix: str) -> Selector:
    return parse(text, prefix)


@lru_cache(maxsize=65536)
def in_namespace(namespace: str) -> Selector:
    return one_of(NAMESPACE, namespace)


NAMESPACED = parse(f"has({NAMESPACE})")
GLOBAL = parse(f"!has({NAMESPACE})")
PODS = parse("{} == '{}'".format(*IN_KUBERNETES))


def of_namespaces(selector: Selector) -> Selector:
    """Whoever lives in a namespace with such labels; all() asks for any namespace, global() for none."""
    if selector.text == "all()":
        return NAMESPACED
    if selector.text == "global()":
        return GLOBAL
    return _prefixed(selector.text, "pcns.")


def of_service_accounts(selector: Selector) -> Selector:
    if selector.text == "all()":
        return parse(f"has({SERVICE_ACCOUNT})")
    return _prefixed(selector.text, "pcsa.")


def applies_to(policy: Policy) -> Selector:
    """Which endpoints the policy decides about."""
    parts = [in_namespace(policy.namespace)] if policy.namespace else []
    parts += [of_namespaces(policy.namespace_selector)] if policy.namespace_selector else []
    parts += [of_service_accounts(policy.service_account_selector)] if policy.service_account_selector else []
    if policy.selector.text != "all()" or not parts:
        parts.append(policy.selector)
    return _all_of(tuple(parts))


def peers(entity: EntityRule, namespace: str) -> Selector | None:
    """Whom one side of a rule speaks about, by labels; None: it does not ask.

    In a namespaced policy anything that speaks of endpoints means those of its own namespace, unless it says otherwise;
    a rule of addresses only means any address.
    """
    accounts = entity.service_accounts
    asks = entity.selector or entity.not_selector or accounts
    if not asks and not entity.namespace_selector:
        return None
    parts = []
    if entity.namespace_selector:
        parts.append(of_namespaces(entity.namespace_selector))
    elif namespace and asks:
        parts.append(in_namespace(namespace))
    if accounts:
        if accounts.names:
            parts.append(one_of(SERVICE_ACCOUNT, *accounts.names))
        if accounts.selector:
            parts.append(of_service_accounts(accounts.selector))
        if not accounts.names and not accounts.selector:
            parts.append(parse(f"has({SERVICE_ACCOUNT})"))
    if entity.selector and (entity.selector.text != "all()" or not parts):
        parts.append(entity.selector)
    return _all_of(tuple(parts)) if parts else None


_all_of = lru_cache(maxsize=65536)(conjunction)


# -- order -----------------------------------------------------------------------------------------------------------

TierOrder = tuple[bool, float, str]
PolicyOrder = tuple[bool, float, str, str, str]


def tier_of(policy: Policy, tiers: Mapping[str, Tier]) -> Tier:
    """A tier that nobody has defined comes last and denies at its end: what names it is still enforced."""
    return tiers.get(policy.tier) or BUILT_IN_TIERS.get(policy.tier) or Tier(policy.tier)


def tier_order(tier: Tier) -> TierOrder:
    return (tier.order is None, tier.order or 0.0, tier.name)


def policy_order(policy: Policy) -> PolicyOrder:
    return (policy.order is None, policy.order or 0.0, policy.name, policy.namespace, policy.kind)


def by_tier(policies: Iterable[Policy], tiers: Mapping[str, Tier]) -> list[tuple[Tier, list[Policy]]]:
    """The policies in the order in which they are asked, grouped by tier."""
    groups: dict[str, list[Policy]] = {}
    for policy in policies:
        groups.setdefault(policy.tier, []).append(policy)
    found = [(tier_of(group[0], tiers), sorted(group, key=policy_order)) for group in groups.values()]
    return sorted(found, key=lambda pair: tier_order(pair[0]))
