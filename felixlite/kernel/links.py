"""The table of links: devices that we make (tunnels), and settings of devices that others make (`adopt`).

Ours are the links with the names that we give to tunnels; these are removed when nobody wants them, except tunl0, which
the kernel makes for itself with the ipip module and keeps.  Of an adopted link only what the row names is looked at and
set; when nobody wants it any more it is left as it is.

A vxlan device of our name with other settings is replaced (its settings cannot be changed in place).  A device of
another name that holds our VNI belongs to somebody else: that is an error, said with its name.
"""

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable, Collection, Mapping
from pathlib import Path
from typing import Final, cast

from felixlite import tun
from felixlite.kernel import messages, seen
from felixlite.kernel.host import Host
from felixlite.kernel.netlink import Message, Refused, attribute, each
from felixlite.rows import Kind, Link, OuterHeader, Vxlan
from felixlite.snapshot import LinkState
from felixlite.tables import Foreign

OUR_NAMES: Final = frozenset({"tunl0", "vxlan.calico", "vxlan-v6.calico"})
_KEPT: Final = frozenset({"tunl0"})
_EVERY_LINK: Final = struct.pack("=BxHiII", 0, 0, 0, 0, 0) + b"\x08\x00\x1d\x00\x08\x00\x00\x00"  # without statistics
_TUNSETPERSIST: Final = 0x400454CB
_CHANGE_TUNNEL: Final = 0x89F3  # SIOCCHGTUNNEL
_DF: Final = 0x4000


def every_link(host: Host) -> dict[str, seen.SeenLink]:
    found = {}
    for data in host.netlink.dump(messages.GET_LINK, _EVERY_LINK):
        for kind, _, _, start, end in each(data):
            if kind == messages.NEW_LINK:
                link = seen.link(data, start, end)
                found[link.state.name] = link
    return found


_OUTER_REFUSED: Final = "the kernel does not give {name} `{want}`; set ipipTTL to 0 and ipipPMTUDiscovery to false"


class ForeignLink(Refused, Foreign):
    """A link of a name of ours that somebody else made."""


class Links:
    name = "links"
    guard = False

    def __init__(
        self,
        host: Host,
        ours: Collection[str] = OUR_NAMES,
        as_made: Callable[[str], LinkState | None] = lambda _: None,
    ) -> None:
        """`as_made`: what somebody says of a link that he has just made here (expected.py)."""
        self.host, self.as_made = host, as_made
        self.ours = frozenset(ours)
        self._remade: set[str] = set()
        self._set: set[str] = set()  # links that we have set something on
        self._free: set[str] = set()  # TUN devices that were found to be nobody else's

    def read(self) -> dict[str, Link]:
        return self.read_for({})

    def read_for(self, wanted: Mapping[str, Link]) -> dict[str, Link]:
        """Our own links, and those that are wanted, told in the terms of the wanted row."""
        found = every_link(self.host)
        names = {link.state.index: name for name, link in found.items()}
        self._set |= wanted.keys()
        for name in self._taken(wanted):  # whatever it looks like: an attempt to make it says whose it is
            found.pop(name, None)
        return {
            name: _row(link, wanted.get(name), names)
            for name, link in found.items()
            if name in wanted or (name in self.ours and name not in _KEPT)
        }

    def _taken(self, wanted: Mapping[str, Link]) -> list[str]:
        """Asked until nobody has it: from then on our own process holds it, and this table is read with every pod."""
        asked = [name for name, row in wanted.items() if row.kind == "tun" and name not in self._free]
        with self.host.visiting():
            taken = [name for name in asked if tun.strangers(name)]
        self._free |= {*asked} - {*taken}
        return taken

    def adopts(self, name: str) -> bool:
        """From any thread."""
        return name in self._set

    def remade(self) -> set[str]:
        """The devices made anew or given another MAC since the last question: what sat on them is gone."""
        made, self._remade = self._remade, set()
        return made

    def upsert(self, items: Mapping[str, Link]) -> dict[str, Exception]:
        """One after the other: there are few, and making one may need what another one is."""
        failed: dict[str, Exception] = {}
        for name, row in items.items():
            self._set.add(name)
            try:
                if row.kind != "adopt":
                    self._make(name, row)
                self._settle(name, row)
                if row.outer:
                    self._set_outer(name, row.outer)
            except OSError as error:
                failed[name] = _explained(error, name)
        return failed

    def _settle(self, name: str, row: Link) -> None:
        """A MAC is set only where it is another one: with every MAC that is set, even the same, the kernel throws away
        all neighbours on the link, the permanent ones too (neigh_changeaddr), and no notification of it reaches us.
        """
        now = self.as_made(name) or self._seen(name)
        mac = row.mac if row.mac != now.mac else None
        if mac is None and now.on == row.up and row.mtu in (None, now.mtu):
            return  # as the plugin makes a pod's end
        self.host.netlink.do(messages.set_link(name, up=row.up, mtu=row.mtu, mac=mac))
        if mac:
            self._remade.add(name)

    def _seen(self, name: str) -> LinkState:
        data = self.host.netlink.get(*messages.get_link(name))
        return seen.link(data, 0, len(data)).state

    def _set_outer(self, name: str, want: OuterHeader) -> None:
        """By ioctl: rtnetlink changes nothing of tunl0 (EINVAL, ip_tunnel_changelink), `ip tunnel change` does."""
        data = self.host.netlink.get(*messages.get_link(name))
        if seen.link(data, 0, len(data)).outer == want:
            return
        df = _DF if want.dont_fragment else 0
        header = struct.pack("!BBHHHBBH8x", 0x45, 0, 0, 0, df, want.ttl, socket.IPPROTO_IPIP, 0)
        parameters = ctypes.create_string_buffer(struct.pack("=16siHHII", name.encode(), 0, 0, 0, 0, 0) + header)
        request = struct.pack("@16sP16x", name.encode(), ctypes.addressof(parameters))
        with self.host.visiting(), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
            try:
                fcntl.ioctl(any_socket, _CHANGE_TUNNEL, request)
            except OSError as error:
                raise Refused(error.errno or 0, _OUTER_REFUSED.format(name=name, want=want)) from None

    def delete(self, keys: Collection[str]) -> dict[str, Exception]:
        self._set -= {*keys}
        made = [name for name in keys if name in self.ours and name not in _KEPT]
        return self.host.send(made, messages.delete_link, ignore=(errno.ENODEV,))

    def _make(self, name: str, row: Link) -> None:
        found = every_link(self.host)
        there = found.get(name)
        if there and there.state.kind != row.kind:
            raise ForeignLink(errno.EEXIST, f"link {name} is of kind {there.state.kind or 'hardware'}; remove it")
        if row.kind == "tun":
            self._make_tun(name)
        elif row.vxlan:
            self._make_vxlan(name, row, row.vxlan, found)
        else:
            # loading the module makes tunl0 itself, and then ours is refused because it exists
            self.host.netlink.do(messages.new_link(name, row.kind), ignore=(errno.EEXIST,))

    def _make_vxlan(self, name: str, row: Link, want: Vxlan, found: Mapping[str, seen.SeenLink]) -> None:
        parent = self.host.index(want.parent)
        asked = seen.SeenVxlan(want.vni, want.port, want.local, parent, learning=False)
        there = found.get(name)
        if there and there.vxlan == asked:
            return
        for other, link in found.items():
            if other != name and link.vxlan and (link.vxlan.vni, link.vxlan.port) == (want.vni, want.port):
                hint = f"link {other} already uses VNI {want.vni} on port {want.port}; remove it or choose another VNI"
                raise Refused(errno.EEXIST, hint)
        steps: list[Message] = [messages.delete_link(name)] if there else []
        details = messages.vxlan(want.vni, want.port, want.local, parent)
        self.host.netlink.do(*steps, messages.new_link(name, "vxlan", details, mtu=row.mtu, mac=row.mac))
        self._remade.add(name)

    def _make_tun(self, name: str) -> None:
        """A tun device is made by whoever opens it (tun.c knows no rtnetlink); persistent, it stays after we close."""
        with self.host.visiting():
            device = os.open("/dev/net/tun", os.O_RDWR | os.O_CLOEXEC)
            try:
                tun.attach(device, name)
                fcntl.ioctl(device, _TUNSETPERSIST, 1)
            except OSError as error:
                if error.errno == errno.EINVAL:
                    raise ForeignLink(
                        error.errno, f"link {name} is there and no TUN device of one queue; remove it"
                    ) from None
                if error.errno != errno.EBUSY:
                    raise
                if others := tun.strangers(name):
                    raise ForeignLink(error.errno, tun.held_by(others, name)) from None
            finally:
                os.close(device)


