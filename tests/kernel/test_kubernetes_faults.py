"""The Kubernetes store on bad days: forgotten revisions, busy servers, expired tokens, cut connections."""

import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from felixlite.datastore import connect
from felixlite.datastore.kubernetes import KubernetesStore
from felixlite.datastore.store import Bookmark, Changed, Deleted, Event, Key, Store
from felixlite.errors import Compacted, Denied, Misconfigured, StoreError, Unreachable
from tests.support.apiserver import apiserver
from tests.support.hostile_api import (
    POOLS,
    Hostile,
    bookmark,
    event,
    gives,
    hangs_up,
    hostile_api,
    listing,
    pool,
    refusal,
    status,
    stream,
)
from tests.support.store_contract import listening

GROUPS = gives({"groups": [{"name": "crd.projectcalico.org"}]})
A = Key("IPPool", "a")


@pytest.fixture
def server() -> Iterator[Hostile]:
    with hostile_api() as found:
        found.on("GET", "/apis", GROUPS)
        yield found


@pytest.fixture
def store(server: Hostile, tmp_path: Path) -> Iterator[Store]:
    found = connect(f"kubernetes://{server.kubeconfig(tmp_path)}?timeout=5")
    yield found
    found.close()


def told(found: Event | None) -> tuple[str, str]:
    match found:
        case Changed(entry):
            return "changed", f"{entry.key.name}@{entry.revision}"
        case Deleted(key, _):
            return "deleted", key.name
        case Bookmark(revision):
            return "bookmark", revision
    return "end", ""


# -- lists


def test_a_list_comes_in_pages_and_is_of_one_revision(server: Hostile, store: Store) -> None:
    server.on("GET", POOLS, listing([pool("b", "3")], "7", "more"), listing([pool("a", "4")], "9"))
    found = store.list("IPPool")
    assert ([entry.key.name for entry in found.entries], found.revision) == (["a", "b"], "7")
    assert [one.query.get("continue") for one in server.asked if one.path == POOLS] == [None, "more"]


def test_a_page_that_is_forgotten_begins_the_list_anew(server: Hostile, store: Store) -> None:
    expired = refusal(410, "Expired", "The provided continue parameter is too old")
    server.on("GET", POOLS, listing([pool("a", "3")], "7", "x"), expired, listing([pool("c", "8")], "9"))
    assert [entry.key.name for entry in store.list("IPPool").entries] == ["c"]


def test_a_server_that_is_busy_is_asked_again(server: Hostile, store: Store) -> None:
    busy = refusal(429, "TooManyRequests", "storage is (re)initializing", after=0)
    server.on("GET", POOLS, busy, refusal(503, "ServiceUnavailable"), listing([], "7"))
    assert store.list("IPPool").revision == "7"


def test_a_write_that_a_busy_server_did_not_take_is_written_again(server: Hostile, store: Store) -> None:
    server.on("POST", POOLS, refusal(429, "TooManyRequests", after=0), gives(pool("a", "8"), 201))
    made = store.create(
        A, {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "a"}, "spec": {}}
    )
    assert made.revision == "8"


