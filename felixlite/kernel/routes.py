"""The table of routes, IPv4 and IPv6, in every routing table of the kernel.

Ours are the routes with our protocol number.  A route of somebody else with the same key (prefix, table, metric) is
never replaced: a new key is created exclusively, and only a key that is known to be ours is replaced in place.

The packing and parsing of 100,000 routes is what the speed of a node depends on, hence the two memories inside one
call: rows that are the same object are packed once, and answers of the kernel that differ in the prefix only are
parsed once.
"""

import errno
import time
from collections.abc import Collection, Mapping
from typing import Final

from felixlite import collector
from felixlite.addresses import Prefix
from felixlite.kernel import messages, route_codec
from felixlite.kernel.host import Host
from felixlite.kernel.netlink import CREATE, EXCLUSIVE, REPLACE, Refused
from felixlite.rows import ROUTE_PROTOCOL, Route, RouteKey

_FOREIGN: Final = "another program's route has this prefix, table and metric; remove it or leave the prefix to it"
_GONE: Final = (errno.ESRCH, errno.ENODEV)


class Routes:
    name = "routes"
    guard = False

    def __init__(self, host: Host) -> None:
        self.host = host
        self.reads, self.read_seconds = 0, 0.0
        self._ours: set[RouteKey] = set()  # as of the last read, and what we wrote since
        self._metrics: set[int] = set()  # that ours have had

    def owns(self, key: RouteKey) -> bool:
        """Whether we have written it. Also for other threads: one look into a set."""
        return key in self._ours

    def owns_some(self, prefix: Prefix) -> bool:
        """Whether we have written one to this prefix in the main table, whatever its metric."""
        return any(RouteKey(prefix, metric=metric) in self._ours for metric in tuple(self._metrics))

    def read(self) -> dict[RouteKey, Route]:
        return self.read_for({})

    def read_for(self, wanted: Mapping[RouteKey, Route]) -> dict[RouteKey, Route]:
        """Our routes. Where the kernel's answer means the same as the wanted row, it is the wanted row."""
        began = time.perf_counter()
        with collector.paused():
            rows = self._dump(wanted)
        self.reads, self.read_seconds = self.reads + 1, self.read_seconds + time.perf_counter() - began
        self._ours = set(rows)
        self._metrics = {key.metric for key in rows}
        return rows

    def links_of(self, _: RouteKey, row: Route) -> list[str | None]:
        """The kernel drops a route with the link of any hop of it, and IPv4 ones without a word."""
        return [hop.link for hop in row.hops]

    def upon(self, names: frozenset[str], rows: Mapping[RouteKey, Route]) -> list[RouteKey]:
        return [key for key, row in rows.items() if any(hop.link in names for hop in row.hops)]

    def upsert(self, items: Mapping[RouteKey, Route]) -> dict[RouteKey, Exception]:
        with collector.paused():
            failed = self._write(items, self._ours)
        taken = {key for key, error in failed.items() if isinstance(error, Refused) and error.number == errno.EEXIST}
        if taken:
            # somebody else's, or written by another process of ours (a CNI plugin, an agent before us)
            ours = taken & self.read_for(items).keys()
            failed = {key: error for key, error in failed.items() if key not in taken}
            failed |= self._write({key: items[key] for key in ours}, ours)
            failed |= dict.fromkeys(taken - ours, Refused(errno.EEXIST, _FOREIGN))
        return failed

    def _write(self, items: Mapping[RouteKey, Route], ours: Collection[RouteKey]) -> dict[RouteKey, Exception]:
        """Keys that are ours are replaced, all others must not be there yet."""
        pack = route_codec.Packer(self.host.index).pack
        again, fresh = CREATE | REPLACE, CREATE | EXCLUSIVE
        failed = self.host.send(
            items, lambda key: (messages.NEW_ROUTE, again if key in ours else fresh, pack(key, items[key]))
        )
        written = {key: row for key, row in items.items() if key not in failed} if failed else items
        self._ours.update(written)
        self._metrics.update({metric for _, _, metric in written})
        return failed

    def delete(self, keys: Collection[RouteKey]) -> dict[RouteKey, Exception]:
        keys = self._distinguishable(keys)
        failed = self.host.send(
            keys, lambda key: (messages.DELETE_ROUTE, 0, route_codec.pack_delete(key)), ignore=_GONE
        )
        self._ours.difference_update([key for key in keys if key not in failed] if failed else keys)
        return failed

    def _dump(self, wanted: Mapping[RouteKey, Route]) -> dict[RouteKey, Route]:
        names: dict[int, str | None] = {}

        def name(index: int) -> str | None:
            if index not in names:
                names[index] = self.host.name(index)
            return names[index]

        rows: dict[RouteKey, Route] = {}
        for family, width in ((2, 4), (10, 16)):
            buffers = self.host.netlink.dump(messages.GET_ROUTE, route_codec.dump_request(family, ROUTE_PROTOCOL))
            found = route_codec.Reader(width, name, wanted).read(buffers)
            rows = {**rows, **found} if rows and found else rows or found
        return rows

    def _distinguishable(self, keys: Collection[RouteKey]) -> Collection[RouteKey]:
        """Without a metric the kernel removes the IPv4 route with the lowest one there is (fib_table_delete).

        So where we have a route of another metric to the same prefix, the one without is removed only if it is there.
        """
        others = self._metrics - {0}
        if not others:
            return keys
        doubtful = {
            key
            for key in keys
            if not key.metric
            and key.prefix.family == 4
            and any(RouteKey(key.prefix, key.table, metric) in self._ours for metric in others)
        }
        if not doubtful:
            return keys
        there = self._dump({})
        return [key for key in keys if key not in doubtful or key in there]
