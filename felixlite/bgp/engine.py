"""The exabgp child: exabgp itself, with the corrections that docs/adr/0050 lists, driven over one inherited socket.

Runs as a program of its own (`python -m felixlite.bgp.engine FD`), never inside the agent.  exabgp keeps the sessions:
connections, state machine, capabilities, timers, adj-RIB-out.  What is corrected here:
its helper process becomes the socket that we inherit, written without ever blocking the timers; commands are carried
out in order and answered by number; a reload happens when it is asked for, keeps the sessions of passive ranges and
installs MD5 keys for whole ranges; GTSM holds for accepted connections; refused connections are retried with a pause;
UPDATEs are passed on as they came (the agent decodes them).

Before this: bgp/config_text.py and the commands of bgp/exabgp.py.  After: its lines, read by bgp/wire.py.
"""

import ctypes
import errno
import json
import os
import select
import signal
import socket
import struct
import sys
import time
from base64 import b64decode
from collections import deque
from collections.abc import Iterator
from contextlib import suppress
from copy import copy
from typing import Any

from exabgp.bgp.message import Action, KeepAlive, Message, Notify, Update
from exabgp.bgp.message.direction import Direction
from exabgp.bgp.message.refresh import RouteRefresh
from exabgp.bgp.message.update.attribute import Attributes
from exabgp.bgp.message.update.nlri.cidr import CIDR
from exabgp.bgp.message.update.nlri.inet import INET
from exabgp.configuration.configuration import Configuration
from exabgp.environment import getenv
from exabgp.logger import log
from exabgp.protocol.family import AFI, SAFI, Family
from exabgp.protocol.ip import IP
from exabgp.reactor import listener as exabgp_listener
from exabgp.reactor import loop as exabgp_loop
from exabgp.reactor import peer as exabgp_peer
from exabgp.reactor.api import API
from exabgp.reactor.api.processes import Processes
from exabgp.reactor.api.response import Response
from exabgp.reactor.network import outgoing as exabgp_outgoing
from exabgp.reactor.network.connection import Connection
from exabgp.reactor.network.tcp import set_minimum_ttl, set_sending_ttl
from exabgp.rib import RIB
from exabgp.rib.change import Change
from exabgp.version import json as json_version

SERVICE = "felixlite"
DECONFIGURED = (6, 3)  # RFC 4486: cease, peer de-configured
TCP_MD5SIG_EXT, TCP_MD5SIG_FLAG_PREFIX = 32, 1  # linux/tcp.h
GTSM_TTL = 255  # RFC 5082
FIRST_RETRY, LONGEST_RETRY = 0.25, 5.0  # seconds between two tries to connect
CONNECT_TIME = 5.0  # a SYN without an answer is given up after this
QUIET = 0.02  # a burst of UPDATEs is over when nothing came for so long
MOST_UNSENT = 512 * 1024 * 1024  # an agent that is this far behind is not reading any more


# -- the socket to the agent -----------------------------------------------------------------------------------------


