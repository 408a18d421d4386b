"""The store of files on a real file system, with inotify, locks between processes, and crashes."""

import fcntl
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from felixlite.datastore import connect
from felixlite.datastore.file import FileStore
from felixlite.datastore.store import Changed, Deleted, Key
from felixlite.errors import Compacted, Conflict, Misconfigured, Unreachable
from tests.support import history
from tests.support.store_contract import POOL, StoreContract, document, listening, without_birth


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "store"


@pytest.fixture
def store(folder: Path) -> Iterator[FileStore]:
    found = FileStore(folder)
    yield found
    found.close()


class TestFile(StoreContract):
    pass


POOL_TEXT = """\
apiVersion: projectcalico.org/v3
kind: IPPool
metadata:
  name: a
spec:
  cidr: 10.0.0.0/16 # by hand
"""


def by_hand(folder: Path, path: str, text: str) -> None:
    """As an editor does it that writes in place."""
    file = folder / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)


def python(*arguments: str, script: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *arguments], stderr=subprocess.PIPE)


def test_a_file_written_by_hand_is_an_object(store: FileStore, folder: Path):
    by_hand(folder, "ippools/a.yaml", POOL_TEXT)
    found = store.get(POOL)
    assert found
    assert found.document["spec"] == {"cidr": "10.0.0.0/16"}
    assert [entry.key for entry in store.list("IPPool").entries] == [POOL]


def test_a_file_needs_only_its_spec(store: FileStore, folder: Path):
    by_hand(
        folder,
        "networkpolicies/shop/web.yaml",
        "apiVersion: projectcalico.org/v3\nkind: NetworkPolicy\nspec: {order: 1}\n",
    )
    found = store.get(Key("NetworkPolicy", "web", "shop"))
    assert found
    assert found.document["metadata"] == {"name": "web", "namespace": "shop"}


def test_what_an_editor_does_is_heard(store: FileStore, folder: Path):
    with listening(store, {"IPPool": store.list("IPPool").revision}) as heard:
        by_hand(folder, "ippools/a.yaml", POOL_TEXT)
        made = heard.next()
        assert isinstance(made, Changed)
        assert made.entry.document["spec"] == {"cidr": "10.0.0.0/16"}
        by_hand(folder, "ippools/.a.yaml.swp", "rubbish")
        by_hand(folder, "ippools/new", POOL_TEXT.replace("16", "17"))
        (folder / "ippools/new").rename(folder / "ippools/a.yaml")
        changed = heard.next()
        assert isinstance(changed, Changed)
        assert changed.entry.document["spec"] == {"cidr": "10.0.0.0/17"}
        (folder / "ippools/a.yaml").unlink()
        assert isinstance(heard.next(), Deleted)
        assert heard.is_quiet()


def test_a_folder_that_comes_or_goes_is_heard(store: FileStore, folder: Path, tmp_path: Path):
    by_hand(tmp_path, "elsewhere/shop/web.yaml", "spec: {}\n")
    with listening(store, {"NetworkPolicy": store.list("NetworkPolicy").revision}) as heard:
        (tmp_path / "elsewhere").rename(folder / "networkpolicies")
        assert isinstance(heard.next(), Changed)
        by_hand(folder, "networkpolicies/shop/api.yaml", "spec: {}\n")
        assert isinstance(heard.next(), Changed)
        shutil.rmtree(folder / "networkpolicies")
        assert {type(heard.next()), type(heard.next())} == {Deleted}


def test_what_another_process_writes_is_heard_once(store: FileStore, folder: Path):
    other = FileStore(folder)
    with listening(store, {"IPPool": store.list("IPPool").revision}) as heard:
        made = other.create(POOL, document(POOL))
        assert heard.next() == Changed(made)
        assert heard.is_quiet()
    other.close()


@pytest.mark.parametrize(
    "text", ["a: [1", "- 1\n- 2\n", "a: 1\n---\nb: 2\n", "\x00", "&a [*a]", "x: 99999999999999999999999"]
)
def test_a_file_that_is_no_document_is_an_object_with_the_reason_as_its_spec(store: FileStore, folder: Path, text: str):
    by_hand(folder, "ippools/bad.yaml", text)
    by_hand(folder, "ippools/a.yaml", POOL_TEXT)
    good, bad = store.list("IPPool").entries
    assert good.document["spec"] == {"cidr": "10.0.0.0/16"}
    assert bad.key.name == "bad"
    assert not isinstance(bad.document.get("spec"), dict)


