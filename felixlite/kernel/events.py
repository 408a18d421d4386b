"""What changes in the kernel, told as Changes; and a nudge when somebody else touched an object of ours.

    first    Replace("links"), Replace("link_addresses"), InSync("kernel")
    then     Put / Gone of single links and addresses, and touched("routes") and so on

A notification that carries the port of one of our own writing sockets is our own echo and says nothing.  Where the
kernel names no author (links, forwarding entries) a touch costs one reading of a small table and ends there.
When the kernel had to drop notifications (ENOBUFS) everything is listed again and every table touched.

`Picture` is the thinking part: bytes in, Changes and touches out.  `Events` owns the socket and the thread.
"""

import errno
import os
import select
import struct
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from felixlite.addresses import Prefix
from felixlite.kernel import messages, packetfilter, seen
from felixlite.kernel.addresses import every_address
from felixlite.kernel.expected import Expected
from felixlite.kernel.host import Host
from felixlite.kernel.links import OUR_NAMES, every_link
from felixlite.kernel.netlink import Socket, attributes, each
from felixlite.rows import ROUTE_PROTOCOL, RouteKey
from felixlite.snapshot import Change, Gone, InSync, LinkState, Put, Replace

SOURCE: Final = "kernel"
# RTMGRP_: LINK, NEIGH, IPV4_IFADDR, IPV4_ROUTE, IPV4_RULE, IPV6_IFADDR, IPV6_ROUTE, IPV6_RULE
_GROUPS: Final = 0x1 | 0x4 | 0x10 | 0x40 | 0x80 | 0x100 | 0x400 | 0x40000
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=Bxxxi")
_AF_BRIDGE: Final = 7
_AT_ONCE: Final = 1000  # notifications that are gathered before anybody is told


@dataclass(slots=True)
class News:
    """What a handful of notifications means."""

    changes: list[Change] = field(default_factory=list)
    touched: set[str] = field(default_factory=set)


class Picture:
    """The links and addresses as last told. `owns` says whether we have written the route with a key, `adopts` whether
    we have set something on the link of that name."""

    def __init__(
        self,
        owns: Callable[[RouteKey], bool],
        ours: Collection[str] = OUR_NAMES,
        adopts: Callable[[str], bool] = lambda _: True,
        expected: Expected | None = None,
    ) -> None:
        self.owns, self.adopts = owns, adopts
        self.expected = expected or Expected(lambda _changes: None)
        self.ours = frozenset(ours)
        self.links: dict[int, seen.SeenLink] = {}
        self.born: dict[int, Put] = {}  # the only word so far of links that came switched off

    def start(self, links: Collection[seen.SeenLink], addresses: Collection[seen.SeenAddress]) -> list[Change]:
        """Everything anew."""
        self.links = {link.state.index: link for link in links}
        self.born = {}
        told = {link.state.name: self._told(link) for link in links}
        held = {
            (self.links[a.link].state.name, str(a.address)): a.subnet
            for a in addresses
            if a.link in self.links and not a.address.ip.is_link_local
        }
        return [Replace("links", told), Replace("link_addresses", held), InSync(SOURCE)]

    def hear(self, data: bytes, news: News) -> None:
        """One datagram of the kernel."""
        for kind, _, _, start, end in each(data):
            match kind:
                case messages.NEW_LINK:
                    self._link(seen.link(data, start, end), news)
                case messages.DELETE_LINK:
                    self._link_gone(seen.link(data, start, end), news)
                case messages.NEW_ADDRESS | messages.DELETE_ADDRESS:
                    if address := seen.address(data, start, end):
                        self._address(address, news, there=kind == messages.NEW_ADDRESS)
                case messages.NEW_ROUTE | messages.DELETE_ROUTE:
                    if self._is_our_route(data, start, end):
                        news.touched.add("routes")
                case messages.NEW_NEIGHBOUR | messages.DELETE_NEIGHBOUR:
                    self._neighbour(data, start, news)
                case messages.NEW_RULE | messages.DELETE_RULE:
                    news.touched.add("rules")

    def _link(self, link: seen.SeenLink, news: News) -> None:
        index, name = link.state.index, link.state.name
        before = self.links.get(index)
        if before == link:
            return
        self.links[index] = link
        birth = self.born.pop(index, None)
        if birth and before and _is_only_switched_on(before, link):  # nobody touched anything
            news.changes = [change for change in news.changes if change is not birth]
        elif before is not None:
            if self.adopts(name) and replace(before.state, up=link.state.up) == link.state:
                return  # the carrier of a pod's end: nothing is decided by it
            if _settings(before) != _settings(link) and (name in self.ours or self.adopts(before.state.name)):
                news.touched.add("links")
            if before.state.name != name:
                news.changes.append(Gone("links", before.state.name))
        told = Put("links", name, self._told(link))
        if before is None and not link.state.on:
            self.born[index] = told
        if not self.expected.keeps(name, index, told):
            news.changes.append(told)

    def _link_gone(self, link: seen.SeenLink, news: News) -> None:
        before = self.links.pop(link.state.index, None)
        self.born.pop(link.state.index, None)
        if before is None:
            return
        name = before.state.name
        if not any(other.state.name == name for other in self.links.values()):
            gone = Gone("links", name)
            if not self.expected.keeps(name, before.state.index, gone):
                news.changes.append(gone)
        if name in self.ours:
            news.touched.add("links")

    def _told(self, link: seen.SeenLink) -> LinkState:
        master = self.links.get(link.master)
        return replace(link.state, master=master.state.name) if master else link.state

    def _address(self, address: seen.SeenAddress, news: News, *, there: bool) -> None:
        link = self.links.get(address.link)
        if link is None or address.address.ip.is_link_local:
            return  # every pod's link has one, and nothing is decided by it
        name = link.state.name
        key = (name, str(address.address))
        news.changes.append(Put("link_addresses", key, address.subnet) if there else Gone("link_addresses", key))
        if name in self.ours:
            # with the last address of a link go the neighbours on it
            news.touched.update(["addresses"] if there else ["addresses", "neighbours"])
        if not there:
            # routes that have the address as their source, or a gateway in its subnet, went with it without a word
            news.touched.add("routes")

    def _neighbour(self, data: bytes, start: int, news: News) -> None:
        family, index = _NDMSG.unpack_from(data, start)
        if family != _AF_BRIDGE:
            news.touched.add("neighbours")
        elif index in self.links and self.links[index].state.name in self.ours:
            news.touched.add("fdb")

    def _is_our_route(self, data: bytes, start: int, end: int) -> bool:
        family, length, _, _, table, protocol, _, _, _ = _RTMSG.unpack_from(data, start)
        if protocol == ROUTE_PROTOCOL:
            return True
        found = attributes(data, start + 12, end)
        prefix = Prefix(found.get(1, bytes(4 if family == 2 else 16)), length)
        table = int.from_bytes(found[15], "little") if 15 in found else table
        metric = int.from_bytes(found.get(6, b""), "little")
        return self.owns(RouteKey(prefix, table, metric)) or (family == 10 and self.owns(RouteKey(prefix, table)))


