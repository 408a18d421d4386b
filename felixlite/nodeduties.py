"""What a node owes the store, and when: its Node, its tunnels' addresses, what it accepts, what others wait to hear.

How a duty is run, and run again, is duties.py's; what is written, each duty's own module's.
"""

import sys
from dataclasses import dataclass

from felixlite.datastore import announcer
from felixlite.datastore.store import Store
from felixlite.duties import Duty
from felixlite.ipam.tunnels import Tunnels
from felixlite.ipip.devices import Tunnel
from felixlite.loop import Loop
from felixlite.membership import Membership
from felixlite.plan import NodePlanner
from felixlite.publication import Publication
from felixlite.sessionevents import SessionEvents
from felixlite.snapshot import Snapshot

IPAM_NAMES = {Tunnel.IPIP: "ipip", Tunnel.VXLAN: "vxlan", Tunnel.VXLAN_V6: "vxlan6"}


@dataclass(frozen=True, slots=True)
class NodeDuties:
    store: Store
    here: str
    loop: Loop
    planner: NodePlanner
    tunnels: Tunnels
    membership: Membership
    publication: Publication

    def all(self) -> list[Duty]:
        return [
            Duty(
                "registration",
                lambda known: (known.link_addresses, self._is_registered(known), self._stored_address(known)),
                self.membership.keep,
            ),
            Duty(
                "tunnel addresses",
                lambda known: (known.pools, self._is_registered(known), self.planner.progress.open),
                self._keep_tunnel_addresses,
                needs=lambda known: self._is_registered(known) and self.planner.progress.adopted,
            ),
            Duty(
                "published tunnels",
                lambda known: (self.publication.now, self._is_registered(known)),
                self.publication.write,
                needs=self._is_in_sync,
            ),
            *self._announcements(),
        ]

    def _announcements(self) -> list[Duty]:
        """Where somebody waits for it: pods can be attached here (`felixlite node shutdown` takes it back), BGP is down."""
        told = announcer(self.store)
        if told is None:
            return []
        return [
            Duty(
                "network condition",
                lambda known: (self._is_registered(known),),
                lambda _: told.announce(self.here, is_up=True),
                needs=self._is_in_sync,
            ),
            Duty(
                "session events",
                lambda known: (known.sessions,),
                SessionEvents(self.store, told).tell,
                needs=self._is_in_sync,
            ),
        ]

    def _keep_tunnel_addresses(self, known: Snapshot) -> None:
        in_use = frozenset(IPAM_NAMES[tunnel] for tunnel in self.planner.progress.open)
        self.tunnels.keep(known.pools.values(), known.nodes[self.here].labels, in_use)

    def _is_registered(self, known: Snapshot) -> bool:
        return self.here in known.nodes

    def _is_in_sync(self, known: Snapshot) -> bool:
        return self._is_registered(known) and self.loop.in_sync

    def _stored_address(self, known: Snapshot) -> str:
        """The same object as long as it is the same address."""
        node = known.nodes.get(self.here)
        return sys.intern(f"{node.ipv4} {node.ipv6}" if node else "")
