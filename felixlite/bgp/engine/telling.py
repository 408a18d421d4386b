"""What is announced to whom: exabgp's adj-RIB-out, filled without its parser and asked what it holds.

A prefix has one pending change at a time, and attributes are parsed once for each distinct text of them.
"""

from copy import copy
from typing import Any

from exabgp.bgp.message import Action
from exabgp.bgp.message.update.attribute import Attributes
from exabgp.bgp.message.update.nlri.cidr import CIDR
from exabgp.bgp.message.update.nlri.inet import INET
from exabgp.protocol.family import AFI, SAFI
from exabgp.protocol.ip import IP
from exabgp.rib.change import Change

NOTHING = Attributes()

# what was announced to whom, by neighbour address: prefix -> the text of its attributes
announced: dict[str, dict[str, str]] = {}
problems: list[dict[str, Any]] = []  # refusals since the last sync
_resolved: dict[tuple[Any, ...], tuple[Any, Any]] = {}  # neighbour, family, attributes' text -> with its own next hop
_parsed: dict[str, tuple[Any, Any]] = {}  # attributes' text -> (attributes, an NLRI to copy)


def forget_own_addresses() -> None:
    """Our address towards a neighbour may be another one now."""
    _resolved.clear()


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
