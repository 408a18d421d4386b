"""Which cluster a node is in: the first that it saw."""

from pathlib import Path

import pytest

from felixlite.cluster import FILE, KEY, join, remembered
from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Store
from felixlite.errors import Misconfigured


def of(guid: object) -> Store:
    store = MemoryStore()
    store.create(KEY, {"kind": KEY.kind, "metadata": {"name": KEY.name}, "spec": {"clusterGUID": guid}})
    return store


def test_a_new_node_of_a_new_cluster_begins_it_and_the_next_one_is_in_the_same(tmp_path: Path) -> None:
    store = MemoryStore()
    for node in ("n1", "n2"):
        join(store, tmp_path / node)
    assert remembered(tmp_path / "n1") == remembered(tmp_path / "n2") != ""
    assert (tmp_path / "n1").stat().st_mode & 0o077 == 0


def test_the_identity_that_calico_gave_the_cluster_is_noted(tmp_path: Path) -> None:
    join(of("abc"), tmp_path)
    join(of("abc"), tmp_path)
    assert remembered(tmp_path) == "abc"


def test_another_cluster_is_refused_with_what_to_do_and_stays_refused(tmp_path: Path) -> None:
    join(of("ours"), tmp_path)
    other = of("theirs")
    for _ in range(2):
        with pytest.raises(Misconfigured, match=f"'theirs'.*'ours'.*--store.*remove {tmp_path / FILE}"):
            join(other, tmp_path)
    assert remembered(tmp_path) == "ours"


def test_a_store_that_was_begun_anew_gets_the_identity_of_its_nodes(tmp_path: Path) -> None:
    join(of("ours"), tmp_path)
    fresh = MemoryStore()
    join(fresh, tmp_path)
    entry = fresh.get(KEY)
    assert entry
    assert entry.document["spec"]["clusterGUID"] == "ours"


@pytest.mark.parametrize("guid", ["", None])
def test_a_cluster_without_an_identity_is_taken_as_it_is(tmp_path: Path, guid: object) -> None:
    join(of(guid), tmp_path)
    assert remembered(tmp_path) == ""


def test_a_note_that_cannot_be_written_names_the_option(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="--state-dir"):
        join(of("ours"), tmp_path / "file")
