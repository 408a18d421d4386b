from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.errors import Rejected
from felixlite.model.blocks import affinity, block
from felixlite.model.inside import AffinityState

CIDR = Prefix.parse("10.0.0.0/30")


def document(kind: str = "IPAMBlock", **spec: Any) -> dict[str, Any]:
    return {"kind": kind, "metadata": {"name": "x"}, "spec": {"cidr": "10.0.0.0/30", **spec}}


def attributes(*nodes: str | None) -> list[dict[str, Any]]:
    return [{"handle_id": "h", "secondary": {"node": node} if node else None} for node in nodes]


def test_a_block_knows_its_owner() -> None:
    found = block(document(affinity="host:n1", allocations=[0, None, None, None], attributes=attributes("n1")))
    assert (found.cidr, found.node, dict(found.borrowed)) == (CIDR, "n1", {})


def test_addresses_used_elsewhere_are_borrowed() -> None:
    found = block(document(affinity="host:n1", allocations=[0, 1, None, 1], attributes=attributes("n1", "n2")))
    assert dict(found.borrowed) == {CIDR.address(1): "n2", CIDR.address(3): "n2"}


def test_of_a_block_without_an_owner_all_is_borrowed() -> None:
    found = block(document(allocations=[0, None, None, None], attributes=attributes("n2")))
    assert (found.node, dict(found.borrowed)) == (None, {CIDR.address(0): "n2"})


def test_a_virtual_owner_is_no_node() -> None:
    assert block(document(affinity="virtual:load-balancer", allocations=4 * [None])).node is None


def test_an_address_that_cools_down_is_used_by_nobody() -> None:
    cooling = [{**attributes("n2")[0], "releasedAt": "2026-01-01T00:00:00Z"}]
    assert not block(document(affinity="host:n1", allocations=[0, None, None, None], attributes=cooling)).borrowed


@pytest.mark.parametrize(
    ("broken", "field"),
    [
        ({"spec": None}, "spec"),
        (document(cidr="10.0.0.1/30"), "spec.cidr"),
        (document(cidr=7), "spec.cidr"),
        (document(allocations=[None]), "spec.allocations"),
        (document(allocations="x"), "spec.allocations"),
        (document(affinity=7, allocations=4 * [None]), "spec.affinity"),
        (document(attributes=[7], allocations=4 * [None]), "spec.attributes"),
        (document(attributes={"a": 1}, allocations=4 * [None]), "spec.attributes"),
        (
            document(affinity="host:n1", attributes=attributes("n2"), allocations=[5, None, None, None]),
            "spec.allocations[0]",
        ),
        (
            document(affinity="host:n1", attributes=attributes("n2"), allocations=["x", None, None, None]),
            "spec.allocations[0]",
        ),
    ],
)
def test_a_broken_block_is_rejected_by_the_field(broken: dict[str, Any], field: str) -> None:
    with pytest.raises(Rejected) as rejected:
        block(broken)
    assert rejected.value.problems[0].field == field


def test_an_affinity_says_who_owns_which_block_how_surely() -> None:
    found = affinity(document("BlockAffinity", node="n1", state="pending"))
    assert (found.node, found.cidr, found.state, found.virtual) == ("n1", CIDR, AffinityState.PENDING, False)


@pytest.mark.parametrize(
    ("spec", "state"),
    [
        ({"state": "confirmed"}, AffinityState.CONFIRMED),
        ({}, AffinityState.CONFIRMED),
        ({"state": "confirmed", "deleted": "true"}, AffinityState.PENDING_DELETION),
        ({"state": "confirmed", "deleted": "false"}, AffinityState.CONFIRMED),
    ],
)
def test_states_of_old_releases_and_of_the_deletion_of_a_custom_resource(
    spec: dict[str, Any], state: AffinityState
) -> None:
    assert affinity(document("BlockAffinity", node="n1", **spec)).state is state


@pytest.mark.parametrize(
    "spec", [{"state": "confirmed"}, {"node": 1}, {"node": "n1", "state": "sure"}, {"node": "n", "cidr": ""}]
)
def test_a_broken_affinity_is_rejected(spec: dict[str, Any]) -> None:
    with pytest.raises(Rejected):
        affinity(document("BlockAffinity", **spec))
