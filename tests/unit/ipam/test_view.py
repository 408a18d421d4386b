from felixlite.addresses import Prefix
from felixlite.intake import Intake
from felixlite.ipam.assign import Config, View
from felixlite.ipam.view import SnapshotView
from felixlite.model.inside import Block, Node, Pool
from felixlite.snapshot import InSync, Put, Snapshot, fold

POOL = Pool("p", Prefix.parse("10.0.0.0/16"))
BLOCK = Prefix.parse("10.0.0.0/26")


def known(*changes):
    start = Snapshot("n1", pools={"p": POOL}, nodes={"n1": Node("n1", labels={"rack": "a"})})
    return fold(start, [Put("blocks", BLOCK, Block(BLOCK, "n2")), *changes])


def document(kind, spec):
    return {"apiVersion": "projectcalico.org/v3", "kind": kind, "metadata": {"name": "default"}, "spec": spec}


def test_before_the_store_is_in_sync_the_fallback_answers():
    fallback = View((POOL,), Config(strict_affinity=True))

    assert SnapshotView(known, "datastore", lambda: fallback)() is fallback


def test_the_snapshot_has_all_that_an_assignment_needs():
    intake = Intake("n1")
    reservation = intake.changes(
        ("IPReservation", "r", ""), document("IPReservation", {"reservedCIDRs": ["10.0.1.0/24"]})
    )
    limits = {"strictAffinity": True, "maxBlocksPerHost": 3}
    config = intake.changes(("IPAMConfiguration", "default", ""), document("IPAMConfiguration", limits))
    snapshot = known(InSync("datastore"), *reservation, *config)

    view = SnapshotView(lambda: snapshot, "datastore", View)()

    assert tuple(view.pools) == (POOL,)
    assert view.node_labels == {"rack": "a"}
    assert view.config == Config(strict_affinity=True, max_blocks=3)
    assert tuple(view.reservations) == (Prefix.parse("10.0.1.0/24"),)
    assert view.blocks is not None
    assert BLOCK in view.blocks


def test_the_view_is_made_once_per_snapshot():
    snapshot = known(InSync("datastore"))
    view = SnapshotView(lambda: snapshot, "datastore", View)

    assert view() is view()
