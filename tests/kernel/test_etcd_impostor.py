"""Something else answers where etcd should: a web server, a proxy on the way. It is told as what it is, and outlived.

That happened: a lab's address, asked from outside of the lab, goes where the machine's default route leads, and the
proxy there answers everybody with 404.
"""

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest

from felixlite.datastore import connect
from felixlite.errors import Unreachable
from tests.support.etcd import Etcd
from tests.support.store_contract import POOL, document

# HTTP/2 (RFC 9113 4.1, 6.5): length, type, flags, stream; the body is one indexed header field (RFC 7541, appendix A)
SETTINGS = b"\0\0\0\4\0\0\0\0\0"
NOT_FOUND = b"\0\0\1\1\5%b\x8d"  # HEADERS with END_STREAM and END_HEADERS: 13 is `:status: 404`
HTTP_1 = b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n"


def frames(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """The type and the stream's number of each whole frame."""
    at = 0
    while len(stream) >= at + 9 and len(stream) >= (end := at + 9 + int.from_bytes(stream[at : at + 3])):
        yield stream[at + 3], stream[at + 5 : at + 9]
        at = end


def answer(client: socket.socket, greeting: bytes) -> None:
    """The greeting, then 404 to every request."""
    heard, told = b"", 0
    with client, suppress(OSError):
        client.sendall(greeting)
        while some := client.recv(65536):
            heard += some
            asked = [number for kind, number in frames(heard.partition(b"SM\r\n\r\n")[2]) if kind == 1]
            for number in asked[told:]:
                client.sendall(NOT_FOUND % number)
            told = len(asked)


@contextmanager
def impostor(greeting: bytes) -> Iterator[str]:
    """A server that greets everybody so. Its endpoint."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = server.accept()
                    threading.Thread(target=answer, args=(client, greeting), daemon=True).start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{server.getsockname()[1]}"
        finally:
            server.shutdown(socket.SHUT_RDWR)
            thread.join()


@pytest.mark.parametrize(("greeting", "status"), [(SETTINGS, "404"), (HTTP_1, "400")], ids=["HTTP/2", "HTTP/1"])
def test_a_web_server_is_told_from_an_etcd(greeting: bytes, status: str) -> None:
    with impostor(greeting) as endpoint:
        store = connect(f"etcd://{endpoint}", {})
        said = f"{endpoint} is no etcd: .*{status}.*right address"
        with pytest.raises(Unreachable, match=said):
            store.get(POOL)
        with pytest.raises(Unreachable, match=said):
            store.create(POOL, document(POOL))
        with pytest.raises(Unreachable, match=said), store.watch("IPPool", "1") as watch:
            next(iter(watch))
        store.close()


def test_a_write_that_met_a_web_server_goes_to_the_next_member(empty_etcd: Etcd) -> None:
    with impostor(SETTINGS) as endpoint:
        store = connect(f"etcd://{endpoint},{empty_etcd.endpoint}", {})
        assert store.create(POOL, document(POOL)) == store.get(POOL)
        store.close()
