"""This node in the store: there before anything else happens, and true ever after.

Which addresses are this node's is decided by autodetect.py, what is written of them by registration.py; that the store
is the one of the cluster that this node is in, by cluster.py.  What is written comes back to the core as a Change.
"""

import logging
import socket
import threading
from collections.abc import Callable
from ipaddress import ip_address
from pathlib import Path

from felixlite import cluster
from felixlite.addresses import Address, Interface
from felixlite.autodetect import choose
from felixlite.config import Settings
from felixlite.datastore.store import Key, Store
from felixlite.errors import Unreachable
from felixlite.kernel.addresses import every_address
from felixlite.kernel.host import Host
from felixlite.kernel.links import every_link
from felixlite.registration import FirstPool, ensure_pool, refuse_namesake, register
from felixlite.snapshot import Snapshot

log = logging.getLogger("felixlite")

STORE_PAUSE = 2.0


class Membership:
    def __init__(
        self,
        store: Store,
        here: str,
        settings: Callable[[Snapshot], Settings],
        state_directory: Path,
        first_pool: FirstPool,
    ) -> None:
        self._store, self._here, self._settings = store, here, settings
        self._state_directory, self._first_pool = state_directory, first_pool
        self._registered: tuple[Interface | None, ...] = ()  # the addresses that this process wrote to its Node

    def begin(self, host: Host, stopping: threading.Event) -> None:
        """Waits for a store that is away, and says so once."""
        links = {name: seen.state for name, seen in every_link(host).items()}
        names = {link.index: name for name, link in links.items()}
        addresses = {(names[a.link], str(a.address)): a.subnet for a in every_address(host) if a.link in names}
        told = False
        while not stopping.is_set():
            try:
                self._register(Snapshot(self._here, links=links, link_addresses=addresses))
                return
            except Unreachable as error:
                if not told:
                    log.warning("%s; trying again, the kernel stays as it is", error)
                told = True
                stopping.wait(STORE_PAUSE)

    def keep(self, known: Snapshot) -> None:
        if known.link_addresses:
            local = {address.partition("/")[0] for _, address in known.link_addresses}
            refuse_namesake(self._store.get(Key("Node", self._here)), self._registered, local)
            self._register(known)

    def join(self) -> None:
        """Refuses the store of another cluster."""
        cluster.join(self._store, self._state_directory)

    def _register(self, known: Snapshot) -> None:
        ipv4, ipv6 = self._detected(known, 4), self._detected(known, 6)
        self.join()
        register(self._store, self._here, ipv4, ipv6)
        self._registered = (ipv4, ipv6)
        ensure_pool(self._store, self._first_pool, ipv4)

    def _detected(self, known: Snapshot, family: int) -> Interface | None:
        settings = self._settings(known)
        method = settings["ipAutodetectionMethod" if family == 4 else "ip6AutodetectionMethod"]
        return choose(method, family, known.links, known.link_addresses, settings["skipInterfaces"], source_toward)


def source_toward(destination: Address) -> Address | None:
    """The address from which the kernel would send there; connecting a UDP socket sends nothing."""
    family = socket.AF_INET if destination.version == 4 else socket.AF_INET6
    with socket.socket(family, socket.SOCK_DGRAM) as probe:
        if probe.connect_ex((str(destination), 9)):
            return None
        return ip_address(probe.getsockname()[0])
