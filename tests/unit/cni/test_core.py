from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from ipaddress import ip_address
from typing import Any

import pytest

from felixlite.addresses import Prefix
from felixlite.cni.core import Core, unsettled, wait_for
from felixlite.cni.errors import CniError, Code
from felixlite.mirrors import Failure
from felixlite.model.inside import Workload
from felixlite.rows import NeighbourKey, RouteKey
from felixlite.turn import READING, Outcome

WORKLOAD = Workload("n1-k8s-a-eth0", "default", "n1", "cali1", (Prefix.parse("10.0.0.9/32"),))


@dataclass
class Told:
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


def failed(table: str, key: Any) -> Told:
    return Told({table: Outcome(failures={key: Failure(OSError("no"), 1, 0.0, 0.0)})})


@pytest.mark.parametrize(
    ("table", "key"),
    [
        ("routes", RouteKey(Prefix.parse("10.0.0.9/32"))),
        ("neighbours", NeighbourKey("cali1", ip_address("10.0.0.9"))),
        ("sysctls", "net/ipv4/conf/cali1/proxy_arp"),
        ("chains", READING),
    ],
)
def test_a_row_of_the_workload_that_failed_keeps_it_waiting(table: str, key: Any) -> None:
    assert unsettled(failed(table, key), WORKLOAD).startswith(table)


@pytest.mark.parametrize("key", [RouteKey(Prefix.parse("110.0.0.9/32")), "net/ipv4/conf/cali2/proxy_arp"])
def test_somebody_elses_trouble_does_not(key: Any) -> None:
    assert unsettled(failed("routes", key), WORKLOAD) == ""


def test_rows_that_are_held_back_may_be_ours() -> None:
    told = Told({**failed("chains", "other").outcomes, "routes": Outcome(held_back=1)})
    assert "held back" in unsettled(told, WORKLOAD)


def test_a_core_that_does_not_answer_is_a_reason_to_try_again() -> None:
    core = Core(lambda _changes: Future())
    with pytest.raises(CniError) as caught:
        wait_for(core.submit([]), 0.0)
    assert caught.value.code == Code.TRY_AGAIN_LATER


def test_a_core_that_stops_is_a_reason_to_try_again() -> None:
    future: Future[Any] = Future()
    future.cancel()
    with pytest.raises(CniError, match="stopping"):
        wait_for(future, 1.0)