def test_a_file_that_is_just_being_written_is_what_it_was(store: FileStore, folder: Path):
    by_hand(folder, "ippools/a.yaml", "")
    assert store.get(POOL) is None
    by_hand(folder, "ippools/a.yaml", POOL_TEXT)
    found = store.get(POOL)
    assert found
    by_hand(folder, "ippools/a.yaml", "")
    assert store.get(POOL) == found
    assert store.strays() == ["ippools/a.yaml"]


def test_bytes_that_are_no_text_are_told_too(store: FileStore, folder: Path):
    by_hand(folder, "ippools/bad.yaml", "x")
    (folder / "ippools/bad.yaml").write_bytes(b"\xff\xfe")
    assert "utf-8" in store.list("IPPool").entries[0].document["spec"]


def test_an_edit_by_hand_makes_a_swap_lose(store: FileStore, folder: Path):
    made = store.create(POOL, document(POOL, n=1))
    file = folder / "ippools/a.yaml"
    file.write_text(file.read_text().replace("n: 1", "n: 2"))
    with pytest.raises(Conflict):
        store.update(POOL, document(POOL, n=3), made.revision)
    assert without_birth(store.get(POOL))["spec"] == {"n": 2}


def test_files_are_the_owners_alone_and_readable_to_people(store: FileStore, folder: Path):
    store.create(Key("NetworkPolicy", "web", "shop"), document(Key("NetworkPolicy", "web", "shop"), types=["Ingress"]))
    file = folder / "networkpolicies/shop/web.yaml"
    assert "  types:\n  - Ingress\n" in file.read_text()
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_dir()} | {
        oct(folder.stat().st_mode & 0o777)
    } == {"0o700"}
    assert {oct(path.stat().st_mode & 0o777) for path in folder.rglob("*") if path.is_file()} == {"0o600"}


def test_no_name_leads_out_of_the_folder(store: FileStore, folder: Path):
    for name in ("../../x", "/etc/x", ".hidden", "..", "a/b", "ü"):
        key = Key("IPAMHandle", name)
        store.create(key, document(key, handleID=name))
        assert store.get(key)
    assert {entry.key.name for entry in store.list("IPAMHandle").entries} == {
        "../../x",
        "/etc/x",
        ".hidden",
        "..",
        "a/b",
        "ü",
    }
    assert [path.name for path in folder.parent.iterdir()] == ["store"]


def test_files_that_are_no_objects_are_listed(store: FileStore, folder: Path):
    by_hand(folder, "ippool/a.yaml", POOL_TEXT)
    by_hand(folder, "networkpolicies/web.yaml", "spec: {}")
    by_hand(folder, "ippools/a.yaml", POOL_TEXT)
    assert store.strays() == ["ippool/a.yaml", "networkpolicies/web.yaml"]


COUNT = """
import sys
from pathlib import Path
from felixlite.datastore.file import FileStore
from felixlite.datastore.store import Key
from felixlite.errors import Conflict
store, key = FileStore(Path(sys.argv[1])), Key("IPPool", "a")
done = 0
while done < 30:
    found = store.get(key)
    document = {**found.document, "spec": {"n": found.document["spec"]["n"] + 1}}
    try:
        store.update(key, document, found.revision)
    except Conflict:
        continue
    done += 1
"""


def test_of_processes_that_swap_at_once_one_wins_each_round(store: FileStore, folder: Path):
    store.create(POOL, document(POOL, n=0))
    children = [python(str(folder), script=COUNT) for _ in range(3)]
    for child in children:
        assert child.communicate(timeout=60)[1] == b""
    assert without_birth(store.get(POOL))["spec"] == {"n": 90}


