"""A history of concurrent assignments, releases, crashes and collections against real etcd, and its check.

Workers are processes; each writes what it begins and what it learns to a file, with the machine's monotonic clock, so
that what was under way when a process died is known as just that.  A crash in the middle of an assignment is made by a
store that dies before or after its commit.  One process collects garbage with a grace period of a second.

The check: every address is a lock.  Who was told that he has it, has it from some moment within that call until some
moment within the call that freed it, and there must be an order of all these moments in which nobody has it twice
(linearizability, address by address).  A release frees all that the handle held; the collection frees only what was
abandoned; what is in the store at the end is what the history says.
"""

import json
import multiprocessing
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from felixlite.addresses import Prefix
from felixlite.controllers.addresses import AddressCollection
from felixlite.datastore import connect
from felixlite.datastore.store import Key, Meanwhile, Store, Write
from felixlite.errors import FelixliteError, StoreError
from felixlite.ipam import blocks, documents
from felixlite.ipam.assign import Config, Exhausted, Request, View
from felixlite.ipam.fixes import FreeAddress
from felixlite.ipam.repair import Repair
from felixlite.ipam.store import Ipam
from felixlite.model.inside import Pool

POOL = Pool("p", Prefix.parse("10.0.0.0/23"), block_size=28)  # 32 blocks of 16: claims, loans and give-ups all the time
NODES = 3
HELD_AT_MOST = 55  # by one worker: the pool is nearly full with six of them
GRACE = 1.0


class Died(Exception):
    """The worker's process is taken for dead at this moment."""


class Mortal:
    """A store that dies at its next commit: before it, or after it with the answer lost."""

    def __init__(self, store: Store) -> None:
        self._store, self.dies = store, ""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._store, name)

    def commit(self, writes: Sequence[Write], meanwhile: Meanwhile = None) -> Any:
        if self.dies == "before":
            raise Died
        answer = self._store.commit(writes, meanwhile)
        if self.dies == "after":
            raise Died
        return answer


# -- what the processes do


class Worker:
    def __init__(self, url: str, number: int, folder: Path, seed: int) -> None:
        self.store = Mortal(connect(url))
        self.number, self.node, self.random = number, f"n{number % NODES}", random.Random(seed)
        self.log = (folder / f"w{number}.{seed}.jsonl").open("w", buffering=1)
        self.prefix = f"h.{number}.{seed}"
        self.held: list[str] = []
        self.count = 0
        self.reborn()

    def reborn(self) -> None:
        """A new process on the same node: it remembers nothing."""
        view = View((POOL,), Config(max_blocks=20))
        self.ipam = Ipam(self.store, self.node, lambda: view)  # type: ignore[arg-type]

    def say(self, **what: Any) -> None:
        self.log.write(json.dumps({"at": time.monotonic(), **what}) + "\n")

    def run(self, operations: int) -> None:
        for _ in range(operations):
            if self.held and (len(self.held) > HELD_AT_MOST or self.random.random() < 0.48):
                self.release(self.held.pop(self.random.randrange(len(self.held))))
            else:
                self.assign(self.random.choice(["keep"] * 90 + ["leak"] * 6 + ["before"] * 2 + ["after"] * 2))
        self.log.close()

    def assign(self, fate: str) -> None:
        self.count += 1
        handle = f"{self.prefix}.{self.count}"
        request = Request(
            handle, {"pod": handle, "namespace": "h", "node": self.node}, v4=self.random.choice([1, 1, 2])
        )
        self.store.dies = fate if fate in ("before", "after") else ""
        self.say(begin="assign", handle=handle, fate=fate)
        try:
            found = self.ipam.assign(
                request, () if fate == "leak" else lambda given: [endpoint(handle, self.node, given)]
            )
        except Died:
            self.held.append(handle)  # the runtime takes a sandbox down whose ADD it heard no answer to
            self.reborn()
        except Exhausted:
            self.say(end="nothing", handle=handle)
        except StoreError:
            self.held.append(handle)  # it may have happened: it is released like the others
        else:
            self.say(end="assign", handle=handle, addresses=[str(a) for a in found.addresses])
            self.held += [handle] if fate == "keep" else []
        finally:
            self.store.dies = ""

    def release(self, handle: str) -> None:
        key = endpoint_key(handle)
        self.say(begin="release", handle=handle)
        freed: set[str] = set()
        for _ in range(400):
            try:
                there = self.store.get(key)
                freed |= {
                    str(a)
                    for a in self.ipam.release_handle(handle, [Write(key, None, there.revision)] if there else [])
                }
            except StoreError:
                time.sleep(0.05)  # a member is away; what was freed by a lost answer is not in `freed`
                self.say(unsure=handle)
                continue
            self.say(end="release", handle=handle, addresses=sorted(freed))
            return


def endpoint_key(handle: str) -> Key:
    return Key("WorkloadEndpoint", handle, "h")


