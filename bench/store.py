"""The stores next to what they are made of: etcd by our Store against bare etcd3 calls, files against bare file calls.

`put`, `get`, `swap` are one request after the other with a document of a usual size.  `list` is 5,000 objects, `watch` the
time from a write to its event.  The cost of an idle agent is that of one watch of all kinds against a watch a kind.
"""

import os
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import orjson

from felixlite.datastore import connect
from felixlite.datastore.file import FileStore
from felixlite.datastore.layout import path_of
from felixlite.datastore.store import Key, Store
from felixlite.intake import snapshot_kinds
from tests.support.etcd import Etcd, etcd

SLICE = 100
OBJECTS = 5000
IDLE = 5.0  # seconds

Row = dict[str, Any]


def document(number: int) -> dict[str, Any]:
    return {
        "apiVersion": "projectcalico.org/v3",
        "kind": "WorkloadEndpoint",
        "metadata": {"name": f"w{number}", "namespace": "default", "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "node": "node-1",
            "orchestrator": "k8s",
            "pod": f"web-{number}",
            "endpoint": "eth0",
            "interfaceName": f"cali{number:011x}",
            "mac": "ee:ee:ee:ee:ee:ee",
            "ipNetworks": ["10.65.0.17/32"],
            "profiles": ["kns.default", "ksa.default.default"],
            "ports": [{"name": "http", "protocol": "TCP", "port": 8080}],
        },
    }


def key(number: int) -> Key:
    return Key("WorkloadEndpoint", f"w{number}", "default")


def rate(work: Callable[[int], object], times: int) -> float:
    began = time.perf_counter()
    for number in range(times):
        work(number)
    return times / (time.perf_counter() - began)


def best(ours: Callable[[int], object], theirs: Callable[[int], object]) -> tuple[float, float]:
    """In turn, in 20 slices each, so that a busy moment of the machine meets both; the median slice counts."""
    rates = [
        tuple(rate(lambda n, part=part, work=work: work(n + part * SLICE), SLICE) for work in (ours, theirs))
        for part in range(20)
    ]
    return median(a for a, _ in rates), median(b for _, b in rates)


def row(name: str, ours: float, yardstick: float, unit: str = "/s") -> Row:
    ratio = ours / yardstick if unit == "/s" else yardstick / ours
    print(f"{name:36} {ours:10.1f} {yardstick:10.1f} {unit:6} {ratio:6.2f}")
    return {"name": name, "ours": ours, "yardstick": yardstick, "ratio": ratio, "unit": unit}


def of_etcd(server: Etcd) -> list[Row]:
    store = connect(server.url)
    store.get(key(0))
    import etcd3  # after our module has chosen the protobuf that it works with

    bare = etcd3.client("127.0.0.1", server.port, timeout=5)
    value = orjson.dumps(document(0))
    revisions: dict[int, str] = {}

    def create(number: int) -> None:
        revisions[number] = store.create(key(number), document(number)).revision

    def bare_create(number: int) -> None:
        path = path_of(key(10**6 + number))
        done, _ = bare.transaction(
            compare=[bare.transactions.create(path) == 0], success=[bare.transactions.put(path, value)], failure=[]
        )
        assert done

    def bare_swap(number: int) -> None:
        path = path_of(key(10**6 + number))
        bare.transaction(
            compare=[bare.transactions.version(path) == 1], success=[bare.transactions.put(path, value)], failure=[]
        )

    rows = [row("etcd create", *best(create, bare_create))]
    rows.append(row("etcd get", *best(lambda n: store.get(key(n)), lambda n: bare.get(path_of(key(10**6 + n))))))
    rows.append(row("etcd swap", *best(lambda n: store.update(key(n), document(n), revisions[n]), bare_swap)))
    server.wipe()
    fill(store)
    prefix = path_of(key(0)).rpartition("/")[0] + "/"
    ours, theirs = seconds(lambda: store.list("WorkloadEndpoint")), seconds(lambda: list(bare.get_prefix(prefix)))
    rows.append(row(f"etcd list of {OBJECTS}", ours * 1e3, theirs * 1e3, "ms"))
    rows += [watching(store, bare), idle(server)]
    store.close()
    return rows


