"""Strategic merge patches as kubectl makes them."""

from typing import Any

import pytest

from felixlite.apiserver.status import Refused
from felixlite.apiserver.strategic import merge

POD = {"spec": {"containers": [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:1"}], "nodeName": "n1"}}


def containers(patch: Any) -> list[Any]:
    found: list[Any] = merge(POD, {"spec": {"containers": patch}})["spec"]["containers"]
    return found


def test_entries_are_merged_by_their_key() -> None:
    assert containers([{"name": "b", "image": "y:2"}]) == [{"name": "a", "image": "x:1"}, {"name": "b", "image": "y:2"}]


def test_an_entry_is_deleted_by_its_key() -> None:
    assert containers([{"name": "a", "$patch": "delete"}]) == [{"name": "b", "image": "y:1"}]


def test_a_new_entry_comes_last() -> None:
    assert [one["name"] for one in containers([{"name": "c", "image": "z"}])] == ["a", "b", "c"]


def test_a_list_is_replaced_when_that_is_said() -> None:
    assert containers([{"$patch": "replace"}, {"name": "c"}]) == [{"name": "c"}]


def test_the_order_follows_the_patch() -> None:
    patch = {"$setElementOrder/containers": [{"name": "b"}, {"name": "a"}]}
    assert [one["name"] for one in merge(POD, {"spec": patch})["spec"]["containers"]] == ["b", "a"]


def test_a_mapping_is_replaced_or_deleted_as_a_whole() -> None:
    assert merge(POD, {"spec": {"$patch": "replace", "nodeName": "n2"}}) == {"spec": {"nodeName": "n2"}}
    assert merge(POD, {"spec": {"$patch": "delete"}}) == {}
    assert merge(POD, {"spec": None}) == {}


def test_only_the_retained_members_of_a_union_stay() -> None:
    before = {"strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": 1}}}
    patch = {"strategy": {"$retainKeys": ["type"], "type": "Recreate"}}
    assert merge(before, patch) == {"strategy": {"type": "Recreate"}}


def test_sets_grow_and_shrink() -> None:
    before = {"metadata": {"finalizers": ["a", "b"]}}
    grown = merge(before, {"metadata": {"finalizers": ["b", "c"]}})
    assert grown == {"metadata": {"finalizers": ["a", "b", "c"]}}
    assert merge(grown, {"metadata": {"$deleteFromPrimitiveList/finalizers": ["a"]}}) == {
        "metadata": {"finalizers": ["b", "c"]}
    }


def test_lists_without_a_key_are_replaced() -> None:
    before = {"spec": {"ingress": [{"ports": [{"port": 80}]}], "tolerations": [{"key": "a"}]}}
    patch = {"spec": {"ingress": [{"ports": [{"port": 81}]}], "tolerations": [{"key": "b"}]}}
    assert merge(before, patch) == patch


def test_ports_are_known_by_what_their_kind_calls_them() -> None:
    service = {"spec": {"ports": [{"port": 80, "name": "http"}]}}
    assert merge(service, {"spec": {"ports": [{"port": 80, "nodePort": 30000}]}}) == {
        "spec": {"ports": [{"port": 80, "name": "http", "nodePort": 30000}]}
    }


def test_a_nodes_addresses_are_known_by_type_and_an_endpoints_are_a_list() -> None:
    node = {"status": {"addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]}}
    patch = {"status": {"addresses": [{"type": "Hostname", "address": "n1"}]}}
    assert len(merge(node, patch)["status"]["addresses"]) == 2
    assert merge({"endpoints": [{"addresses": ["a"]}]}, {"endpoints": [{"addresses": ["b"]}]})["endpoints"] == [
        {"addresses": ["b"]}
    ]


def test_what_was_there_stays_as_it_was() -> None:
    before = {"spec": {"containers": [{"name": "a", "env": [{"name": "x", "value": "1"}]}]}}
    merge(before, {"spec": {"containers": [{"name": "a", "env": [{"name": "x", "value": "2"}]}]}})
    assert before["spec"]["containers"][0]["env"] == [{"name": "x", "value": "1"}]  # type: ignore[index]


@pytest.mark.parametrize("patch", [[], "x", {"spec": {"$patch": "sideways"}}])
def test_a_patch_that_is_none_is_refused(patch: Any) -> None:
    with pytest.raises(Refused):
        merge(POD, patch)