def endpoint(handle: str, node: str, given: Iterable[Prefix]) -> Write:
    spec = {"node": node, "pod": handle, "ipNetworks": [str(a) for a in given]}
    frame = {"apiVersion": "projectcalico.org/v3", "kind": "WorkloadEndpoint"}
    return Write(endpoint_key(handle), {**frame, "metadata": {"name": handle, "namespace": "h"}, "spec": spec}, None)


def work(url: str, number: int, folder: str, seed: int, operations: int) -> None:
    Worker(url, number, Path(folder), seed).run(operations)


class Watched(Repair):
    """Tells the history what the collection frees."""

    log: Any = None

    def _apply(self, fix: Any) -> bool:
        if not isinstance(fix, FreeAddress):
            return super()._apply(fix)
        what = {"handle": fix.handle, "addresses": [str(Prefix.host(fix.address))]}
        self.log.write(json.dumps({"at": time.monotonic(), "begin": "collect", **what}) + "\n")
        done = super()._apply(fix)
        self.log.write(json.dumps({"at": time.monotonic(), "end": "collect" if done else "kept", **what}) + "\n")
        return done


def collect(url: str, folder: str, stop: Any) -> None:
    store = connect(url)
    collection = AddressCollection(store, GRACE)
    collection._repair = repair = Watched(store, time.time)
    with (Path(folder) / "gc.jsonl").open("w", buffering=1) as repair.log:
        while not stop.wait(GRACE / 2):
            try:
                collection.once(lambda: True)
            except FelixliteError:
                continue  # a member is away


# -- running them


@contextmanager
def collecting(url: str, folder: Path) -> Iterator[None]:
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    child = spawn.Process(target=collect, args=(url, str(folder), stop))
    child.start()
    try:
        yield
    finally:
        stop.set()
        child.join(timeout=60)
        assert child.exitcode == 0, f"the collection ended with {child.exitcode}"


def prepare(store: Store) -> None:
    frame = {"apiVersion": "projectcalico.org/v3", "kind": "IPPool", "metadata": {"name": POOL.name}}
    spec = {"cidr": str(POOL.cidr), "blockSize": POOL.block_size}
    store.create(Key("IPPool", POOL.name), {**frame, "spec": spec})
    for number in range(NODES):
        frame = {"apiVersion": "projectcalico.org/v3", "kind": "Node", "metadata": {"name": f"n{number}"}}
        store.create(Key("Node", f"n{number}"), {**frame, "spec": {}})


