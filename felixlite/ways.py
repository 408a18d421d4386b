"""The ways from this node to all others: whether packets as large as the links' MTU arrive, natively and through tunnels.

A person asks through the store: a word in a Node's status.examine.  That node's agent, and nobody else, examines its own
ways then, and writes what it found into its status.ways, after the same word.  So nothing new listens, nobody tells an
agent what to send where (the targets are the addresses of the Nodes), and asking takes the right to write Nodes.

`examined` sends the echoes (pathmtu.py); `Way` and `words` are what is stored, one text a way; the rest is reading it.
"""

from collections.abc import Collection, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

from felixlite.addresses import Address
from felixlite.datastore.store import Document, Entry, Key, Store
from felixlite.kernel.addresses import every_address
from felixlite.kernel.host import Host
from felixlite.kernel.links import every_link
from felixlite.model.inside import Node
from felixlite.pathmtu import Echoes, examine, link_of, source_of
from felixlite.registration import update

AT_ONCE = 16


@dataclass(frozen=True, slots=True)
class Target:
    """An address of another node, and the link that the routing table leads through."""

    node: str
    address: Address
    link: str
    mtu: int


@dataclass(frozen=True, slots=True)
class Way:
    """What was found of one target. `largest`: bytes of the largest packet that arrives, 0: none does."""

    node: str
    address: str
    link: str
    mtu: int
    largest: int
    why: str = ""

    @property
    def passes(self) -> bool:
        return self.largest >= self.mtu

    def __str__(self) -> str:
        return f"{self.node} {self.address} {self.link} {self.mtu} {self.largest} {self.why}".strip()

    @classmethod
    def read(cls, text: str) -> "Way":
        node, address, link, mtu, largest, *why = text.split(" ", 5)
        return cls(node, address, link, int(mtu), int(largest), "".join(why))


# -- on the node that is asked


def answer(store: Store, here: str, word: str, others: Iterable[Node]) -> bool:
    """Examine and write it down, unless it was done for this word. Answers whether something was written."""
    if (entry := store.get(Key("Node", here))) and answered(entry.document, word):
        return False
    found = [str(way) for way in examined(here, others)]

    def told(node: Document | None) -> Document:
        document: Document = deepcopy(node or {})
        status = document.get("status") or {}
        if status.get("examine") == [word]:  # else whoever asked has stopped waiting, and it would stay there
            document["status"] = {**status, "ways": sorted([f"#{word}", *found])}
        return document

    return update(store, Key("Node", here), told)


def examined(here: str, others: Iterable[Node]) -> list[Way]:
    with Host() as host:
        targets = list(targets_of(host, others))
    with ThreadPoolExecutor(AT_ONCE) as pool:  # where packets vanish, it is all waiting
        return list(pool.map(partial(_examined, here), targets))


def _examined(here: str, target: Target) -> Way:
    with Echoes(family=target.address.version) as echoes:
        found = examine(echoes, target.address, target.mtu, here)
    why = found.why.replace(",", "")  # a word in an annotation of Kubernetes has no comma
    return Way(target.node, str(target.address), target.link, target.mtu, found.largest, why)


def targets_of(host: Host, others: Iterable[Node]) -> Iterator[Target]:
    """Each node's own addresses, and its ends of the tunnels where a route leads there."""
    links = {name: seen.state for name, seen in every_link(host).items()}
    names = {link.index: name for name, link in links.items()}
    addresses = [(names[a.link], str(a.address)) for a in every_address(host) if a.link in names]
    for node in sorted(others, key=lambda node: node.name):
        examined = set[tuple[int, str]]()  # two addresses behind the same link are one way
        ends = (node.address(4), node.ipip_address, node.vxlan_address, node.address(6), node.vxlan_address_v6)
        for address in ends:
            source = source_of(address) if address else None
            link = link_of(source, addresses) if source else ""
            if address and link in links and (address.version, link) not in examined:
                examined.add((address.version, link))
                yield Target(node.name, address, link, links[link].mtu)


# -- on the side of the person who asks


def ask(store: Store, nodes: Collection[str], word: str) -> None:
    for name in nodes:
        _set(store, name, word)


def forget(store: Store, nodes: Collection[str]) -> None:
    """Nothing of it stays in the store."""
    for name in nodes:
        _set(store, name, None)


def _set(store: Store, name: str, word: str | None) -> None:
    def asked(node: Document | None) -> Document:
        document: Document = deepcopy(node or {})
        status = {key: value for key, value in (document.get("status") or {}).items() if key not in ("examine", "ways")}
        document["status"] = {**status, **({"examine": [word]} if word else {})}
        return document

    update(store, Key("Node", name), asked)


def answered(node: Document, word: str) -> list[Way] | None:
    """What a Node says that it found for this word; None: nothing yet."""
    ways = (node.get("status") or {}).get("ways") or []
    return [Way.read(text) for text in ways if not text.startswith("#")] if f"#{word}" in ways else None


def answers(entries: Iterable[Entry], word: str) -> dict[str, list[Way]]:
    found = {entry.key.name: answered(entry.document, word) for entry in entries}
    return {name: ways for name, ways in found.items() if ways is not None}
