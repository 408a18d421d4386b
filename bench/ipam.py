"""Addresses a second: assignments against the plain etcd transactions that they are made of, on one real etcd.

etcd runs with --unsafe-no-fsync, so that the disk is not what is measured; FSYNC=FOLDER in the environment: with it, on
the disk of that folder, and a tenth of everything, for each commit waits for that disk.  The yardstick is one
compare-and-swap of a small object through the same client, in the same run.  Limits of the project: an assignment from an
own block 2.5 transactions, a first one 6; 64 processes half as fast as their plain transactions.
"""

import multiprocessing
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

from felixlite.addresses import Prefix
from felixlite.datastore import connect
from felixlite.datastore.store import Key, Store
from felixlite.ipam import blocks, documents
from felixlite.ipam.assign import Config, Request, View
from felixlite.ipam.check import check
from felixlite.ipam.claims import OwnBlocks
from felixlite.ipam.repair import read_facts
from felixlite.ipam.store import Ipam
from felixlite.model.inside import Pool
from tests.support.etcd import Etcd

POOL = Pool("default", Prefix.parse("10.0.0.0/16"))
WIDE = Pool("wide", Prefix.parse("10.0.0.0/12"))  # 16,384 blocks
PROCESSES, NODES, TURNS = 64, 32, 4
SYNCED = os.environ.get("FSYNC")
PART = 10 if SYNCED else 1  # of what is done otherwise
EACH = 20_000 // PROCESSES // TURNS // PART


class Syncing(Etcd):
    """An etcd that waits for its disk, as everybody's does."""

    def _arguments(self) -> list[str]:
        return [word for word in super()._arguments() if word != "--unsafe-no-fsync"]


@contextmanager
def server() -> Iterator[Etcd]:
    kind = Syncing if SYNCED else Etcd
    with tempfile.TemporaryDirectory(prefix="felixlite-bench-", dir=SYNCED) as folder:
        running = kind(Path(folder), flags=("--quota-backend-bytes=4294967296",))
        try:
            running.start()
            yield running
        finally:
            running.kill()


def wants(handle: str, node: str, count: int = 1) -> Request:
    return Request(handle, {"pod": handle, "namespace": "bench", "node": node}, v4=count)


def view(pool: Pool = POOL) -> Callable[[], View]:
    found = View((pool,), Config(max_blocks=1000))
    return lambda: found


