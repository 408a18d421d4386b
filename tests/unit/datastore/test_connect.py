from pathlib import Path

import pytest

from felixlite.datastore import connect
from felixlite.datastore.address import EtcdAddress
from felixlite.datastore.memory import MemoryStore
from felixlite.errors import Misconfigured


def test_memory_is_a_store_of_its_own():
    assert isinstance(connect("memory://"), MemoryStore)


@pytest.mark.parametrize("url", ["", "etcd", "http://h:1", "127.0.0.1:2379", "etcd:/x"])
def test_an_unknown_address_is_answered_with_those_that_would_do(url: str):
    with pytest.raises(Misconfigured, match="etcd://host:port"):
        connect(url)


@pytest.mark.parametrize(
    ("hosts", "endpoints"),
    [
        ("h", ("h:2379",)),
        ("h:1,i:2", ("h:1", "i:2")),
        ("[::1]:5/", ("[::1]:5",)),
        ("[::1]", ("[::1]:2379",)),
    ],
)
def test_endpoints_are_read(hosts: str, endpoints: tuple[str, ...]):
    assert EtcdAddress.parse(f"etcd://{hosts}", {}).endpoints == endpoints


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("etcd://", "is no endpoint"),
        ("etcd://h:0", "is no endpoint"),
        ("etcd://h:port", "is no endpoint"),
        ("etcd://h:1,", "is no endpoint"),
        ("etcd://::1", "is no endpoint"),
        ("etcd://h?cafile=x", "there is no parameter 'cafile'"),
        ("etcd://h?cert=a", "cert= and key= go together"),
        ("etcd://h?cert=a&key=b", "need cacert="),
        ("etcd://h?cacert=/nowhere", "cacert=/nowhere: No such file"),
        ("etcd://h?user=u", "needs a password"),
        ("etcd://h?user=u&passwordfile=/nowhere", "passwordfile=/nowhere: No such file"),
        ("etcd://h?timeout=0", "timeout=0"),
        ("etcd://h?timeout=x", "timeout=x"),
        ("etcd://u:hidden@h", "give the user as"),
    ],
)
def test_a_wrong_etcd_address_is_told_what_is_wrong_with_it(url: str, said: str):
    with pytest.raises(Misconfigured, match=said.replace("?", r"\?")) as refused:
        EtcdAddress.parse(url, {})
    assert "hidden" not in str(refused.value)


def test_a_file_that_is_no_certificate_is_refused_at_once(tmp_path: Path):
    (tmp_path / "ca.pem").write_text("rubbish")
    with pytest.raises(Misconfigured, match="must be a file of CA certificates in PEM"):
        EtcdAddress.parse(f"etcd://h?cacert={tmp_path}/ca.pem", {})


@pytest.mark.parametrize("where", ["file", "variable", "address"])
def test_a_password_comes_in_three_ways_and_is_never_shown(tmp_path: Path, where: str):
    (tmp_path / "pw").write_text("hidden\n")
    url, environ = {
        "file": (f"etcd://h?user=u&passwordfile={tmp_path}/pw", {}),
        "variable": ("etcd://h?user=u", {"FELIXLITE_ETCD_PASSWORD": "hidden"}),
        "address": ("etcd://h?user=u&password=hidden", {}),
    }[where]
    address = EtcdAddress.parse(url, environ)
    assert address.password == "hidden"
    assert "hidden" not in repr(address) + str(address)
