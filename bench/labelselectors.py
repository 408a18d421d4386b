"""200 selectors against 10,000 sets of labels; the yardstick is one call of each closure on each set of labels."""

import random
import time
from typing import Any

from felixlite.model.labels import LabelIndex
from felixlite.model.selector import Selector, parse

SELECTORS, ROWS, LIMIT = 200, 10_000, 0.2


def label_sets(seed: int = 1) -> dict[str, dict[str, str]]:
    dice = random.Random(seed)
    return {
        f"pod-{i}": {
            "app": f"app-{dice.randrange(100)}",
            "tier": dice.choice(["web", "api", "db", "cache"]),
            "pod-template-hash": f"{i:08x}",
            "projectcalico.org/namespace": f"ns-{dice.randrange(50)}",
            **({"canary": "true"} if dice.random() < 0.1 else {}),
        }
        for i in range(ROWS)
    }


def selectors(seed: int = 2) -> list[Selector]:
    dice = random.Random(seed)
    forms = (
        "app == 'app-{a}' && projectcalico.org/namespace == 'ns-{n}'",
        "app in {{'app-{a}', 'app-{n}'}} && tier != 'db'",
        "!has(canary) && projectcalico.org/namespace == 'ns-{n}'",
        "(app starts with 'app-{n}' || tier == 'cache') && has(canary)",
        "tier not in {{'web', 'api'}} && app == 'app-{a}'",
    )
    return [parse(forms[i % len(forms)].format(a=dice.randrange(100), n=dice.randrange(50))) for i in range(SELECTORS)]


def main() -> list[dict[str, Any]]:
    rows, wanted = label_sets(), selectors()
    started = time.perf_counter()
    naive = [{key for key, labels in rows.items() if selector.matches(labels)} for selector in wanted]
    yardstick = time.perf_counter() - started
    started = time.perf_counter()
    index = LabelIndex(rows)
    ours = [index.select(selector) for selector in wanted]
    seconds = time.perf_counter() - started
    assert ours == naive
    print(f"{SELECTORS} selectors x {ROWS} label sets: {seconds:.3f} s with the index made, limit {LIMIT} s")
    print(f"one closure call each: {yardstick:.3f} s")
    return [
        {"name": "selectors", "ours": seconds, "yardstick": yardstick, "ratio": seconds / yardstick, "unit": "s"},
        {"name": "selectors, limit", "ours": seconds, "yardstick": LIMIT, "ratio": seconds / LIMIT, "unit": "s"},
    ]


if __name__ == "__main__":
    main()
