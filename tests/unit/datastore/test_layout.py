import pytest
from hypothesis import given
from hypothesis import strategies as st

from felixlite.datastore.layout import NoPlace, document_of, key_of, path_of, prefixes, stored
from felixlite.datastore.names import affinity_name, block_name
from felixlite.datastore.store import Key
from felixlite.model.kinds import KINDS
from felixlite.model.kuberneteskinds import BROUGHT_ALONG
from tests.unit.datastore.test_names import ASCII, cidrs, names, nodes

resource_keys = st.sampled_from([k for k in KINDS.values() if not k.name.startswith(("IPAM", "BlockA"))]).flatmap(
    lambda kind: st.builds(Key, st.just(kind.name), names, names if kind.namespaced else st.just(""))
)
along_keys = st.sampled_from(sorted(BROUGHT_ALONG.items())).flatmap(
    lambda kind: st.builds(Key, st.just(kind[0]), names, names if kind[1] else st.just(""))
)
ipam_keys = (
    cidrs.map(lambda cidr: Key("IPAMBlock", block_name(cidr)))
    | st.builds(lambda node, cidr: Key("BlockAffinity", affinity_name(node, cidr)), nodes, cidrs)
    | st.from_regex(r"[A-Za-z0-9.-]{1,20}(/[a-z]{1,5})?", fullmatch=True, alphabet=ASCII).map(
        lambda name: Key("IPAMHandle", name)
    )
    | st.just(Key("IPAMConfiguration", "default"))
)


@given(resource_keys | ipam_keys | along_keys)
def test_every_key_is_found_again_by_its_path(key: Key):
    assert key_of(path_of(key)) == key


@given(resource_keys | ipam_keys | along_keys)
def test_every_path_lies_below_a_prefix_of_its_kind(key: Key):
    path = path_of(key)
    assert any(path.startswith(prefix) for prefix in prefixes(key.kind))
    assert any(path.startswith(prefix) for prefix in prefixes(key.kind, namespace=key.namespace))


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (Key("IPPool", "p"), "/calico/resources/v3/projectcalico.org/ippools/p"),
        (Key("NetworkPolicy", "a", "ns"), "/calico/resources/v3/projectcalico.org/networkpolicies/ns/a"),
        (
            Key("KubernetesNetworkPolicy", "a", "ns"),
            "/calico/resources/v3/projectcalico.org/kubernetesnetworkpolicies/ns/a",
        ),
        (Key("IPAMBlock", "10-0-0-0-26"), "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26"),
        (Key("IPAMBlock", "fd00---122"), "/calico/ipam/v2/assignment/ipv6/block/fd00::-122"),
        (Key("BlockAffinity", "node-1-10-0-0-0-26"), "/calico/ipam/v2/host/node-1/ipv4/block/10.0.0.0-26"),
        (
            Key("BlockAffinity", "load-balancer-10-0-0-0-26"),
            "/calico/ipam/v2/virtual/load-balancer/ipv4/block/10.0.0.0-26",
        ),
        (Key("IPAMHandle", "k8s-pod-network.abc"), "/calico/ipam/v2/handle/k8s-pod-network.abc"),
        (Key("IPAMConfiguration", "default"), "/calico/ipam/v2/config"),
        (Key("ConfigMap", "a", "ns"), "/calico/felixlite/ConfigMap/ns/a"),
        (Key("ClusterRole", "system:node"), "/calico/felixlite/ClusterRole/system:node"),
    ],
)
def test_paths_are_those_of_calico(key: Key, path: str):
    assert path_of(key) == path


@pytest.mark.parametrize(
    "path",
    [
        "/calico/v1/Ready",
        "/calico/ipam/v2/host/n1",
        "/calico/ipam/v2/host/n1/ipv4/block/10.0.0.1-26",
        "/calico/ipam/v2/host/n1/ipv6/block/10.0.0.0-26",
        "/calico/resources/v3/projectcalico.org/ippools/a/b",
        "/calico/resources/v3/projectcalico.org/networkpolicies/a",
        "/calico/resources/v3/projectcalico.org/unheardof/a",
        "/calico/resources/v3/projectcalico.org/ippools/",
        "/other",
    ],
)
def test_what_is_not_ours_has_no_key(path: str):
    assert key_of(path) is None


