"""Commands called in this process on a store in memory: what they answer, and two documents to give them."""

from collections.abc import Callable
from typing import Any

from felixlite.datastore.memory import MemoryStore
from felixlite.datastore.store import Key

POOL = """
apiVersion: projectcalico.org/v3
kind: IPPool
metadata: {name: p}
spec: {cidr: 10.42.0.0/16, ipipMode: CrossSubnet}
"""
POLICY = """
apiVersion: projectcalico.org/v3
kind: NetworkPolicy
metadata: {name: web, labels: {team: shop}}
spec: {selector: app == 'web'}
"""


class Lasting(MemoryStore):
    """A store that outlives the command, as the real ones do."""

    def close(self) -> None:
        pass


class Ran:
    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


Felixlite = Callable[..., Ran]


def spec_of(store: Lasting, kind: str, name: str) -> dict[str, Any]:
    entry = store.get(Key(kind, name))
    assert entry is not None
    return dict(entry.document["spec"])


def labels_of(store: Lasting) -> dict[str, str]:
    entry = store.get(Key("IPPool", "p"))
    assert entry is not None
    return dict(entry.document["metadata"].get("labels", {}))
