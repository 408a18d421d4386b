"""A kernel that is a few dicts, and refuses what the real one refuses.

    kernel = FakeKernel()
    kernel.add_link("eth0"); kernel.add_address("eth0", "192.0.2.1/24")
    kernel.tables()                                  # links, addresses, sysctls, ... as the agent has them

It refuses a route through a gateway that no up link reaches, anything on a link that is not there, an IPv4 route on a
link that is down, a second vxlan device with the same VNI.  It forgets what the real one forgets: what sits on a link
that goes away, IPv4 routes of a link that goes down.  Foreign objects are in it beside ours, as in reality.
tests/support/kernel_contract.py holds it to the real kernel.
"""

import errno
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_interface
from typing import Any

from felixlite.addresses import Address, Prefix
from felixlite.kernel.links import OUR_NAMES
from felixlite.kernel.netlink import Refused
from felixlite.rows import AddressKey, Link, LinkAddress, NextHop, Route, RouteKey, Rule, Vxlan
from felixlite.tables import Table

FOREIGN = 4  # a protocol number (static) that is not ours


@dataclass
class FakeLink:
    kind: str
    up: bool = False
    mtu: int = 1500
    mac: str = "02:00:00:00:00:01"
    vxlan: Vxlan | None = None


@dataclass
class FakeKernel:
    links: dict[str, FakeLink] = field(default_factory=dict)
    addresses: set[AddressKey] = field(default_factory=set)
    sysctls: dict[str, str] = field(default_factory=lambda: {"net/ipv4/ip_forward": "0"})
    neighbours: dict[Any, tuple[Any, bool]] = field(default_factory=dict)  # key -> (row, ours)
    fdb: dict[Any, Any] = field(default_factory=dict)
    routes: dict[RouteKey, Route] = field(default_factory=dict)
    rules: dict[Any, bool] = field(default_factory=dict)  # key -> ours
    writes: int = 0

    # -- what an operator does

    def add_link(self, name: str, kind: str = "bridge") -> None:
        self.links[name] = FakeLink(kind)
        self.sysctls[f"net/ipv4/conf/{name}/proxy_arp"] = "0"
        self.set_up(name)

    def set_up(self, name: str) -> None:
        self.links[name].up = True

    def set_down(self, name: str) -> None:
        self.links[name].up = False
        self._forget_routes(lambda hop: hop.link == name)

    def remove_link(self, name: str) -> None:
        self.set_down(name)
        del self.links[name]
        self.addresses = {key for key in self.addresses if key.link != name}
        self.neighbours = {key: row for key, row in self.neighbours.items() if key.link != name}
        self.fdb = {key: row for key, row in self.fdb.items() if key.link != name}
        self.sysctls = {path: value for path, value in self.sysctls.items() if path.split("/")[3:4] != [name]}

    def add_address(self, link: str, text: str) -> None:
        self.addresses.add(AddressKey(link, ip_interface(text)))

    def add_route(self, prefix: str, link: str, *, protocol: int = FOREIGN) -> None:
        key = RouteKey(Prefix.parse(prefix))
        self.routes[key] = Route(hops=(NextHop(None, link),), scope_link=True, protocol=protocol)

    def remove_route(self, prefix: str) -> None:
        del self.routes[RouteKey(Prefix.parse(prefix))]

    def foreign_routes(self) -> set[str]:
        return {str(key.prefix) for key, row in self.routes.items() if row.protocol == FOREIGN}

    def our_routes(self) -> set[str]:
        return {str(key.prefix) for key, row in self.routes.items() if row.protocol == 80}

    # -- what the tables ask

    def tables(self) -> tuple[Table[Any, Any], ...]:
        return (Links(self), Addresses(self), Sysctls(self), Neighbours(self), Fdb(self), Routes(self), Rules(self))

    def need_link(self, name: str) -> FakeLink:
        if name not in self.links:
            raise Refused(errno.ENODEV, f"there is no link {name}")
        return self.links[name]

    def reaches(self, gateway: Address) -> str | None:
        """The up link whose subnet the gateway is in."""
        for key in self.addresses:
            if self.links[key.link].up and gateway in key.address.network:
                return key.link
        return None

    def _forget_routes(self, lost: Callable[[NextHop], bool]) -> None:
        self.routes = {key: row for key, row in self.routes.items() if not any(map(lost, row.hops))}