class Channel(Processes):  # type: ignore[misc]
    """What exabgp takes for its one helper process."""

    def __init__(self, link: socket.socket) -> None:
        super().__init__()
        self.link = link
        link.setblocking(False)
        self.unsent: deque[bytes] = deque()
        self.unsent_bytes = 0
        self.partial = b""

    def start(self, configuration: Any, restart: bool = False) -> None:  # noqa: ARG002  exabgp's signature
        self._encoder[SERVICE] = Response.JSON(json_version)
        self._ackjson[SERVICE] = False
        self._ack[SERVICE] = False
        self.fds = [self.link.fileno()]
        self.say(id=0)  # the file has been read: from now on it may be written

    def broken(self, neighbor: Any) -> bool:  # noqa: ARG002
        return False

    def write(self, process: str, string: str | None, neighbor: Any = None) -> bool:  # noqa: ARG002
        if string is not None:
            line = string.encode() + b"\n"
            self.unsent.append(line)
            self.unsent_bytes += len(line)
            self.flush()
        return True

    def say(self, **members: Any) -> None:
        self.write(SERVICE, json.dumps({"felixlite": members}))

    def flush(self) -> None:
        """Send what the agent takes without waiting for it: a slow agent must not cost us the hold timers."""
        while self.unsent:
            chunk = self.unsent[0] if len(self.unsent) == 1 else b"".join(self.unsent)
            try:
                sent = self.link.send(chunk)
            except BlockingIOError:
                sent = 0
            except OSError:
                leave()
            self.unsent.clear()
            self.unsent_bytes = len(chunk) - sent
            if sent < len(chunk):
                self.unsent.append(chunk[sent:])
                break
        if self.unsent_bytes > MOST_UNSENT:
            leave()

    def received(self) -> Iterator[tuple[str, str]]:
        self.flush()
        while True:
            try:
                data = self.link.recv(1 << 18)
            except BlockingIOError:
                return
            except OSError:
                leave()
            if not data:
                leave()
            *lines, self.partial = (self.partial + data).split(b"\n")
            for line in lines:
                yield SERVICE, line.decode()

    def packets(self, neighbor: Any, direction: str, category: int, *rest: Any) -> None:
        if category == Message.CODE.UPDATE:
            heard[str(neighbor["peer-address"])] = time.monotonic()
        super().packets(neighbor, direction, category, *rest)

    def terminate(self) -> None:
        self.flush()


def leave() -> None:
    """The agent is gone. No NOTIFICATION: with graceful restart the peers keep our routes until the next agent."""
    os._exit(0)


# -- commands --------------------------------------------------------------------------------------------------------

NOTHING = Attributes()

# what was announced to whom, by neighbour address: prefix -> the text of its attributes
announced: dict[str, dict[str, str]] = {}
_resolved: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # neighbour, family, attributes' text -> with its own next hop
_parsed: dict[str, tuple[Any, Any]] = {}  # attributes' text -> (attributes, an NLRI to copy)


class Refused(Exception):
    pass


def sessions_of(reactor: Any, address: str) -> list[str]:
    """The names of the sessions of a neighbour; of a range: the range's and of all who connected from it."""
    wanted = f"neighbor {address} "
    return [
        name
        for name, peer in reactor._peers.items()  # noqa: SLF001
        if name.startswith(wanted) or getattr(peer.neighbor, "felixlite_range", None) == address
    ]


def by_address(reactor: Any, address: str) -> list[str]:
    names = sessions_of(reactor, address)
    if not names:
        raise Refused(f"no neighbor {address}")
    return names


def announce(api: Any, reactor: Any, address: str, command: str) -> None:
    """`neighbor IP announce attributes ATTRIBUTES nlri PREFIX...`: exabgp's command, its attributes parsed once."""
    attributes, _, prefixes = command.partition(" nlri ")
    try:
        names = by_address(reactor, address)
        told = announced.setdefault(address, {})
        for text in prefixes.split():
            inject(reactor, names, parsed_change(api, attributes, text), attributes)
            told[text] = attributes
    except Exception as error:  # noqa: BLE001  the agent is told, with the next sync
        problems.append({"peer": address, "error": str(error) or repr(error), "prefixes": prefixes.split()})


def withdraw(reactor: Any, address: str, command: str) -> None:
    """`neighbor IP withdraw attributes nlri PREFIX...`"""
    told = announced.setdefault(address, {})
    for text in command.partition("nlri ")[2].split():
        if told.pop(text, None) is not None:
            take_back(reactor, sessions_of(reactor, address), text)


def parsed_change(api: Any, attributes: str, text: str) -> Any:
    """Only the first prefix with these attributes goes through exabgp's parser (its cost: 0.3 ms a route)."""
    nlri = nlri_of(text, Action.ANNOUNCE)
    key = f"{nlri.afi} {attributes}"
    if key not in _parsed:
        changes = api.api_attributes(f"announce attributes {attributes} nlri {text}", [])
        if len(changes) != 1:
            raise Refused(f"exabgp refuses {attributes!r} for {text}: {api.configuration.tokeniser.error or ''}")
        if len(_parsed) > 10_000:
            _parsed.clear()
            _resolved.clear()
        _parsed[key] = (changes[0].attributes, changes[0].nlri.nexthop)
    path, nlri.nexthop = _parsed[key]
    return Change(nlri, path)