def test_a_write_without_an_answer_is_not_written_again(server: Hostile, store: Store) -> None:
    server.on("POST", POOLS, hangs_up)
    with pytest.raises(Unreachable, match="whether it was done is not known"):
        store.create(A, {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": "a"}, "spec": {}})
    assert server.times("POST") == 1


def test_a_kind_that_is_not_served_names_the_remedy(store: Store) -> None:
    with pytest.raises(StoreError, match=r"does not serve Tier.*crds\.yaml"):
        store.list("Tier")


# -- who we are


def test_a_token_that_was_replaced_on_the_disk_is_read_when_the_old_one_is_refused(
    server: Hostile, store: Store, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("second\n")
    server.on("GET", POOLS, refusal(401, "Unauthorized", "Unauthorized"), listing([], "7"))
    assert store.list("IPPool").revision == "7"
    assert [one.token for one in server.asked if one.path == POOLS] == ["first", "second"]


def test_a_token_that_another_thread_has_read_already_is_as_new(store: KubernetesStore, tmp_path: Path) -> None:
    first = store._api.access
    (tmp_path / "token").write_text("second\n")
    assert store._api.identify_again(first)
    assert store._api.identify_again(first)  # another request, which was refused with the first one as well
    assert not store._api.identify_again(store._api.access)


def test_a_token_that_stays_refused_is_told_and_not_tried_for_ever(server: Hostile, store: Store) -> None:
    server.on("GET", POOLS, refusal(401, "Unauthorized", "Unauthorized"))
    with pytest.raises(Denied, match="does not accept our token") as told_us:
        store.list("IPPool")
    assert "first" not in str(told_us.value)
    assert sum(1 for one in server.asked if one.path == POOLS) == 1


def test_a_verb_that_we_lack_is_named(server: Hostile, store: Store) -> None:
    message = 'ippools.crd.projectcalico.org is forbidden: User "x" cannot list resource "ippools"'
    server.on("GET", POOLS, refusal(403, "Forbidden", message, kind="ippools"))
    with pytest.raises(Denied, match=r'does not let us list IPPool: .* cannot list resource "ippools"'):
        store.list("IPPool")


def test_a_certificate_of_another_authority_is_refused(tmp_path: Path) -> None:
    with apiserver() as one, apiserver() as other:
        text = one.kubeconfig.read_text().replace(one.url, other.url)
        (tmp_path / "config").write_text(text)
        store = connect(f"kubernetes://{tmp_path / 'config'}")
        with pytest.raises(Denied, match=r"certificate of the API server at .* is not accepted"):
            store.list("IPPool")
        store.close()


def test_an_api_server_elsewhere_is_not_asked_in_plain_text(server: Hostile, tmp_path: Path) -> None:
    path = server.kubeconfig(tmp_path)
    path.write_text(path.read_text().replace("127.0.0.1", "192.0.2.1"))
    with pytest.raises(Misconfigured, match="only over https"):
        connect(f"kubernetes://{path}")


# -- several servers


def test_the_next_server_is_asked_when_one_is_away(server: Hostile, tmp_path: Path) -> None:
    server.on("GET", POOLS, listing([], "7"))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = gone.getsockname()[1]
    servers = f"http://127.0.0.1:{dead},http://127.0.0.1:{server.port},http://127.0.0.1:{dead}"
    store = connect(f"kubernetes://{server.kubeconfig(tmp_path)}?servers={servers}")
    for _ in range(3):
        assert store.list("IPPool").revision == "7"
    store.close()


def test_all_servers_away_is_told_with_the_reason(server: Hostile, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as gone:
        dead = gone.getsockname()[1]
    store = connect(f"kubernetes://{server.kubeconfig(tmp_path)}?servers=http://127.0.0.1:{dead}")
    with pytest.raises(Unreachable, match=rf"127\.0\.0\.1:{dead}: connection refused"):
        store.list("IPPool")
    store.close()


# -- watches


@pytest.mark.parametrize("piece", [1 << 20, 1, 7])
def test_events_are_read_whatever_pieces_they_come_in(server: Hostile, store: Store, piece: int) -> None:
    events = [event("ADDED", pool("a", "8")), bookmark("9"), event("DELETED", pool("a", "10"))]
    server.on("WATCH", POOLS, stream(*events, piece=piece))
    with listening(store, {"IPPool": "7"}) as heard:
        assert [told(heard.next()) for _ in range(3)] == [("changed", "a@8"), ("bookmark", "9"), ("deleted", "a")]


@pytest.mark.parametrize("way", ["cut", "ended"])
def test_a_watch_goes_on_after_the_last_revision_that_it_heard_of(server: Hostile, store: Store, way: str) -> None:
    first = stream(event("ADDED", pool("a", "8")), bookmark("50"), cut=way == "cut", ends=way == "ended")
    server.on("WATCH", POOLS, first, stream(event("ADDED", pool("b", "51"))))
    with listening(store, {"IPPool": "7"}) as heard:
        assert [told(heard.next())[1] for _ in range(3)] == ["a@8", "50", "b@51"]
    assert [one.query["resourceVersion"] for one in server.asked if one.method == "WATCH"] == ["7", "50"]


@pytest.mark.parametrize(
    "answer",
    [
        refusal(410, "Expired", "too old resource version: 1 (239)"),
        stream(event("ERROR", status(410, "Expired", "too old resource version: 1 (239)"))),
    ],
    ids=["as a refusal", "as an event"],
)
def test_a_forgotten_revision_ends_the_watch_and_wants_a_list(server: Hostile, store: Store, answer) -> None:  # type: ignore[no-untyped-def]
    server.on("WATCH", POOLS, answer)
    with listening(store, {"IPPool": "1"}) as heard, pytest.raises(Compacted, match="too old resource version"):
        heard.next()


def test_a_watch_that_is_refused_for_a_moment_is_opened_again(server: Hostile, store: Store) -> None:
    busy = refusal(429, "TooManyRequests", "storage is (re)initializing", after=0)
    server.on("WATCH", POOLS, busy, stream(event("ADDED", pool("a", "8"))))
    with listening(store, {"IPPool": "7"}) as heard:
        assert told(heard.next()) == ("changed", "a@8")


def test_a_watch_whose_token_expired_goes_on_with_the_new_one(server: Hostile, store: Store, tmp_path: Path) -> None:
    (tmp_path / "token").write_text("second")
    server.on("WATCH", POOLS, refusal(401, "Unauthorized"), stream(event("ADDED", pool("a", "8"))))
    with listening(store, {"IPPool": "7"}) as heard:
        assert told(heard.next()) == ("changed", "a@8")


def test_a_watch_that_is_forbidden_is_told(server: Hostile, store: Store) -> None:
    server.on("WATCH", POOLS, refusal(403, "Forbidden", 'cannot watch resource "ippools"', kind="ippools"))
    with listening(store, {"IPPool": "7"}) as heard, pytest.raises(Denied, match="watch IPPool"):
        heard.next()


def test_what_is_no_http_and_no_event_is_not_believed(server: Hostile, store: Store) -> None:
    rubbish = stream({"no": "event"})
    server.on("WATCH", POOLS, rubbish, stream(event("ADDED", pool("a", "8"))))
    with listening(store, {"IPPool": "7"}) as heard:
        assert told(heard.next()) == ("changed", "a@8")


def test_servers_that_stay_away_end_the_watch_at_last(
    server: Hostile, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("felixlite.datastore.kube_watch.PATIENCE", 0.5)
    server.on("WATCH", POOLS, hangs_up)
    with listening(store, {"IPPool": "7"}) as heard, pytest.raises(Unreachable, match="watch IPPool"):
        heard.next()
    assert server.times("WATCH") > 1


# -- objects


def test_a_write_that_changes_nothing_is_a_new_revision_all_the_same(server: Hostile, store: Store) -> None:
    """A real API server keeps an object that is written as it was, revision and all."""
    path = f"{POOLS}/a"
    server.on("GET", path, gives(pool("a", "8")))
    server.on("PUT", path, gives(pool("a", "8")), gives(pool("a", "9")))
    entry = store.get(A)
    assert entry
    assert store.update(A, entry.document, "8").revision == "9"
    assert server.times("PUT") == 2
    assert server.asked[-1].body["metadata"]["annotations"] == {"felixlite.io/touched": "8"}


def test_a_status_that_is_a_resource_of_its_own_is_written_there(server: Hostile, store: Store) -> None:
    path, conditions = f"{POOLS}/a", {"conditions": [{"type": "Allocatable", "status": "False"}]}
    server.on("GET", path, gives(pool("a", "8")))
    server.on("PUT", path, gives(pool("a", "8")))
    server.on("PUT", f"{path}/status", gives({**pool("a", "9"), "status": conditions}))
    entry = store.get(A)
    assert entry
    written = store.update(A, {**entry.document, "status": conditions}, "8")
    assert (written.revision, written.document["status"]) == ("9", conditions)
    assert server.asked[-1].path == f"{path}/status"
    assert server.asked[-1].body["metadata"]["resourceVersion"] == "8"


@pytest.mark.parametrize(
    ("annotations", "kept"),
    [
        ({"projectcalico.org/metadata": '{"labels": {"x": "y"}}', "helm": "1"}, {"x": "z"}),
        ({"helm": "1"}, {"x": "z"}),
    ],
    ids=["as Calico writes them", "as kubectl writes them"],
)
def test_labels_of_others_stay_when_an_object_is_updated(
    server: Hostile, store: Store, annotations: dict[str, str], kept: dict[str, str]
) -> None:
    there = pool("a", "8", labels={"x": "y"}, annotations=annotations)
    server.on("GET", f"{POOLS}/a", gives(there))
    server.on("PUT", f"{POOLS}/a", gives(pool("a", "9")))
    entry = store.get(A)
    assert entry
    assert entry.document["metadata"]["labels"] == {"x": "y"}
    changed = {**entry.document, "metadata": {**entry.document["metadata"], "labels": kept}}
    store.update(A, changed, "8")
    sent = server.asked[-1].body["metadata"]
    assert sent["annotations"]["helm"] == "1"
    if "projectcalico.org/metadata" in annotations:
        assert (sent["labels"], '"z"' in sent["annotations"]["projectcalico.org/metadata"]) == ({"x": "y"}, True)
    else:
        assert sent["labels"] == kept
        assert "projectcalico.org/metadata" not in sent["annotations"]
