"""The addresses of a node's tunnel devices: assigned from the pools that need them, verified, moved, released.

A node has one for each encapsulation that an enabled pool which selects the node uses; it is written on the Node, where
everybody reads it.  tunneladdresses.py decides; `Tunnels` brings IPAM and the Node in step, as a duty of the agent that
runs again when the pools or the own Node change (reference 4.9).  Assigning and writing the Node are one transaction
where the store can; an address is never released while the Node still says it.
"""

from collections.abc import Collection, Iterable, Sequence

from felixlite.addresses import Prefix
from felixlite.datastore.store import Entry, Key, Store, Write
from felixlite.errors import Conflict, NotFound
from felixlite.ipam.assign import Request
from felixlite.ipam.claims import LOST
from felixlite.ipam.store import Ipam, Release
from felixlite.ipam.tunneladdresses import TUNNELS, Tunnel, current, wanted, with_address
from felixlite.model.inside import Labels, Pool, Use

ATTEMPTS = 20


class Tunnels:
    def __init__(self, ipam: Ipam, store: Store, here: str) -> None:
        self.ipam, self.store, self.key = ipam, store, Key("Node", here)

    def keep(self, pools: Iterable[Pool], labels: Labels, in_use: Collection[str] = ()) -> None:
        """Every tunnel has the address that it should have, and no other.

        One that is in use keeps what it has although no pool calls for it: others still send through it.
        """
        every = tuple(pools)
        for tunnel in TUNNELS:
            called_for = wanted(tunnel, every, labels)
            if called_for or tunnel.name not in in_use:
                self._keep(tunnel, called_for)

    def _keep(self, tunnel: Tunnel, pools: Sequence[Pool]) -> None:
        for _ in range(ATTEMPTS):
            node = self.store.get(self.key)
            if node is None:
                raise NotFound(f"there is no {self.key}: the node registers before its tunnels get addresses")
            try:
                self._settle(tunnel, pools, node)
                return
            except LOST:
                continue
        raise Conflict(f"{self.key} changed {ATTEMPTS} times while its {tunnel.name} address was to be written")

    def _settle(self, tunnel: Tunnel, pools: Sequence[Pool], node: Entry) -> None:
        handle = tunnel.handle + self.key.name
        held = self.ipam.held(handle)
        now = current(tunnel, node.document)
        good = [prefix for prefix in held if any(pool.cidr.covers(prefix) for pool in pools)]
        keep = next((prefix for prefix in good if now and prefix == Prefix.host(now)), good[0] if good else None)
        if keep is None and pools:
            keep = self._assign(tunnel, handle, pools, node)
        elif now != (keep.first if keep else None):
            changed = with_address(tunnel, node.document, keep.first if keep else None)
            self.store.update(self.key, changed, node.revision)
        self.ipam.release_addresses(Release(prefix.first, handle) for prefix in held if prefix != keep)

    def _assign(self, tunnel: Tunnel, handle: str, pools: Sequence[Pool], node: Entry) -> Prefix:
        request = Request(
            handle,
            {"node": self.key.name, "type": tunnel.type},
            v4=1 if tunnel.family == 4 else 0,
            v6=1 if tunnel.family == 6 else 0,
            pools=tuple(pool.name for pool in pools),
            use=Use.TUNNEL,
        )

        def on_the_node(addresses: tuple[Prefix, ...]) -> Sequence[Write]:
            return [Write(self.key, with_address(tunnel, node.document, addresses[0].first), node.revision)]

        return self.ipam.assign(request, on_the_node).addresses[0]
