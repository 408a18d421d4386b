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
from felixlite.policy.apart import Refused
from felixlite.policy.costs import LIBRARY, Account
from felixlite.policy.counting import Tally
from felixlite.policy.rows import Chained, Key, PolicyChain
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
    policy = [*figures.of_rules(Tally((), ()), {}, 4, nft=True), *figures.of_costs({}), *figures.of_reads(2, 0.5)]
    return metrics_text([*figures.samples(loop, totals, lists=2, log_errors=1), *bgp, *policy])


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
        totals.count(Round(number, "x", 0.5, 3, planning=0.125))

    assert (totals.seconds, totals.planning, totals.changes, totals.failures) == (1.0, 0.25, 6, 0)


def test_the_packet_filter_is_told_by_its_size_and_by_what_it_cost():
    account = Account()
    with account.charged(LIBRARY, "one\n"):
        pass
    with account.charged("iptables-nft-restore", "one\ntwo\n"):
        pass
    with pytest.raises(Refused), account.charged("ip6tables-legacy-save"):
        raise Refused("no")
    wanted = {
        Key("policy", name): Chained("h", PolicyChain(f"{owner} {direction}", ()))
        for name, owner, direction in (("pi-a", "NetworkPolicy default/a", "ingress"),
                                       ("po-a", "NetworkPolicy default/a", "egress"), ("pri-k", "Profile k", "ingress"))
    }  # fmt: skip
    tally = Tally((), (), {"pi-a": 2, "po-a": 1})

    text = metrics_text([*figures.of_rules(tally, wanted, 4, nft=True), *figures.of_costs(account.by_program())])

    for line in (
        'felix_active_local_policies{ip_version="4"} 1.0', 'felix_nft_chains{ip_version="4"} 2.0',
        'felix_nft_rules{ip_version="4"} 3.0', "felix_nft_calls_total 1.0", "felix_exec_time_micros_count 2.0",
        'felix_iptables_lines_executed_total{ip_version="4"} 2.0', 'felix_iptables_save_errors_total{ip_version="6"} 1.0',
        'felix_iptables_save_calls_total{ip_version="4"} 0.0', "felix_ipset_calls_total 0.0",
    ):  # fmt: skip
        assert f"\n{line}\n" in text
