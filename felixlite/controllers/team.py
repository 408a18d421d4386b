"""All controllers of a cluster as one thing to run: in a process of their own, or inside an agent of a small cluster."""

import threading
from collections.abc import Sequence

from felixlite.controllers.addresses import AddressCollection
from felixlite.controllers.departed import Departed
from felixlite.controllers.kubenodes import KubernetesNodes
from felixlite.controllers.lease import DURATION, Lease
from felixlite.controllers.objects import Objects
from felixlite.controllers.pools import Pools
from felixlite.controllers.runner import Controller, Runner, Tell, Watching
from felixlite.controllers.tiers import Tiers
from felixlite.datastore import announcer
from felixlite.datastore.store import Changed, Deleted, Store
from felixlite.health import Sample

NAME = "felixlite-controllers"


class Team:
    """`kubernetes`: whose Nodes are to be copied into a store that is not Kubernetes."""

    def __init__(
        self,
        store: Store,
        identity: str,
        tell: Tell,
        lease_seconds: float = DURATION,
        kubernetes: Store | None = None,
    ) -> None:
        self.addresses, pools, tiers = AddressCollection(store), Pools(store), Tiers(store)
        nodes = [KubernetesNodes(store, kubernetes)] if kubernetes else []
        departed, public = Departed(store), announcer(store)
        self._objects = Objects(store, public, self._hurry) if public else None
        objects = [self._objects] if self._objects else []
        everybody: list[Controller] = [self.addresses, pools, tiers, departed, *nodes, *objects]
        self.runner = Runner(everybody, Lease(store, NAME, identity, lease_seconds), tell)
        self._watching = [
            Watching(store, "Node", (Deleted,), lambda: self._hurry(self.addresses, departed)),
            Watching(store, "IPPool", (Changed, Deleted), lambda: self.runner.hurry(pools.name)),
            Watching(store, "Tier", (Changed,), lambda: self.runner.hurry(tiers.name)),
        ]
        if kubernetes:
            hurry = lambda: self.runner.hurry(nodes[0].name)  # noqa: E731  as above
            self._watching.append(Watching(kubernetes, "Node", (Changed, Deleted), hurry))
        self._ended = threading.Event()

    @property
    def leads(self) -> bool:
        """This process is the one that acts."""
        return self.runner.leads

    def _hurry(self, *them: Controller) -> None:
        for one in them:
            self.runner.hurry(one.name)

    def samples(self) -> Sequence[Sample]:
        return self.addresses.samples()

    def run(self) -> None:
        """Until stopped; then the lease is free for the next one at once."""
        for one in self._watching:
            one.start()
        if self._objects:
            threading.Thread(target=self._objects.source.run, name="objects", daemon=True).start()
        self.runner.run()
        for one in self._watching:
            one.stop()
        if self._objects:
            self._objects.source.stop()
        self._ended.set()

    def stop(self, patience: float = 0.0) -> None:
        self.runner.stop()
        self._ended.wait(patience)
