"""Random worlds of policy on every backend, with real packets, held against the evaluator: the long form of the test.

    ./run bench policy                           # ten thousand, after the figures; POLICY_WORLDS=N: so many
    ./run py -m bench._differential 10000        # only these
    ./run py -m bench._differential 1000 50000   # other ones: seeds from 50,000 on

Processes side by side take turns at the seeds; each has a node with pods for every backend, and plans and judges a
world once for all of them.  There are more processes than processors, because who writes to iptables mostly waits for
the kernel.  A disagreement prints its seed, which says everything about the world; the tests try the first 500.
"""

import os
import sys
import time
from contextlib import ExitStack
from multiprocessing import get_context
from queue import Empty
from random import Random
from typing import Any, NamedTuple

from felixlite.policy.choice import Backend
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.support.agreement import PODS, disagreements, foretold
from tests.support.policylab import one_cpu, policy_lab
from tests.support.randompolicy import world

BACKENDS: tuple[Backend, ...] = ("nftables", "legacy", "nft")
WORLDS = 10_000
SAID = "POLICY_WORLDS"
FRESH = 50  # worlds after which a planner and the reconcilers begin anew
AT_A_TIME = 2  # processes for each processor
EACH = 15.0  # seconds between two words about how far it is


class Batch(NamedTuple):
    worlds: int
    wrong: list[str]  # `BACKEND: seed N: PACKET: the way to the verdict`


def work(number: int, processes: int, seeds: range, done: Any) -> None:
    """Try every so many batches of the seeds, and tell of each."""
    one_cpu(number)
    with ExitStack() as stack:
        labs = {backend: stack.enter_context(policy_lab("fd", PODS)) for backend in BACKENDS}
        for start in range(number * FRESH, len(seeds), processes * FRESH):
            batch = seeds[start : start + FRESH]
            planner = Planner()
            reconcilers = {backend: Reconciler(lab.tables(backend)) for backend, lab in labs.items()}
            wrong = []
            for seed in batch:
                expected = foretold(planner, world(Random(seed), PODS))
                for backend, lab in labs.items():
                    found = disagreements(lab, reconcilers[backend], expected)
                    wrong += [f"{backend}: seed {seed}: {line}" for line in found]
            done.put(Batch(len(batch), wrong))


def tried(seeds: range) -> list[str]:
    """What the kernel and the evaluator disagree about, in all of these worlds on each backend."""
    context = get_context("spawn")  # a forked child would share the threads' locks
    processes = min(AT_A_TIME * len(os.sched_getaffinity(0)), -(-len(seeds) // FRESH))
    done = context.Queue()
    workers = [
        context.Process(target=work, args=(number, processes, seeds, done), daemon=True) for number in range(processes)
    ]
    for worker in workers:
        worker.start()
    found: list[str] = []
    tried = 0
    start = said = time.monotonic()
    while tried < len(seeds):
        try:
            batch = done.get(timeout=1)
        except Empty:
            if failed := [worker.exitcode for worker in workers if worker.exitcode]:
                raise RuntimeError(f"a process ended with {failed[0]} after {tried} worlds") from None
            continue
        tried += batch.worlds
        found += batch.wrong
        for line in batch.wrong:
            print(line, flush=True)
        if tried == len(seeds) or time.monotonic() - said > EACH:
            said = time.monotonic()
            print(f"{tried} of {len(seeds)} worlds after {said - start:.0f} s, {len(found)} disagreements", flush=True)
    for worker in workers:
        worker.join()
    return found


def wanted() -> int:
    """How many worlds the environment asks for."""
    return int(os.environ.get(SAID, WORLDS))


def rows() -> list[dict[str, Any]]:
    """For the table of all benches."""
    if not (worlds := wanted()):
        return []
    print(f"{worlds} random worlds on each backend; {SAID}=N tries N, {SAID}=0 none", flush=True)
    found = tried(range(worlds))
    name = f"packets disagreed about in {worlds:,} worlds on {len(BACKENDS)} backends"
    return [{"name": name, "ours": len(found), "yardstick": 0, "ratio": None, "unit": "packets"}]


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    worlds, first = (*given, *(1000, 500)[len(given) :])
    sys.exit(bool(tried(range(first, first + worlds))))
