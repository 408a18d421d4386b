"""A long history of assignments, releases, crashes and collections on three etcd members, and what is wrong with it.

One member after the other is killed and started again while six processes work and one collects garbage; one worker is
killed, too.  OPERATIONS in the environment says how many (100000 for the record, ten minutes and more); HISTORY a folder
that keeps what the processes wrote.  tests/support/history.py says what is checked; anything wrong raises.
"""

import os
import tempfile
import time
from pathlib import Path
from typing import Any

from felixlite.datastore import connect
from tests.support import history
from tests.support.etcd import Etcd, cluster, cluster_url

WORKERS = 6
UP, DOWN = 12.0, 3.0  # seconds
ROOM = "--quota-backend-bytes=4294967296"  # every revision of a long history is kept


class Unrest:
    """Kills one member at a time and starts it again."""

    def __init__(self, members: list[Etcd]) -> None:
        self.members, self.kills, self.next, self.down = members, 0, 5.0, False

    def __call__(self, elapsed: float) -> None:
        if elapsed < self.next:
            return
        member = self.members[self.kills % len(self.members)]
        if self.down:
            member.begin()
            self.kills += 1
        else:
            member.kill()
        self.down = not self.down
        self.next = elapsed + (DOWN if self.down else UP)

    def end(self) -> None:
        if self.down:
            self.members[self.kills % len(self.members)].begin()
        for member in self.members:
            member.wait()


def main() -> list[dict[str, Any]]:
    operations = int(os.environ.get("OPERATIONS", "4000"))
    with cluster(3, ROOM) as members, tempfile.TemporaryDirectory(prefix="felixlite-history-") as made:
        folder = Path(os.environ.get("HISTORY", made))
        folder.mkdir(parents=True, exist_ok=True)
        unrest, start = Unrest(members), time.monotonic()
        history.run(cluster_url(members), folder, WORKERS, operations, unrest)
        seconds = time.monotonic() - start
        unrest.end()
        store = connect(cluster_url(members))
        found, wrong = history.verdict(folder, store)
        store.close()
    holds = sum(map(len, found.holds.values()))
    print(
        f"{found.operations:,} operations in {seconds:.0f} s, {holds:,} holds of {len(found.holds)} addresses, "
        f"{found.collected:,} collected, {len(found.unknown):,} with an unknown end, members killed {unrest.kills} times"
    )
    assert not wrong, wrong[:5]
    name = f"violations in {found.operations:,} operations"
    return [{"name": name, "ours": 0, "yardstick": 0, "ratio": 1.0, "unit": "must be 0"}]


if __name__ == "__main__":
    print(main())