@dataclass
class FakeTable:
    """What all of them have in common: rows one by one, each refusal kept with its key."""

    kernel: FakeKernel
    name = ""
    guard = False

    def read(self) -> Mapping[Any, Any]:
        return self.read_for({})

    def read_for(self, wanted: Mapping[Any, Any]) -> Mapping[Any, Any]:
        raise NotImplementedError

    def put(self, key: Any, row: Any) -> None:
        raise NotImplementedError

    def drop(self, key: Any) -> None:
        raise NotImplementedError

    def upsert(self, items: Mapping[Any, Any]) -> dict[Any, Exception]:
        return self._each(items, lambda key: self.put(key, items[key]))

    def delete(self, keys: Collection[Any]) -> dict[Any, Exception]:
        return self._each(keys, self.drop)

    def links_of(self, key: Any, row: Any) -> Collection[str | None]:
        return (key.link,)

    def _each(self, keys: Iterable[Any], action: Callable[[Any], None]) -> dict[Any, Exception]:
        failed: dict[Any, Exception] = {}
        for key in keys:
            self.kernel.writes += 1
            try:
                action(key)
            except OSError as error:
                failed[key] = error
        return failed


@dataclass
class Links(FakeTable):
    name = "links"
    made: set[str] = field(default_factory=set)

    def remade(self) -> set[str]:
        made, self.made = self.made, set()
        return made

    def read_for(self, wanted: Mapping[str, Link]) -> dict[str, Link]:
        ours = {name for name in self.kernel.links if name in wanted or name in OUR_NAMES - {"tunl0"}}
        return {name: self._row(name, wanted.get(name)) for name in ours}

    def _row(self, name: str, wanted: Link | None) -> Link:
        link = self.kernel.links[name]
        adopted = wanted is not None and wanted.kind == "adopt"
        mtu = link.mtu if wanted is None or wanted.mtu is not None else None
        mac = link.mac if wanted is None or wanted.mac is not None else None
        return Link("adopt" if adopted else link.kind, link.up, mtu, mac, None if adopted else link.vxlan)  # type: ignore[arg-type]  as links.py

    def put(self, key: str, row: Link) -> None:
        if row.kind != "adopt":
            self._make(key, row)
        link = self.kernel.need_link(key)
        if row.vxlan and (row.mtu or 0) > self.kernel.links[row.vxlan.parent].mtu - 50:
            raise Refused(errno.EINVAL, "mtu greater than device maximum")
        link.mtu, link.mac = row.mtu or link.mtu, row.mac or link.mac
        if row.up:
            self.kernel.set_up(key)
        else:
            self.kernel.set_down(key)

    def _make(self, key: str, row: Link) -> None:
        there = self.kernel.links.get(key)
        if there and there.kind != row.kind:
            raise Refused(errno.EEXIST, f"link {key} is of kind {there.kind}; remove it")
        if row.vxlan:
            self.kernel.need_link(row.vxlan.parent)
            twins = [
                n for n, link in self.kernel.links.items() if n != key and link.vxlan and _twins(link.vxlan, row.vxlan)
            ]
            if twins:
                raise Refused(errno.EEXIST, f"link {twins[0]} already uses VNI {row.vxlan.vni}")
            if there and there.vxlan != row.vxlan:
                self.kernel.remove_link(key)
        if key not in self.kernel.links:
            self.kernel.links[key] = FakeLink(row.kind, vxlan=row.vxlan)
            self.made.add(key)

    def drop(self, key: str) -> None:
        if key in OUR_NAMES - {"tunl0"} and key in self.kernel.links:
            self.kernel.remove_link(key)

    def links_of(self, key: str, row: Link) -> Collection[str | None]:
        return ()


