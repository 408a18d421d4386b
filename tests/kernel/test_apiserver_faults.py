"""The API server on bad days: nonsense on the wire, an etcd that dies and comes back, a watcher that does not read."""

import json
import random
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from felixlite.apiserver import catalogue
from felixlite.apiserver.answers import Answer
from felixlite.apiserver.identity import ADMIN
from felixlite.apiserver.requests import Request
from felixlite.datastore import connect
from tests.support.apiserver import ApiServer, apiserver
from tests.support.etcd import etcd

SETS = "/apis/projectcalico.org/v3/globalnetworksets"
MERGE, JSON_PATCH = "application/merge-patch+json", "application/json-patch+json"
STRATEGIC = "application/strategic-merge-patch+json"
NONSENSE = [
    None,
    0,
    -1,
    True,
    "",
    "x",
    "10.0.0.0/26",
    [],
    {},
    [None],
    ["a"],
    {"a": None},
    {"name": "x"},
    1.5,
    {"labels": []},
]
FIELDS = ["name", "labels", "annotations", "spec", "metadata", "status", "cidr", "node", "handleID", "finalizers", "uid",
          "resourceVersion", "selector", "namespace", "conditions", "addresses", "data", "type", "kind", "apiVersion"]  # fmt: skip


@pytest.fixture(scope="module")
def server() -> Iterator[ApiServer]:
    with apiserver() as server:
        yield server


def a_set(name: str, net: str = "10.0.0.0/8") -> dict[str, Any]:
    return {"metadata": {"name": name}, "spec": {"nets": [net]}}


def nonsense(dice: random.Random, depth: int = 0) -> Any:
    if depth < 2 and dice.random() < 0.3:
        return {dice.choice(FIELDS): nonsense(dice, depth + 1) for _ in range(dice.randrange(5))}
    if depth < 2 and dice.random() < 0.2:
        return [nonsense(dice, depth + 1) for _ in range(dice.randrange(4))]
    return dice.choice(NONSENSE)


@pytest.mark.parametrize("served", catalogue.everything(), ids=lambda served: served.title)
def test_nonsense_is_refused_or_kept_and_never_an_internal_error(server: ApiServer, served: catalogue.Served) -> None:
    dice = random.Random(served.title)
    group = f"/apis/{served.group}" if served.group else "/api"
    path = f"{group}/{served.version}{'/namespaces/default' if served.namespaced else ''}/{served.plural}"
    for number in range(3):
        name = f"n{number}"
        document = {"metadata": {"name": name}, "spec": nonsense(dice), dice.choice(FIELDS): nonsense(dice)}
        operation = {"op": dice.choice(["add", "remove", "test", "x"]), "path": "/spec", "value": nonsense(dice)}
        asked: list[tuple[str, str, Any, str]] = [
            ("POST", path, document, "application/json"),
            ("PUT", f"{path}/{name}", document, "application/json"),
            ("PATCH", f"{path}/{name}", document, dice.choice([MERGE, STRATEGIC])),
            ("PATCH", f"{path}/{name}/status", document, MERGE),
            ("PATCH", f"{path}/{name}", [operation], JSON_PATCH),
            ("GET", path, None, ""),
            ("DELETE", f"{path}/{name}", nonsense(dice), "application/json"),
        ]
        for method, where, body, kind in asked:
            headers = {"content-type": kind, "accept": "application/json;as=Table"}
            sent = b"" if body is None else json.dumps(body).encode()
            answer = server.running.api.answer(
                Request.of(method, where, headers, sent, ADMIN)
            )  # what it raises is a 500
            assert isinstance(answer, Answer)
            assert answer.code < 500, (method, where, body, answer.body)