def milliseconds(work: Callable[[], Any]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1e3


def median(works: Iterator[Callable[[], Any]]) -> float:
    return statistics.median(milliseconds(work) for work in works)


def row(name: str, ours: float, yardstick: float, unit: str) -> dict[str, Any]:
    name += " (fsync)" if SYNCED else ""
    return {"name": name, "ours": ours, "yardstick": yardstick, "ratio": ours / yardstick, "unit": unit}


class Plain:
    """One compare-and-swap after the other on an object of its own."""

    def __init__(self, store: Store, name: str) -> None:
        self.store, self.key = store, Key("Node", name)
        self.document = {"kind": "Node", "metadata": {"name": name}, "spec": {"bgp": {"ipv4Address": "192.0.2.1/24"}}}
        self.revision = store.create(self.key, self.document).revision

    def swap(self) -> None:
        self.revision = self.store.update(self.key, self.document, self.revision).revision


def singles(store: Store) -> list[dict[str, Any]]:
    plain, ipam = Plain(store, "plain"), Ipam(store, "n1", view())
    ipam.assign(wants("warm", "n1"))
    pairs = [
        (milliseconds(plain.swap), milliseconds(lambda i=i: ipam.assign(wants(f"own{i}", "n1"))))
        for i in range(600 // PART)
    ]
    plainly = statistics.median(p for p, _ in pairs)
    own = statistics.median(a for _, a in pairs)
    for number in range(8):  # a quarter of the pool in full blocks: what has to be looked past
        ipam.assign(wants(f"full{number}", "n1", 32 * 64))
    exist = View((POOL,), blocks={_ledger(entry).cidr for entry in store.list(documents.BLOCK).entries})
    first, alone = (
        median(lambda n=f"{name}{i}", v=v: Ipam(store, n, v).assign(wants(n, n)) for i in range(60 // PART))
        for name, v in (("f", lambda: exist), ("g", view()))
    )
    freed = median(lambda i=i: ipam.release_handle(f"own{i}") for i in range(300 // PART))
    return [
        row("assign from an own block", own, plainly, "ms, at most 2.5x a transaction"),
        row("assign with a new block", first, plainly, "ms, at most 6x a transaction"),
        row("the same without a Snapshot: all blocks are listed first", alone, plainly, "ms"),
        row("release a handle", freed, plainly, "ms"),
    ]


class Counted:
    """A store that counts round trips."""

    def __init__(self, store: Store) -> None:
        self._store, self.trips = store, 0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def counted(*args: Any, **kwargs: Any) -> Any:
            self.trips += 1
            return found(*args, **kwargs)

        return counted


def many(store: Store) -> dict[str, Any]:
    counted = Counted(store)
    assigned = Ipam(counted, "many", view()).assign(wants("many", "many", 256))  # type: ignore[arg-type]
    return row("256 addresses in one call", counted.trips / len(set(assigned.blocks)), 5, "round trips/block")


def nearly_full(store: Store) -> dict[str, Any]:
    """Time that is not the store's, to find and claim the next block when 99 % of 16,384 exist."""
    existing = [Prefix.from_int(int(WIDE.cidr) + (n << 6), 26, 4) for n in range(16_384) if n % 100]
    known = View((WIDE,), Config(), blocks=set(existing))
    timed = Timed(store)
    taken = []
    for number in range(40 // PART):
        timed.seconds = 0.0
        ipam = Ipam(timed, f"full{number}", lambda: known)  # type: ignore[arg-type]
        wall = milliseconds(lambda i=number, p=ipam: p.assign(wants(f"full{i}", f"full{i}")))
        taken.append(wall - timed.seconds * 1e3)
    return row("next block of 16,384, 99 % taken", statistics.median(taken), 50, "ms besides the store")


class Timed:
    def __init__(self, store: Store) -> None:
        self._store, self.seconds = store, 0.0

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._store, name)
        if not callable(found):
            return found

        def timed(*args: Any, **kwargs: Any) -> Any:
            start = time.perf_counter()
            try:
                return found(*args, **kwargs)
            finally:
                self.seconds += time.perf_counter() - start

        return timed


def contender(url: str, number: int, gate: Any, results: Any) -> None:
    """Plain swaps and assignments in turns, so that both see the same machine."""
    node, store, lost = f"n{number % NODES}", connect(url), []
    ipam = Ipam(store, node, view(), observe=lambda _, retries: lost.append(retries))
    plain, given = Plain(store, f"plain{number}"), []
    for turn in range(TURNS):
        gate.wait()
        for _ in range(EACH):
            plain.swap()
        gate.wait()
        given += [ipam.assign(wants(f"p{number}.{turn}.{i}", node)).addresses[0] for i in range(EACH)]
    gate.wait()
    results.put((given, sum(lost)))
    store.close()


def crowd(url: str) -> tuple[float, float, list[Prefix], int]:
    """Seconds for all the swaps, for all the assignments, and what was assigned."""
    spawn = multiprocessing.get_context("spawn")
    gate, results = spawn.Barrier(PROCESSES + 1), spawn.Queue()
    children = [spawn.Process(target=contender, args=(url, n, gate, results)) for n in range(PROCESSES)]
    for child in children:
        child.start()
    times = []
    for _ in range(2 * TURNS + 1):
        gate.wait(timeout=300)
        times.append(time.perf_counter())
    spent = [after - before for before, after in pairwise(times)]
    answers = [results.get(timeout=60) for _ in children]
    for child in children:
        child.join(timeout=60)
    given = [address for found, _ in answers for address in found]
    return sum(spent[::2]), sum(spent[1::2]), given, sum(lost for _, lost in answers)


def contended(url: str) -> dict[str, Any]:
    swapping, assigning, given, lost = crowd(url)
    rate, plainly = len(given) / assigning, len(given) / swapping
    store = connect(url)
    assert len(set(given)) == len(given) == TURNS * EACH * PROCESSES, "an address was handed out twice"
    owned = {ledger.cidr for ledger in map(_ledger, store.list(documents.BLOCK).entries)}
    affine = {cidr for n in range(NODES) for cidr in _affinities(store, f"n{n}")}
    assert affine <= owned, "an affinity without a block"
    held = sum(1 for ledger in map(_ledger, store.list(documents.BLOCK).entries) for _ in blocks.in_use(ledger))
    assert held == len(given), "addresses leaked"
    wrong = [f for f in check(read_facts(store), time.time()) if f.code.startswith(("handle", "block-c", "affinity"))]
    assert not wrong, wrong[:3]
    store.close()
    name = f"{len(given):,} addresses, {PROCESSES} processes, {NODES} nodes ({lost / len(given):.2f} retries each)"
    return row(name, rate, plainly, "/s, at least 0.5x plain transactions")


def _ledger(entry: Any) -> blocks.Ledger:
    return blocks.parse(entry.document)


def _affinities(store: Store, node: str) -> list[Prefix]:
    own = OwnBlocks(store, blocks.HOST + node, time.time)
    own.refresh()
    return [*own.seen, *own.bare]


def main() -> list[dict[str, Any]]:
    with server() as running:
        store = connect(running.url)
        found = [*singles(store), many(store)]
        running.wipe()
        found.append(nearly_full(store))
        running.wipe()
        store.close()
        found.append(contended(running.url))
    for line in found:
        print(f"{line['name']:60} {line['ours']:10.2f} {line['yardstick']:10.2f} {line['ratio']:6.2f}  {line['unit']}")
    return found
