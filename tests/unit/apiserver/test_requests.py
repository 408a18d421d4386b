"""What a path means."""

import pytest

from felixlite.apiserver.requests import target
from felixlite.apiserver.status import Refused


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("/api/v1/namespaces", ("namespaces", "", "", "")),
        ("/api/v1/namespaces/shop", ("namespaces", "", "shop", "")),
        ("/api/v1/namespaces/shop/status", ("namespaces", "", "shop", "status")),
        ("/api/v1/namespaces/shop/pods", ("pods", "shop", "", "")),
        ("/api/v1/namespaces/shop/pods/web/status", ("pods", "shop", "web", "status")),
        ("/api/v1/nodes/n1", ("nodes", "", "n1", "")),
        ("/apis/projectcalico.org/v3/ippools/a%2Fb", ("ippools", "", "a/b", "")),
        ("/apis/crd.projectcalico.org/v1/ipamconfigs", ("ipamconfigs", "", "", "")),
    ],
)
def test_a_path_names_a_resource(path: str, expected: tuple[str, str, str, str]) -> None:
    found = target(path)
    assert found
    assert (found.served.plural, found.namespace, found.name, found.subresource) == expected


@pytest.mark.parametrize(
    "path",
    ["/", "/api", "/api/v1", "/apis/projectcalico.org/v3", "/api/v1/ippools", "/apis/projectcalico.org/v1/ippools",
     "/api/v1/namespaces/shop/nodes", "/api/v1/namespaces/shop/pods/web/status/more"],
)  # fmt: skip
def test_other_paths_name_none(path: str) -> None:
    assert target(path) is None


def test_a_collection_cannot_be_put() -> None:
    found = target("/api/v1/nodes")
    assert found
    with pytest.raises(Refused, match="does not allow this method"):
        found.verb("PUT", watch=False)
