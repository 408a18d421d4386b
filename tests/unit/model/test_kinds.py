from felixlite.model import kinds
from felixlite.model.kind import CRD_GROUP, at


def test_a_kind_is_found_by_every_name_it_has() -> None:
    for alias in ("IPPool", "ippool", "IPPools", "pool", "ipp", "pools"):
        found = kinds.named(alias)
        assert found is not None
        assert found.name == "IPPool"


def test_networkpolicy_means_calicos_and_netpol_kubernetes() -> None:
    assert kinds.named("networkpolicies") is kinds.KINDS["NetworkPolicy"]
    assert kinds.named("netpol") is kinds.KINDS["KubernetesNetworkPolicy"]


def test_no_two_kinds_share_an_alias() -> None:
    seen: dict[str, str] = {}
    for kind in kinds.KINDS.values():
        for alias in {kind.name.lower(), *kind.short}:
            assert seen.setdefault(alias, kind.name) == kind.name


def test_no_two_kinds_share_a_folder_in_etcd() -> None:
    plurals = [kind.stored_plural for kind in kinds.KINDS.values()]
    assert len(set(plurals)) == len(plurals)


def test_both_groups_of_calico_describe_the_same_kind() -> None:
    assert kinds.described("projectcalico.org/v3", "IPAMConfiguration") is kinds.described(
        "crd.projectcalico.org/v1", "IPAMConfig"
    )


def test_a_network_policy_of_kubernetes_is_a_kind_of_its_own() -> None:
    assert kinds.described("networking.k8s.io/v1", "NetworkPolicy") is kinds.KINDS["KubernetesNetworkPolicy"]
    assert kinds.described("projectcalico.org/v3", "NetworkPolicy") is kinds.KINDS["NetworkPolicy"]


def test_an_unknown_kind_is_nothing() -> None:
    assert kinds.named("gizmo") is None
    assert kinds.described("v1", "Gizmo") is None
    assert kinds.in_plural("gizmos") is None


def test_a_column_takes_the_first_alternative_that_is_there() -> None:
    document = {"spec": {"node": "", "nodeSelector": "all()"}}
    assert at(document, "spec.node|spec.nodeSelector") == "all()"
    assert at(document, "spec.bgp.asNumber") is None


def test_a_plural_is_looked_up_in_its_group() -> None:
    assert kinds.in_plural("networkpolicies", "networking.k8s.io") is kinds.KINDS["KubernetesNetworkPolicy"]
    assert kinds.in_plural("ipamconfigs", CRD_GROUP) is kinds.KINDS["IPAMConfiguration"]
    assert kinds.in_plural("pods", "") is kinds.KINDS["Pod"]
