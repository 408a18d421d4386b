"""The veth pair of a pod, made and removed by netlink: no process is started, no file is left behind.

An ADD costs one message to the kernel's host side and one batch inside the pod: both ends are born where they belong,
with names, indexes, hardware addresses and MTU of our choice, so that nothing has to be asked back before addresses,
routes and neighbours can be put on them.  What the host wants on its end besides (routes, sysctls, neighbours) is
plan.py's and the tables' affair.

A link on the host is ours when it is a veth with our MAC; nothing else is ever removed or taken over.
"""

import errno
import fcntl
import os
import random
import stat
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from ipaddress import IPv6Interface, ip_interface
from pathlib import Path
from typing import Final

from felixlite.addresses import Address, Prefix
from felixlite.cni.errors import CniError, Code
from felixlite.cni.looking import PodEnd, seen, strays
from felixlite.cni.names import EVERYTHING, EVERYTHING_6, GATEWAY, GATEWAY_6, HOST_MAC
from felixlite.kernel import messages
from felixlite.kernel.messages import VethEnd
from felixlite.kernel.namespaces import OWN_NAMESPACE, visiting
from felixlite.kernel.netlink import Message, Refused, Socket, attribute, u32
from felixlite.kernel.sysctls import ROOT
from felixlite.snapshot import LinkState

_IFINFO = struct.Struct("=BxHiII")
_RTMSG = struct.Struct("=BBBBBBBBI")
_NDMSG = struct.Struct("=BxxxiHBB")
_GROUP: Final = 27  # IFLA_GROUP
_LOCAL: Final = 2  # RTN_LOCAL
_NS_GET_NSTYPE: Final = 0xB703  # linux/nsfs.h
_CLONE_NEWNET: Final = 0x4000_0000
_BOOT: Final = 3  # the protocol number of routes that `ip route` makes
_HOST_SIDE_GATEWAY: Final = IPv6Interface(f"{GATEWAY_6}/64")


_FORWARDING: Final = ROOT / "net/ipv4/ip_forward"
LOCAL_PATIENCE: Final = 5.0


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """What has to be told, or waited for, when a name is not free."""

    forget: Callable[[str], None] = lambda _name: None  # a pair of ours had to go first, and what stood on it
    let_go: Callable[[], bool] = lambda: False  # wait for removals that are under way; were there any?


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
    here = OWN_NAMESPACE.stat()
    if (there.st_dev, there.st_ino) == (here.st_dev, here.st_ino):
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_NETNS {path} is the host's own network namespace")
    is_namespace = there.st_dev == here.st_dev and stat.S_ISREG(there.st_mode)
    if not is_namespace or fcntl.ioctl(descriptor, _NS_GET_NSTYPE) != _CLONE_NEWNET:
        raise CniError(Code.INVALID_ENVIRONMENT, f"CNI_NETNS {path} is not a network namespace")


# -- making


def begin(name: str, namespace: int, pod: PodEnd) -> LinkState | None:
    """The pair, if nothing is in the way. None: something has a name; `make` finds out what it is."""
    with Socket() as host, _inside(namespace, pod) as inside:
        index = _tried(host, name, namespace, pod)
        return _furnished(host, name, (index, index), inside, pod) if index else None


def make(name: str, namespace: int, pod: PodEnd, elsewhere: Elsewhere = Elsewhere()) -> LinkState:
    """The pair. What an earlier try left is taken over, what an older pod of that name left goes."""
    with Socket() as host, _inside(namespace, pod) as inside:
        ends = _made(host, name, inside, namespace, pod, elsewhere)
        link = _furnished(host, name, ends, inside, pod)
    wait_until_local(namespace, pod)
    return link


def _furnished(host: Socket, name: str, ends: tuple[int, int], inside: Socket, pod: PodEnd) -> LinkState:
    """Addresses, routes and neighbours on the pod's end, and up it goes. On an error nothing of the pair is left."""
    try:
        inside.do(*_pod_messages(ends[1], pod))
    except BaseException as error:
        with suppress(OSError):
            host.do(messages.delete_link(name))
        if isinstance(error, OSError):
            raise _failed(pod.name, error) from error
        raise
    # as the kernel tells it first, with the pod's end still down; nothing is decided by that, and it tells it once
    return LinkState(name, ends[0], "veth", up=False, mtu=pod.mtu, mac=HOST_MAC)


def _inside(namespace: int, pod: PodEnd) -> Socket:
    """A socket in the pod's namespace; on the way in, the settings that a visit is needed for."""
    try:
        with visiting(namespace):
            _set(_FORWARDING, pod.forwards)
            if 6 in pod.families:
                _prepare_ipv6(pod)
            return Socket()
    except OSError as error:
        raise _failed(pod.name, error) from error


def _set(path: Path, value: bool) -> None:
    text = b"%d" % value
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)  # a file object would take three times as long
    try:
        there = os.read(descriptor, 16)
    finally:
        os.close(descriptor)
    if there.strip() != text:  # reading is cheap, writing takes the kernel's big lock
        path.write_bytes(text)