def _row(link: seen.SeenLink, wanted: Link | None, names: Mapping[int, str]) -> Link:
    """The link as a row; what the wanted row leaves open is left open."""
    state, vxlan = link.state, link.vxlan
    adopted = wanted is not None and wanted.kind == "adopt"
    return Link(
        # a kind that we never make equals no wanted row, and that is what is asked
        cast("Kind", "adopt" if adopted else state.kind),
        state.on,
        state.mtu if wanted is None or wanted.mtu is not None else None,
        state.mac if wanted is None or wanted.mac is not None else None,
        Vxlan(vxlan.vni, vxlan.port, vxlan.local, names.get(vxlan.parent, ""))
        if vxlan and vxlan.local and not adopted
        else None,
        link.outer if wanted and wanted.outer else None,
    )


def _explained(error: OSError, name: str) -> OSError:
    if isinstance(error, Refused) and not error.remark and error.number == errno.ENODEV:
        return Refused(error.number, f"there is no link {name}")
    return error


def has_ipip(host: Host) -> bool:
    """Whether the kernel's own tunl0 can be had here."""
    if there := every_link(host).get("tunl0"):
        return there.state.kind == "ipip"  # a tun of ours stays one until the machine restarts
    return _module_is_known() or _tunnel_can_be_made(host)


def _module_is_known() -> bool:
    """Without loading it: with the module every namespace of the machine gets a tunl0."""
    folder = Path("/lib/modules") / os.uname().release
    lists = [path for name in ("modules.builtin", "modules.dep") if (path := folder / name).exists()]
    return Path("/sys/module/ipip").exists() or any("/ipip.ko" in path.read_text() for path in lists)


def _tunnel_can_be_made(host: Host) -> bool:
    """Where the machine's modules are out of sight (in a container) the kernel may still load them."""
    trial = "fl-trial"
    # a tunnel between two addresses that nobody uses, so that it cannot be the same as one that is there
    ends = attribute(2, bytes((127, 80, 0, 1))) + attribute(3, bytes((127, 80, 0, 2)))
    try:
        host.netlink.do(messages.new_link(trial, "ipip", ends), ignore=(errno.EEXIST,))
        host.netlink.do(messages.delete_link(trial), ignore=(errno.ENODEV,))
    except Refused as error:
        if error.number == errno.EOPNOTSUPP:
            return False
        raise
    return True
