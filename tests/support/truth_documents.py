"""Cases of the truth table that are written as a user writes them: documents, read by the agent's own door (intake.py).

    documented("title", '''
        NetworkPolicy red/p: {selector: app == 'a', ingress: [{action: Allow, protocol: TCP}]}
        Tier security: {order: 1}
    ''', "b>a tcp/80", "b>a udp/53")

Before the colon stand the kind and the name, behind it the spec; `k8s red/p` is a NetworkPolicy of Kubernetes,
`EndpointSlice red/db` belongs to the service of that name.  Labels may stand in the spec.
"""

from typing import Any

import yaml

from felixlite.intake import READERS, Intake, policies_read_by
from felixlite.policy import kubernetes
from felixlite.snapshot import Snapshot, fold
from tests.support.truth import PROFILES, Scenario

_VERSIONS = {
    "k8s": ("networking.k8s.io/v1", "NetworkPolicy"),
    "EndpointSlice": ("discovery.k8s.io/v1", "EndpointSlice"),
}
_KINDS = {"k8s": kubernetes.KIND}


def documented(
    title: str, documents: str, passes: str = "", denied: str = "", *, broken: bool = False, **otherwise: dict[str, Any]
) -> Scenario:
    """`broken`: one of the documents is invalid, and what becomes of it is the point. `otherwise`: by pod."""
    known = known_from(yaml.safe_load(documents) or {})
    assert bool(known.rejected) is broken, known.rejected
    return Scenario(
        title,
        tuple(known.policies.values()),
        passes,
        denied,
        {
            "tiers": known.tiers,
            "network_sets": list(known.network_sets.values()),
            "services": known.services,
            "profiles": {**PROFILES, **known.profiles},
        },
        otherwise,
    )


def known_from(documents: dict[str, Any]) -> Snapshot:
    intake = Intake("here", {**READERS, kubernetes.KIND: policies_read_by(kubernetes.policy)})
    changes = []
    for title, body in documents.items():
        kind, _, where = title.partition(" ")
        namespace, _, name = where.rpartition("/")
        changes += intake.changes((_KINDS.get(kind, kind), name, namespace), _document(kind, namespace, name, body))
    return fold(Snapshot("here"), changes)


def _document(kind: str, namespace: str, name: str, body: dict[str, Any]) -> dict[str, Any]:
    version, real = _VERSIONS.get(kind, ("projectcalico.org/v3", kind))
    labels = {"kubernetes.io/service-name": name} if kind == "EndpointSlice" else (body or {}).pop("labels", {})
    metadata = {"name": name, "labels": labels, **({"namespace": namespace} if namespace else {})}
    rest = body if kind == "EndpointSlice" else {"spec": body or {}}
    return {"apiVersion": version, "kind": real, "metadata": metadata, **rest}
