"""The fast path on the kernel at hand, which may have none (tests/vm has one and sends packets over it)."""

import pytest

from felixlite.addresses import Prefix
from felixlite.plan import NodePlanner, Surroundings
from felixlite.policy.apart import Refused
from felixlite.policy.fastpath import NAME, fast_path
from felixlite.policy.flowtable import FlowTable, fault
from felixlite.reconcile import Reconciler
from felixlite.snapshot import Snapshot
from tests.support.netns import namespace
from tests.support.overlays import link, node

WANTED = fast_path(("cali",), ["lo"], {"lo"})


def planned(why, **settings):
    here = Snapshot(
        "n1",
        nodes={"n1": node("n1", "192.0.2.1/24")},
        links={"eth0": link("eth0")},
        link_addresses={("eth0", "192.0.2.1/24"): Prefix.parse("192.0.2.0/24")},
        felix_configurations={"default": settings},
    )
    return NodePlanner(Surroundings(fast_path_fault=lambda: why))(here, 0.0)


def test_what_the_probe_says_is_what_the_kernel_does():
    with namespace("fp") as space:
        why, table = space.run(fault), FlowTable()
        refused = space.run(table.upsert, WANTED)

        assert bool(why) == bool(refused)
        assert space.run(table.read) == ({} if why else WANTED)
        for error in refused.values():
            assert isinstance(error, Refused)


def test_a_kernel_without_it_is_told_of_and_nothing_fails():
    told = planned("the kernel has none", nftablesFlowTableOffload="All")
    with namespace("fp") as space:
        outcome = space.run(Reconciler([FlowTable()]).converge, {NAME: told.tables[NAME]}, 0.0, may_delete=True)[NAME]

    assert told.tables[NAME] == ({},)
    assert any(note.endswith("the kernel has none") and "nftablesFlowTableOffload" in note for note in told.notes(0.0))
    assert (outcome.written, outcome.removed, outcome.failures) == (0, 0, {})


@pytest.mark.parametrize("settings", [{}, {"nftablesFlowTableOffload": "Disabled"}])
def test_nobody_is_asked_where_nobody_wants_it(settings):
    def asked():
        raise AssertionError("asked")

    told = NodePlanner(Surroundings(fast_path_fault=asked))
    here = Snapshot("n1", nodes={"n1": node("n1", "192.0.2.1/24")}, felix_configurations={"default": settings})

    assert told(here, 0.0).tables[NAME] == ({},)
    assert not any("FlowTable" in note for note in told(here, 0.0).notes(0.0))


def test_where_it_is_wanted_and_possible_the_uplink_takes_part():
    assert [str(key) for key in planned("", nftablesFlowTableOffload="All").tables[NAME][0]] == [
        "rules pods",
        "device eth0",
    ]