def _twins(one: Vxlan, other: Vxlan) -> bool:
    return (one.vni, one.port) == (other.vni, other.port)


class Addresses(FakeTable):
    name = "addresses"

    def read_for(self, wanted: Mapping[AddressKey, LinkAddress]) -> dict[AddressKey, LinkAddress]:
        return {key: LinkAddress() for key in self.kernel.addresses if key in wanted or key.link in OUR_NAMES}

    def put(self, key: AddressKey, row: LinkAddress) -> None:
        self.kernel.need_link(key.link)
        self.kernel.addresses.add(key)

    def drop(self, key: AddressKey) -> None:
        self.kernel.addresses.discard(key)


class Sysctls(FakeTable):
    name = "sysctls"

    def read_for(self, wanted: Mapping[str, str]) -> dict[str, str]:
        return {path: self.kernel.sysctls[path] for path in wanted if path in self.kernel.sysctls}

    def put(self, key: str, row: str) -> None:
        if key not in self.kernel.sysctls:
            raise FileNotFoundError(errno.ENOENT, f"cannot set {key} to {row}")
        self.kernel.sysctls[key] = row

    def drop(self, key: str) -> None:
        pass

    def links_of(self, key: str, row: str) -> Collection[str | None]:
        return key.split("/")[3:4]


class Neighbours(FakeTable):
    name = "neighbours"

    def read_for(self, wanted: Mapping[Any, Any]) -> dict[Any, Any]:
        return {key: row for key, (row, ours) in self.kernel.neighbours.items() if ours}

    def put(self, key: Any, row: Any) -> None:
        self.kernel.need_link(key.link)
        self.kernel.neighbours[key] = (row, True)

    def drop(self, key: Any) -> None:
        self.kernel.neighbours.pop(key, None)


class Fdb(FakeTable):
    name = "fdb"

    def read_for(self, wanted: Mapping[Any, Any]) -> dict[Any, Any]:
        return dict(self.kernel.fdb)

    def put(self, key: Any, row: Any) -> None:
        self.kernel.need_link(key.link)
        self.kernel.fdb[key] = row

    def drop(self, key: Any) -> None:
        self.kernel.fdb.pop(key, None)


class Routes(FakeTable):
    name = "routes"

    def read_for(self, wanted: Mapping[RouteKey, Route]) -> dict[RouteKey, Route]:
        return {key: row for key, row in self.kernel.routes.items() if row.protocol == 80}

    def put(self, key: RouteKey, row: Route) -> None:
        there = self.kernel.routes.get(key)
        if there and there.protocol != 80:
            raise Refused(errno.EEXIST, "another program's route")
        for hop in row.hops:
            if hop.link and not self.kernel.need_link(hop.link).up:
                raise Refused(errno.ENETDOWN, "Device for nexthop is not up")
            if hop.gateway and not hop.onlink and self.kernel.reaches(hop.gateway) in (None, *self._others(hop)):
                raise Refused(errno.ENETUNREACH, "Nexthop has invalid gateway")
        self.kernel.routes[key] = row

    def _others(self, hop: NextHop) -> set[str]:
        return self.kernel.links.keys() - {hop.link} if hop.link else set()

    def drop(self, key: RouteKey) -> None:
        if key in self.kernel.routes and self.kernel.routes[key].protocol == 80:
            del self.kernel.routes[key]

    def links_of(self, key: RouteKey, row: Route) -> Collection[str | None]:
        return [hop.link for hop in row.hops]


class Rules(FakeTable):
    name = "rules"

    def read_for(self, wanted: Mapping[Any, Any]) -> dict[Any, Any]:
        return {key: Rule() for key, ours in self.kernel.rules.items() if ours}

    def put(self, key: Any, row: Any) -> None:
        self.kernel.rules[key] = True

    def drop(self, key: Any) -> None:
        self.kernel.rules.pop(key, None)

    def links_of(self, key: Any, row: Any) -> Collection[str | None]:
        return ()
