"""All controllers of a cluster as one thing to run: in a process of their own, or inside an agent of a small cluster."""

import threading
from collections.abc import Sequence

from felixlite.controllers.addresses import AddressCollection
from felixlite.controllers.lease import DURATION, Lease
from felixlite.controllers.runner import Deletions, Runner, Tell
from felixlite.datastore.store import Store
from felixlite.health import Sample

NAME = "felixlite-controllers"


class Team:
    def __init__(self, store: Store, identity: str, tell: Tell, lease_seconds: float = DURATION) -> None:
        self.addresses = AddressCollection(store)
        self.runner = Runner([self.addresses], Lease(store, NAME, identity, lease_seconds), tell)
        self._deletions = Deletions(store, "Node", lambda: self.runner.hurry(self.addresses.name))
        self._ended = threading.Event()

    @property
    def leads(self) -> bool:
        """This process is the one that acts."""
        return self.runner.leads

    def samples(self) -> Sequence[Sample]:
        return self.addresses.samples()

    def run(self) -> None:
        """Until stopped; then the lease is free for the next one at once."""
        self._deletions.start()
        self.runner.run()
        self._deletions.stop()
        self._ended.set()

    def stop(self, patience: float = 0.0) -> None:
        self.runner.stop()
        self._ended.wait(patience)