def _is_only_switched_on(before: seen.SeenLink, link: seen.SeenLink) -> bool:
    return link.state.on and replace(before, state=replace(before.state, on=True, up=link.state.up)) == link


def _settings(link: seen.SeenLink) -> tuple[object, ...]:
    """What a row of the table of links may speak of. A carrier comes and goes by itself: with every pod, several times."""
    state = link.state
    return state.name, state.kind, state.mtu, state.mac, state.on, link.vxlan


class Events:
    """`put` and `touched` are called in the thread that runs `run`; `host` is the one that our tables write through."""

    def __init__(
        self,
        host: Host,
        put: Callable[[Sequence[Change]], Any],
        touched: Callable[[str | None], Any],
        owns: Callable[[RouteKey], bool] = lambda _: False,
        adopts: Callable[[str], bool] = lambda _: True,
        other_ports: Collection[int] = (),
        give_way: Callable[[], None] = lambda: None,
        expected: Expected | None = None,
    ) -> None:
        self.put, self.touched, self.give_way = put, touched, give_way
        self.expected = expected or Expected(put)
        self.picture = Picture(owns, adopts=adopts, expected=self.expected)
        self._own = Host(host.namespace)  # a Host belongs to one thread
        self._listener = Socket(host.namespace)
        self._listener.filter(packetfilter.program([host.netlink.port, *other_ports]))
        self._listener.join(_GROUPS)
        self._wake, self._waker = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def run(self) -> None:
        """Until stop(). Any error ends it, and with it the process."""
        self._list()
        os.set_blocking(self._listener.fileno(), False)
        while True:
            ready, _, _ = select.select([self._listener.fileno(), self._wake], [], [])
            if self._wake in ready:
                return
            self.give_way()
            self._hear()

    def stop(self) -> None:
        os.write(self._waker, b"x")

    def close(self) -> None:
        """After the thread has ended."""
        self._listener.close()
        self._own.close()
        os.close(self._wake)
        os.close(self._waker)

    def _list(self) -> None:
        links = every_link(self._own).values()
        self.put(self.picture.start(list(links), list(every_address(self._own))))

    def _hear(self) -> None:
        news = News()
        try:
            for _ in range(_AT_ONCE):
                self.picture.hear(self._listener.receive(), news)
        except BlockingIOError:
            pass
        except OSError as error:
            if error.errno != errno.ENOBUFS:
                raise
            self._list()
            self.touched(None)
            return
        if news.changes:
            self.put(news.changes)
        for table in sorted(news.touched):
            self.touched(table)