DIE = """
import os, signal, sys
from pathlib import Path
from felixlite.datastore import folder
from felixlite.datastore.file import FileStore
from felixlite.datastore.store import Key, Write
left = int(sys.argv[2])
real = {name: getattr(os, name) for name in ("replace", "unlink")}
def counted(name):
    def call(*args, **kwargs):
        global left
        if left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        left -= 1
        return real[name](*args, **kwargs)
    return call
for name in real:
    setattr(os, name, counted(name))
store = FileStore(Path(sys.argv[1]))
old = store.get(Key("IPPool", "old"))
change = store.get(Key("IPPool", "change"))
store.commit([
    Write(Key("IPPool", "new"), {"spec": {"n": 2}}, None),
    Write(change.key, {**change.document, "spec": {"n": 2}}, change.revision),
    Write(old.key, None, old.revision),
])
"""


def test_a_commit_is_all_or_nothing_wherever_its_process_dies(folder: Path):
    before, after = {"change": 1, "old": 1}, {"change": 2, "new": 2}
    outcomes = []
    for calls in range(20):
        store = FileStore(folder)
        for name in before:
            key = Key("IPPool", name)
            store.create(key, document(key, n=1))
        child = python(str(folder), str(calls), script=DIE)
        said = child.communicate(timeout=60)[1]
        assert child.returncode in (0, -signal.SIGKILL), said
        found = {entry.key.name: entry.document["spec"]["n"] for entry in FileStore(folder).list("IPPool").entries}
        assert found in (before, after)
        outcomes.append(found)
        for entry in store.list("IPPool").entries:
            store.delete(entry.key)
        if child.returncode == 0:
            break
    assert outcomes[0] == before
    assert outcomes[-1] == after
    assert len(outcomes) > 5, "it must have died at every step"


def test_after_a_crash_of_the_machine_what_was_lost_is_not_there_and_in_nobodys_way(store: FileStore, folder: Path):
    block = Key("IPAMBlock", "10-0-0-0-30")
    by_hand(folder, "ipamblocks/10-0-0-0-30.yaml", "")
    by_hand(folder, ".felixlite/journal", "")
    assert store.get(block) is None
    store.create(block, document(block, cidr="10.0.0.0/30"))
    assert [entry.key for entry in store.list("IPAMBlock").entries] == [block]
    assert not (folder / ".felixlite/journal").exists()


def test_a_lock_that_is_never_released_is_told(store: FileStore, folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("felixlite.datastore.folder.LOCK_PATIENCE", 0.05)
    store.create(POOL, document(POOL))
    with (folder / ".felixlite/lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with pytest.raises(Unreachable, match="another process holds the lock"):
            store.get(POOL)
    assert store.get(POOL)


def test_a_folder_that_is_gone_is_a_store_that_is_away_and_not_an_empty_one(store: FileStore, folder: Path):
    store.create(POOL, document(POOL))
    folder.rename(folder.with_name("moved"))
    with pytest.raises(Unreachable, match="gone"):
        store.list("IPPool")
    folder.with_name("moved").rename(folder)
    assert store.get(POOL)


def test_the_revision_to_watch_from_is_good_in_one_process_only(store: FileStore, folder: Path):
    listing = store.list("IPPool")
    other = FileStore(folder)
    with pytest.raises(Compacted):
        other.watch("IPPool", listing.revision)


def test_connect_wants_an_absolute_folder():
    with pytest.raises(Misconfigured, match="absolute"):
        connect("file://relative")


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(Misconfigured, match="must be a folder"):
        connect(f"file://{tmp_path}/file/store")


def test_a_store_of_files_costs_no_import_of_grpc(folder: Path):
    script = "import sys; from felixlite.datastore import connect; connect(sys.argv[1]).close(); sys.exit('grpc' in sys.modules)"
    child = python(f"file://{folder}", script=script)
    assert (child.communicate(timeout=60)[1], child.returncode) == (b"", 0)


def test_nobody_has_an_address_twice_while_processes_share_a_folder(tmp_path: Path):
    url = f"file://{tmp_path}/store"
    (tmp_path / "history").mkdir()
    history.run(url, tmp_path / "history", workers=3, operations=200, disturb=lambda _: None)
    store = connect(url)
    found, wrong = history.verdict(tmp_path / "history", store)
    store.close()
    assert wrong == []
    assert found.operations > 100