def fill(store: Store) -> None:
    for number in range(OBJECTS):
        store.create(key(number), document(number))


def seconds(work: Callable[[], object]) -> float:
    def once() -> float:
        began = time.perf_counter()
        work()
        return time.perf_counter() - began

    return min(once() for _ in range(3))


def watching(store: Store, bare: Any) -> Row:
    """From the beginning of somebody's write to its event, the median of 300 each, in turn."""
    path, value = path_of(key(0)), orjson.dumps(document(0))
    bare_events, cancel = bare.watch_prefix(path)
    ours, theirs = [], []
    with store.watch("WorkloadEndpoint", store.list("WorkloadEndpoint").revision) as watch:
        events = iter(watch)
        for turn in range(600):
            began = time.perf_counter()
            bare.put(path, value)
            next(events if turn % 2 else bare_events)
            (ours if turn % 2 else theirs).append(time.perf_counter() - began)
            next(bare_events if turn % 2 else events)
    cancel()
    return row("etcd write until its event", sorted(ours)[150] * 1e3, sorted(theirs)[150] * 1e3, "ms")


def idle(server: Etcd) -> Row:
    """Processor time in which nothing happens: one watch of all kinds, and a watch a kind."""

    def cost(watches: list[dict[str, str]]) -> float:
        store = connect(server.url)
        opened = [store.watch_many(since) for since in watches]
        threads = [threading.Thread(target=lambda w=w: list(w)) for w in opened]
        for thread in threads:
            thread.start()
        time.sleep(1)
        before = time.process_time()
        time.sleep(IDLE)
        used = time.process_time() - before
        for watch in opened:
            watch.close()
        for thread in threads:
            thread.join()
        store.close()
        return used / IDLE

    since = dict.fromkeys(snapshot_kinds, "1")
    since = dict.fromkeys(since, connect(server.url).list("IPPool").revision)
    one, many = cost([since]), cost([{kind: revision} for kind, revision in since.items()])
    return row(f"etcd idle, {len(since)} kinds watched", one * 1e3, many * 1e3, "ms/s")


def of_files(folder: Path) -> list[Row]:
    store = FileStore(folder / "store")
    bare = folder / "bare"
    bare.mkdir()
    text = orjson.dumps(document(0))
    revisions: dict[int, str] = {}

    def create(number: int) -> None:
        revisions[number] = store.create(key(number), document(number)).revision

    def bare_create(number: int) -> None:
        path = bare / f"{number}.yaml"
        with path.with_suffix(".new").open("wb") as file:
            file.write(text)
            file.flush()
            os.fdatasync(file.fileno())
        path.with_suffix(".new").replace(path)

    times = 250
    rows = [row("files create", rate(create, times), rate(bare_create, times))]
    rows.append(
        row(
            "files get",
            rate(lambda n: store.get(key(n)), times),
            rate(lambda n: (bare / f"{n}.yaml").read_bytes(), times),
        )
    )
    swap = rate(lambda n: store.update(key(n), document(n), revisions[n]), times)
    rows.append(row("files swap", swap, rate(bare_create, times)))
    rows.append(row(f"files list of {times}", seconds(lambda: store.list("WorkloadEndpoint")) * 1e3,
                    seconds(lambda: [path.read_bytes() for path in bare.iterdir()]) * 1e3, "ms"))  # fmt: skip
    store.close()
    return rows


def main() -> list[Row]:
    print(f"{'':36} {'ours':>10} {'bare':>10} {'':6} {'ratio':>6}")
    with etcd() as server:
        rows = of_etcd(server)
    with tempfile.TemporaryDirectory() as folder:
        rows += of_files(Path(folder))
    return rows


if __name__ == "__main__":
    main()
