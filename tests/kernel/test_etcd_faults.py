# ruff: noqa: SIM117  what is expected to fail stands in a block of its own
"""What can go wrong with a real etcd, one by one: what the store says then, and that it is well again afterwards."""

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from felixlite.datastore import connect, etcd_watch
from felixlite.datastore import etcd as etcd_module
from felixlite.datastore.store import Changed, Key, Store
from felixlite.errors import Compacted, Denied, StoreError, Unreachable
from tests.support.certificates import Authority
from tests.support.etcd import Etcd, cluster, cluster_url, etcd, free_port
from tests.support.store_contract import POOL, document, listening, without_birth

PATIENCE = 15.0
B = POOL._replace(name="b")


@contextmanager
def connected(url: str) -> Iterator[Store]:
    store = connect(url, {})
    try:
        yield store
    finally:
        store.close()


def eventually(work: Callable[[], object]) -> object:
    """Try until it is no longer a StoreError."""
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        with suppress(Unreachable):
            return work()
        time.sleep(0.02)
    return work()


def url(server: Etcd, **parameters: object) -> str:
    return f"etcd://{server.endpoint}?" + "&".join(f"{name}={value}" for name, value in parameters.items())


# -- the server goes away


def test_an_etcd_that_is_not_there_is_named_with_the_reason():
    port = free_port()
    with (
        connected(f"etcd://127.0.0.1:{port}") as store,
        pytest.raises(Unreachable, match=f"127.0.0.1:{port}: Connection refused"),
    ):
        store.get(POOL)


def test_a_killed_etcd_ends_its_watches_and_is_used_again_when_it_is_back():
    with etcd() as server, connected(server.url) as store:
        made = store.create(POOL, document(POOL))
        with listening(store, {"IPPool": made.revision}) as heard:
            store.create(B, document(B))
            assert heard.next()
            server.kill()
            with pytest.raises(Unreachable):
                heard.next()
        with pytest.raises(Unreachable):
            store.update(POOL, document(POOL), made.revision)
        server.start()
        assert eventually(lambda: store.get(POOL)) == made
        with listening(store, {"IPPool": made.revision}) as heard:
            assert isinstance(heard.next(), Changed)