def run(url: str, folder: Path, workers: int, operations: int, disturb: Any, seed: int = 0) -> None:
    """`operations` in all; `disturb(elapsed)` is called about ten times a second; one worker in the middle is killed."""
    store = connect(url)
    prepare(store)
    store.close()
    spawn = multiprocessing.get_context("spawn")
    with collecting(url, folder):
        children = [
            spawn.Process(target=work, args=(url, n, str(folder), seed + n, operations // workers))
            for n in range(workers)
        ]
        for child in children:
            child.start()
        start, killed = time.monotonic(), False
        while any(child.is_alive() for child in children):
            time.sleep(0.1)
            disturb(time.monotonic() - start)
            if not killed and time.monotonic() - start > 5 and children[0].is_alive():
                children[0].kill()  # kill -9, wherever it is; its pods live on
                children[0].join()
                left = max(0, operations // workers - 100)
                children.append(spawn.Process(target=work, args=(url, 0, str(folder), seed + 1000, left)))
                children[-1].start()
                killed = True
        time.sleep(4 * GRACE)  # what was abandoned last is collected, too
    for child in children[1:]:
        child.join()
        assert child.exitcode == 0, f"a worker ended with {child.exitcode}"


# -- checking what they wrote


@dataclass(frozen=True)
class Span:
    """A call: its moment is somewhere in it."""

    begin: float
    end: float


NEVER = Span(float("inf"), float("inf"))


@dataclass(frozen=True)
class Hold:
    handle: str
    taken: Span
    freed: Span = NEVER


@dataclass
class History:
    holds: dict[str, list[Hold]]  # by address
    violations: list[str]
    operations: int
    unknown: set[str]  # handles of assignments whose end nobody heard of
    collected: int


@dataclass
class _Heard:
    """What the files say, sorted."""

    begun: dict[tuple[str, str], float] = field(default_factory=dict)
    taken: dict[str, tuple[Span, list[str]]] = field(default_factory=dict)
    released: dict[str, tuple[Span, list[str]]] = field(default_factory=dict)
    collected: dict[tuple[str, str], Span] = field(default_factory=dict)  # (handle, address)
    unsure: set[str] = field(default_factory=set)  # a lost answer may have freed something
    nothing: set[str] = field(default_factory=set)
    live: set[str] = field(default_factory=set)
    operations: int = 0

    def hear(self, said: dict[str, Any]) -> None:
        handle = said.get("handle", "")
        if "begin" in said:
            self.begun[said["begin"], handle] = said["at"]
            if said["begin"] == "collect":  # open until its end is heard: a lost answer may have freed it
                for address in said["addresses"]:
                    self.collected.setdefault((handle, address), Span(said["at"], float("inf")))
            self.live |= {handle} if said.get("fate") == "keep" else set()
        elif "unsure" in said:
            self.unsure.add(said["unsure"])
        else:
            self.operations += 1
            self._ended(said["end"], handle, said)

    def _ended(self, what: str, handle: str, said: dict[str, Any]) -> None:
        match what:
            case "assign":
                self.taken[handle] = Span(self.begun["assign", handle], said["at"]), said["addresses"]
            case "release":
                self.released[handle] = Span(self.begun["release", handle], said["at"]), said["addresses"]
            case "collect":
                for address in said["addresses"]:
                    self.collected[handle, address] = Span(self.collected[handle, address].begin, said["at"])
            case "kept":
                for address in said["addresses"]:
                    del self.collected[handle, address]
            case "nothing":
                self.nothing.add(handle)

    def end_of(self, handle: str, address: str) -> Span:
        """When it was freed; open to the end while nobody heard of the end of a release."""
        if found := self.collected.get((handle, address)):
            return found
        if handle in self.released:
            return self.released[handle][0]
        begun = self.begun.get(("release", handle))
        return NEVER if begun is None else Span(begun, float("inf"))


def read(folder: Path) -> History:
    heard = _Heard()
    for path in sorted(folder.glob("*.jsonl")):
        for line in path.read_text().splitlines():
            if line.endswith("}"):  # not so the last word of a killed process
                heard.hear(json.loads(line))
    holds: dict[str, list[Hold]] = defaultdict(list)
    for handle, (span, addresses) in heard.taken.items():
        for address in addresses:
            holds[address].append(Hold(handle, span, heard.end_of(handle, address)))
    for handle, (span, addresses) in heard.released.items():
        if handle not in heard.taken:  # nobody heard that it was given, but it was there to be freed
            for address in addresses:
                holds[address].append(Hold(handle, Span(heard.begun["assign", handle], span.end), span))
    unknown = {handle for kind, handle in heard.begun if kind == "assign"} - heard.taken.keys() - heard.nothing
    return History(dict(holds), list(_wrongly_freed(heard)), heard.operations, unknown, len(heard.collected))


def _wrongly_freed(heard: _Heard) -> Iterator[str]:
    for handle, (_, addresses) in heard.released.items():
        given = heard.taken.get(handle)
        if given and handle not in heard.unsure and sorted(addresses) != sorted(given[1]):
            yield f"{handle} held {given[1]} and its release freed {addresses}"
    ending = {handle for kind, handle in heard.begun if kind == "release"}
    for handle, address in heard.collected:
        if handle in heard.live and handle in heard.taken and handle not in ending:
            yield f"the collection freed {address} of {handle}, which lives"


def unordered(holds: Sequence[Hold]) -> bool:
    """True when no order of the moments has one holder at a time."""
    return not _place(sorted(holds, key=lambda hold: hold.taken.end), float("-inf"), 200_000)


def _place(left: list[Hold], now: float, budget: int) -> bool:
    """Depth first; whoever could have been next is tried in the order of the ends of their calls."""
    stack = [(left, now)]
    while stack:
        budget -= 1
        assert budget > 0, "too many orders to try"
        left, now = stack.pop()
        if not left:
            return True
        first_end = min(hold.taken.end for hold in left)
        nexts = [hold for hold in left if hold.taken.begin <= first_end]
        for hold in reversed(nexts):
            at = max(now, hold.taken.begin)
            if at <= hold.taken.end:
                until = max(at, hold.freed.begin)
                if until <= hold.freed.end:
                    stack.append(([other for other in left if other is not hold], until))
    return False


def verdict(folder: Path, store: Store) -> tuple[History, list[str]]:
    """The history and all that is wrong with it."""
    history = read(folder)
    wrong = list(history.violations)
    wrong += [f"{address} was held twice: {holds}" for address, holds in history.holds.items() if unordered(holds)]
    wrong += _final_state(history, store)
    return history, wrong


def _final_state(history: History, store: Store) -> Iterator[str]:
    there = {}
    for entry in store.list(documents.BLOCK).entries:
        ledger = blocks.parse(entry.document)
        for ordinal, attribute in blocks.in_use(ledger):
            there[str(ledger.prefix(ordinal))] = blocks.handle_of(attribute)
    still = {a: h.handle for a, holds in history.holds.items() for h in holds if h.freed is NEVER}
    maybe = {h.handle for holds in history.holds.values() for h in holds if h.freed.end == float("inf")}
    for address, handle in still.items():
        if there.get(address) != handle:
            yield f"{address} is {handle}'s and the store says {there.get(address)}"
    for address, handle in there.items():
        if still.get(address) != handle and handle not in maybe and handle not in history.unknown:
            yield f"the store says that {address} is {handle}'s, which gave it back or never had it"
