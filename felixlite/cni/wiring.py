"""The veth pair of a pod, made and removed by netlink: no process is started, no file is left behind.

An ADD costs two messages to the kernel's host side and one batch inside the pod: both ends are born where they belong,
with names, indexes, hardware addresses and MTU of our choice, so that nothing has to be asked back before addresses,
routes and neighbours can be put on them.  What the host wants on its end besides (routes, sysctls, neighbours) is
plan.py's and the tables' affair.

A link on the host is ours when it is a veth with our MAC; nothing else is ever removed or taken over.
"""

import errno
import os
import random
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Interface, ip_address, ip_interface
from pathlib import Path
from typing import Final

from felixlite.addresses import Address, Prefix
from felixlite.cni.errors import CniError, Code
from felixlite.cni.names import EVERYTHING, EVERYTHING_6, GATEWAY, GATEWAY_6, HOST_MAC
from felixlite.kernel import messages
from felixlite.kernel.messages import VethEnd
from felixlite.kernel.namespaces import visiting
from felixlite.kernel.netlink import Message, Refused, Socket, attribute, attributes, each, u32
from felixlite.kernel.sysctls import ROOT
from felixlite.snapshot import LinkState

_IFINFO = struct.Struct("=BxHiII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_GROUP: Final = 27  # IFLA_GROUP
_LOCAL: Final = 2  # RTN_LOCAL
_BOOT: Final = 3  # the protocol number of routes that `ip route` makes
_HOST_SIDE_GATEWAY: Final = IPv6Interface(f"{GATEWAY_6}/64")


LOCAL_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What has to be told, or waited for, when a name is not free."""

    forget: Callable[[str], None] = lambda _name: None  # a pair of ours had to go first, and what stood on it
    let_go: Callable[[], bool] = lambda: False  # wait for removals that are under way; were there any?


@dataclass(frozen=True, slots=True)
class PodEnd:
    name: str
    mac: str
    mtu: int
    addresses: Sequence[Prefix]
    default_routes: bool = True
    forwards: bool = False  # ip_forward inside the pod


@dataclass(frozen=True, slots=True)
class SeenLink:
    index: int
    kind: str
    name: str
    mac: str
    mtu: int
    up: bool
    peer: int  # the index of a veth's other end

    @property
    def is_ours(self) -> bool:
        return self.kind == "veth" and self.mac == HOST_MAC


@contextmanager
def pod_namespace(path: str, passed: int | None) -> Iterator[int]:
    """A descriptor of the pod's namespace: the one that the plugin opened for us, or else by its path."""
    try:
        descriptor = passed if passed is not None else os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError as error:
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_NETNS {path}: {error.strerror}") from None
    try:
        _must_be_a_namespace(descriptor, path)
        yield descriptor
    finally:
        if passed is None:
            os.close(descriptor)


def _must_be_a_namespace(descriptor: int, path: str) -> None:
    there = os.fstat(descriptor)
    here = Path("/proc/thread-self/ns/net").stat()
    if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_NETNS {path} is the host's own network namespace")
    if there.st_dev != here.st_dev or not stat.S_ISREG(there.st_mode):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_NETNS {path} is not a network namespace")


# -- making


def attach(host_name: str, namespace: int, pod: PodEnd, elsewhere: Elsewhere = Elsewhere()) -> LinkState:
    """Wire the pod. What an earlier try left is taken over; on an error nothing of ours is left."""
    with Socket() as host, _inside(namespace, pod) as inside:
        here, there = _made(host, host_name, inside, namespace, pod, elsewhere)
        try:
            inside.do(*_pod_messages(there, pod))
            _wait_until_local(inside, pod)
        except OSError as error:
            with suppress(OSError):
                host.do(messages.delete_link(host_name))
            raise _failed(pod.name, error) from error
    return LinkState(host_name, here, "veth", up=True, mtu=pod.mtu, mac=HOST_MAC)


@contextmanager
def _inside(namespace: int, pod: PodEnd) -> Iterator[Socket]:
    """A socket in the pod's namespace; on the way in, the settings that a visit is needed for."""
    try:
        with visiting(namespace):
            socket = Socket()
            _set(ROOT / "net/ipv4/ip_forward", pod.forwards)
            if any(address.family == 6 for address in pod.addresses):
                _prepare_ipv6(pod)
    except OSError as error:
        raise _failed(pod.name, error) from error
    with socket:
        yield socket


def _set(path: Path, value: bool) -> None:
    text = str(int(value))
    if path.read_text().strip() != text:  # reading is cheap, writing takes the kernel's big lock
        path.write_text(text)


def _prepare_ipv6(pod: PodEnd) -> None:
    """The future link inherits these: no duplicate address detection, and IPv6 at all."""
    root = ROOT / "net/ipv6/conf"
    _set(root / "all/disable_ipv6", value=False)
    _set(root / "default/disable_ipv6", value=False)
    _set(root / "default/accept_dad", value=False)
    _set(root / "all/forwarding", pod.forwards)


def _made(
    host: Socket, name: str, inside: Socket, namespace: int, pod: PodEnd, elsewhere: Elsewhere
) -> tuple[int, int]:
    """The pair, host end up; answers the indexes of both ends."""
    needs_gateway = any(address.family == 6 for address in pod.addresses)
    for _ in range(8):
        index = random.randrange(1 << 16, 1 << 30)  # noqa: S311  not a secret
        ends = (
            VethEnd(name, index, pod.mtu, HOST_MAC, up=not needs_gateway),
            VethEnd(pod.name, index, pod.mtu, pod.mac, namespace),
        )
        more = _host_messages(index, pod) if needs_gateway else []
        refused = host.send([messages.new_veth(*ends), *more])
        if not refused:
            return index, index
        if 0 not in refused:  # made, but it did not come up
            host.do(messages.delete_link(index))
        problem = refused[min(refused)]
        if problem.number not in (errno.EEXIST, errno.EBUSY):
            raise _failed(pod.name, problem)
        if taken_over := _taken_over(host, name, inside, pod, elsewhere):
            return taken_over
    raise CniError(Code.FAILED, f"{name} could not be made", "its name was taken again and again")


def _host_messages(link: int | str, pod: PodEnd) -> list[Message]:
    wanted = [messages.set_link(link, up=True)]
    if isinstance(link, int) and any(address.family == 6 for address in pod.addresses):
        wanted.insert(0, messages.set_address(link, _HOST_SIDE_GATEWAY))
    return wanted


def _taken_over(host: Socket, name: str, inside: Socket, pod: PodEnd, elsewhere: Elsewhere) -> tuple[int, int] | None:
    """Something has the name. Our own pair is used, our own older end is removed, anything else is an error."""
    ours, theirs = seen(host, name), seen(inside, pod.name)
    if ours and not ours.is_ours:
        raise CniError(
            Code.FAILED,
            f"the host interface {name} is held by somebody else",
            f"a {ours.kind or 'hardware'} link with MAC {ours.mac}; remove or rename it",
        )
    if ours and theirs and theirs.kind == "veth" and (ours.peer, theirs.peer) == (theirs.index, ours.index):
        host.do(messages.set_link(name, mtu=pod.mtu), *_host_messages(ours.index, pod))
        inside.do(messages.set_link(theirs.index, mtu=pod.mtu, mac=pod.mac))
        return ours.index, theirs.index
    if theirs and not (theirs.kind == "veth" and elsewhere.let_go()):
        raise CniError(
            Code.FAILED, f"CNI_IFNAME {pod.name} exists in the pod already", f"a {theirs.kind or 'hardware'} link"
        )
    if ours:
        host.do(messages.delete_link(name), ignore=(errno.ENODEV,))
        elsewhere.forget(name)
    return None


def _pod_messages(index: int, pod: PodEnd) -> list[Message]:
    families = sorted({address.family for address in pod.addresses})
    found = [messages.set_link(index, up=True)]
    found += [messages.set_address(index, ip_interface(str(address))) for address in pod.addresses]
    for family in families:
        gateway: Address = GATEWAY if family == 4 else GATEWAY_6
        found.append(messages.set_neighbour(index, gateway, HOST_MAC))
        if family == 4:
            found.append(messages.set_route(Prefix.host(GATEWAY), index, scope_link=True, protocol=_BOOT))
        if pod.default_routes:
            everything = EVERYTHING if family == 4 else EVERYTHING_6
            found.append(messages.set_route(everything, index, gateway=gateway, protocol=_BOOT))
    return found


def _wait_until_local(inside: Socket, pod: PodEnd) -> None:
    """The kernel makes an IPv6 address one of its own behind our back (net/ipv6/addrconf.c, addrconf_dad_work); on a busy
    machine the pod's first packets would come earlier and be dropped."""
    deadline = time.monotonic() + LOCAL_PATIENCE
    for address in (a for a in pod.addresses if a.family == 6):
        request = _RTMSG.pack(10, 128, 0, 0, 0, 0, 0, 0, 0) + attribute(1, address.packed)
        while _RTMSG.unpack_from(inside.get(messages.GET_ROUTE, request))[7] != _LOCAL:
            if time.monotonic() > deadline:
                raise Refused(errno.EADDRNOTAVAIL, f"{address} does not become an address of {pod.name}")
            time.sleep(0.001)


def _failed(interface: str, error: OSError) -> CniError:
    return CniError(Code.FAILED, f"making {interface} in the pod failed", str(error))


# -- removing


def detach(host_name: str) -> bool:
    """Remove the pair by its host end, if that is ours; returns when the kernel is done. Answers whether it was there."""
    with Socket() as host:
        found = seen(host, host_name)
        if found is None or not found.is_ours:
            return False
        host.do(messages.delete_link(found.index), ignore=(errno.ENODEV,))
    return True


def detach_all(host_names: Sequence[str]) -> set[str]:
    """The same for many at once, in one grace period of the kernel. Answers the names that are free now."""
    with Socket() as host:
        found = {name: link for name in host_names if (link := seen(host, name)) and link.is_ours}
        if len(found) > 1:
            group = u32(_GROUP, random.randrange(1 << 16, 1 << 31))  # noqa: S311  nobody else's for this moment
            marks = [(messages.NEW_LINK, 0, _IFINFO.pack(0, 0, link.index, 0, 0) + group) for link in found.values()]
            delete = (messages.DELETE_LINK, 0, _IFINFO.pack(0, 0, 0, 0, 0) + group)
            host.send([*marks, delete])
            found = {name: link for name, link in found.items() if seen(host, name)}
        refused = host.send([messages.delete_link(link.index) for link in found.values()]) if found else {}
    kept = {name for n, name in enumerate(found) if n in refused and refused[n].number != errno.ENODEV}
    return {*host_names} - kept


def detach_inside(namespace: int, interface: str) -> None:
    """Remove the pair by the pod's end, for when nobody can say what the host's end is called."""
    with Socket(namespace) as inside:
        inside.do(messages.delete_link(interface), ignore=(errno.ENODEV,))


# -- looking


def seen(socket: Socket, link: int | str) -> SeenLink | None:
    try:
        data = socket.get(*messages.get_link(link))
    except Refused as error:
        if error.number == errno.ENODEV:
            return None
        raise
    return _link(data)


def _link(data: bytes, start: int = 0, end: int | None = None) -> SeenLink:
    _, _, index, flags, _ = _IFINFO.unpack_from(data, start)
    found = attributes(data, start + 16, end)
    kind = attributes(found.get(18, b"")).get(1, b"")

    def number(of: int) -> int:
        return int(struct.unpack("=I", found[of])[0]) if of in found else 0

    return SeenLink(
        index,
        kind.rstrip(b"\0").decode(),
        found.get(3, b"").rstrip(b"\0").decode(),
        found.get(1, b"").hex(":"),
        number(4),
        bool(flags & messages.IFF_UP),
        number(5),
    )


def host_ends() -> list[SeenLink]:
    """All links of this host that are ends made by us."""
    with Socket() as host:
        rows = host.dump(messages.GET_LINK, _IFINFO.pack(0, 0, 0, 0, 0) + b"\x08\x00\x1d\x00\x08\x00\x00\x00")
    links = (
        _link(data, start, end) for data in rows for kind, _, _, start, end in each(data) if kind == messages.NEW_LINK
    )
    return [link for link in links if link.is_ours]


def first_wrong(host_name: str, namespace: int, pod: PodEnd) -> str:
    """What is not as an ADD left it, inside the pod and on the pair; "" if nothing."""
    with Socket() as host, Socket(namespace) as inside:
        ours, theirs = seen(host, host_name), seen(inside, pod.name)
        if theirs is None:
            return f"interface {pod.name} is missing in the pod"
        if ours is None:
            return f"the host's end {host_name} is missing"
        if (ours.peer, theirs.peer) != (theirs.index, ours.index):
            return f"interface {pod.name} in the pod is not the other end of {host_name}"
        if theirs.mac != pod.mac:
            return f"interface {pod.name} has the hardware address {theirs.mac} and not {pod.mac}"
        if not theirs.up:
            return f"interface {pod.name} is down"
        if not ours.up:
            return f"the host's end {host_name} is down"
        return _first_missing(inside, theirs.index, pod)


def _first_missing(inside: Socket, index: int, pod: PodEnd) -> str:
    addresses = _addresses(inside, index)
    for address in pod.addresses:
        if address not in addresses:
            return f"address {address} is missing on {pod.name}"
    routes, neighbours = _routes(inside, index), _neighbours(inside, index)
    for family in sorted({address.family for address in pod.addresses}):
        gateway: Address = GATEWAY if family == 4 else GATEWAY_6
        if family == 4 and (Prefix.host(GATEWAY), None) not in routes:
            return f"route {GATEWAY} dev {pod.name} is missing in the pod"
        if pod.default_routes and (EVERYTHING if family == 4 else EVERYTHING_6, gateway) not in routes:
            return f"route default via {gateway} is missing in the pod"
        if neighbours.get(gateway) != HOST_MAC:
            return f"neighbour {gateway} lladdr {HOST_MAC} is missing in the pod"
    return ""


def _rows(socket: Socket, kind: int, answer: int, body: bytes) -> Iterator[tuple[bytes, int, int]]:
    for data in socket.dump(kind, body):
        for found, _, _, start, end in each(data):
            if found == answer:
                yield data, start, end


def _addresses(inside: Socket, index: int) -> set[Prefix]:
    found = set()
    for data, start, end in _rows(inside, messages.GET_ADDRESS, messages.NEW_ADDRESS, bytes(8)):
        _, length, _, _, link = struct.unpack_from("=BBBBi", data, start)
        values = attributes(data, start + 8, end)
        if link == index:
            found.add(Prefix(values.get(2) or values[1], length))
    return found


def _routes(inside: Socket, index: int) -> set[tuple[Prefix, Address | None]]:
    found = set()
    for family, width in ((2, 4), (10, 16)):
        request = _RTMSG.pack(family, 0, 0, 0, 254, 0, 0, 0, 0)
        for data, start, end in _rows(inside, messages.GET_ROUTE, messages.NEW_ROUTE, request):
            head = _RTMSG.unpack_from(data, start)
            values = attributes(data, start + 12, end)
            if values.get(4) == struct.pack("=I", index):
                gateway = ip_address(values[5]) if 5 in values else None
                found.add((Prefix(values.get(1, bytes(width)), head[1]), gateway))
    return found


def _neighbours(inside: Socket, index: int) -> dict[Address, str]:
    found: dict[Address, str] = {}
    for family in (2, 10):
        request = _NDMSG.pack(family, 0, 0, 0, 0)
        for data, start, end in _rows(inside, messages.GET_NEIGHBOUR, messages.NEW_NEIGHBOUR, request):
            values = attributes(data, start + 12, end)
            if _NDMSG.unpack_from(data, start)[1] == index and 2 in values:
                found[ip_address(values[1])] = values[2].hex(":")
    return found