@pytest.mark.parametrize(
    "key",
    [
        Key("IPPool", "a/b"),
        Key("IPPool", ""),
        Key("NetworkPolicy", "a"),
        Key("Unheardof", "a"),
        Key("IPAMBlock", "10-0-0-1-26"),
        Key("BlockAffinity", "n1"),
        Key("IPAMConfiguration", "other"),
    ],
)
def test_a_key_without_a_place_is_refused(key: Key):
    with pytest.raises(NoPlace):
        path_of(key)


def test_a_block_is_written_and_read_with_calicos_names():
    key = Key("IPAMBlock", "10-0-0-0-30")
    spec = {
        "cidr": "10.0.0.0/30",
        "affinity": "host:n1",
        "affinityClaimTime": "2026-01-01T00:00:00Z",
        "allocations": [0, None, None, None],
        "unallocated": [1, 2, 3],
        "attributes": [{"handle_id": "h", "secondary": {"node": "n1"}}],
        "sequenceNumber": 5,
        "sequenceNumberForAllocation": {"0": 5},
        "deleted": False,
    }
    value = stored(key, {"spec": spec})
    assert value["affinity_claim_time"] == "2026-01-01T00:00:00Z"
    assert "affinityClaimTime" not in value
    assert document_of(key, value)["spec"] == spec
    assert document_of(key, value)["kind"] == "IPAMBlock"


def test_the_owner_of_a_legacy_block_is_read():
    found = document_of(Key("IPAMBlock", "10-0-0-0-30"), {"cidr": "10.0.0.0/30", "hostAffinity": "n1"})
    assert found["spec"]["affinity"] == "host:n1"
    assert "hostAffinity" not in found["spec"]


def test_an_affinity_keeps_its_state_only():
    key = Key("BlockAffinity", "n-1-10-0-0-0-26")
    spec = {"state": "pending", "node": "n-1", "cidr": "10.0.0.0/26", "type": "host", "deleted": "false"}
    assert stored(key, {"spec": spec}) == {"state": "pending", "deleted": False}
    assert document_of(key, {"state": "pending", "deleted": False})["spec"] == spec


@pytest.mark.parametrize("value", [{}, {"state": ""}, {"deleted": False}])
def test_an_affinity_without_a_state_is_confirmed(value: dict[str, object]):
    assert document_of(Key("BlockAffinity", "n1-10-0-0-0-26"), value)["spec"]["state"] == "confirmed"


def test_an_affinity_whose_name_and_spec_disagree_is_refused():
    with pytest.raises(NoPlace, match=r"is of host n1 .* by its name, but of host n2 by its spec"):
        stored(Key("BlockAffinity", "n1-10-0-0-0-26"), {"spec": {"node": "n2", "state": "pending"}})


def test_a_handle_is_named_in_its_path_only():
    key = Key("IPAMHandle", "Pod.ABC")
    spec = {"handleID": "Pod.ABC", "block": {"10.0.0.0/26": 1}, "deleted": False}
    assert stored(key, {"spec": spec}) == {"block": {"10.0.0.0/26": 1}, "deleted": False}
    assert document_of(key, stored(key, {"spec": spec}))["spec"] == spec


def test_ipams_configuration_is_written_in_full_and_read_as_calico_reads_it():
    key = Key("IPAMConfiguration", "default")
    assert stored(key, {"spec": {"maxBlocksPerHost": 4}}) == {
        "strict_affinity": False, "auto_allocate_blocks": True, "maxBlocksPerHost": 4,
    }  # fmt: skip
    assert document_of(key, {"strict_affinity": True})["spec"] == {"strictAffinity": True, "autoAllocateBlocks": False}


@pytest.mark.parametrize("value", [None, "text", [1], 5])
def test_a_value_that_is_no_document_is_shown_as_the_spec(value: object):
    for key in (Key("IPPool", "p"), Key("IPAMBlock", "10-0-0-0-26")):
        found = document_of(key, value)
        assert found["spec"] == value
        assert (found["kind"], found["metadata"]) == (key.kind, {"name": key.name})


def test_the_path_decides_about_the_name():
    found = document_of(
        Key("NetworkPolicy", "a", "ns"), {"kind": "NetworkPolicy", "metadata": {"name": "b", "uid": "1"}}
    )
    assert found["metadata"] == {"name": "a", "namespace": "ns", "uid": "1"}


def test_a_nodes_affinities_have_a_prefix_of_their_own():
    assert prefixes("BlockAffinity", node="n1") == ["/calico/ipam/v2/host/n1/"]
