"""A proxy between a node and etcd passes a write on and then answers for etcd: nobody knows whether it was done."""

import socket
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest

from felixlite.datastore import connect
from felixlite.errors import Unreachable
from tests.support.etcd import Etcd
from tests.support.store_contract import POOL, document

HEADERS, END_STREAM_AND_HEADERS = 1, 5  # HTTP/2, RFC 9113 6.2


def frames(server: socket.socket) -> Iterator[bytes]:
    with server.makefile("rb") as stream:
        while head := stream.read(9):
            yield head + stream.read(int.from_bytes(head[:3]))


def answered(stream: bytes, status: int) -> bytes:
    fields = b"\x08\x03%d" % status  # a literal; the name is number 8 of the static table, `:status` (RFC 7541 6.2.2)
    return len(fields).to_bytes(3) + bytes([HEADERS, END_STREAM_AND_HEADERS]) + stream + fields


def passed_on(client: socket.socket, etcd: Etcd, status: int) -> None:
    """Both ways, until etcd answers a request; then that status instead, and the end."""

    def forward() -> None:
        with suppress(OSError):
            while some := client.recv(65536):
                server.sendall(some)
            server.shutdown(socket.SHUT_RDWR)

    with client, socket.create_connection(("127.0.0.1", int(etcd.endpoint.rpartition(":")[2]))) as server:
        thread = threading.Thread(target=forward)
        thread.start()
        for frame in frames(server):
            if frame[3] == HEADERS:
                client.sendall(answered(frame[5:9], status))
                break
            client.sendall(frame)
        for end in (client, server):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
        thread.join()


@contextmanager
def proxy(etcd: Etcd, status: int) -> Iterator[str]:
    """Its endpoint."""
    talks: list[threading.Thread] = []
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    talks.append(threading.Thread(target=passed_on, args=(client, etcd, status)))
                    talks[-1].start()

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"127.0.0.1:{listening.getsockname()[1]}"
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            for one in (thread, *talks):
                one.join()


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_a_write_that_a_proxy_may_have_passed_on_is_not_tried_on_the_next_member(empty_etcd: Etcd, status: int) -> None:
    with closing(connect(empty_etcd.url, {})) as there, proxy(empty_etcd, status) as endpoint:
        before = there.create(POOL, document(POOL))
        with closing(connect(f"etcd://{endpoint},{empty_etcd.endpoint}", {})) as store:
            with pytest.raises(Unreachable, match=rf"{endpoint}.*{status}"):
                store.update(POOL, document(POOL), before.revision)
            now = store.get(POOL)  # as whoever lost an answer has to do it: read again
            assert now is not None
            assert now.revision != before.revision  # it was done
            assert store.update(POOL, document(POOL), now.revision).revision != now.revision
