"""A store that counts, nodes on it, and a clock that tests turn."""

from felixlite.addresses import Prefix
from felixlite.datastore.memory import MemoryStore
from felixlite.ipam import blocks, documents
from felixlite.ipam.assign import Config, Request, View
from felixlite.ipam.store import Ipam
from felixlite.model.inside import Pool

POOL = Pool("default", Prefix.parse("10.0.0.0/24"))
POOL6 = Pool("six", Prefix.parse("fd00::/118"), block_size=122)


class CountingStore(MemoryStore):
    """Counts the round trips; `atomic` may be taken away, as on Kubernetes."""

    def __init__(self, atomic: bool = True) -> None:
        super().__init__()
        self.atomic = atomic
        self.trips = 0

    def read(self, keys):
        self.trips += 1
        return super().read(keys)

    def list(self, kind, *, namespace="", node=""):
        self.trips += 1
        return super().list(kind, namespace=namespace, node=node)

    def create(self, key, document):
        self.trips += 1
        return super().create(key, document)

    def update(self, key, document, revision):
        self.trips += 1
        return super().update(key, document, revision)

    def delete(self, key, revision=None):
        self.trips += 1
        return super().delete(key, revision)

    def commit(self, writes, meanwhile=None):
        if self.atomic:
            self.trips += 1
            return super().commit(writes, meanwhile)
        done = []
        for write in writes:
            self.trips += 1
            done += super().commit([write])
        return done


class World:
    def __init__(self, *pools: Pool, atomic: bool = True, **config) -> None:
        self.store = CountingStore(atomic)
        self.now = 1_000_000.0
        self.view = View(pools or (POOL,), Config(**config))
        self.nodes: dict[str, Ipam] = {}

    def node(self, name: str = "n1") -> Ipam:
        if name not in self.nodes:
            self.nodes[name] = Ipam(self.store, name, lambda: self.view, lambda: self.now)
        return self.nodes[name]

    def ledger(self, cidr) -> blocks.Ledger:
        return blocks.parse(self.store.get(documents.block_key(cidr)).document)

    def ledgers(self):
        return [blocks.parse(entry.document) for entry in self.store.list(documents.BLOCK).entries]

    def counts(self, handle):
        entry = self.store.get(documents.handle_key(handle))
        return documents.counts_of(entry.document) if entry else None


def wants(
    handle: str = "k8s.c1", v4: int = 1, v6: int = 0, node: str = "n1", pod: str = "", about=None, **more
) -> Request:
    return Request(handle, about or {"node": node, "pod": pod or handle, "namespace": "ns"}, v4=v4, v6=v6, **more)
