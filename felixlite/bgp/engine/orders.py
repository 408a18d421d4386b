"""Orders: what exabgp has no command for. Each is answered with its number, when it has been carried out.

Commands and orders are carried out in the order in which they came; `sync` says which announcements were refused.
"""

import json
import os
import time
from collections.abc import Callable
from typing import Any

from exabgp.configuration.configuration import Configuration
from exabgp.protocol.family import Family
from exabgp.protocol.ip import IP
from exabgp.reactor.api import API

from felixlite.bgp.engine import connecting, telling
from felixlite.bgp.engine.sessions import farewell
from felixlite.bgp.engine.telling import announce, announced, problems, sessions_of, withdraw


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
    telling.forget_own_addresses()
    reactor._ips = [IP.create(ip) for ip in order["listen"]]  # noqa: SLF001
    reactor._port = order["port"]  # noqa: SLF001
    for name in [name for name, peer in reactor._peers.items() if peer.stopping()]:  # noqa: SLF001
        del reactor._peers[name]  # noqa: SLF001  it has said farewell; taken for the same neighbour it would stay away
    sessions = names_of(reactor)
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
    connecting.protect_listeners(reactor)
    for address in {address for address, _ in sessions.items() - names_of(reactor).items()}:
        announced.pop(address, None)  # gone, or another session, which has nothing in its RIB
        connecting.held.pop(address, None)  # whoever configures it anew wants it tried anew
    return {"error": "" if loaded else str(reactor.configuration.error), "new": len(set(reactor._peers) - before)}  # noqa: SLF001


def names_of(reactor: Any) -> dict[str, str]:
    """Neighbour -> exabgp's name of the session, under which it keeps its RIB: both ends' addresses, AS numbers, router ID."""
    return {str(n["peer-address"]): name for name, n in reactor.configuration.neighbors.items()}


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


def teardown(reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Close the sessions with this NOTIFICATION, whatever was negotiated."""
    for name in sessions_of(reactor, order["peer"]):
        peer = reactor._peers[name]  # noqa: SLF001
        farewell(peer, order["code"], order["subcode"])
        peer.teardown(order["subcode"])
    return {}


def hold(reactor: Any, order: dict[str, Any]) -> dict[str, Any]:
    """Do not talk to this neighbour for some seconds (a flapping or a leaking one)."""
    connecting.held[order["peer"]] = time.time() + order["seconds"]
    return teardown(reactor, order) if "code" in order else {}


ORDERS: dict[str, Callable[[Any, dict[str, Any]], dict[str, Any]]] = {
    "sync": sync,
    "validate": validate,
    "reload": reload,
    "announced": tell_announced,
    "neighbors": tell_neighbors,
    "eor": end_of_rib,
    "teardown": teardown,
    "hold": hold,
}
