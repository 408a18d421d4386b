"""10,000 resources parsed and validated, from YAML's mappings to the values that planners read; limit 3 s."""

import time
from collections.abc import Callable
from typing import Any

from felixlite.model.parse import parse

COUNT, LIMIT = 10_000, 3.0
Document = dict[str, Any]


def pool(i: int) -> Document:
    spec = {
        "cidr": f"10.{i >> 8 & 255}.{i & 255}.0/24",
        "ipipMode": "CrossSubnet",
        "natOutgoing": True,
        "blockSize": 26,
        "nodeSelector": f"zone == 'z{i}'",
    }
    return _document("IPPool", {"name": f"pool-{i}", "labels": {"n": str(i)}}, spec)


def policy(i: int) -> Document:
    rules = [
        {
            "action": "Allow",
            "protocol": "TCP",
            "source": {
                "selector": f"app == 'client-{i}' && tier in {{'web', 'api'}}",
                "nets": [f"10.0.{i & 255}.0/24"],
            },
            "destination": {"ports": [80, 443, "8000:8080"]},
        },
        {"action": "Allow", "protocol": "UDP", "source": {"namespaceSelector": "team == 'a'"}},
        {"action": "Deny"},
    ]
    spec = {
        "order": i,
        "selector": f"app == 'app-{i}'",
        "types": ["Ingress", "Egress"],
        "ingress": rules,
        "egress": rules,
    }
    return _document("NetworkPolicy", {"name": f"policy-{i}", "namespace": f"ns-{i % 50}"}, spec)


def endpoint(i: int) -> Document:
    spec = {
        "node": f"n{i % 100}",
        "orchestrator": "k8s",
        "pod": f"pod-{i}",
        "endpoint": "eth0",
        "ipNetworks": [f"10.{i >> 8 & 255}.{i & 255}.1/32"],
        "interfaceName": f"cali{i:011x}",
        "profiles": ["kns.default", "ksa.default.default"],
        "ports": [{"name": "http", "protocol": "TCP", "port": 80}],
    }
    metadata = {"name": f"w-{i}", "namespace": "default", "labels": {"app": f"app-{i}", "tier": "web"}}
    return _document("WorkloadEndpoint", metadata, spec)


def _document(kind: str, metadata: Document, spec: Document) -> Document:
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": metadata, "spec": spec}


def main() -> list[dict[str, Any]]:
    rows = []
    makers: dict[str, Callable[[int], Document]] = {
        "IPPools": pool,
        "NetworkPolicies": policy,
        "WorkloadEndpoints": endpoint,
    }
    for name, make in makers.items():
        documents = [make(i) for i in range(COUNT)]
        started = time.perf_counter()
        for document in documents:
            parse(document, strict=True).inside()
        seconds = time.perf_counter() - started
        print(f"{COUNT} {name}: {seconds:.2f} s, limit {LIMIT} s")
        rows.append({"name": name, "ours": seconds, "yardstick": LIMIT, "ratio": seconds / LIMIT, "unit": "s"})
    return rows


if __name__ == "__main__":
    main()