def test_a_frozen_etcd_is_given_up_in_time_by_requests_and_watches(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(etcd_watch, "PROBE_EVERY", 0.3)
    with etcd() as server, connected(url(server, timeout=0.5)) as store:
        made = store.create(POOL, document(POOL))
        with listening(store, {"IPPool": made.revision}) as heard:
            store.create(B, document(B))
            assert heard.next()
            server.freeze()
            with pytest.raises(Unreachable, match=r"did not answer within 0.5 s"):
                store.get(POOL)
            with pytest.raises(Unreachable, match="fell silent"):
                heard.next(PATIENCE)
        server.thaw()
        assert eventually(lambda: store.get(POOL)) == made


def test_a_watch_that_has_nothing_to_tell_is_not_taken_for_dead(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(etcd_watch, "PROBE_EVERY", 0.1)
    with etcd() as server, connected(server.url) as store, listening(store, {"IPPool": "1"}) as heard:
        time.sleep(1)  # ten probes
        store.create(POOL, document(POOL))
        assert isinstance(heard.next(), Changed)


# -- a cluster


def test_when_the_member_in_use_dies_the_next_one_is_asked():
    with cluster(3) as members, connected(cluster_url(members)) as store:
        made = store.create(POOL, document(POOL, n=1))
        with listening(store, {"IPPool": made.revision}) as heard:
            store.create(B, document(B))
            assert heard.next()
            members[0].kill()
            with pytest.raises(Unreachable):
                heard.next()
        assert eventually(lambda: store.get(POOL)) == made
        changed = eventually(lambda: store.update(POOL, document(POOL, n=2), made.revision))
        with listening(store, {"IPPool": made.revision}) as heard:
            assert isinstance(heard.next(), Changed)
            assert heard.next() == Changed(changed)


def test_a_frozen_member_is_left_for_one_that_answers():
    with cluster(3) as members, connected(cluster_url(members) + "?timeout=1") as store:
        made = store.create(POOL, document(POOL))
        members[0].freeze()
        assert eventually(lambda: store.get(POOL)) == made
        chosen = store._cluster.connection().endpoint
        members[0].thaw()
        assert store.get(POOL) == made
        assert store._cluster.connection().endpoint == chosen, "nobody goes back without need"


def test_a_member_that_lost_the_others_ends_its_watches():
    with cluster(3) as members, connected(members[0].url) as store:
        since = store.list("IPPool").revision
        with listening(store, {"IPPool": since}) as heard:
            store.create(POOL, document(POOL))
            assert heard.next()
            for member in members[1:]:
                member.kill()
            with pytest.raises(StoreError, match=r"no leader|fell silent|did not answer"):
                heard.next(PATIENCE)


def test_a_write_without_a_majority_is_unreachable_and_does_not_hang():
    with cluster(3) as members, connected(members[0].url + "?timeout=1") as store:
        store.create(POOL, document(POOL))
        for member in members[1:]:
            member.kill()
        with pytest.raises(Unreachable):
            store.create(B, document(B))


# -- history


def test_a_watch_from_a_compacted_revision_says_so(empty_etcd: Etcd):
    with connected(empty_etcd.url) as store:
        since = store.list("IPPool").revision
        store.create(POOL, document(POOL))
        last = store.create(B, document(B))
        empty_etcd.ctl("compaction", last.revision)
        with listening(store, {"IPPool": since}) as heard, pytest.raises(Compacted, match="list again"):
            heard.next()


def test_a_list_comes_in_pages_of_one_revision(empty_etcd: Etcd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(etcd_module, "PAGE", 7)
    with connected(empty_etcd.url) as store:
        keys = [POOL._replace(name=f"p{i:03}") for i in range(50)]
        for key in keys:
            last = store.create(key, document(key))
        found = store.list("IPPool")
        assert [entry.key for entry in found.entries] == keys
        assert found.revision == last.revision


def test_a_compaction_between_two_pages_begins_the_list_anew(empty_etcd: Etcd, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(etcd_module, "PAGE", 2)
    with connected(empty_etcd.url) as store:
        for name in "abcde":
            store.create(POOL._replace(name=name), document(POOL))
        pages = store._pages
        compacted = []

        def interrupted(folder: str, revision: int) -> Iterator[object]:
            for number, page in enumerate(pages(folder, revision)):
                yield page
                if number == 0 and not compacted:
                    last = store.create(POOL._replace(name="f"), document(POOL))
                    empty_etcd.ctl("compaction", last.revision)
                    compacted.append(True)

        monkeypatch.setattr(store, "_pages", interrupted)
        assert [entry.key.name for entry in store.list("IPPool").entries] == list("abcdef")


def test_a_backup_that_was_restored_is_noticed_by_the_watch():
    with etcd() as old:
        for _ in range(20):
            old.ctl("put", "/a", "1")
        with connected(old.url) as store:
            since = store.list("IPPool").revision
    with etcd() as restored, connected(restored.url) as store, listening(store, {"IPPool": since}) as heard:
        with pytest.raises(Compacted, match="backup"):
            heard.next()


# -- what others write


def test_an_operator_sees_calicos_paths(empty_etcd: Etcd):
    with connected(empty_etcd.url) as store:
        policy = Key("NetworkPolicy", "web", "shop")
        for key in (POOL, policy, Key("IPAMBlock", "10-0-0-0-26"), Key("BlockAffinity", "n-1-10-0-0-0-26")):
            store.create(key, document(key))
    assert empty_etcd.ctl("get", "/", "--prefix", "--keys-only").split() == [
        "/calico/ipam/v2/assignment/ipv4/block/10.0.0.0-26",
        "/calico/ipam/v2/host/n-1/ipv4/block/10.0.0.0-26",
        "/calico/resources/v3/projectcalico.org/ippools/a",
        "/calico/resources/v3/projectcalico.org/networkpolicies/shop/web",
    ]


@pytest.mark.parametrize("value", ["", "rubbish", "[1]", "null", '{"metadata": 5}'])
def test_a_value_that_is_no_document_is_listed_and_can_be_replaced(empty_etcd: Etcd, value: str):
    empty_etcd.ctl("put", "/calico/resources/v3/projectcalico.org/ippools/a", "--", value)
    with connected(empty_etcd.url) as store:
        (found,) = store.list("IPPool").entries
        assert found.document["metadata"] == {"name": "a"}
        store.update(POOL, document(POOL, n=1), found.revision)
        assert without_birth(store.get(POOL))["spec"] == {"n": 1}


def test_keys_of_nobody_are_neither_listed_nor_told(empty_etcd: Etcd):
    with connected(empty_etcd.url) as store:
        since = store.list("BlockAffinity").revision
        empty_etcd.ctl("put", "/calico/ipam/v2/host/n1", "{}")
        empty_etcd.ctl("put", "/calico/v1/Ready", "true")
        assert store.list("BlockAffinity").entries == ()
        with listening(store, {"BlockAffinity": since}) as heard:
            assert heard.is_quiet()


def test_what_is_too_large_for_etcd_is_told_and_nothing_is_written(empty_etcd: Etcd):
    with connected(empty_etcd.url) as store:
        with pytest.raises(StoreError, match="document is too large"):
            store.create(POOL, document(POOL, text="x" * 3_000_000))
        assert store.get(POOL) is None


# -- logins


@contextmanager
def guarded(*flags: str) -> Iterator[Etcd]:
    """An etcd that wants a login: root/secret may do everything, nobody/nothing has no rights."""
    with etcd(*flags) as server:
        server.ctl("user", "add", "root:secret")
        server.ctl("user", "grant-role", "root", "root")
        server.ctl("user", "add", "nobody:nothing")
        server.ctl("auth", "enable")
        yield server


def test_a_login_is_needed_and_told_when_it_is_missing_or_wrong():
    with guarded() as server:
        with connected(server.url) as store, pytest.raises(Denied, match=r"wants a login: add .user="):
            store.get(POOL)
        with (
            connected(url(server, user="root", password="wrong")) as store,
            pytest.raises(Denied, match=r"root.*password") as told,
        ):
            store.get(POOL)
        assert "wrong" not in str(told.value).replace("is wrong", "")
        with (
            connected(url(server, user="nobody", password="nothing")) as store,
            pytest.raises(Denied, match="has no right"),
        ):
            store.get(POOL)
        with connected(url(server, user="root", password="secret")) as store:
            store.create(POOL, document(POOL))
            with listening(store, {"IPPool": "1"}) as heard:
                assert isinstance(heard.next(), Changed)


def test_a_login_at_an_etcd_that_wants_none_does_no_harm(empty_etcd: Etcd):
    with connected(url(empty_etcd, user="root", password="secret")) as store:
        assert store.get(POOL) is None


def test_an_expired_login_is_renewed_by_requests_and_by_watches():
    with guarded("--auth-token-ttl=1") as server, connected(url(server, user="root", password="secret")) as store:
        made = store.create(POOL, document(POOL))
        time.sleep(3)  # the token's life and etcd's own tick
        assert store.get(POOL) == made
        time.sleep(3)
        changed = store.update(POOL, document(POOL, n=2), made.revision)
        time.sleep(3)
        with listening(store, {"IPPool": made.revision}) as heard:
            assert heard.next() == Changed(changed)
            time.sleep(3)  # one that is open outlives its token
            last = store.update(POOL, document(POOL, n=3), changed.revision)
            assert heard.next() == Changed(last)


def test_a_login_is_renewed_after_etcd_was_started_anew():
    with guarded() as server, connected(url(server, user="root", password="secret")) as store:
        made = store.create(POOL, document(POOL))
        server.kill()
        server.start()
        assert eventually(lambda: store.get(POOL)) == made


def test_a_write_that_could_not_even_log_in_goes_to_the_next_member():
    with etcd() as frozen, guarded() as server:
        frozen.freeze()
        address = f"etcd://{frozen.endpoint},{server.endpoint}?user=root&password=secret&timeout=1"
        with connected(address) as store:
            made = store.create(POOL, document(POOL))
            assert store.get(POOL) == made
        frozen.thaw()


# -- certificates


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("ca"))


@pytest.fixture(scope="module")
def secure_etcd(authority: Authority) -> Iterator[Etcd]:
    with etcd(tls=authority.server("127.0.0.1")) as server:
        yield server


def test_everything_works_over_tls(secure_etcd: Etcd):
    with connected(secure_etcd.url) as store:
        made = store.create(POOL, document(POOL))
        with listening(store, {"IPPool": "1"}) as heard:
            assert heard.next() == Changed(made)
        store.delete(POOL)


def test_a_certificate_of_another_ca_is_refused_in_words(secure_etcd: Etcd, tmp_path: Path):
    other = Authority(tmp_path, "other")
    with connected(url(secure_etcd, cacert=other.cert)) as store:
        with pytest.raises(Denied, match=r"is not accepted.*signed by another CA than cacert=.*other.pem"):
            store.get(POOL)


def test_a_refused_certificate_is_told_once_and_by_nobody_else(secure_etcd: Etcd, tmp_path: Path):
    other = Authority(tmp_path, "other")
    script = (
        "import sys; from felixlite.datastore import connect\n"
        "try: connect(sys.argv[1]).list('IPPool')\n"
        "except Exception as error: print(type(error).__name__)"
    )
    command = [sys.executable, "-c", script, url(secure_etcd, cacert=other.cert)]
    done = subprocess.run(command, capture_output=True, check=True, timeout=60)
    assert (done.stdout, done.stderr) == (b"Denied\n", b"")


def test_a_certificate_for_another_host_is_refused_in_words(authority: Authority):
    # etcdctl would refuse it as well, so the second start is not waited for
    with etcd(tls=authority.server("127.0.0.1", "127.0.0.2")) as server:
        server.kill()
        server.tls = authority.server("127.0.0.2")
        server.begin()
        with connected(url(server, cacert=authority.cert)) as store:
            with pytest.raises(Denied, match="is for another host"):
                eventually(lambda: store.get(POOL))


def test_a_client_certificate_is_used_and_told_when_it_is_missing(authority: Authority):
    with etcd(tls=authority.server("127.0.0.1", wants_clients=True)) as server:
        with connected(url(server, cacert=authority.cert)) as store:
            with pytest.raises(Denied, match="wants a client certificate: add cert="):
                store.get(POOL)
        cert, key = authority.issue("client")
        with connected(url(server, cacert=authority.cert, cert=cert, key=key)) as store:
            store.create(POOL, document(POOL))


def test_a_client_certificate_of_another_ca_is_told(authority: Authority, tmp_path: Path):
    cert, key = Authority(tmp_path, "stranger").issue("client")
    with etcd(tls=authority.server("127.0.0.1", wants_clients=True)) as server:
        with connected(url(server, cacert=authority.cert, cert=cert, key=key)) as store:
            with pytest.raises(Denied, match="refuses our certificate"):
                store.get(POOL)


def test_tls_on_one_side_only_is_told(secure_etcd: Etcd, empty_etcd: Etcd, authority: Authority):
    with connected(f"etcd://{secure_etcd.endpoint}") as store, pytest.raises(Denied, match="speaks TLS: add cacert="):
        store.get(POOL)
    with connected(url(empty_etcd, cacert=authority.cert)) as store, pytest.raises(Denied, match="does not speak TLS"):
        store.get(POOL)