def nlri_of(text: str, action: Any) -> Any:
    host, _, length = text.partition("/")
    nlri = INET(AFI.ipv6 if ":" in host else AFI.ipv4, SAFI.unicast, action)
    nlri.cidr = CIDR(IP.pton(host), int(length))
    return nlri


def inject(reactor: Any, names: list[str], change: Any, words: str) -> None:
    family = change.nlri.family().afi_safi()
    for name in names:
        neighbor = reactor.neighbor(name)
        if family not in neighbor.families():
            raise Refused(f"{change.nlri.cidr.prefix()}: the family {family[0]} is not configured for this neighbor")
        own = with_own_hop(neighbor, name, change, words) if change.nlri.nexthop.SELF else change
        queue(neighbor.rib.outgoing, own)


def with_own_hop(neighbor: Any, name: str, change: Any, words: str) -> Any:
    """`next-hop self` for this neighbour: exabgp copies all attributes for it, which is needed once, not for each prefix."""
    key = (name, change.nlri.afi, words)
    if key not in _resolved:
        own = neighbor.remove_self(change)
        _resolved[key] = (own.attributes, own.nlri.nexthop)
    path, hop = _resolved[key]
    nlri = copy(change.nlri)
    nlri.nexthop = hop
    return Change(nlri, path)


def take_back(reactor: Any, names: list[str], text: str) -> None:
    for name in names:
        queue(reactor.neighbor(name).rib.outgoing, Change(nlri_of(text, Action.WITHDRAW), NOTHING))


def queue(rib: Any, change: Any) -> None:
    """One thing to say about a prefix at a time: exabgp sends by attributes, so that an older one could come last."""
    if change.nlri.action == Action.ANNOUNCE and rib.in_cache(change):
        return
    index, family = change.index(), change.nlri.family().afi_safi()
    if (before := rib._new_nlri.get(index)) is not None:  # noqa: SLF001
        rib._new_attr_af_nlri.get(before.attributes.index(), {}).get(family, {}).pop(index, None)  # noqa: SLF001
    rib._update_rib(change)  # noqa: SLF001


problems: list[dict[str, Any]] = []  # refusals since the last sync


def felixlite(reactor: Any, line: str) -> None:
    """`felixlite {"do": ..., "id": ...}`: what exabgp has no command for. Every one is answered with its id."""
    order = json.loads(line.removeprefix("felixlite "))
    try:
        answer = ORDERS[order["do"]](reactor, order)
    except Exception as error:  # noqa: BLE001  told to the agent
        answer = {"error": repr(error)}
    reactor.processes.say(id=order["id"], **answer)


def sync(_reactor: Any, _order: dict[str, Any]) -> dict[str, Any]:
    """All commands before this one have been carried out; these were refused."""
    refused, problems[:] = list(problems), []
    return {"refused": refused}


def validate(_reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Load the file in a process of its own: a configuration that fails here has touched nothing."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            candidate = Configuration([order["path"]])
            verdict = "" if candidate.reload() else str(candidate.error) or "refused without a reason"
        except BaseException as error:  # noqa: BLE001  whatever it is, it belongs into the verdict
            verdict = repr(error)
        os.write(writing, (verdict or "ok").encode()[:4000])
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading, "rb") as verdicts:
        verdict = verdicts.read().decode() or "the validation died"
    os.waitpid(pid, 0)
    return {"error": "" if verdict == "ok" else verdict}


