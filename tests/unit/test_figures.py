"""Metrics have the names that dashboards and alerts ask for."""

import json
import re
from pathlib import Path

import pytest
import yaml

from felixlite import figures
from felixlite.health import metrics_text
from felixlite.ipam.metrics import MEANINGS
from felixlite.loop import Loop, Planned, Round
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Put, Snapshot

MANIFESTS = Path(__file__).parents[2] / "manifests"
METRIC = re.compile(r"\b(?:felix|felixlite|bgp|rib|ipam)_[a-z_]+\b")


class Empty:
    guard = False

    def __init__(self, name):
        self.name = name

    def read(self):
        return {}

    def upsert(self, items):
        return {}

    def delete(self, keys):
        return {}


@pytest.fixture
def text():
    known = Snapshot("n1")
    tables = [Empty("policy/4"), Empty("routes")]
    totals = figures.Totals()

    loop = Loop(known, lambda *_: Planned({}), Reconciler(tables), report=lambda told, _: totals.count(told))
    loop.put([Put("profiles", "p", object())])
    loop.step(0)
    session = {"peer": "10.0.0.2", "state": "Established", "flaps": 2, "updates": 7, "received": 5, "announced": 3}
    bgp = figures.of_bgp([session | {"error": "received: cease"}], prefixes=5, lag=0.25)
    return metrics_text([*figures.samples(loop, totals, lists=2, log_errors=1), *bgp])


def served(text):
    # a node's own IPAM metrics, and Prometheus' own ending for counters
    names = set(re.findall(r"^([a-z_]+)(?:\{| )", text, re.MULTILINE)) | set(MEANINGS)
    return names | {name.removesuffix("_total") for name in names}


def asked():
    dashboard = json.loads((MANIFESTS / "grafana-dashboard.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            yield from METRIC.findall(target["expr"])
    rules = yaml.safe_load((MANIFESTS / "prometheus-rules.yaml").read_text())
    for group in rules["groups"]:
        for rule in group["rules"]:
            yield from METRIC.findall(rule["expr"])


def test_every_metric_of_the_dashboard_and_of_the_alerts_exists(text):
    wanted = set(asked())

    assert len(wanted) > 15
    assert wanted - served(text) == set()


def test_every_alert_says_what_to_do():
    rules = yaml.safe_load((MANIFESTS / "prometheus-rules.yaml").read_text())["groups"][0]["rules"]

    assert all(rule["annotations"]["description"] and rule["labels"]["severity"] for rule in rules)
    assert len({rule["alert"] for rule in rules}) == len(rules)


def test_what_happened_is_counted(text):
    assert "\nfelix_int_dataplane_messages_total 1.0\n" in text
    assert "\nfelix_resyncs_started_total 2.0\n" in text
    assert '\nfelixlite_table_rows{table="routes"} 0.0\n' in text
    assert '\nbgp_session_up{peer="10.0.0.2"} 1.0\n' in text
    assert '\nbgp_prefixes{direction="in",peer="10.0.0.2"} 5.0\n' in text
    assert '\nbgp_prefixes{direction="out",peer="10.0.0.2"} 3.0\n' in text
    assert '\nbgp_updates_total{peer="10.0.0.2"} 7.0\n' in text
    assert '\nbgp_session_flaps_total{peer="10.0.0.2"} 2.0\n' in text
    assert '\nbgp_last_error{peer="10.0.0.2",reason="received: cease"} 1.0\n' in text
    assert "\nrib_prefixes 5.0\n" in text
    assert "\nroute_sync_lag_seconds 0.25\n" in text


def test_totals_add_up():
    totals = figures.Totals()
    for number in (1, 2):
        totals.count(Round(number, "x", 0.5, 3))

    assert (totals.seconds, totals.changes, totals.failures) == (1.0, 6, 0)
