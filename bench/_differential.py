"""Random worlds of policy on every backend, with real packets, held against the evaluator: the long form of the test.

    ./run py -m bench._differential 10000          # so many worlds on each backend; hours on two cores
    ./run py -m bench._differential 1000 50000     # other ones: seeds from 50,000 on

The tests try the first 500 seeds in every run.  A disagreement prints its seed, which says everything about the world.
"""

import sys
import time

from felixlite.policy.choice import Backend
from felixlite.policy.plan import Planner
from felixlite.reconcile import Reconciler
from tests.kernel.policy.test_differential import PODS, WORLDS, disagreements
from tests.support.policylab import one_cpu, policy_lab

BACKENDS: tuple[Backend, ...] = ("nftables", "legacy", "nft")
FRESH = 50  # worlds after which a planner and a reconciler begin anew


def tried(backend: Backend, seeds: range) -> int:
    """How many packets the kernel and the evaluator disagree about."""
    found = 0
    with policy_lab("fd", PODS) as lab:
        for number, seed in enumerate(seeds):
            if number % FRESH == 0:
                reconciler, planner = Reconciler(lab.tables(backend)), Planner()
            for line in disagreements(lab, reconciler, planner, seed):
                found += 1
                print(f"{backend}: {line}", flush=True)
    return found


def main(worlds: int, first: int) -> int:
    one_cpu()
    wrong = 0
    for backend in BACKENDS:
        start = time.monotonic()
        found = tried(backend, range(first, first + worlds))
        seconds = time.monotonic() - start
        print(f"{backend}: {worlds} worlds in {seconds:.0f} s, {found} disagreements", flush=True)
        wrong += found
    return wrong


if __name__ == "__main__":
    given = [int(word) for word in sys.argv[1:]]
    sys.exit(bool(main(*[*given, *(1000, WORLDS)[len(given) :]])))
