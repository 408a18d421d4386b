"""The table of addresses on links.

Ours are all addresses on the links that we own (tunnels), link-local IPv6 aside: exactly the wanted ones stay.  On any
other link we add what is wanted and remove what we added ourselves, and see nothing else; a TUN device of our name that
another program holds is such another link.
"""

import errno
import struct
from collections.abc import Collection, Iterator, Mapping
from typing import Final

from felixlite import tun
from felixlite.kernel import messages, seen
from felixlite.kernel.host import Host
from felixlite.kernel.links import OUR_NAMES
from felixlite.kernel.netlink import each
from felixlite.rows import AddressKey, LinkAddress

_EVERY_ADDRESS: Final = struct.pack("=BBBBi", 0, 0, 0, 0, 0)
_HERE: Final = LinkAddress()


def every_address(host: Host) -> Iterator[seen.SeenAddress]:
    for data in host.netlink.dump(messages.GET_ADDRESS, _EVERY_ADDRESS):
        for kind, _, _, start, end in each(data):
            if kind == messages.NEW_ADDRESS and (found := seen.address(data, start, end)):
                yield found


class Addresses:
    name = "addresses"
    guard = False

    def __init__(self, host: Host, ours: Collection[str] = OUR_NAMES) -> None:
        self.host = host
        self.ours = frozenset(ours)

    def read(self) -> dict[AddressKey, LinkAddress]:
        return self.read_for({})

    def read_for(self, wanted: Mapping[AddressKey, LinkAddress]) -> dict[AddressKey, LinkAddress]:
        rows = {}
        for found in every_address(self.host):
            link = self.host.name(found.link) or ""
            key = AddressKey(link, found.address)
            if key in wanted or (link in self.ours and not found.address.ip.is_link_local):
                rows[key] = _HERE
        unwanted = {key.link for key in rows if key not in wanted}
        with self.host.visiting():
            foreign = {link for link in unwanted if tun.strangers(link)}
        return {key: row for key, row in rows.items() if key in wanted or key.link not in foreign}

    def upon(self, names: frozenset[str], rows: Mapping[AddressKey, LinkAddress]) -> list[AddressKey]:
        return [key for key in rows if key.link in names]

    def links_of(self, key: AddressKey, _: LinkAddress) -> tuple[str]:
        return (key.link,)

    def lost(self, keys: Collection[AddressKey]) -> list[AddressKey]:
        """IPv6 addresses go when a link goes down, IPv4 ones only with the link itself: so look, there are few."""
        there = self.read()
        return [key for key in keys if key not in there]

    def upsert(self, items: Mapping[AddressKey, LinkAddress]) -> dict[AddressKey, Exception]:
        return self.host.send(items, lambda key: messages.set_address(self.host.index(key.link), key.address))

    def delete(self, keys: Collection[AddressKey]) -> dict[AddressKey, Exception]:
        there = []
        for key in keys:
            try:
                there.append((key, self.host.index(key.link)))
            except OSError:  # the link is gone, and its addresses with it
                continue
        failed = self.host.send(
            there,
            lambda pair: messages.delete_address(pair[1], pair[0].address),
            ignore=(errno.EADDRNOTAVAIL, errno.ENODEV),
        )
        return {key: error for (key, _), error in failed.items()}
