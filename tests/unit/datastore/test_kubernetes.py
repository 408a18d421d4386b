"""What of the Kubernetes store needs no server: its address, a stream in pieces, names, pace."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from felixlite.datastore.kube_api import Pace
from felixlite.datastore.kube_forms import entry_of, object_name, object_of, path_of
from felixlite.datastore.kube_stream import Garbled, Stream
from felixlite.datastore.kubeconfig import KubernetesAddress
from felixlite.datastore.layout import NoPlace
from felixlite.datastore.store import Key
from felixlite.errors import Misconfigured
from felixlite.model.kind import CALICO_VERSION, CRD_VERSION

LINES = [b'{"a":1}', b'{"b":"' + b"x" * 300 + b'"}', b'{"c":3}']


def chunked(pieces: list[bytes]) -> bytes:
    return b"".join(b"%x;ext=1\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


BODY = b"\n".join(LINES) + b"\n"
ANSWERS = {
    "chunked": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunked([BODY[:5], BODY[5:200], BODY[200:]]),
    "with a length": b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n%b" % (len(BODY), BODY),
    "until it closes": b"HTTP/1.0 200 OK\r\n\r\n" + BODY,
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
@given(sizes=st.lists(st.integers(1, 60), min_size=1, max_size=20))
def test_a_stream_says_the_same_in_whatever_pieces_it_comes(answer: bytes, sizes: list[int]) -> None:
    stream, found, at, turn = Stream(), [], 0, 0
    while at < len(answer):
        size = sizes[turn % len(sizes)]
        found += stream.feed(answer[at : at + size])
        at, turn = at + size, turn + 1
    assert found == LINES
    assert stream.is_over == (b"HTTP/1.0" not in answer)


def test_the_body_of_a_refusal_is_kept_whole() -> None:
    stream = Stream()
    assert list(stream.feed(b"HTTP/1.1 410 Gone\r\nContent-Length: 6\r\nRetry-After: 3\r\n\r\n{\n\n}\n\n")) == []
    assert (stream.status, stream.headers["retry-after"], stream.rest) == (410, "3", b"{\n\n}\n\n")


@pytest.mark.parametrize(
    "rubbish",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_no_http_is_refused(rubbish: bytes) -> None:
    with pytest.raises(Garbled):
        list(Stream().feed(rubbish))


# -- addresses


def kubeconfig(folder: Path, cluster: dict[str, Any] | None = None, user: dict[str, Any] | None = None) -> Path:
    config = {
        "current-context": "c",
        "contexts": [{"name": "c", "context": {"cluster": "c", "user": "u"}}],
        "clusters": [{"name": "c", "cluster": {"server": "https://192.0.2.1:6443", **(cluster or {})}}],
        "users": [{"name": "u", "user": user or {"token": "secret"}}],
    }
    path = folder / "config"
    path.write_text(json.dumps(config))
    return path


def test_a_kubeconfig_says_where_and_as_whom(tmp_path: Path) -> None:
    found = KubernetesAddress.parse(f"kubernetes://{kubeconfig(tmp_path)}?namespace=net&qps=5", {}).access()
    assert (str(found.servers[0]), found.token, found.namespace) == ("192.0.2.1:6443", "secret", "net")
    assert "secret" not in repr(found)


def test_inside_a_pod_the_service_account_says_it_and_a_new_token_is_found(tmp_path: Path) -> None:
    for name, text in (("token", "one\n"), ("ca.crt", ""), ("namespace", "kube-system")):
        (tmp_path / name).write_text(text)
    environ = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "443"}
    address = KubernetesAddress.parse("kubernetes://", environ, tmp_path)
    assert (str(address.access().servers[0]), address.access().token) == ("[fd00::1]:443", "one")
    (tmp_path / "token").write_text("two")
    assert address.access().token == "two"


def test_kubeconfig_is_found_where_kubectl_finds_it(tmp_path: Path) -> None:
    path = kubeconfig(tmp_path)
    assert KubernetesAddress.parse("kubernetes://", {"KUBECONFIG": str(path)}, tmp_path / "none").file == path


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("?speed=1", "no parameter 'speed'"),
        ("?group=crd/v1", "must be crd.projectcalico.org/v1 or"),
        ("?servers=ftp://x", "is no API server"),
        ("?qps=0", "qps=0: must be a number from 1"),
        ("?context=other", "contexts: there is none named 'other'"),
    ],
)
def test_what_is_wrong_with_an_address_is_named(tmp_path: Path, query: str, said: str) -> None:
    with pytest.raises(Misconfigured, match=said):
        KubernetesAddress.parse(f"kubernetes://{kubeconfig(tmp_path)}{query}", {})


@pytest.mark.parametrize(
    ("cluster", "user", "said"),
    [
        ({"insecure-skip-tls-verify": True}, {}, "TLS is always verified"),
        ({"certificate-authority-data": "%%"}, {}, "must be base64 of PEM"),
        ({"certificate-authority": "nowhere.pem"}, {}, "nowhere.pem: No such file"),
        ({}, {"exec": {"command": "aws"}}, "no program is started for a token"),
        ({}, {"client-certificate-data": "eA==", "client-key-data": "eA=="}, "must be in PEM"),
    ],
)
def test_a_kubeconfig_that_cannot_be_followed_is_refused_with_the_reason(
    tmp_path: Path, cluster: dict[str, Any], user: dict[str, Any], said: str
) -> None:
    with pytest.raises(Misconfigured, match=said):
        KubernetesAddress.parse(f"kubernetes://{kubeconfig(tmp_path, cluster, user)}", {})


# -- names and forms


@pytest.mark.parametrize(
    ("key", "path"),
    [
        (Key("IPPool", "p"), "/apis/crd.projectcalico.org/v1/ippools/p"),
        (Key("IPAMConfiguration", "default"), "/apis/crd.projectcalico.org/v1/ipamconfigs/default"),
        (Key("IPAMHandle", "Net.A"), "/apis/crd.projectcalico.org/v1/ipamhandles/net.a"),
        (Key("BlockAffinity", "n-fd00-0000-0000-0000-0000-0000-0000-0000-122"),
         "/apis/crd.projectcalico.org/v1/blockaffinities/n-fd00---122"),
        (Key("Namespace", "x"), "/api/v1/namespaces/x"),
        (Key("KubernetesNetworkPolicy", "p", "x"), "/apis/networking.k8s.io/v1/namespaces/x/networkpolicies/p"),
        (Key("WorkloadEndpoint", "n--1-k8s-web--0-eth0", "x"), "/api/v1/namespaces/x/pods/web-0"),
        (Key("Node", "n-1"), "/api/v1/nodes/n-1"),
    ],
)  # fmt: skip
def test_an_object_has_its_place(key: Key, path: str) -> None:
    assert path_of(key, CRD_VERSION) == path


@pytest.mark.parametrize(
    "key", [Key("NetworkPolicy", "p"), Key("IPPool", "a/b"), Key("Profile", "p"), Key("IPPool", "")]
)
def test_what_has_no_place_is_refused(key: Key) -> None:
    with pytest.raises(NoPlace):
        path_of(key, CRD_VERSION)


def test_an_affinity_of_a_node_with_a_long_name_has_a_name_that_kubernetes_takes() -> None:
    names = {object_name(Key("BlockAffinity", f"{'x' * 244}{end}-10-0-0-0-26")) for end in "ab"}
    assert len(names) == 2
    assert {len(name) for name in names} == {252}


@pytest.mark.parametrize("group", [CRD_VERSION, CALICO_VERSION])
def test_what_was_written_is_read_again(group: str) -> None:
    document = {
        "apiVersion": CALICO_VERSION,
        "kind": "IPPool",
        "metadata": {"name": "p", "labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"cidr": "10.0.0.0/16"},
    }
    written = object_of(Key("IPPool", "p"), document, group, None)
    found = entry_of(
        "IPPool", {**written, "metadata": {**written["metadata"], "resourceVersion": "7", "generation": 1}}
    )
    assert found
    assert (found.document, found.revision) == (document, "7")


def test_a_spoiled_metadata_annotation_stays_for_who_validates() -> None:
    spoiled = {"metadata": {"name": "p", "annotations": {"projectcalico.org/metadata": "{"}}, "spec": {}}
    found = entry_of("IPPool", spoiled)
    assert found
    assert found.document["apiVersion"] == CRD_VERSION


def test_a_pace_is_a_burst_and_then_a_rate() -> None:
    now = 0.0
    pace = Pace(rate=10, burst=3, clock=lambda: now)
    assert [round(pace.delay(), 3) for _ in range(5)] == [0, 0, 0, 0.1, 0.2]
    now = 1.0
    assert [round(pace.delay(), 3) for _ in range(4)] == [0, 0, 0, 0.1]