def reload(reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Exactly one reload, now. Sessions of ranges are not in the file: they are kept by hand as long as the range is."""
    if order["validate"]:
        verdict = validate(reactor, order)
        if verdict["error"]:
            return verdict
    _resolved.clear()  # our address towards a neighbour may be another one now
    reactor._ips = [IP.create(ip) for ip in order["listen"]]  # noqa: SLF001
    reactor._port = order["port"]  # noqa: SLF001
    before = set(reactor._peers)  # noqa: SLF001
    ranges = {name: peer for name, peer in reactor._peers.items() if peer.neighbor.generated}  # noqa: SLF001
    for name in ranges:
        del reactor._peers[name]  # noqa: SLF001
    loaded = reactor.reload()
    now = {str(n["peer-address"]): n for n in reactor.configuration.neighbors.values()}
    for name, peer in ranges.items():
        reactor._peers[name] = peer  # noqa: SLF001
        origin = now.get(peer.neighbor.felixlite_range)
        if loaded and (origin is None or origin != peer.neighbor.felixlite_origin):
            peer.remove()
    protect_listeners(reactor)
    for address in announced.keys() - now.keys():
        del announced[address]
    return {"error": "" if loaded else str(reactor.configuration.error), "new": len(set(reactor._peers) - before)}  # noqa: SLF001


def protect_listeners(reactor: Any) -> None:
    """Keys for whole ranges, and answers to a SYN that a GTSM peer accepts."""
    for listening in reactor.listener._sockets:  # noqa: SLF001
        level, option = (
            (socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS)
            if listening.family == socket.AF_INET6
            else (socket.IPPROTO_IP, socket.IP_TTL)
        )
        listening.setsockopt(level, option, GTSM_TTL)
        for neighbor in reactor.configuration.neighbors.values():
            if neighbor["md5-password"] and neighbor.range_size > 1:
                md5_for_range(listening, neighbor)


def md5_for_range(listening: socket.socket, neighbor: Any) -> None:
    """TCP_MD5SIG_EXT with a prefix length (tcp(7)); exabgp installs the key for the first address only."""
    address = neighbor["peer-address"]
    if (address.afi == AFI.ipv6) != (listening.family == socket.AF_INET6):
        return
    packed = IP.pton(address.top())
    bits = 8 * len(packed) - (neighbor.range_size.bit_length() - 1)
    key = b64decode(neighbor["md5-password"])
    place = struct.pack("=HH4s120x", socket.AF_INET, 0, packed)
    if address.afi == AFI.ipv6:
        place = struct.pack("=HHI16sI100x", socket.AF_INET6, 0, 0, packed, 0)
    listening.setsockopt(
        socket.IPPROTO_TCP,
        TCP_MD5SIG_EXT,
        place + struct.pack("=BBHI80s", TCP_MD5SIG_FLAG_PREFIX, bits, len(key), 0, key),
    )


def tell_announced(_reactor: Any, _order: dict[str, Any]) -> dict[str, Any]:
    """{neighbour: {attributes: [prefix, ...]}}: what exabgp holds for its peers."""
    grouped: dict[str, dict[str, list[str]]] = {}
    for address, rows in announced.items():
        group = grouped.setdefault(address, {})
        for prefix, attributes in rows.items():
            group.setdefault(attributes, []).append(prefix)
    return {"announced": grouped}


def tell_neighbors(reactor: Any, _order: dict[str, Any]) -> dict[str, Any]:
    return {"neighbors": sorted({str(peer.neighbor["peer-address"]) for peer in reactor._peers.values()})}  # noqa: SLF001


def end_of_rib(reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    for name in sessions_of(reactor, order["peer"]):
        for afi, safi in reactor.neighbor(name).families():
            reactor.neighbor(name).eor.append(Family(afi, safi))
    return {}


def refresh(reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    for name in sessions_of(reactor, order["peer"]):
        neighbor = reactor.neighbor(name)
        for afi, safi in neighbor.families():
            neighbor.refresh.append(RouteRefresh(afi, safi))
    return {}


def teardown(reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Close the sessions with this NOTIFICATION, whatever was negotiated."""
    for name in sessions_of(reactor, order["peer"]):
        peer = reactor._peers[name]  # noqa: SLF001
        farewell(peer, order["code"], order["subcode"])
        peer.teardown(order["subcode"])
    return {}


def farewell(peer: Any, code: int, subcode: int) -> None:
    """exabgp leaves without a word when graceful restart was negotiated, and the peer would keep our routes."""
    io = peer.proto.connection.io if peer.proto and peer.proto.connection else None
    if io is not None and peer.established():
        with suppress(OSError):
            io.send(Notify(code, subcode).message())


def hold(reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Do not talk to this neighbour for some seconds (a flapping or a leaking one)."""
    held[order["peer"]] = time.time() + order["seconds"]
    return teardown(reactor, order) if "code" in order else {}


ORDERS = {
    "sync": sync,
    "validate": validate,
    "reload": reload,
    "announced": tell_announced,
    "neighbors": tell_neighbors,
    "eor": end_of_rib,
    "refresh": refresh,
    "teardown": teardown,
    "hold": hold,
}
held: dict[str, float] = {}  # neighbour -> not before
heard: dict[str, float] = {}  # neighbour -> when its last UPDATE came


# -- corrections of exabgp -------------------------------------------------------------------------------------------


def pass_updates_on() -> None:
    """The agent decodes UPDATEs from the packets (20 times faster, RFC 7606); exabgp need not."""
    decode = Update.unpack_message

    def unpack_message(data: bytes, direction: Any, negotiated: Any) -> Any:
        if direction == Direction.IN:
            return Update([], Attributes())
        return decode(data, direction, negotiated)

    Update.unpack_message = staticmethod(unpack_message)


def pace_connections() -> None:
    """exabgp tries again at every turn of its loop, 100 times a second; and says nothing of why it failed."""

    def establish(self: Any) -> Iterator[bool]:
        pause, said = FIRST_RETRY, ""
        while True:
            trouble: Any = self._setup()
            trouble = trouble or begin(self.io, self.peer, self.port)
            deadline = time.time() + CONNECT_TIME
            while not trouble and time.time() < deadline:
                if writable(self.io):
                    trouble = self.io.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if not trouble:
                        self.success()
                        self.local = self.local or self.io.getsockname()[0]
                        yield True
                        return
                else:
                    yield False
            words = os.strerror(trouble) if isinstance(trouble, int) and trouble else str(trouble or "no answer")
            if words != said:
                said = words
                channel.say(trouble={"peer": self.peer, "error": f"cannot connect to port {self.port}: {words}"})
            if self.io is not None:
                self.io.close()
                self.io = None
            not_before, pause = time.time() + pause, min(LONGEST_RETRY, pause * 2)
            while time.time() < max(not_before, held.get(self.peer, 0.0)):
                yield False

    exabgp_outgoing.Outgoing.establish = establish


def begin(io: socket.socket, peer: str, port: int) -> int:
    """The number of the error, 0 if the connection is under way."""
    trouble = io.connect_ex((peer, port))
    return 0 if trouble in (0, errno.EINPROGRESS) else trouble


def writable(io: socket.socket) -> bool:
    poller = select.poll()
    poller.register(io, select.POLLOUT)
    return bool(poller.poll(0))


def nudge_silent_announcers() -> None:
    """BIRD keeps its last, partly filled UPDATE for up to 3 s when nothing comes from us: a KEEPALIVE gets it out."""
    wait, write = exabgp_loop.Reactor._wait_for_io, Connection.writer  # noqa: SLF001

    def _wait_for_io(self: Any, milliseconds: float) -> Iterator[int]:
        now = time.monotonic()
        for address in [address for address, at in heard.items() if now - at > QUIET]:
            del heard[address]
            for name in sessions_of(self, address):
                keep_alive(self._peers[name])
        yield from wait(self, min(milliseconds, QUIET * 1000) if heard else milliseconds)

    def writer(self: Any, data: bytes) -> Iterator[bool]:
        self.felixlite_writing = True
        try:
            yield from write(self, data)
        finally:
            self.felixlite_writing = False

    exabgp_loop.Reactor._wait_for_io = _wait_for_io  # noqa: SLF001
    Connection.writer = writer


def keep_alive(peer: Any) -> None:
    """Between two messages only: a message of which a part is out must not be interrupted."""
    connection = peer.proto.connection if peer.proto else None
    if connection is None or connection.io is None or not peer.established():
        return
    if not getattr(connection, "felixlite_writing", False):
        with suppress(OSError):
            connection.io.send(KeepAlive().message())


def tell_why_sessions_end() -> None:
    """A session's end carries its error, and ends with a NOTIFICATION where we mean the peer to forget our routes."""
    close = exabgp_peer.Peer._close  # noqa: SLF001

    def _close(self: Any, message: str = "", error: Any = "") -> None:
        told = f"{message}: {error}" if error and str(error) not in message else message
        close(self, told, error)

    remove = exabgp_peer.Peer.remove

    def _remove(self: Any) -> None:
        farewell(self, *DECONFIGURED)
        remove(self)

    exabgp_peer.Peer._close = _close  # noqa: SLF001
    exabgp_peer.Peer.remove = _remove


def guard_accepted_connections() -> None:
    """GTSM's minimum for connections that the peer opened, and the range that a session came from."""
    set_accepted = exabgp_listener.set_accepted_ttl

    def set_accepted_ttl(connection: Any, neighbor: Any) -> None:
        if neighbor["incoming-ttl"]:
            set_minimum_ttl(connection.io, connection.afi, connection.peer, neighbor["incoming-ttl"])
            set_sending_ttl(connection.io, connection.afi, connection.peer, GTSM_TTL)
        else:
            set_sending_ttl(connection.io, connection.afi, connection.peer, 64)
        set_accepted(connection, neighbor)

    exabgp_listener.set_accepted_ttl = set_accepted_ttl


def refuse_the_held() -> None:
    handle = exabgp_peer.Peer.handle_connection

    def handle_connection(self: Any, connection: Any) -> Any:
        if time.time() < held.get(connection.peer, 0.0):
            connection.close()
            return True  # denied
        return handle(self, connection)

    exabgp_peer.Peer.handle_connection = handle_connection


def remember_ranges() -> None:
    """exabgp's sessions of one range share one outgoing RIB: whoever comes first would eat the others' routes."""
    register = exabgp_loop.Reactor.register_peer

    def register_peer(self: Any, name: str, peer: Any) -> None:
        neighbor = peer.neighbor
        origin = next(n for n in self.configuration.neighbors.values() if n.range_size > 1 and n.rib is neighbor.rib)
        neighbor.felixlite_origin, neighbor.felixlite_range = origin, str(origin["peer-address"])
        neighbor.eor, neighbor.refresh, neighbor.messages = deque(), deque(), deque()
        neighbor.rib = RIB(name, neighbor["adj-rib-in"], neighbor["adj-rib-out"], neighbor.families())
        for change in origin.rib.outgoing.cached_changes():
            neighbor.rib.outgoing.add_to_rib(change, True)
        register(self, name, peer)

    exabgp_loop.Reactor.register_peer = register_peer


def take_commands_first() -> None:
    """exabgp looks for its commands anywhere in the line; ours are told by how the line begins."""
    respond = API.process

    def process(self: Any, reactor: Any, service: str, line: str) -> Any:
        if line.startswith("felixlite "):
            return felixlite(reactor, line)
        if line.startswith("neighbor "):
            address, _, command = line.removeprefix("neighbor ").partition(" ")
            if command.startswith("announce attributes "):
                return announce(self, reactor, address, command.removeprefix("announce attributes "))
            if command.startswith("withdraw attributes "):
                return withdraw(reactor, address, command.removeprefix("withdraw attributes "))
        return respond(self, reactor, service, line)

    API.process = process


channel: Channel


def main() -> None:
    global channel  # noqa: PLW0603  one process, one channel
    link = socket.socket(fileno=int(sys.argv[1]))
    ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: the thread that started us is gone with its agent
    env = getenv()
    env.log.enable = env.log.all = bool(os.environ.get("FELIXLITE_EXABGP_LOG"))
    env.log.level = "DEBUG" if env.log.enable else env.log.level
    env.api.ack = False
    env.daemon.user = "root" if os.getuid() == 0 else env.daemon.user
    env.daemon.drop = False
    env.reactor.speed = 5.0
    log.init(env)  # log.silence() breaks exabgp's timers: what it puts in place takes other arguments
    channel = Channel(link)
    exabgp_loop.Processes = lambda: channel
    pass_updates_on()
    pace_connections()
    nudge_silent_announcers()
    tell_why_sessions_end()
    guard_accepted_connections()
    refuse_the_held()
    remember_ranges()
    take_commands_first()
    sys.exit(exabgp_loop.Reactor(Configuration([sys.argv[2]])).run())


if __name__ == "__main__":
    main()
