"""What random worlds of policy must not depend on: mistakes that the evaluator and the planner share show here.

Both read selection.py, so holding one against the other says nothing about it.
"""

from collections.abc import Iterable, Mapping
from dataclasses import replace
from random import Random
from typing import TypeVar

import pytest

from felixlite.model.inside import Workload
from felixlite.model.policy import Action, NetworkSet
from felixlite.policy.evaluate import Packet, World
from felixlite.policy.inputs import Inputs
from felixlite.policy.passage import verdict_in
from tests.support.randompolicy import of_kubernetes, packets, pods, world

PODS = pods()
PACKETS = packets(PODS)[::7]
BELONGING = {
    "pcns.team": "x",
    "pcns.projectcalico.org/name": "red",
    "pcsa.role": "admin",
    "projectcalico.org/namespace": "red",
    "projectcalico.org/serviceaccount": "robot",
}
K = TypeVar("K")
V = TypeVar("V", Workload, NetworkSet)


def passing(inputs: Inputs) -> set[Packet]:
    seen = World(inputs)
    return {packet for packet in PACKETS if verdict_in(seen, packet).action is Action.ALLOW}


def labelled(things: Mapping[K, V], more: Mapping[str, str], less: Iterable[str] = ()) -> dict[K, V]:
    """The same things with more labels of their own, or less."""
    kept = {key: {k: v for k, v in thing.labels.items() if k not in less} for key, thing in things.items()}
    return {key: replace(thing, labels={**kept[key], **more}) for key, thing in things.items()}


@pytest.mark.parametrize("seed", range(25))
def test_own_labels_do_not_say_where_something_belongs(seed: int) -> None:
    inputs = world(Random(seed), PODS)
    found = [
        passing(
            replace(
                inputs,
                local_workloads=labelled(inputs.local_workloads, more, BELONGING),
                network_sets=labelled(inputs.network_sets, more, BELONGING),
            )
        )
        for more in ({}, BELONGING)
    ]
    assert found[0] == found[1]


@pytest.mark.parametrize("seed", range(25))
def test_network_sets_are_no_peers_of_policies_of_kubernetes(seed: int) -> None:
    random = Random(seed)
    inputs = world(random, PODS)
    policies = [of_kubernetes(random, number) for number in range(3)]
    inputs = replace(inputs, policies={(p.kind, p.namespace, p.name): p for p in policies})
    more = {"projectcalico.org/orchestrator": "k8s"}
    sets = {**inputs.network_sets, **labelled(world(random, PODS).network_sets, more)}
    assert passing(replace(inputs, network_sets=sets)) == passing(replace(inputs, network_sets={}))


def test_a_profile_that_is_not_there_is_named_as_such() -> None:
    inputs = world(Random(0), PODS)
    lost = {key: replace(one, profiles=("nosuch", *one.profiles)) for key, one in inputs.local_workloads.items()}
    seen = verdict_in(World(replace(inputs, local_workloads=lost, policies={})), PACKETS[0])
    assert (seen.action, seen.decided and seen.decided.rule) == (Action.DENY, None)
    assert "Profile nosuch: not there, or invalid: closes who has it: Deny" in str(seen.decided)


def test_the_worlds_hold_what_is_asked_about() -> None:
    """Network sets beside policies of Kubernetes, packets that pass and packets that do not."""
    drawn = [world(Random(seed), PODS) for seed in range(50)]
    assert any(one.network_sets and any(kind.startswith("Kube") for kind, *_ in one.policies) for one in drawn)
    assert any("nosuch" in workload.profiles for one in drawn for workload in one.local_workloads.values())
    assert 0 < sum(len(passing(one)) for one in drawn) < len(drawn) * len(PACKETS)
