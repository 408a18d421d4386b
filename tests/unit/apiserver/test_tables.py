"""Rows as `kubectl get` prints them."""

from datetime import UTC, datetime, timedelta

import pytest

from felixlite.apiserver.tables import age, at, ports, selector

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [(0, "0s"), (119, "119s"), (120, "2m"), (450, "7m30s"), (600, "10m"), (10800, "3h"), (11100, "3h5m"), (40000, "11h"),
     (172800, "2d"), (180000, "2d2h"), (864000, "10d"), (86400 * 800, "2y70d"), (-5, "0s")],
)  # fmt: skip
def test_ages(seconds: int, shown: str) -> None:
    assert age((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == shown


@pytest.mark.parametrize("birth", [None, "", "yesterday", 7, "2026-11-21T11:00:00"])
def test_an_age_that_cannot_be_known(birth: object) -> None:
    assert age(birth, NOW) == "<unknown>"


@pytest.mark.parametrize(
    ("path", "found"),
    [
        (".spec.cidr", "10.0.0.0/8"),
        (".spec.nothing.there", None),
        (".metadata.annotations.a\\.b/c", "d"),
        (".status.conditions[?(@.type=='Ready')].status", "True"),
        (".status.conditions[0].type", "Ready"),
        (".status.conditions[3].type", None),
        (".spec.cidr[0]", None),
    ],
)
def test_paths(path: str, found: object) -> None:
    document = {
        "spec": {"cidr": "10.0.0.0/8"},
        "metadata": {"annotations": {"a.b/c": "d"}},
        "status": {"conditions": [{"type": "Ready", "status": "True"}]},
    }
    assert at(document, path) == found


def test_every_column_of_every_kind_has_a_path_that_can_be_read() -> None:
    from felixlite.apiserver.catalogue import everything

    for served in everything():
        for printer in served.printer:
            assert at({}, printer.path) is None, served.title


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ({}, "<none>"),
        (None, "<none>"),
        ({"matchLabels": {"b": "2", "a": "1"}}, "a=1,b=2"),
        ({"matchExpressions": [{"key": "a", "operator": "Exists"}, {"key": "b", "operator": "DoesNotExist"}]}, "a,!b"),
        ({"matchExpressions": [{"key": "a", "operator": "NotIn", "values": ["x", "y"]}]}, "a notin (x,y)"),
    ],
)
def test_selectors(given: object, shown: str) -> None:
    assert selector(given) == shown


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (None, "<none>"),
        ([{"port": 53, "protocol": "UDP"}, {"port": 80, "nodePort": 30080}], "53/UDP,80:30080/TCP"),
        (["nonsense"], "<none>"),
    ],
)
def test_ports_of_a_service(given: object, shown: str) -> None:
    assert ports(given) == shown


def test_what_nobody_here_reads_has_a_place_in_the_store() -> None:
    from felixlite.apiserver.catalogue import everything
    from felixlite.apiserver.running import FLEETING
    from felixlite.model.kinds import KINDS
    from felixlite.model.kuberneteskinds import BROUGHT_ALONG

    others = {served.stored: served.namespaced for served in everything() if served.stored not in KINDS}
    assert {kind: namespaced for kind, namespaced in others.items() if kind not in FLEETING} == BROUGHT_ALONG