def _prepare_ipv6(pod: PodEnd) -> None:
    """The future link inherits these: no duplicate address detection, and IPv6 at all."""
    root = ROOT / "net/ipv6/conf"
    _set(root / "all/disable_ipv6", value=False)
    _set(root / "default/disable_ipv6", value=False)
    _set(root / "default/accept_dad", value=False)
    _set(root / "all/forwarding", pod.forwards)


def _tried(host: Socket, name: str, namespace: int, pod: PodEnd) -> int | None:
    """The pair, host end up; answers the index of both ends. None when a name is taken."""
    index = random.randrange(1 << 16, 1 << 30)  # noqa: S311  not a secret
    ends = (
        VethEnd(name, index, pod.mtu, HOST_MAC, up=6 not in pod.families),
        VethEnd(pod.name, index, pod.mtu, pod.mac, namespace),
    )
    refused = host.send([messages.new_veth(*ends), *(_host_messages(index, pod) if 6 in pod.families else [])])
    if not refused:
        return index
    if 0 not in refused:  # made, but it did not come up
        host.do(messages.delete_link(index))
    problem = refused[min(refused)]
    if problem.number not in (errno.EEXIST, errno.EBUSY):
        raise _failed(pod.name, problem)
    return None


def _made(
    host: Socket, name: str, inside: Socket, namespace: int, pod: PodEnd, elsewhere: Elsewhere
) -> tuple[int, int]:
    """The indexes of the host's end and of the pod's."""
    for _ in range(8):
        if index := _tried(host, name, namespace, pod):
            return index, index
        if taken_over := _taken_over(host, name, inside, pod, elsewhere):
            return taken_over
    raise CniError(Code.FAILED, f"{name} could not be made", "its name was taken again and again")


def _host_messages(index: int, pod: PodEnd) -> list[Message]:
    up = messages.set_link(index, up=True)
    return [messages.set_address(index, _HOST_SIDE_GATEWAY), up] if 6 in pod.families else [up]


def _taken_over(host: Socket, name: str, inside: Socket, pod: PodEnd, elsewhere: Elsewhere) -> tuple[int, int] | None:
    """Something has the name. Our own pair is used, our own older end is removed, anything else is an error.

    A pair with somebody else's address on it goes too: of an ADD that was killed before the store knew of the address,
    which may be another pod's by now; and the pod would send with it.
    """
    ours, theirs = seen(host, name), seen(inside, pod.name)
    if ours and not ours.is_ours:
        raise CniError(
            Code.FAILED,
            f"the host interface {name} is held by somebody else",
            f"a {ours.kind or 'hardware'} link with MAC {ours.mac}; remove or rename it",
        )
    if ours and theirs and ours.is_paired_with(theirs):
        if not strays(inside, theirs.index, pod):
            host.do(messages.set_link(name, mtu=pod.mtu), *_host_messages(ours.index, pod))
            inside.do(messages.set_link(theirs.index, mtu=pod.mtu, mac=pod.mac))
            return ours.index, theirs.index
        theirs = None  # goes with ours
    if theirs and not (theirs.kind == "veth" and elsewhere.let_go()):
        raise CniError(
            Code.FAILED, f"CNI_IFNAME {pod.name} exists in the pod already", f"a {theirs.kind or 'hardware'} link"
        )
    if ours:
        host.do(messages.delete_link(name), ignore=(errno.ENODEV,))
        elsewhere.forget(name)
    return None


def _pod_messages(index: int, pod: PodEnd) -> list[Message]:
    found = [messages.set_link(index, up=True)]
    found += [messages.set_address(index, ip_interface(str(address))) for address in pod.addresses]
    for family in sorted(pod.families):
        gateway: Address = GATEWAY if family == 4 else GATEWAY_6
        found.append(messages.set_neighbour(index, gateway, HOST_MAC))
        if family == 4:
            found.append(messages.set_route(Prefix.host(GATEWAY), index, scope_link=True, protocol=_BOOT))
        if pod.default_routes:
            everything = EVERYTHING if family == 4 else EVERYTHING_6
            found.append(messages.set_route(everything, index, gateway=gateway, protocol=_BOOT))
    return found


def wait_until_local(namespace: int, pod: PodEnd) -> None:
    """The kernel makes an IPv6 address one of its own behind our back (net/ipv6/addrconf.c, addrconf_dad_work); on a busy
    machine the pod's first packets would come earlier and be dropped."""
    deadline = time.monotonic() + LOCAL_PATIENCE
    for address in (a for a in pod.addresses if a.family == 6):
        try:
            with Socket(namespace) as inside:
                while not _is_local(inside, address):
                    if time.monotonic() > deadline:
                        raise Refused(errno.EADDRNOTAVAIL, f"{address} does not become an address of {pod.name}")
                    time.sleep(0.001)
        except OSError as error:
            raise _failed(pod.name, error) from error


def _is_local(inside: Socket, address: Prefix) -> bool:
    request = _RTMSG.pack(10, 128, 0, 0, 0, 0, 0, 0, 0) + attribute(1, address.packed)
    return bool(_RTMSG.unpack_from(inside.get(messages.GET_ROUTE, request))[7] == _LOCAL)


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
