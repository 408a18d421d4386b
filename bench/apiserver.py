"""The API server over etcd, in a process of its own: a get next to the store's own get, then a crowd of watchers.

1,000 TLS connections watch one kind, somebody writes 100 times a second, and a client gets objects meanwhile.  The
yardsticks of the crowd are the limits that were set for it: 20 ms for 99 of 100 gets, 300 MB.  The watchers are read by a
process of their own, so that reading is not what is measured.
"""

import http.client
import json
import multiprocessing
import selectors
import ssl
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlsplit

from bench.store import Row, rate, row
from felixlite.datastore import connect
from felixlite.datastore.store import Key
from tests.support.etcd import etcd

WATCHERS = 1000
WRITES = 100  # a second
SECONDS = 10.0
MODIFIED = b'"type":"MODIFIED"'
SETS = "/apis/projectcalico.org/v3/globalnetworksets"


class Client:
    """One kept connection."""

    def __init__(self, state: Path, url: str) -> None:
        self.token = (state / "token").read_text()
        self.context = ssl.create_default_context(cafile=str(state / "ca.crt"))
        where = urlsplit(url)
        self.host, self.port = where.hostname or "", where.port or 0
        self.connection = http.client.HTTPSConnection(self.host, self.port, context=self.context, timeout=60)

    @property
    def headers(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.token}", "Content-Type": "application/merge-patch+json"}

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        self.connection.request(method, path, None if body is None else json.dumps(body), self.headers)
        answer = self.connection.getresponse()
        found = json.loads(answer.read())
        if answer.status >= 300:
            raise RuntimeError(found)
        return found

    def watching(self) -> ssl.SSLSocket:
        """A connection of its own that has asked for a watch."""
        import socket

        plain = socket.create_connection((self.host, self.port), timeout=60)
        secure = self.context.wrap_socket(plain, server_hostname=self.host)
        lines = f"GET {SETS}?watch=1 HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {self.token}\r\n\r\n"
        secure.sendall(lines.encode())
        secure.recv(4096)
        secure.setblocking(False)
        return secure


def a_set(number: int) -> dict[str, Any]:
    nets = [f"10.{number % 256}.{place}.0/24" for place in range(20)]
    metadata = {"name": f"s{number}", "labels": {"team": "net"}}
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "GlobalNetworkSet",
        "metadata": metadata,
        "spec": {"nets": nets},
    }


def crowd(state: Path, url: str, ready: Any, expected: Any, told: Any) -> None:
    """Reads what 1,000 watchers are told; reports how many events, when all are there or none came for 30 s."""
    client = Client(state, url)
    selector, events = selectors.DefaultSelector(), 0
    for _ in range(WATCHERS):
        selector.register(client.watching(), selectors.EVENT_READ, bytearray())
    ready.set()
    heard = time.monotonic()
    while not 0 < expected.value <= events and time.monotonic() - heard < 30:
        chosen = selector.select(0.1)
        heard = time.monotonic() if chosen else heard
        for key, _ in chosen:
            try:
                while data := key.fileobj.recv(65536):  # type: ignore[union-attr]  # an SSLSocket
                    key.data.extend(data)
                    events += key.data.count(MODIFIED)
                    last = key.data.rfind(MODIFIED)
                    del key.data[: max(last + 1, len(key.data) - len(MODIFIED) + 1)]
            except ssl.SSLWantReadError:
                continue
    told.put(events)


@contextmanager
def served(store: str, state: Path) -> Iterator[tuple[int, str]]:
    """Its process and its address."""
    config = state.parent / "kubeconfig"
    command = [
        sys.executable,
        "-m",
        "felixlite",
        "--store",
        store,
        "apiserver",
        "--port",
        "0",
        "--state-dir",
        str(state),
    ]
    process = subprocess.Popen([*command, "--kubeconfig-out", str(config)], stderr=subprocess.DEVNULL)
    try:
        until = time.monotonic() + 60
        while not config.exists():
            if process.poll() is not None or time.monotonic() > until:
                raise RuntimeError("the server does not start")
            time.sleep(0.05)
        yield process.pid, json.loads(config.read_text())["clusters"][0]["cluster"]["server"]
    finally:
        process.terminate()
        process.wait(30)


def usage(pid: int) -> tuple[float, float]:
    """Seconds of processor, MB of memory."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    rss = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("VmRSS"))
    return (int(fields[11]) + int(fields[12])) / 100, int(rss.split()[1]) / 1024


def gets(client: Client, seconds: float) -> list[float]:
    """Milliseconds each."""
    found, until = [], time.monotonic() + seconds
    while time.monotonic() < until:
        began = time.perf_counter()
        client.ask("GET", f"{SETS}/s0")
        found.append((time.perf_counter() - began) * 1000)
        time.sleep(0.005)
    return found


def writer(state: Path, url: str, done: Any) -> None:
    """100 writes a second, at an even pace."""
    client, began, count = Client(state, url), time.monotonic(), 0
    while (elapsed := time.monotonic() - began) < SECONDS:
        if count < elapsed * WRITES:
            client.ask("PATCH", f"{SETS}/s1", {"metadata": {"annotations": {"count": str(count)}}})
            count += 1
        else:
            time.sleep(0.002)
    done.put(count)


def main() -> list[Row]:
    with (
        tempfile.TemporaryDirectory() as folder,
        etcd() as server,
        served(server.url, Path(folder) / "state") as (pid, url),
    ):
        state = Path(folder) / "state"
        client, store = Client(state, url), connect(server.url)
        for number in range(10):
            client.ask("POST", SETS, a_set(number))
        key = Key("GlobalNetworkSet", "s0")
        slices = [
            (rate(lambda _: client.ask("GET", f"{SETS}/s0"), 100), rate(lambda _: store.get(key), 100))
            for _ in range(10)
        ]
        rows = [row("apiserver: get, next to the store's", median(a for a, _ in slices), median(b for _, b in slices))]
        store.close()
        return rows + crowded(client, state, url, pid)


def crowded(client: Client, state: Path, url: str, pid: int) -> list[Row]:
    spawn = multiprocessing.get_context("spawn")
    ready, expected, told, done = spawn.Event(), spawn.Value("q", 0), spawn.Queue(), spawn.Queue()
    reading = spawn.Process(target=crowd, args=(state, url, ready, expected, told))
    reading.start()
    ready.wait(120)
    writing = spawn.Process(target=writer, args=(state, url, done))
    before = usage(pid)
    began = time.monotonic()
    writing.start()
    took = gets(client, SECONDS)
    writes = done.get(timeout=60)
    after, elapsed = usage(pid), time.monotonic() - began
    expected.value = writes * WATCHERS
    events = told.get(timeout=120)
    for process in (writing, reading):
        process.join(30)
    print(
        f"{WATCHERS} watchers, {writes / SECONDS:.0f} writes/s: {events} of {writes * WATCHERS} events told, "
        f"{(after[0] - before[0]) / elapsed:.0%} of a core; get p50 {median(took):.1f} ms of {len(took)}"
    )
    return [
        row(f"apiserver: get p99, {WATCHERS} watchers", quantiles(took, n=100)[98], 20.0, "ms"),
        row(f"apiserver: memory, {WATCHERS} watchers", after[1], 300.0, "MB"),
    ]
