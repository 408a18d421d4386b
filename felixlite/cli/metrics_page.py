"""docs/metrics.md, made from what agents serve: `curl -s http://NODE:9091/metrics | ./run py -m felixlite.cli.metrics_page`.

Several answers may come one after the other: what a node serves depends on its policy backend.
"""

import sys
from collections.abc import Iterable

from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

HEAD = """# Metrics

What an agent serves at `http://NODE:9091/metrics` once FelixConfiguration says `prometheusMetricsEnabled: true`. Names are
Calico's where they mean the same. `felixlite controllers` serves those of addresses (`ipam_`) for all nodes, at
`http://localhost:9094/metrics`. Made from running nodes, one on nftables and one on each kind of iptables; a test compares. A
dashboard and alert rules that use them are in [manifests/](../manifests/).

| metric | kind | labels | what it says |
|---|---|---|---|
"""


def families(text: str) -> dict[str, Metric]:
    found: dict[str, Metric] = {}
    for family in text_string_to_metric_families(text):
        found.setdefault(family.name, family).samples.extend(family.samples)
    return found


def page(served: Iterable[Metric]) -> str:
    return HEAD + "".join(f"{_row(family)}\n" for family in sorted(served, key=lambda family: family.name))


def _row(family: Metric) -> str:
    name = family.name + ("_total" if family.type == "counter" else "")
    labels = sorted({label for sample in family.samples for label in sample.labels} - {"le"})
    return f"| `{name}` | {family.type} | {', '.join(labels) or '-'} | {family.documentation} |"


if __name__ == "__main__":
    sys.stdout.write(page(families(sys.stdin.read()).values()))