@pytest.mark.parametrize(
    "octets",
    [b"\0" * 64, b"GET / HTTP/1.1\r\n\r\n", b"\x16\x03\x01\x00\x05hello", b""],
    ids=["zeros", "no TLS", "half a hello", "nothing"],
)
def test_a_connection_that_speaks_something_else_ends_and_hurts_nobody(server: ApiServer, octets: bytes) -> None:
    host, port = server.running.server.server_address[:2]
    with socket.create_connection((str(host), port), timeout=20) as connection:
        connection.sendall(octets)
        assert server.ask("GET", SETS)[0] == 200


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("GET /api/v1/%ff HTTP/1.1\r\n\r\n", 404),
        (f"POST {SETS} HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", 411),
        (f"POST {SETS} HTTP/1.1\r\nContent-Length: 99999999999\r\n\r\n", 413),
        (f"POST {SETS} HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 413),
        (f"BREW {SETS} HTTP/1.1\r\n\r\n", 501),
        (f"GET {SETS}?limit=many HTTP/1.1\r\n\r\n", 400),
        (f"GET {SETS}?{'a' * 70000} HTTP/1.1\r\n\r\n", 414),
    ],
)
def test_odd_requests_get_their_answers(server: ApiServer, head: str, code: int) -> None:
    host, port = server.running.server.server_address[:2]
    context = ssl.create_default_context(cafile=str(server.ca))
    with (
        socket.create_connection((str(host), port), timeout=20) as plain,
        context.wrap_socket(plain, server_hostname=str(host)) as connection,
    ):
        credentials = f"Authorization: Bearer {server.token}\r\n"
        first, _, rest = head.partition("\r\n")
        connection.sendall(f"{first}\r\n{credentials}{rest}".encode())
        assert connection.recv(4096).split()[1] == str(code).encode()


def test_a_document_nested_without_end_is_refused(server: ApiServer) -> None:
    body = b'{"metadata":{"name":"deep"},"spec":' + b'{"a":' * 900 + b"1" + b"}" * 900 + b"}"
    for path in (SETS, "/api/v1/namespaces/default/configmaps"):
        code, said = server.ask("POST", path, body)
        assert (code, "nested" in said["message"]) == (400, True)


def test_a_small_text_that_stands_for_a_huge_document_is_refused(server: ApiServer) -> None:
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 12)]
    text = "metadata: {name: bomb}\ndata:\n" + "".join(f"  {line}\n" for line in lines)
    code, said = server.ask(
        "POST", "/api/v1/namespaces/default/configmaps", text.encode(), Content_Type="application/yaml"
    )
    assert (code, "values" in said["message"]) == (400, True)


def test_a_watcher_that_does_not_read_is_cut_off_and_others_hear_everything(server: ApiServer) -> None:
    big = {"metadata": {"name": "big"}, "data": {"x": "y" * 500_000}}
    path = "/api/v1/namespaces/default/configmaps"
    server.ask("POST", path, big)
    pump = server.running.api.pump
    with server.watch(f"{path}?watch=1&fieldSelector=metadata.name%3Dsmall") as lively, server.watch(f"{path}?watch=1"):
        eventually(lambda: pump.count == 2)
        for number in range(40):
            change = {"data": {"x": f"{number:06}" + "y" * 500_000}}
            assert server.ask("PATCH", f"{path}/big", change, Content_Type=MERGE)[0] == 200
        eventually(lambda: pump.count == 1)
        server.ask("POST", path, {"metadata": {"name": "small"}})
        assert lively.names(1) == [("ADDED", "small")]


def test_etcd_dies_and_comes_back() -> None:
    with etcd() as behind:
        store = connect(f"{behind.url}?timeout=1")
        with apiserver(store) as server:
            revision = server.ask("POST", SETS, a_set("before"))[1]["metadata"]["resourceVersion"]
            with server.watch(f"{SETS}?watch=1&resourceVersion={revision}") as frames:
                eventually(lambda: server.ask("GET", "/readyz")[0] == 200)
                behind.kill()
                eventually(lambda: server.ask("GET", "/readyz")[0] == 503)
                code, said = server.ask("GET", f"{SETS}/before")
                assert (code, said["reason"]) == (503, "ServiceUnavailable")
                assert said["details"]["retryAfterSeconds"] == 1
                assert server.ask("POST", SETS, a_set("meanwhile"))[0] == 503
                assert [item["metadata"]["name"] for item in server.ask("GET", SETS)[1]["items"]] == ["before"]
                behind.start()
                eventually(lambda: server.ask("POST", SETS, a_set("after"))[0] == 201)
                assert frames.names(1) == [("ADDED", "after")]
                eventually(lambda: server.ask("GET", "/readyz")[0] == 200)
        store.close()


def eventually(what: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not what():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.05)
